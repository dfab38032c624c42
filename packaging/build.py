"""Build packages for the Debian and the Python that it runs on: lay their files out below
build/packages, and let nfpm pack them. suites.py runs it in the root of a suite.

    python packaging/build.py deb rpm apk ipk [--release 2] [--output dist]

Two private environments are made of the locked requirements: one for glibc (deb, rpm), one for musl
(apk, ipk).

See docs/decisions.md: package-environment.
"""

import argparse
import compileall
import os
import platform
import py_compile
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import cockpit_translations
import lay_out
import pages
import sbom
import translations
from lay_out import HOME, OWN, ROOT, compress, write
from wheels import MACHINE, PYTHON, glibc_wheels, musl_wheels

from sentryfw import __version__
from sentryfw.setup import unit_files

STAGE: Final = ROOT / "build" / "packages"
TOOLS: Final = ROOT / ".venv-package" / "bin"
BILL: Final = Path("usr/share/doc/sentryfw/sbom.cdx.json")
"""Place of the bill of materials, below the root."""
COCKPIT_DOCUMENTS: Final = Path("usr/share/doc/sentryfw-cockpit")
MAINTAINER: Final = "SentryFW maintainers <maintainers@sentryfw.invalid>"
LEFT_OUT: Final = ("*.data", "*.dist-info/RECORD", "*/.agents")
"""Parts of wheels that the private environment does not need: scripts, pip's list of files, hints
for editors."""
ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
"""Processors, and what Debian calls them; nfpm knows what the other formats call them."""
FORMATS: Final = ("deb", "rpm", "apk", "ipk")
COCKPIT_FORMATS: Final = ("deb", "rpm")
"""Formats of systems that have Cockpit."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Build packages.")
    parser.add_argument("formats", nargs="+", choices=FORMATS)
    parser.add_argument("--release", default="1", help="of the same version; default: 1")
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    arguments = parser.parse_args()
    if MACHINE not in ARCHITECTURES:
        raise SystemExit(f"{MACHINE}: packages are made for {' and '.join(ARCHITECTURES)}")
    when = _moment()
    shutil.rmtree(STAGE, ignore_errors=True)
    lay_out.links(STAGE / "common")
    write(STAGE / "config" / "sentryfw.toml", pages.configuration())
    contents: dict[str, Callable[[Path], None]] = {
        "deb": lambda tree: _deb(tree, when, arguments.release),
        "rpm": lambda tree: _rpm(tree, when),
        "apk": lambda tree: _apk(tree, when),
        "ipk": _ipk,
    }
    for name in arguments.formats:
        contents[name](STAGE / name)
        if name in COCKPIT_FORMATS:
            _cockpit(STAGE / f"cockpit-{name}", name)
    if "deb" in arguments.formats:
        _cockpit_deb(STAGE / "cockpit-deb", when, arguments.release)
    for path in STAGE.rglob("*"):
        os.utime(path, (when, when), follow_symlinks=False)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name in arguments.formats:
        release = arguments.release.partition("~")[0] if name == "rpm" else arguments.release
        # The tag of an rpm names the Python that it is for: RHEL and Fedora differ in that.
        own = f"{release}.py{PYTHON.replace('.', '')}" if name == "rpm" else release
        _pack(name, own, when, arguments.output)
        if name in COCKPIT_FORMATS:
            _pack(name, release, when, arguments.output, "cockpit.yaml")


def _pack(
    name: str, release: str, when: float, output: Path, definition: str = "nfpm.yaml"
) -> None:
    values = {
        "SENTRYFW_VERSION": __version__,
        "SENTRYFW_RELEASE": release,
        "SENTRYFW_PYTHON": PYTHON,
        "SENTRYFW_ARCH": ARCHITECTURES[MACHINE],
        "SENTRYFW_MAINTAINER": os.environ.get("SENTRYFW_MAINTAINER", MAINTAINER),
        "SOURCE_DATE_EPOCH": str(int(when)),
    }
    command: list[str | Path] = [TOOLS / "nfpm", "package", "--packager", name, "--target", output]
    before = set(output.iterdir())
    subprocess.run(
        [*command, "--config", OWN / definition],
        check=True,
        cwd=ROOT,
        env={**os.environ, **values},
    )
    bill = STAGE / name / BILL
    if definition != "nfpm.yaml":
        bill = STAGE / f"cockpit-{name}" / COCKPIT_DOCUMENTS / BILL.name
    for package in set(output.iterdir()) - before:
        shutil.copy(bill, package.with_name(f"{package.name}.cdx.json"))


def _moment() -> float:
    """Return the time of the last commit, in seconds since the epoch.

    Files get this time, so that equal sources make equal packages (reproducible-builds.org).
    """
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is None:
        command = ["git", "log", "-1", "--format=%ct"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        given = done.stdout.strip() or str((ROOT / "pyproject.toml").stat().st_mtime)
    return float(given)


# --- the contents of each format


def _deb(tree: Path, when: float, release: str) -> None:
    suite = _suite()
    wheels = glibc_wheels()
    _environment(tree, wheels)
    # /lib is a link since Debian 12; only from Debian 13 on packages have to leave it alone.
    units = "lib/systemd/system" if suite == "bookworm" else "usr/lib/systemd/system"
    lay_out.systemd(tree, units)
    _papers(tree, when, wheels, "deb")
    overrides = (OWN / "deb" / name for name in ("lintian", f"lintian.{suite}"))
    text = "".join(path.read_text() for path in overrides if path.exists())
    write(tree / "usr/share/lintian/overrides/sentryfw", text)
    _debian_changelog(tree, "sentryfw", when, release)


def _suite() -> str:
    return platform.freedesktop_os_release()["VERSION_CODENAME"]


def _debian_changelog(tree: Path, name: str, when: float, release: str) -> None:
    """Write the changelog of a Debian package."""
    suite = _suite()
    date = subprocess.run(
        ["date", "--rfc-email", "--utc", f"--date=@{int(when)}"], capture_output=True, text=True,
        check=True,
    ).stdout  # fmt: skip
    entry = f"  * See changelog.gz.\n\n -- {MAINTAINER}  {date}"
    text = f"{name} ({__version__}-{release}) {suite}; urgency=medium\n\n{entry}"
    compress(tree / f"usr/share/doc/{name}/changelog.Debian.gz", text)


def _rpm(tree: Path, when: float) -> None:
    wheels = glibc_wheels()
    _environment(tree, wheels, byte_code=True)
    lay_out.systemd(tree)
    _papers(tree, when, wheels, "rpm")


def _apk(tree: Path, when: float) -> None:
    wheels = musl_wheels()
    _environment(tree, wheels, byte_code=True)
    _luci(tree)
    _papers(tree, when, wheels, "apk")
    lay_out.services(tree, "apk")
    write(tree / "etc/modules-load.d/sentryfw.conf", unit_files.template("modules-load.conf"))


def _ipk(tree: Path) -> None:
    """Lay out the package for OpenWrt: without manual pages, with procd, with state on flash."""
    wheels = musl_wheels()
    _environment(tree, wheels, byte_code=True)
    _luci(tree)
    write(tree / BILL, _bill(wheels, "ipk"))
    lay_out.services(tree, "openwrt")
    text = pages.configuration(state="/etc/sentryfw/state", runtime="/var/run/sentryfw")
    write(STAGE / "config" / "sentryfw.openwrt.toml", text)


def _luci(tree: Path) -> None:
    """Write the view for LuCI, its menu entry and its ACL."""
    luci = ROOT / "web" / "luci"
    shutil.copytree(luci / "htdocs", tree / "www", dirs_exist_ok=True)
    shutil.copytree(luci / "root", tree, dirs_exist_ok=True)
    for name, data in translations.catalogues().items():
        place = tree / translations.CATALOGUES / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)


def _cockpit(tree: Path, kind: str) -> None:
    """Lay out the page for Cockpit."""
    page = tree / "usr/share/cockpit/sentryfw"
    shutil.copytree(ROOT / "web" / "cockpit", page)
    cockpit_translations.write(page)
    documents = tree / COCKPIT_DOCUMENTS
    licence = (ROOT / "web" / "cockpit" / "patternfly" / "LICENSE").read_text()
    notice = (ROOT / "debian" / "copyright").read_text().rstrip()
    write(documents / "copyright", f"{notice}\n\nThe licence of PatternFly:\n\n{licence}")
    (page / "patternfly/LICENSE").unlink()
    needed = sbom.depends((OWN / "cockpit.yaml").read_text(), kind, PYTHON)
    write(documents / BILL.name, sbom.cockpit_bill(__version__, needed))
    compress(documents / "changelog.gz", (ROOT / "CHANGELOG.md").read_text())


def _cockpit_deb(tree: Path, when: float, release: str) -> None:
    """Add what only a Debian package of the page has."""
    overrides = (OWN / "deb" / "lintian-cockpit").read_text()
    write(tree / "usr/share/lintian/overrides/sentryfw-cockpit", overrides)
    _debian_changelog(tree, "sentryfw-cockpit", when, release)


def _papers(tree: Path, when: float, wheels: list[Path], kind: str) -> None:
    """Write manual pages, completions, documents and the bill of materials."""
    lay_out.papers(tree, when)
    write(tree / BILL, _bill(wheels, kind))
    documents = tree / BILL.parent
    write(documents / "copyright", copyright_of(wheels))
    compress(documents / "changelog.gz", (ROOT / "CHANGELOG.md").read_text())
    for path in (ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))):
        compress(documents / f"{path.name}.gz", path.read_text())


def _bill(wheels: list[Path], kind: str) -> str:
    names = sbom.depends((OWN / "nfpm.yaml").read_text(), kind, PYTHON)
    return sbom.bill(__version__, wheels, names)


def copyright_of(wheels: list[Path]) -> str:
    """Return the copyright file: our licence, and those of the packages in the environment, as
    their metadata and their bills of materials name them."""
    site = HOME / "lib" / f"python{PYTHON}" / "site-packages"
    paragraphs = [(ROOT / "debian" / "copyright").read_text().rstrip()]
    for path in wheels:
        fields = sbom.metadata(path)
        if fields["Name"] != "sentryfw":
            files, papers = sbom.contents(path)
            paragraphs.append(
                f"Files: {' '.join(f'{site}/{name}' for name in files)}\n"
                f"Copyright: as named in {papers}\nLicense: {sbom.licence_of(fields)}\n"
                f" The text is in /{site}/{papers}.{sbom.licences_of_parts(path)}"
            )
    return "\n\n".join(paragraphs) + "\n"


# --- the private environment


def _environment(tree: Path, wheels: list[Path], *, byte_code: bool = False) -> None:
    """Lay out a virtual environment with these packages and without pip.

    Its interpreter is a link to the system's. `byte_code`: compile the modules to .pyc files.
    """
    home = tree / HOME
    site = home / "lib" / f"python{PYTHON}" / "site-packages"
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    for pattern in LEFT_OUT:
        for path in site.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in sorted(site.rglob("*")):
        if path.is_file():
            _tidy(path)
    write(home / "pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = false\n")
    (home / "bin").mkdir()
    (home / "bin" / "python3").symlink_to(f"../../../bin/python{PYTHON}")
    lay_out.commands(tree, f"/{HOME}/bin/python3")
    if byte_code:
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        if not compileall.compile_dir(
            site, quiet=1, stripdir=str(tree), prependdir="/", invalidation_mode=mode
        ):
            raise SystemExit(f"{site}: a module does not compile")


def _tidy(path: Path) -> None:
    """Remove what lintian and rpmlint report, and what depends on the building host.

    A module gets neither the mode nor the `#!` line of a program. An extension is stripped and gets
    a name without the platform's tag, which every build of PYTHON finds.
    """
    path.chmod(0o644)
    if path.suffix == ".so":
        subprocess.run(["strip", "--strip-unneeded", "-R.comment", "-R.note", path], check=True)
        path.rename(path.with_name(f"{path.name.partition('.')[0]}.so"))
    elif path.suffix == ".py":
        data = path.read_bytes()
        if data.startswith(b"#!"):
            path.write_bytes(b"#" + data.partition(b"\n")[1] + data.partition(b"\n")[2])


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"build.py: {Path(str(error.cmd[0])).name} failed ({error.returncode}): see above")
