"""Debian's packages beside ours: unpacked over this system's files, in a mount namespace of
their own, so that nothing of them is installed here and nothing of ours is changed by them."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import Any, Final, Self

import pytest

from sentryfw.tools.drill.namespace import Namespace

MERGED: Final = ("bin", "sbin", "lib", "lib64")
"""Links into /usr since Debian 12; packages still have them as directories."""
SETUP: Final = """\
set -e
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
cp -a "$1/." /mnt/upper
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
cd /mnt/root
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /dev dev
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mkdir -p run/lock
exec chroot /mnt/root sh -c 'echo ready; exec sleep infinity'
"""


def fetch(home: Path, packages: Sequence[str]) -> Path:
    """Unpack the packages into one directory and return it. Skip the test without them."""
    root = home / "root"
    root.mkdir(parents=True)
    if not packages:
        return root
    for program in ("apt-get", "dpkg"):
        if shutil.which(program) is None:
            pytest.skip(f"{packages[0]} is not available here: no {program}")
    unpack = f'for package in *.deb; do dpkg -x "$package" {root}; done'
    for command in (["apt-get", "-q", "download", *packages], ["sh", "-ec", unpack]):
        done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"{packages[0]} is not available here: {done.stderr.strip()[-200:]}")
    for name in MERGED:
        if (root / name).is_dir():
            shutil.copytree(root / name, root / "usr" / name, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(root / name)
    return root


class Guest:
    """A host's programs and files, in one of our network namespaces."""

    def __init__(self, namespace: Namespace, root: Path) -> None:
        self._namespace = namespace
        command = ["unshare", "-m", "-p", "-f", "--kill-child", "sh", "-c", SETUP, "sh", root]
        self._holder = namespace.popen([str(word) for word in command])
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            _, said = self._holder.communicate()
            pytest.skip(f"no root directory of its own can be made here: {said.strip()}")
        pid = self._holder.pid
        [inside] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self._prefix = ["nsenter", "-t", inside, "-m", "-p", "-r", "-w", "--"]
        self.root = Path(f"/proc/{inside}/root")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.kill()
        self._holder.communicate()

    def run(self, *words: str) -> str:
        """Run a command to its end; return its output."""
        done = self.attempt(*words)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def attempt(self, *words: str) -> CompletedProcess[str]:
        return self._namespace.run(*self._prefix, *words)

    def start(self, *words: str) -> Popen[Any]:
        """Start a command that runs until the guest ends."""
        log = (self.root / "tmp" / f"{Path(words[0]).name}.log").open("w")
        with log:
            return self._namespace.popen([*self._prefix, *words], stdout=log, stderr=log)

    def log(self, name: str) -> str:
        """Return the output of a started program."""
        return (self.root / "tmp" / f"{name}.log").read_text()

    def write(self, path: str, text: str) -> None:
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
