"""Lays out what the packages contain below build/packages, and has nfpm pack it.

    python packaging/build.py deb rpm apk ipk [--release 2] [--output dist]

Two private environments are made of the locked requirements: one for glibc (deb, rpm), one for musl
(apk, ipk). Both are for PYTHON, whose headers netfilterqueue is compiled with.
"""

import argparse
import compileall
import email
import email.policy
import gzip
import os
import py_compile
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pages

from sentryfw import __version__, build_engine
from sentryfw.cli import service
from sentryfw.config import DEFAULT_PATH, Paths

ROOT: Final = Path(__file__).resolve().parent.parent
OWN: Final = ROOT / "packaging"
STAGE: Final = ROOT / "build" / "packages"
WHEELS: Final = ROOT / "build" / "wheels"
TOOLS: Final = ROOT / ".venv-package" / "bin"
BIN: Final = ROOT / ".venv" / "bin"
HOME: Final = Path("usr/lib/sentryfw")
"""The private environment, below the root."""
PYTHON: Final = "3.11"
MAINTAINER: Final = "SentryFW maintainers <maintainers@sentryfw.invalid>"
BINDING: Final = "oxl-libnftables"
"""The binding of libnftables, where the system has none for Python."""
MUSL_PLATFORM: Final = "musllinux_1_1_x86_64"
MUSL_FLAGS: Final = "-idirafter /usr/include -idirafter /usr/include/x86_64-linux-gnu"
"""The kernel's and libnetfilter_queue's headers, behind musl's own."""
NO_PART: Final = ("*.data", "*.dist-info/RECORD", "*/.agents")
"""Of wheels, what is of no use in the private environment: scripts, pip's notes, others' hints."""
FORMATS: Final = ("deb", "rpm", "apk", "ipk")


def main() -> None:
    parser = argparse.ArgumentParser(description="Build packages.")
    parser.add_argument("formats", nargs="+", choices=FORMATS)
    parser.add_argument("--release", default="1", help="of the same version; default: 1")
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    arguments = parser.parse_args()
    when = _moment()
    shutil.rmtree(STAGE, ignore_errors=True)
    _program(STAGE / "common")
    _write(STAGE / "config" / "sentryfw.toml", pages.configuration())
    lay_out: dict[str, Callable[[Path], None]] = {
        "deb": lambda tree: _deb(tree, when, arguments.release),
        "rpm": lambda tree: _rpm(tree, when),
        "apk": lambda tree: _apk(tree, when),
        "ipk": _ipk,
    }
    for name in arguments.formats:
        lay_out[name](STAGE / name)
    for path in STAGE.rglob("*"):
        os.utime(path, (when, when), follow_symlinks=False)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name in arguments.formats:
        _pack(name, arguments.release, when, arguments.output)


def _pack(name: str, release: str, when: float, output: Path) -> None:
    values = {
        "SENTRYFW_VERSION": __version__,
        "SENTRYFW_RELEASE": release,
        "SENTRYFW_MAINTAINER": os.environ.get("SENTRYFW_MAINTAINER", MAINTAINER),
        "SOURCE_DATE_EPOCH": str(int(when)),
    }
    command: list[str | Path] = [TOOLS / "nfpm", "package", "--packager", name, "--target", output]
    subprocess.run(
        [*command, "--config", OWN / "nfpm.yaml"],
        check=True,
        cwd=ROOT,
        env={**os.environ, **values},
    )


