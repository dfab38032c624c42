"""What every reaction has in common: a bounded queue, threads of its own, and a result.

Whoever gives work never waits for it. A reaction that fails, by an exception, by a full queue
or because the daemon ends, is reported as failed.
"""

import queue
import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from sentryfw.errors import SentryError
from sentryfw.respond.incident import Incident

LIMIT: Final = 1000
"""Incidents that may wait for one reaction."""
COMPLAINT_PAUSE: Final = 60.0


class Failed(SentryError):
    """A reaction that did not happen, with the reason."""


class Result(NamedTuple):
    """What became of one reaction."""

    reaction: str
    address: str
    """Of the incident; empty where it concerns many."""
    ok: bool
    detail: str
    at: float
    """Seconds since the epoch."""
    seconds: float
    """How long it took."""


Report = Callable[[Result], None]
Work = Callable[[Incident], str]
"""Do it; what was done, in words. Failed, or OSError, if it could not be done."""


def reason_of(error: BaseException) -> str:
    """One line, without control characters, of an exception."""
    text = str(error) or repr(error)
    return "".join(char if char.isprintable() else " " for char in text)[:300]


class Reporter:
    """Results of one reaction. `quiet`: only failures, and the first success after one."""

    def __init__(self, name: str, report: Report, *, quiet: bool = False) -> None:
        self.name = name
        self._report = report
        self._quiet = quiet
        self._failing: dict[str, float] = {}
        self.failed = 0
        self.done = 0

    def success(self, address: str, detail: str, seconds: float = 0.0) -> None:
        self.done += 1
        if not self._quiet or self._failing:
            self._failing.clear()
            self._say(address, detail, seconds, ok=True)

    def failure(self, address: str, detail: str, seconds: float = 0.0) -> None:
        self.failed += 1
        now = time.monotonic()
        if self._quiet and now - self._failing.get(detail, float("-inf")) < COMPLAINT_PAUSE:
            return
        if len(self._failing) > LIMIT:
            self._failing.clear()
        self._failing[detail] = now
        self._say(address, detail, seconds, ok=False)

    def _say(self, address: str, detail: str, seconds: float, *, ok: bool) -> None:
        self._report(Result(self.name, address, ok, detail, time.time(), seconds))


class Lane:
    """One reaction, done incident by incident in `workers` threads."""

    def __init__(
        self,
        name: str,
        work: Work,
        report: Report,
        *,
        workers: int = 1,
        limit: int = LIMIT,
        quiet: bool = False,
    ) -> None:
        self.reporter = Reporter(name, report, quiet=quiet)
        self._overflow = Reporter(name, report, quiet=True)
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
        return self._queue.qsize()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def put(self, incident: Incident) -> bool:
        """Whether there was room."""
        if self._queue.qsize() >= self._limit:
            self._overflow.failure(incident.address, f"queue full: {self._limit} wait")
            self.reporter.failed += 1
            return False
        self._queue.put(incident)
        return True

    def stop(self, deadline: float) -> None:
        """End the threads; what is not done until the deadline is reported as failed."""
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
            self.do(incident)

    def do(self, incident: Incident) -> None:
        """Do it now, and report."""
        begin = time.monotonic()
        try:
            detail = self._work(incident)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is reported and the next follows
            seconds = time.monotonic() - begin
            self.reporter.failure(incident.address, reason_of(error), seconds)
        else:
            self.reporter.success(incident.address, detail, time.monotonic() - begin)
