"""The daemon's answer to "what is behind number N", as soon as there is something.

One request of the link waits at a time for each place that it has at the control socket; it ends
after MAX_WAIT_S at the latest, so one whose link has gone holds its place no longer.
"""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, Final

from sentryfw.config.model import Config
from sentryfw.daemon.fleet.file_watch import FileWatch
from sentryfw.daemon.fleet.sender import Sender, after_in
from sentryfw.errors import SentryError
from sentryfw.record.fleet import outbox
from sentryfw.record.ledger import Ledger

NO_FLEET: Final = "there is no fleet: set [fleet] name and members"
MAX_WAIT_S: Final = 5.0
MAX_ENTRIES: Final = 40
"""Entries in one answer: a line of the control socket has 64 KiB."""
LOOKS_S: Final = (0.0005, 0.002, 0.01, 0.05, 0.2)
"""Pauses between readings after a write: SQLite makes it visible a moment after the write itself
(sqlite.org/walformat.html, section 2.3), and that writer may be preempted in between."""


class OutboxWait:
    """Waits for entries in the outbox."""

    def __init__(self, config: Config, sender: Sender) -> None:
        self._path = config.paths.ledger
        self._is_on = bool(config.fleet.name)
        self._sender = sender
        self._turn = asyncio.Lock()
        self._watch: FileWatch | None = None
        """Kept open: to close it takes the kernel 10 ms (measured)."""

    async def wait(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return our entries behind the number `after`, MAX_ENTRIES at most, and the last number
        that was given; no entries after `seconds`. Raise SentryError for a wrong request."""
        if not self._is_on:
            raise SentryError(NO_FLEET)
        after, seconds = after_in(request), request.get("seconds")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
            raise SentryError("seconds is how long to wait")
        loop = asyncio.get_running_loop()
        end = loop.time() + min(float(seconds), MAX_WAIT_S)
        async with self._turn:
            if self._watch is None:
                self._watch = FileWatch(self._path.parent)
            with await loop.run_in_executor(None, Ledger, self._path) as ledger:
                return await self._found_until(end, self._watch, ledger, after)

    async def _found_until(
        self, end: float, watch: FileWatch, ledger: Ledger, after: int
    ) -> dict[str, Any]:
        """Read now, and after each write until there are entries, or until `end`."""
        loop = asyncio.get_running_loop()
        pauses: Iterator[float] = iter(())
        found = await self._read(ledger, after)
        while not found["entries"] and (left := end - loop.time()) > 0:
            pause = next(pauses, left)
            if await watch.written(min(pause, left)):
                pauses = iter(LOOKS_S)
            found = await self._read(ledger, after)
        return found

    async def _read(self, ledger: Ledger, after: int) -> dict[str, Any]:
        """Read in a thread, off the packet path."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, self._found, ledger, after)

    def _found(self, ledger: Ledger, after: int) -> dict[str, Any]:
        entries = self._sender.signed(ledger, after, MAX_ENTRIES)
        return {"entries": entries, "last": outbox.last_number(ledger)}