def _moment() -> float:
    """Of the sources, so that the same ones make the same packages (reproducible-builds.org)."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is None:
        command = ["git", "log", "-1", "--format=%ct"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        given = done.stdout.strip() or str((ROOT / "pyproject.toml").stat().st_mtime)
    return float(given)


# --- what each format has


def _program(tree: Path) -> None:
    """The commands, by their usual names."""
    for link, name in (("usr/bin/sentryfw", "sentryfw"), ("usr/sbin/sentryfwd", "sentryfwd")):
        path = tree / link
        path.parent.mkdir(parents=True)
        path.symlink_to(Path("..") / HOME.relative_to("usr") / "bin" / name)


def _deb(tree: Path, when: float, release: str) -> None:
    _environment(tree, glibc_wheels(), engine=build_engine.make())
    _systemd(tree, "lib/systemd/system")
    _papers(tree, when)
    _write(tree / "usr/share/lintian/overrides/sentryfw", (OWN / "deb/lintian").read_text())
    date = subprocess.run(
        ["date", "--rfc-email", "--utc", f"--date=@{int(when)}"], capture_output=True, text=True,
        check=True,
    ).stdout  # fmt: skip
    entry = f"  * See changelog.gz.\n\n -- {MAINTAINER}  {date}"
    text = f"sentryfw ({__version__}-{release}) bookworm; urgency=medium\n\n{entry}"
    _compress(tree / "usr/share/doc/sentryfw/changelog.Debian.gz", text)


def _rpm(tree: Path, when: float) -> None:
    _environment(tree, glibc_wheels(), compiled=True, engine=build_engine.make())
    _systemd(tree, "usr/lib/systemd/system")
    _papers(tree, when)


def _apk(tree: Path, when: float) -> None:
    _environment(tree, musl_wheels(), compiled=True)
    _papers(tree, when)
    _script(tree / "etc/init.d/sentryfw", (OWN / "apk/sentryfw.initd").read_text())
    _write(tree / "etc/modules-load.d/sentryfw.conf", service.template("modules-load.conf"))


def _ipk(tree: Path) -> None:
    """OpenWrt: no manual pages, procd, and a state directory that is not in memory."""
    _environment(tree, musl_wheels(), compiled=True)
    _script(tree / "etc/init.d/sentryfw", (OWN / "openwrt/sentryfw.initd").read_text())
    text = pages.configuration(state="/etc/sentryfw/state", runtime="/var/run/sentryfw")
    _write(STAGE / "config" / "sentryfw.openwrt.toml", text)


def _systemd(tree: Path, units: str) -> None:
    """What `sentryfw install` writes below /etc, from the same templates."""
    home = Path("/") / HOME
    described = service.Service(
        home / "bin" / "sentryfwd",
        DEFAULT_PATH,
        Paths(),
        prefix=home,
        python=Path("/usr/bin/python3"),
    )
    texts = service.rendered(described)
    texts["modules-load.conf"] = service.template("modules-load.conf")  # whatever this kernel has
    for name, place in service.FILES.items():
        relative = place.replace("systemd/system", units) if name == service.UNIT else place
        _write(tree / ("" if name == service.UNIT else "usr/lib") / relative, texts[name])


def _papers(tree: Path, when: float) -> None:
    """Manual pages, completions, documents."""
    for name in pages.PAGES:
        _compress(tree / f"usr/share/man/man{name[-1]}/{name}.gz", pages.page(name, when))
    for shell, place in pages.COMPLETIONS.items():
        _write(tree / place, pages.completion(shell))
    documents = tree / "usr/share/doc/sentryfw"
    _write(documents / "copyright", copyright_of(tree / HOME))
    _compress(documents / "changelog.gz", (ROOT / "CHANGELOG.md").read_text())
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        _compress(documents / f"{path.name}.gz", path.read_text())


def copyright_of(environment: Path) -> str:
    """Ours, and who wrote what came along, as its own metadata says it."""
    lines = [(OWN / "common" / "copyright").read_text().rstrip(), ""]
    for path in sorted(environment.rglob("*.dist-info/METADATA")):
        fields = email.message_from_bytes(path.read_bytes(), policy=email.policy.compat32)
        if fields["Name"] == "sentryfw":
            continue
        classified = [
            value.rpartition(" :: ")[2]
            for value in fields.get_all("Classifier", [])
            if value.startswith("License ::")
        ]
        licence = fields["License-Expression"] or fields["License"] or ", ".join(classified)
        said = str(licence or "see its directory").strip().splitlines()[0]
        lines.append(f"  {fields['Name']} {fields['Version']}: {said}")
    return "\n".join(lines) + "\n"


# --- the private environment


def _environment(
    tree: Path, wheels: list[Path], *, compiled: bool = False, engine: Path | None = None
) -> None:
    """A virtual environment whose interpreter is the system's, with these packages and no pip.
    `engine`: the engine in machine code."""
    home = tree / HOME
    site = home / "lib" / f"python{PYTHON}" / "site-packages"
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    if engine is not None:
        shutil.copytree(engine, site / engine.relative_to(ROOT))
    for pattern in NO_PART:
        for path in site.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in sorted(site.rglob("*")):
        if path.is_file():
            _tidy(path)
    _write(home / "pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = false\n")
    (home / "bin").mkdir()
    (home / "bin" / "python3").symlink_to(f"../../../bin/python{PYTHON}")
    for name, module in (("sentryfw", "sentryfw.cli.app"), ("sentryfwd", "sentryfw.daemon")):
        # -I: neither the caller's environment nor his directory adds code to what root runs.
        text = f"#!/{HOME}/bin/python3 -I\nfrom {module} import main\n\nmain()\n"
        _script(home / "bin" / name, text)
    if compiled:
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        if not compileall.compile_dir(
            site, quiet=1, stripdir=str(tree), prependdir="/", invalidation_mode=mode
        ):
            raise SystemExit(f"{site}: not all of it compiles")


def _tidy(path: Path) -> None:
    """A module is no program: no mode and no first line of one. An extension has no symbols for a
    debugger, and a name that every build of PYTHON looks for, whatever it calls its platform."""
    path.chmod(0o644)
    if path.suffix == ".so":
        subprocess.run(["strip", "--strip-unneeded", "-R.comment", "-R.note", path], check=True)
        path.rename(path.with_name(f"{path.name.partition('.')[0]}.so"))
    elif path.suffix == ".py":
        data = path.read_bytes()
        if data.startswith(b"#!"):
            path.write_bytes(b"#" + data.partition(b"\n")[1] + data.partition(b"\n")[2])


def own_wheel() -> Path:
    """This project, as `pip install` gets it."""
    folder = WHEELS / "own"
    shutil.rmtree(folder, ignore_errors=True)
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT)
    [wheel] = folder.glob("*.whl")
    return wheel


def glibc_wheels() -> list[Path]:
    """What the lock names, compiled with Debian's flags where there is no wheel."""
    folder = WHEELS / "glibc"
    if _is_stale(folder):
        flags = _build_flags()
        _pip(
            "wheel", "--no-cache-dir", "--no-build-isolation", "--require-hashes", "--requirement",
            ROOT / "requirements.lock", "--wheel-dir", folder, env=flags,
        )  # fmt: skip
        _mark(folder)
    return [*sorted(folder.glob("*.whl")), own_wheel()]


