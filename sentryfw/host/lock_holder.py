"""The process that holds a lock file of the daemon, and signals to it.

The daemon's user writes the lock file, so root does not trust the pid in it. The
kernel names the holder (/proc/locks), and a signal goes only to a process of the user that owns
the directory of the lock, through a pidfd that was opened before the check.

See docs/decisions.md: lock-holder.
"""

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sentryfw.host.private_files import open_no_link

LOCKS: Final = Path("/proc/locks")
MAX_PID_BYTES: Final = 32


def is_held(lock: Path) -> bool:
    """Return whether a process holds the lock: a daemon that runs, starts or hangs."""
    with _opened(lock) as descriptor:
        return descriptor is not None and _is_locked(descriptor)


def holder(lock: Path) -> int | None:
    """Return the pid of the process that holds the lock and that root may signal, or None."""
    with _opened(lock) as descriptor:
        if descriptor is None or not _is_locked(descriptor):
            return None
        owner = lock.parent.lstat().st_uid
        for pid in _candidates(descriptor):
            if _is_of(pid, owner):
                return pid
    return None


def signal_holder(lock: Path, number: signal.Signals) -> int | None:
    """Send a signal to the holder, and return its pid; None if there is none that root may
    signal."""
    pid = holder(lock)
    if pid is None:
        return None
    try:
        process = os.pidfd_open(pid)
    except OSError:  # it has exited since
        return None
    try:
        if holder(lock) != pid:
            return None  # the pid belongs to another process by now
        signal.pidfd_send_signal(process, number)
    except ProcessLookupError:
        return None
    finally:
        os.close(process)
    return pid


@contextlib.contextmanager
def _opened(lock: Path) -> Iterator[int | None]:
    try:
        descriptor = open_no_link(lock, os.O_RDONLY)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # two that ask do not meet
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def _candidates(descriptor: int) -> list[int]:
    """Return the holders as the kernel names them; then the pid in the file, for file systems whose
    device numbers /proc/locks and stat(2) report differently."""
    status = os.fstat(descriptor)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    place = f"{device}:{status.st_ino}"
    found = [
        int(fields[4])  # 1: FLOCK ADVISORY WRITE 602 00:1a:1084 0 EOF
        for fields in map(str.split, _lock_lines())
        if fields[1:2] == ["FLOCK"] and fields[3:4] == ["WRITE"] and fields[5:6] == [place]
    ]
    text = os.pread(descriptor, MAX_PID_BYTES, 0).decode(errors="replace").strip()
    if not found and text.isascii() and text.isdecimal():
        found.append(int(text))
    return [pid for pid in found if pid > 1]


def _lock_lines() -> list[str]:
    try:
        return LOCKS.read_text().splitlines()
    except OSError:
        return []


def _is_of(pid: int, uid: int) -> bool:
    """Return whether all user ids of a process are this one."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    except OSError:
        return False
    uids = next((line.split()[1:5] for line in lines if line.startswith("Uid:")), [])
    return uids == [str(uid)] * 4
