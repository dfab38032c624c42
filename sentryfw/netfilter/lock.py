"""The table lock: one process at a time makes changes that take more than one transaction.

install, uninstall, block, unblock and the daemon's repairs hold it. The lock file states what was
last done to the table as a whole, so that the daemon distinguishes an update from damage and does
not restore a table that was uninstalled. The kernel releases the lock when its process ends.
"""

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

from sentryfw.errors import NOT_ROOT, NoPrivilege, SentryError
from sentryfw.host import privileges
from sentryfw.host.account import acting_as_owner
from sentryfw.host.private_files import open_lock

LOCK_TIMEOUT_S: Final = 10.0
"""Seconds that a command waits for the lock; a repair of a million blocks takes five."""
LOCK_POLL_S: Final = 0.01
MAX_INSTALL_S: Final = 900.0
"""Seconds that an install may take; the update from an older schema adds each live block."""
STAMP_BYTES: Final = 64
NAME: Final = "table.lock"

log: Final = logging.getLogger("sentryfw")

State = Literal["", "installing", "installed", "uninstalled"]
"""`installing` is written before a change that may take longer than LOCK_TIMEOUT_S."""


class Stamp(NamedTuple):
    """The last change of the table as a whole."""

    state: str
    at: str
    """Distinguishes two changes; it has no other meaning."""


class TableLock:
    """The lock file in the runtime directory.

    Where the file cannot be made (full disk, read-only file system) the lock is not taken and a
    warning is logged: a command must work all the same.
    """

    def __init__(self, runtime: Path) -> None:
        self._path = runtime / NAME
        self._descriptor: int | None = None

    @contextlib.contextmanager
    def held(self, timeout: float = LOCK_TIMEOUT_S, *, goes_on: bool = False) -> Iterator[None]:
        """Wait for the lock, and hold it in the context. After `timeout`, raise SentryError, or
        with `goes_on` continue without it: no process may prevent an uninstall."""
        end = time.monotonic() + timeout
        while not self.take():
            if time.monotonic() > end:
                if goes_on:
                    self.warn_of_holder(timeout)
                    break
                raise SentryError(
                    f"another sentryfw has been changing the table for {timeout:g} s"
                    f" ({self._path}): try again"
                )
            time.sleep(LOCK_POLL_S)
        try:
            yield
        finally:
            self.release()

    def take(self) -> bool:
        """Take the lock if it is free. Return whether the caller may continue."""
        try:
            descriptor = self._open()
        except (OSError, SentryError) as error:
            if not privileges.has_net_admin():
                raise NoPrivilege(NOT_ROOT) from None  # nothing of the table could be changed
            log.warning("changing the table without its lock: %s: %s", self._path, error)
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Release the lock if it is held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def warn_of_holder(self, seconds: float) -> None:
        """Log that the table is changed although another process holds the lock."""
        log.warning(
            "%s: another process has held it for %g s: changing the table without it",
            self._path, seconds,
        )  # fmt: skip

    def is_installing(self) -> bool:
        """Return whether the process that holds the lock has announced a long change. Needs no
        lock."""
        try:
            descriptor = self._open()
        except (OSError, SentryError):
            return False
        try:
            age = time.time() - os.fstat(descriptor).st_mtime
            return _read(descriptor).state == "installing" and 0 <= age < MAX_INSTALL_S
        finally:
            os.close(descriptor)

    def stamp(self) -> Stamp:
        """Read the last change; an empty stamp unless the lock is held."""
        return Stamp("", "") if self._descriptor is None else _read(self._descriptor)

    def write(self, state: State) -> Stamp:
        """Write what was done, while the lock is held, and return it."""
        text = f"{state} {time.time_ns()}-{os.getpid()}\n"
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # a full disk: the daemon takes it for damage
                os.pwrite(self._descriptor, text.ljust(STAMP_BYTES).encode(), 0)
        return self.stamp()

    def _open(self) -> int:
        with acting_as_owner(self._path.parent):
            self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            return open_lock(self._path)


def _read(descriptor: int) -> Stamp:
    text = os.pread(descriptor, STAMP_BYTES, 0).decode(errors="replace")
    state, _, at = text.strip().partition(" ")
    return Stamp(state, at)
