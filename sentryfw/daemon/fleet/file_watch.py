"""Wait until a file in a directory is written to: inotify(7), through libc.

The programs that write the ledger are the daemon and every `sentryfw block`; the kernel reports
all of them, at no cost while none writes.
"""

import asyncio
import contextlib
import ctypes
import os
from pathlib import Path
from typing import Final, Self

from sentryfw.errors import SentryError

IN_MODIFY: Final = 0x2
IN_CREATE: Final = 0x100
MAX_EVENTS_BYTES: Final = 65536


class FileWatch:
    """Writes to the files of one directory, from the opening of this object on."""

    def __init__(self, directory: Path) -> None:
        """Raise SentryError where the kernel refuses."""
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise _refusal(directory)
        mask = IN_MODIFY | IN_CREATE
        if libc.inotify_add_watch(self._descriptor, os.fsencode(directory), mask) < 0:
            refusal = _refusal(directory)
            self.close()
            raise refusal

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Watch no longer."""
        os.close(self._descriptor)

    async def written(self, seconds: float) -> bool:
        """Return True after the next write, False after `seconds` without one. Writes since
        the opening, or since the last call, count."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._descriptor, readable.set)
        try:
            await asyncio.wait_for(readable.wait(), seconds)
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(self._descriptor)
        with contextlib.suppress(BlockingIOError):
            while os.read(self._descriptor, MAX_EVENTS_BYTES):
                pass
        return True


def _refusal(directory: Path) -> SentryError:
    return SentryError(f"{directory}: cannot be watched: {os.strerror(ctypes.get_errno())}")