def musl_wheels() -> list[Path]:
    """The same for musl: wheels by that tag, and netfilterqueue by musl-gcc."""
    folder = WHEELS / "musl"
    if _is_stale(folder):
        text = (ROOT / "requirements.lock").read_text()
        lock = folder / "requirements.lock"
        _write(lock, _without(text, "netfilterqueue") + _only(_tool_lock(), BINDING))
        version = PYTHON.replace(".", "")
        _pip(
            "download", "--only-binary=:all:", "--platform", MUSL_PLATFORM, "--python-version",
            PYTHON, "--implementation", "cp", "--abi", f"cp{version}", "--abi", "abi3", "--abi",
            "none", "--require-hashes", "--no-deps", "--requirement", lock, "--dest", folder,
        )  # fmt: skip
        _write(lock, _only(text, "netfilterqueue"))
        flags = {
            "CC": "musl-gcc",
            "CFLAGS": f"-O2 -g0 {MUSL_FLAGS}",
            # The interpreter brings the C library; its name differs between distributions.
            "LDSHARED": "musl-gcc -shared -nostdlib -L/usr/lib/x86_64-linux-gnu",
        }
        _pip(
            "wheel", "--no-cache-dir", "--no-deps", "--no-build-isolation", "--require-hashes",
            "--requirement", lock, "--wheel-dir", folder, env=flags,
        )  # fmt: skip
        _mark(folder)
    return [*sorted(folder.glob("*.whl")), own_wheel()]


def _tool_lock() -> str:
    return (ROOT / "requirements-package.lock").read_text()


def _only(lock: str, name: str) -> str:
    """The entry of one package in a lock."""
    [entry] = re.findall(rf"^{name}==(?:.*\\\n)+.*\n", lock, re.MULTILINE)
    return str(entry)


def _without(lock: str, name: str) -> str:
    return lock.replace(_only(lock, name), "")


def _is_stale(folder: Path) -> bool:
    """Whether wheels are to be made anew; then the folder is empty."""
    mark = folder / "made-of"
    if mark.exists() and mark.read_text() == _made_of():
        return False
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return True


def _mark(folder: Path) -> None:
    _write(folder / "made-of", _made_of())


def _made_of() -> str:
    return (ROOT / "requirements.lock").read_text() + _tool_lock()


def _build_flags() -> dict[str, str]:
    setting = {**os.environ, "DEB_BUILD_MAINT_OPTIONS": "hardening=+bindnow"}
    return {
        name: subprocess.run(
            ["dpkg-buildflags", "--get", name],
            capture_output=True,
            text=True,
            check=True,
            env=setting,
        ).stdout.strip()
        for name in ("CFLAGS", "CPPFLAGS", "LDFLAGS")
    }


def _pip(*words: str | Path, env: dict[str, str] | None = None) -> None:
    command = [BIN / "pip", "--quiet", "--disable-pip-version-check", *words]
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, **(env or {})})


# --- files


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _script(path: Path, text: str) -> None:
    _write(path, text, 0o755)


def _compress(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    path.chmod(0o644)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"build.py: {Path(str(error.cmd[0])).name} failed ({error.returncode}): see above")
