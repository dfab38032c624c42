"""One hand at a time on the table: a lock for what takes more than one transaction.

install, uninstall, block, unblock and the daemon's healing hold it. In it stands what was last
done to the table as a whole, so that the daemon knows an update from damage, and does not put
back what was uninstalled. The lock goes with its process, however that ends.
"""

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

from sentryfw.account import acting_as_owner
from sentryfw.errors import SentryError

PATIENCE: Final = 10.0
"""Seconds that a command waits; a repair of a million blocks takes five."""
MAX_STAMP: Final = 64
NAME: Final = "table.lock"

log: Final = logging.getLogger("sentryfw")

State = Literal["", "installed", "uninstalled"]


class Stamp(NamedTuple):
    """What was last done to the table as a whole."""

    state: str
    at: str
    """Tells one time from another, no more."""


class TableLock:
    """The lock file in the runtime directory. Where it cannot be made (full disk, read-only file
    system) there is no lock, and that is said: an operator must get through all the same."""

    def __init__(self, runtime: Path) -> None:
        self._path = runtime / NAME
        self._descriptor: int | None = None

    @contextlib.contextmanager
    def held(self, patience: float = PATIENCE) -> Iterator[None]:
        """Wait for the lock, hold it. SentryError if somebody else does not let go."""
        end = time.monotonic() + patience
        while not self.take():
            if time.monotonic() > end:
                raise SentryError(
                    f"another sentryfw has been changing the table for {patience:g} s"
                    f" ({self._path}): try again"
                )
            time.sleep(0.01)
        try:
            yield
        finally:
            self.release()

    def take(self) -> bool:
        """Take the lock if it is free; whether we have it now."""
        try:
            descriptor = self._open()
        except (OSError, SentryError) as error:
            log.warning("no lock on the table: %s: %s", self._path, error)
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def stamp(self) -> Stamp:
        """What was last done; to be read while the lock is held."""
        if self._descriptor is None:
            return Stamp("", "")
        text = os.pread(self._descriptor, MAX_STAMP, 0).decode(errors="replace")
        state, _, at = text.strip().partition(" ")
        return Stamp(state, at)

    def write(self, state: State) -> Stamp:
        """Say what was done, while the lock is held."""
        text = f"{state} {time.time_ns()}-{os.getpid()}\n"
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # a full disk: then it is taken for damage
                os.pwrite(self._descriptor, text.ljust(MAX_STAMP).encode(), 0)
        return self.stamp()

    def _open(self) -> int:
        with acting_as_owner(self._path.parent):
            self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            return os.open(self._path, flags, 0o640)
