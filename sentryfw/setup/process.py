"""The daemon as a process: its end, and exclusive access to the table."""

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sentryfw.config.model import Config
from sentryfw.control.client import ask
from sentryfw.errors import SentryError
from sentryfw.host.lock_holder import is_held, signal_holder
from sentryfw.netfilter.lock import TableLock
from sentryfw.netfilter.table import Table

STOP_REQUEST_TIMEOUT_S: Final = 3.0
SIGTERM_TIMEOUT_S: Final = 2.0
SIGKILL_TIMEOUT_S: Final = 5.0
POLL_S: Final = 0.02
REPAIR_TIMEOUT_S: Final = 2.0
"""Seconds that the daemon has to repair the table."""


def end(lock: Path, control: Path | None) -> bool:
    """End the daemon by a request, then SIGTERM, then SIGKILL. Return whether one was running.
    Raise SentryError if it does not exit."""
    if not is_held(lock):
        return False
    pid: int | None = None
    if control is not None:
        with contextlib.suppress(SentryError):
            ask(control, {"do": "stop"})
            if _is_gone(lock, STOP_REQUEST_TIMEOUT_S):
                return True
    for number, timeout in (
        (signal.SIGTERM, SIGTERM_TIMEOUT_S),
        (signal.SIGKILL, SIGKILL_TIMEOUT_S),
    ):
        pid = signal_holder(lock, number)
        if _is_gone(lock, timeout if pid else 0.0):
            return True
    if pid is None:
        raise SentryError(
            f"{lock}: held by a process that does not belong to the owner of the directory, so it"
            f" was not ended: see `lsof {lock}`"
        )
    raise SentryError(
        f"the daemon (pid {pid}) did not exit after SIGKILL: it waits in the kernel; see `dmesg`"
    )


def _is_gone(lock: Path, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while is_held(lock):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


@contextlib.contextmanager
def exclusive(config: Config, table: Table) -> Iterator[None]:
    """Hold the lock of the installed table. If the table was deleted, wait for a running daemon to
    repair it. Raise NotInstalled without a table."""
    deadline = time.monotonic() + REPAIR_TIMEOUT_S
    while True:
        with TableLock(config.paths.runtime).held():
            repairing = not table.is_installed() and is_held(config.paths.lock)
            if not repairing or time.monotonic() > deadline:
                table.require()
                yield
                return
        time.sleep(POLL_S)
