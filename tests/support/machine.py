"""A Debian of its own: a root that debootstrap made, booted by its systemd in private namespaces
(mount, pid, network, cgroup, uts, ipc), in a control group of its own.

The network is the victim's of a Lab, so packages are fetched before it starts.
"""

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from subprocess import CompletedProcess
from typing import Final, Self

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
CGROUP: Final = """\
set -e
mount --make-rprivate /
mount -t cgroup2 cgroup2 "$0/sys"
mkdir -p "$0/sys/$1"
echo $$ > "$0/sys/$1/cgroup.procs"
umount "$0/sys"
shift
exec "$@"
"""
"""A control group of its own, which is the root of the machine's."""
BOOT: Final = """\
set -e
mount --bind "$0" "$0"
mount -t proc proc "$0/proc"
mount -t sysfs sysfs "$0/sys"
mount -t cgroup2 cgroup2 "$0/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$0/run"
mount -t devpts devpts "$0/dev/pts" -o newinstance,ptmxmode=0666
exec env -i container=lab PATH="$PATH" chroot "$0" /lib/systemd/systemd
"""
SWEEP: Final = """\
mount --make-rprivate /
mount -t cgroup2 cgroup2 /mnt
find "/mnt/$0" -depth -type d -exec rmdir {} +
"""
SWEEP_S: Final = 60.0
"""Seconds until the kernel has let go of the machine's control groups."""
RUN_S: Final = 900.0
"""Seconds for one command: an upgrade of the whole machine takes minutes."""
APT: Final = ("apt-get", "-q", "-y", "--no-install-recommends")


def debootstrap(root: Path, suite: str = "bookworm") -> None:
    """Make a minimal Debian in an empty directory. Skip the test where that fails."""
    if shutil.which("debootstrap") is None:
        pytest.skip("no debootstrap here: make test-deb")
    command = ["debootstrap", "--variant=minbase", "--include=systemd-sysv", suite, root, MIRROR]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no Debian can be made here: {done.stdout[-300:]}")


def fetch(root: Path, *packages: str) -> None:
    """Download packages and dependencies into the root's cache; only this needs the network."""
    chroot(root, *APT, "update")
    chroot(root, *APT, "install", "--download-only", *packages)


def chroot(root: Path, *words: str | Path) -> str:
    """Return the output of a command that succeeds in a root which is not booted."""
    done = subprocess.run(
        ["chroot", root, *words], capture_output=True, text=True, check=False, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Machine:
    """A running root: systemd is its first process; commands run in its namespaces."""

    def __init__(self, lab: Lab, root: Path) -> None:
        self.lab = lab
        self.root = root
        self._cgroup = f"sentryfw-test-{os.getpid()}"
        spaces = ["--mount", "--pid", "--cgroup", "--uts", "--ipc", "--fork", "--kill-child"]
        boot = ["unshare", *spaces, "sh", "-c", BOOT, root]
        self._output = (root / "root" / "boot").open("w+")
        self._holder = lab.victim.popen(
            ["unshare", "--mount", "sh", "-c", CGROUP, root, self._cgroup, *boot],
            stdout=self._output, stderr=self._output,
        )  # fmt: skip
        self._init = wait_for(self._find_init, "the machine's first process")
        wait_for(self._has_booted, "the machine has booted", 60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.kill()
        self._holder.wait()
        self._output.close()
        wait_for(self._swept, "no control group of the machine is left", SWEEP_S)

    def _swept(self) -> bool:
        command = ["unshare", "--mount", "sh", "-c", SWEEP, self._cgroup]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _find_init(self) -> int:
        assert self._holder.poll() is None, (self.root / "root" / "boot").read_text()
        pid = self._holder.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        with suppress(FileNotFoundError):  # it ended: the next call reports that
            if children and Path(f"/proc/{children[0]}/root").readlink() == self.root:
                return int(children[0])
        return 0

    def _has_booted(self) -> bool:
        return self.run("systemctl", "is-system-running").stdout.strip() in {"running", "degraded"}

    def _inside(self, *words: str) -> list[str]:
        spaces = ["--mount", "--pid", "--net", "--cgroup", "--uts", "--ipc", "--root", "--wdns=/"]
        return ["nsenter", f"--target={self._init}", *spaces, "--", *words]

    def run(self, *words: str) -> CompletedProcess[str]:
        """Run a command to its end, with any exit code."""
        return subprocess.run(
            self._inside(*words), capture_output=True, text=True, check=False, timeout=RUN_S,
            env=ENVIRONMENT, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def said(self, *words: str) -> str:
        """Return the output of a command that succeeds."""
        done = self.run(*words)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def apt(self, *words: str) -> str:
        return self.said(*APT, *words)

    def path(self, name: str) -> Path:
        """Return the path of a file of the machine, as seen from here."""
        return self.root / name.lstrip("/")
