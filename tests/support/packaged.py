"""SentryFW installed by a package in a Machine: its service, and a scanner."""

import json
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any, Final

import pytest
import suites

from support.lab import Lab
from support.machine import Machine

ROOT: Final = Path(__file__).resolve().parents[2]
ROOTS: Final = ROOT / "build" / "roots"
FIRST: Final = "e0d1942ea0549005d4351c9a7612041c87f58a9b"
"""The last commit of version 0.1.0."""
FLEET: Final = ("python3-cryptography", "python3-redis")
"""Packages that a fleet needs, which ours suggest."""

MAKE_FIRST: Final = """\
make setup apt-package .venv-package/set-up
rm -rf dist sentryfw/engine/compiled  # build.py adds it to a wheel that must not have it
.venv/bin/python packaging/build.py deb
"""


def build(
    kind: str, release: str, place: Path, *, suite: str = "bookworm", tree: Path = ROOT,
    inside: str = "build/sentryfw", page: Path | None = None,
) -> None:  # fmt: skip
    """Build one package in a root of its suite as the file `place`. `tree`: the sources; `inside`:
    their place in the root. `page`: a file for the package of the page for Cockpit."""
    output = place.with_suffix(".d")
    command: list[str | Path] = [
        sys.executable, "-P", tree / "packaging" / "suites.py", suite, "--formats", kind,
        "--release", release, "--output", output, "--roots", ROOTS, "--place", inside,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    [package] = output.glob(f"sentryfw[-_][0-9]*.{kind}")
    package.rename(place)
    if page is not None:
        [package] = output.glob(f"sentryfw-cockpit[-_]*.{kind}")
        package.rename(page)
    shutil.rmtree(output)


def build_first(place: Path) -> None:
    """Build the .deb of version 0.1.0 for Debian 12 from its commit. Skip where that is missing."""
    archive = ["git", "archive", "--format=tar", FIRST]
    done = subprocess.run(archive, cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"this clone has no commit {FIRST}, which is version 0.1.0")
    root = suites.made("bookworm", ROOTS)
    copy = root / "build" / "first"
    copy.mkdir(parents=True, exist_ok=True)
    subprocess.run(["tar", "--extract", "--directory", copy], input=done.stdout, check=True)
    suites.enter(root, PurePosixPath("build/first"), "sh", "-ec", MAKE_FIRST)
    [package] = (copy / "dist").glob("*.deb")
    shutil.copy(package, place)


class Packaged:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.former_pid = ""
        """Pid of the daemon before the last upgrade."""

    @property
    def lab(self) -> Lab:
        return self.machine.lab

    @property
    def suite(self) -> str:
        """Debian's name of the machine's release."""
        text = self.machine.path("/etc/os-release").read_text()
        return text.partition("VERSION_CODENAME=")[2].split()[0]

    def is_running(self) -> bool:
        """Return whether the daemon answers."""
        return self.status().get("daemon") == "running"

    def status(self) -> dict[str, Any]:
        done = self.machine.run("sentryfw", "status", "--json")
        return json.loads(done.stdout) if done.stdout else {}

    def show(self, name: str) -> str:
        """Return a property of the service, as systemd reports it."""
        return self.machine.said("systemctl", "show", "--value", "-p", name, "sentryfw").strip()

    def blocked(self) -> list[str]:
        listed = json.loads(self.machine.said("sentryfw", "list", "--json"))
        return [item["address"] for item in listed]

    def leftovers(self) -> list[str]:
        """Return the paths on the disk with our name in them."""
        return self.machine.said("find", "/", "-xdev", "-name", "*sentryfw*").split()
