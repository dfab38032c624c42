"""Build the .deb of Debian suites, each in a root of that suite: never with the host's Python.

    python packaging/suites.py bookworm trixie [--release 1] [--output dist] [--roots build/roots]
    python packaging/suites.py sid --make check test-fast    other targets, in the same roots

A root is made once by debootstrap(8) and is used again; the sources are copied into it. Needs root.

See docs/decisions.md: suite-roots.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
MIRROR: Final = "http://deb.debian.org/debian"
SUITES: Final = {"bookworm": "deb12", "trixie": "deb13", "sid": "sid"}
"""Debian's suites, and the mark of each in a version: 0.2.0-1~deb12u1."""
SOURCE_OPTIONS: Final = {"sid": "[check-valid-until=no] "}
"""Options of a suite's entry in sources.list(5). unstable's Release file is valid for a week;
a mirror or a clock may be further away. Its signature is checked all the same."""
INCLUDE: Final = "ca-certificates,make"
MARK: Final = "made-of"
PLACE: Final = PurePosixPath("build/sentryfw")
"""Place of the sources in a root."""
KEPT: Final = ("build", ".venv", ".venv-package")
"""Entries of the copy that a later build uses again."""
ENGINE_DIGEST: Final = "build/engine/digest"
CERTIFICATES: Final = "/etc/ssl/certs/ca-certificates.crt"
"""The host's certificate authorities: a mirror's may be missing in a new root."""
ENTER: Final = """\
root=$0; place=$1; shift
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
exec chroot "$root" sh -ec 'cd "$0" && exec "$@"' "$place" "$@"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the .deb of Debian suites.")
    parser.add_argument("suites", nargs="+", choices=SUITES)
    parser.add_argument("--formats", nargs="+", default=["deb"], help="default: deb")
    parser.add_argument("--release", default="1", help="of the same version; default: 1")
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    parser.add_argument("--roots", type=Path, default=ROOT / "build" / "roots")
    parser.add_argument("--place", type=PurePosixPath, default=PLACE, help=f"default: {PLACE}")
    parser.add_argument("--make", nargs="+", metavar="TARGET", help="make this, and no package")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("suites.py: a root is made and entered by root only: run it as root")
    for suite in arguments.suites:
        root = made(suite, arguments.roots.resolve())
        copy = root / arguments.place
        copy_sources(copy)
        if arguments.make:
            enter(root, arguments.place, "make", *arguments.make)
            continue
        release = f"{arguments.release}~{SUITES[suite]}u1"
        words = ("make", "packages-here", f"FORMATS={' '.join(arguments.formats)}")
        enter(root, arguments.place, *words, f"RELEASE={release}")
        arguments.output.mkdir(parents=True, exist_ok=True)
        for path in sorted((copy / "dist").iterdir()):
            shutil.copy(path, arguments.output)
            sys.stdout.write(f"{arguments.output / path.name}\n")


def made(suite: str, roots: Path) -> Path:
    """Return the root of a suite, which is made if it is missing."""
    root = roots / suite
    mark = root / "root" / MARK
    if not mark.exists():
        if shutil.which("debootstrap") is None:
            sys.exit("suites.py: debootstrap is missing: apt install debootstrap")
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        words = ("--variant=minbase", f"--include={INCLUDE}", suite, str(root), MIRROR)
        subprocess.run(["debootstrap", *words], check=True, stdout=sys.stderr)
        mark.write_text(f"{suite} {INCLUDE}\n")
    entry = f"deb {SOURCE_OPTIONS.get(suite, '')}{MIRROR} {suite} main\n"
    (root / "etc" / "apt" / "sources.list").write_text(entry)
    provide_host_files(root)
    return root


def provide_host_files(root: Path) -> None:
    """Copy into a root what it needs to reach the networks that this host reaches."""
    for path in (Path("/etc/resolv.conf"), Path("/etc/hosts")):
        shutil.copy(path, root / "etc")
    if Path(CERTIFICATES).is_file():
        shutil.copy(CERTIFICATES, root / "root" / "authorities.crt")


def copy_sources(copy: Path) -> None:
    """Copy the files of the work tree that git tracks, or would track."""
    copy.mkdir(parents=True, exist_ok=True)
    for path in copy.iterdir():
        if path.name not in KEPT:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (copy / ENGINE_DIGEST).unlink(missing_ok=True)  # the compiled engine went with the sources
    for name in sources():
        place = copy / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, place, follow_symlinks=False)


def sources() -> Iterable[str]:
    """Return the names of these files."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in sorted(filter(None, done.stdout.split("\0"))) if _is_file(name)]


def _is_file(name: str) -> bool:
    path = ROOT / name
    return path.is_symlink() or path.is_file()


def enter(root: Path, place: PurePosixPath, *words: str) -> None:
    """Run a command in a root, with mounts that end with it."""
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "SOURCE_DATE_EPOCH": moment(),
        "PIP_CERT": "/root/authorities.crt",
    }
    if not (root / "root" / "authorities.crt").is_file():
        del environment["PIP_CERT"]
    command = ["unshare", "--mount", "sh", "-ec", ENTER, str(root), f"/{place}", *words]
    subprocess.run(command, check=True, env=environment, stdin=subprocess.DEVNULL)


def moment() -> str:
    """Return the time of the last commit in seconds, or SOURCE_DATE_EPOCH."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is not None:
        return given
    command = ["git", "log", "-1", "--format=%ct"]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"suites.py: {error.cmd[0]} failed ({error.returncode}): see above")
