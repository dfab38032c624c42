"""Events about the origins of blocked sources, written when another process has found them.

The event of a block is written at once, without its origin; this one follows, as the event with a
host's name does. One process answers for all sources that wait.
"""

import time
from collections.abc import Callable
from typing import Final

from sentryfw.record.records import Located
from sentryfw.respond.incident import Incident
from sentryfw.respond.origin.finder import Find
from sentryfw.respond.reaction_queue import Report, ResultReporter
from sentryfw.respond.worker_thread import PacedThread

NAME: Final = "origin"
MAX_SOURCES: Final = 500
"""Sources that may wait; more are only counted, as failed."""
GAP_S: Final = 10.0
"""Seconds from one lookup to the next: each is a process that reads the files."""


class OriginEvents(PacedThread):
    """Collects blocked sources, and reports where they are from."""

    def __init__(self, find: Find, learnt: Callable[[Located], None], report: Report) -> None:
        super().__init__(NAME)
        self.reporter = ResultReporter(NAME, report, quiet=True)
        self._find = find
        self._learnt = learnt
        self._pending: dict[str, None] = {}

    @property
    def waiting(self) -> int:
        """Sources that wait for the next lookup."""
        return len(self._pending)

    def put(self, incident: Incident) -> None:
        """Add the source of a block."""
        if incident.action == "refused":
            return
        with self._condition:
            has_room = len(self._pending) < MAX_SOURCES or incident.address in self._pending
            if has_room:
                self._pending[incident.address] = None
            self._condition.notify()
        if not has_room:
            self.reporter.failure("", f"{MAX_SOURCES} sources wait: no origins of more")

    def stop(self, deadline: float) -> None:
        """End the thread; report sources that were not looked up."""
        super().stop(deadline)
        if self._pending:
            self.reporter.failure("", f"{len(self._pending)} not looked up: the daemon ended")

    def _run(self) -> None:
        while True:
            with self._condition:
                if not self._wait_until_due():
                    return
                sources = list(self._pending)
                self._pending.clear()
            self._not_before = time.monotonic() + GAP_S
            self._tell(sources)

    def _tell(self, sources: list[str]) -> None:
        found = self._find(sources)
        for address in sources:
            origin = found.get(address)
            if origin is None:
                self.reporter.failure(address, "the lookup failed: the log has the reason")
                continue
            if str(origin):
                self._learnt(Located(address, origin.item(), time.time()))
            self.reporter.success(address, str(origin) or "unknown")
