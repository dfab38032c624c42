"""The common parts of all reactions: a bounded queue, threads, and reports of results.

The code that hands over an incident never waits. A reaction that fails, by an exception, by a
full queue or because the daemon ends, is reported as failed.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Final

from sentryfw.errors import ReactionFailed
from sentryfw.record.records import Reaction
from sentryfw.respond.incident import Incident
from sentryfw.text import one_line

QUEUE_LIMIT: Final = 1000
"""Incidents that may wait for one reaction."""
REPORT_INTERVAL_S: Final = 60.0
"""Seconds between two reports of one fault, for a quiet reaction."""
MAX_REASON_CHARS: Final = 300

Report = Callable[[Reaction], None]
Work = Callable[[Incident], str]
"""Performs a reaction and returns a line about it. Raises ReactionFailed or OSError."""
EXPECTED: Final = (ReactionFailed, OSError)
"""Exceptions of a reaction that are not bugs, and need no traceback in the log."""

log: Final = logging.getLogger("sentryfwd")


def reason_of(error: BaseException) -> str:
    """Return an exception as one printable line."""
    return one_line(str(error) or repr(error))[:MAX_REASON_CHARS]


class ResultReporter:
    """Reports the results of one reaction, and counts them."""

    def __init__(self, name: str, report: Report, *, quiet: bool = False) -> None:
        """`quiet`: report only failures, and the first success after one."""
        self.name = name
        self._report = report
        self._quiet = quiet
        self._failing: dict[str, float] = {}
        self.failed = 0
        self.done = 0

    def success(self, address: str, detail: str, seconds: float = 0.0) -> None:
        """Count a success, and report it unless that would be noise."""
        self.done += 1
        if not self._quiet or self._failing:
            self._failing.clear()
            self._send(address, detail, seconds, ok=True)

    def failure(self, address: str, detail: str, seconds: float = 0.0) -> None:
        """Count a failure, and report it unless the same one was reported recently."""
        self.failed += 1
        now = time.monotonic()
        last = self._failing.get(detail, float("-inf"))
        if self._quiet and now - last < REPORT_INTERVAL_S:
            return
        if len(self._failing) > QUEUE_LIMIT:
            self._failing.clear()
        self._failing[detail] = now
        self._send(address, detail, seconds, ok=False)

    def _send(self, address: str, detail: str, seconds: float, *, ok: bool) -> None:
        self._report(
            Reaction(
                reaction=self.name,
                address=address,
                ok=ok,
                detail=detail,
                at=time.time(),
                seconds=seconds,
            )
        )


class ReactionQueue:
    """One reaction, performed incident by incident in `workers` threads."""

    def __init__(
        self,
        name: str,
        work: Work,
        report: Report,
        *,
        workers: int = 1,
        limit: int = QUEUE_LIMIT,
        quiet: bool = False,
    ) -> None:
        self.reporter = ResultReporter(name, report, quiet=quiet)
        self._overflow = ResultReporter(name, report, quiet=True)
        self._work = work
        self._limit = limit
        self._queue: queue.SimpleQueue[Incident | None] = queue.SimpleQueue()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True)
            for number in range(workers)
        ]

    @property
    def waiting(self) -> int:
        """Incidents that wait."""
        return self._queue.qsize()

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def put(self, incident: Incident) -> bool:
        """Add an incident; return whether there was room."""
        if self._queue.qsize() >= self._limit:
            self._overflow.failure(incident.address, f"queue full: {self._limit} wait")
            self.reporter.failed += 1
            return False
        self._queue.put(incident)
        return True

    def stop(self, deadline: float) -> None:
        """End the threads; report incidents that still wait at the deadline as failed."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._stopping = True
        left = 0
        while not self._queue.empty():
            left += self._queue.get() is not None
        if left:
            self._overflow.failure("", f"{left} not done: the daemon ended")

    def _run(self) -> None:
        while not self._stopping:
            incident = self._queue.get()
            if incident is None:
                return
            self.perform(incident)

    def perform(self, incident: Incident) -> None:
        """Perform the reaction now, and report its result."""
        begin = time.monotonic()
        try:
            detail = self._work(incident)
        except Exception as error:  # the next incident follows
            if not isinstance(error, EXPECTED):
                log.exception("%s: unexpected error", self.reporter.name)
            seconds = time.monotonic() - begin
            self.reporter.failure(incident.address, reason_of(error), seconds)
        else:
            self.reporter.success(incident.address, detail, time.monotonic() - begin)
