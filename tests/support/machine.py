"""A Debian of its own: a root that debootstrap made, in private mount, pid and network namespaces.

The network is the victim's of a Lab, so packages are fetched before it starts.
"""

import shutil
import subprocess
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, Final, Self

import pytest

from support.lab import Lab
from support.waiting import wait_for

MIRROR: Final = "http://deb.debian.org/debian"
ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "DEBIAN_FRONTEND": "noninteractive",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
}
INIT: Final = """\
set -e
mount --make-rprivate /
mount -t proc proc "$0/proc"
mount -t devpts devpts "$0/dev/pts"
exec chroot "$0" sleep infinity
"""
APT: Final = ("apt-get", "-q", "-y", "--no-install-recommends")


def debootstrap(root: Path, suite: str = "bookworm") -> None:
    """A minimal Debian in an empty directory; skips where it cannot be had."""
    if shutil.which("debootstrap") is None:
        pytest.skip("no debootstrap here: make test-deb")
    command = ["debootstrap", "--variant=minbase", suite, root, MIRROR]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no Debian can be made here: {done.stdout[-300:]}")


def fetch(root: Path, *packages: str) -> None:
    """Into the root's cache, with what they depend on; the only thing that needs the network."""
    for words in (("update",), ("install", "--download-only", *packages)):
        done = subprocess.run(
            ["chroot", root, *APT, *words], capture_output=True, text=True, check=False,
            env=ENVIRONMENT,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


class Machine:
    """The root, as it runs: every command is in the same namespaces."""

    def __init__(self, lab: Lab, root: Path) -> None:
        self.lab = lab
        self.root = root
        words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", INIT, root]
        self._holder = lab.victim.popen(words)
        self._init = wait_for(self._find_init, "the machine's first process")
        wait_for(lambda: self.run("test", "-e", "/proc/self/stat").returncode == 0, "its /proc")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.kill()
        self._holder.wait()

    def _find_init(self) -> int:
        assert self._holder.poll() is None, self._holder.stderr.read()
        pid = self._holder.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if not children or Path(f"/proc/{children[0]}/root").readlink() != self.root:
            return 0
        return int(children[0])

    def _inside(self, *words: str) -> list[str]:
        spaces = ["--mount", "--pid", "--net", "--root", "--wdns=/"]
        return ["nsenter", f"--target={self._init}", *spaces, "--", *words]

    def run(self, *words: str) -> CompletedProcess[str]:
        """A command to its end, whatever its exit code."""
        return subprocess.run(
            self._inside(*words), capture_output=True, text=True, check=False, timeout=300,
            env=ENVIRONMENT, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def said(self, *words: str) -> str:
        """What a command that succeeds prints."""
        done = self.run(*words)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def apt(self, *words: str) -> str:
        return self.said(*APT, *words)

    def start(self, *words: str) -> subprocess.Popen[Any]:
        with (self.root / "root" / "output").open("a") as output:
            return subprocess.Popen(
                self._inside(*words), stdout=output, stderr=output, env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def path(self, name: str) -> Path:
        """An absolute path of the machine's, seen from here."""
        return self.root / name.lstrip("/")
