"""The daemon as a process: who holds its lock, and how it is ended whatever state it is in."""

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sentryfw.config import Config
from sentryfw.control import ask
from sentryfw.errors import SentryError
from sentryfw.netfilter.table import Table
from sentryfw.netfilter.tablelock import TableLock

POLITELY: Final = 3.0
TERMINATE: Final = 2.0
KILL: Final = 5.0
POLL: Final = 0.02
HEALING: Final = 2.0
"""Seconds that the daemon has to put the table back."""


def holder(lock: Path) -> int | None:
    """The process that holds the daemon's lock: running, starting or hung. None if none does."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        return int(text) if text.isdecimal() and int(text) > 1 else None
    finally:
        os.close(descriptor)
    return None


def end(lock: Path, control: Path | None) -> bool:
    """End the daemon: ask, then SIGTERM, then SIGKILL; whether there was one. SentryError if it
    outlives that."""
    pid = holder(lock)
    if pid is None:
        return False
    if control is not None:
        with contextlib.suppress(SentryError):
            ask(control, {"do": "stop"})
            if _is_gone(lock, POLITELY):
                return True
    for number, patience in ((signal.SIGTERM, TERMINATE), (signal.SIGKILL, KILL)):
        pid = holder(lock)
        if pid is None:
            return True
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        if _is_gone(lock, patience):
            return True
    raise SentryError(f"the daemon (pid {pid}) cannot be ended: the kernel holds it")


def _is_gone(lock: Path, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while holder(lock) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL)
    return True


@contextlib.contextmanager
def alone(config: Config, table: Table) -> Iterator[None]:
    """The installed table, with nobody else at it. A daemon that is about to put back what
    somebody deleted is waited for."""
    deadline = time.monotonic() + HEALING
    while True:
        with TableLock(config.paths.runtime).held():
            healing = not table.is_installed() and holder(config.paths.lock) is not None
            if not healing or time.monotonic() > deadline:
                table.require()
                yield
                return
        time.sleep(POLL)
