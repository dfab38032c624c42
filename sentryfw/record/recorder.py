"""The recorder: takes records off the packet path and writes them, in one thread.

Adding a record never waits. Records that cannot be written (full disk, locked database) are
counted and reported; detection and blocking continue.

See docs/decisions.md: kept-probes.
"""

import errno
import logging
import queue
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from sentryfw.engine.model import Probe
from sentryfw.errors import SentryError
from sentryfw.record.captures import Capture, CaptureStore, RecentProbe
from sentryfw.record.event_file import is_low
from sentryfw.record.events import render_note
from sentryfw.record.records import (
    DecisionRecord,
    Located,
    Named,
    ProbeRecord,
    Reaction,
    record_of,
)
from sentryfw.record.throttle import EventThrottle, LogThrottle

MAX_BACKLOG: Final = 100_000
"""Records that may wait for the disk; more are counted as lost."""
MAX_PROBES_PER_S: Final = 1000
"""Probes below the trigger that are kept in one second."""
WRITE_BATCH: Final = 500
"""Records in one transaction."""
GATHER_S: Final = 0.02
"""Seconds that a record waits for others, to be written with them: 1,000 blocks in five seconds
took the daemon 0.53 s of CPU instead of 0.73 to 0.92, and verdicts waited less often for Python's
lock."""
TRIM_BATCH: Final = 1000
"""Records after which the ledger is trimmed."""
REPORT_INTERVAL_S: Final = 60.0
"""Seconds between two log messages about the same failing file."""
RETRY_INTERVAL_S: Final = 1.0
"""Seconds between two checks whether the disk works again."""


class LedgerSink(Protocol):
    """The ledger as the recorder uses it. Writing may raise sqlite3.Error."""

    fault: str
    """Why the ledger waits for its disk; empty while it does not."""

    def add(self, records: Iterable[DecisionRecord], probes: Iterable[ProbeRecord]) -> None:
        """Add decisions and probes."""

    def add_reactions(self, reactions: Iterable[Reaction], names: Iterable[Named]) -> None:
        """Add results of reactions and host names."""

    def trim(self, now: float) -> None:
        """Remove the oldest rows. `now`: seconds since the epoch."""

    def retry(self) -> None:
        """Try the disk again."""


class EventSink(Protocol):
    """The event file as the recorder uses it."""

    def write(self, events: list[dict[str, Any]]) -> None:
        """Append events. Raise OSError if the disk does not accept them."""


Item = DecisionRecord | ProbeRecord | Reaction | Named | Located | Capture | dict[str, Any]

log = logging.getLogger("sentryfwd")


class RecordLimits(NamedTuple):
    """Bounds of what the recorder writes; the sinks have their own."""

    events_per_second: int = 100
    """Events of one kind that are written one by one."""
    min_free_bytes: int = 64 << 20
    """Space below which only blocks are written."""
    place: Path | None = None
    """A directory in the file system whose space counts; None: not asked for."""


def _ignore(_kind: str, _fields: dict[str, object]) -> None:
    pass


class Recorder:
    """A thread between the daemon and the disk."""

    listener: Callable[[str, dict[str, object]], None] = staticmethod(_ignore)
    """Called with each event about the daemon itself, and when records are lost; in any thread."""
    core: AbstractContextManager[None] = nullcontext()
    """The thread writes within it (host/affinity.py)."""

    def __init__(
        self,
        ledger: LedgerSink,
        events: EventSink,
        captures: CaptureStore | None = None,
        limits: RecordLimits | None = None,
    ) -> None:
        """`captures`: where the packets behind blocks are written; None: nowhere."""
        self._ledger = ledger
        self._captures = captures
        self._events = events
        self._queue: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._limits = limits or RecordLimits()
        self._throttle = EventThrottle(self._limits.events_per_second)
        self._log_throttle = LogThrottle()
        self._reported: dict[str, float] = {}
        self._untrimmed = 0
        self.tally: Counter[tuple[str, int, bool, str]] = Counter()
        """Scans since the start by (scan, family 4 or 6, whether it was blocked)."""
        self.lost = 0
        """Records that did not reach the ledger or the event file."""
        self.unkept = 0
        """Probes below the trigger that were not kept, because of MAX_PROBES_PER_S."""
        self._second = self._probes = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def append(self, entry: DecisionRecord) -> None:
        """Record a block or a refusal."""
        self._put(entry)

    def capture(self, entry: DecisionRecord, probes: list[RecentProbe]) -> None:
        """Write the packets that a block rests on, if captures are kept."""
        if self._captures is not None and probes:
            self._put(Capture(entry, probes))

    def use_captures(self, captures: CaptureStore | None) -> None:
        """Write packets to this directory from now on; None: nowhere."""
        self._captures = captures

    def use_limits(self, limits: RecordLimits) -> None:
        """Use other bounds from now on."""
        self._limits = limits
        self._throttle.per_second = limits.events_per_second

    def probe(self, probe: Probe, at: float, zone: str = "") -> None:
        """Record a probe below the trigger that arrived `at` seconds since the epoch.

        In a flood only the first probes of each second are kept: writing all of them would cost
        more than judging them.
        """
        if int(at) != self._second:
            self._second, self._probes = int(at), 0
        self._probes += 1
        if self._probes <= MAX_PROBES_PER_S:
            self._put(record_of(probe, at, zone))
        else:
            self.unkept += 1

    def reaction(self, reaction: Reaction) -> None:
        """Record the result of a reaction."""
        self._put(reaction)

    def learnt(self, fact: Named | Located) -> None:
        """Record the name of a host, or write the event about where a source is from."""
        self._put(fact)

    def note(self, kind: str, **fields: object) -> None:
        """Write an event about the daemon itself; see events.render_note()."""
        self._put(render_note(kind, time.time(), **fields))
        self.listener(kind, fields)

    def stop(self, timeout: float = 0.5) -> None:
        """Write the records that still wait, for at most `timeout` seconds."""
        self._queue.put(None)
        self._thread.join(timeout)

    def _put(self, item: Item) -> None:
        if self._queue.qsize() >= MAX_BACKLOG:
            self.lost += 1
        else:
            self._queue.put(item)

    def _work(self) -> None:
        running = True
        while running:
            items = self._wait()
            if items and None not in items and self._queue.qsize() < WRITE_BATCH:
                time.sleep(GATHER_S)
            while len(items) < WRITE_BATCH and not self._queue.empty():
                items.append(self._queue.get())
            running = None not in items
            found = [item for item in items if item is not None]
            with self.core:
                self.write(found, time.monotonic(), time.time())
        events = self._throttle.flush(time.monotonic(), time.time())
        if events:
            self._append(events)

    def _wait(self) -> list[Item | None]:
        """Return the next item, or nothing after a while if the ledger waits for its disk, or a
        summary is due."""
        is_pending = self._throttle.is_pending or self._log_throttle.is_pending
        timeout = RETRY_INTERVAL_S if self._ledger.fault or is_pending else None
        try:
            return [self._queue.get(timeout=timeout)]
        except queue.Empty:
            if self._ledger.fault:
                self._ledger.retry()
            return []

    def write(self, items: list[Item], now: float, wall: float) -> None:
        """Write items, as the thread does. `now`: a clock value; `wall`: seconds since the
        epoch."""
        self._write_events(items, now, wall)
        limits = self._limits
        if limits.place is not None and is_low(limits.place, limits.min_free_bytes):
            items, lost = _blocks_alone(items)
            if lost:
                fault = OSError(errno.ENOSPC, "too little free space is left")
                self._report_loss("ledger", fault, lost)
        records = [item for item in items if isinstance(item, DecisionRecord)]
        probes = [item for item in items if isinstance(item, ProbeRecord)]
        reactions = [item for item in items if isinstance(item, Reaction)]
        names = [item for item in items if isinstance(item, Named)]
        try:
            if records or probes:
                self._ledger.add(records, probes)
                self._trim(len(records) + len(probes), wall)
        except sqlite3.Error as error:
            self._report_loss("ledger", error, len(records) + len(probes))
        try:
            if reactions or names:
                self._ledger.add_reactions(reactions, names)
                self._trim(len(reactions) + len(names), wall)
        except sqlite3.Error as error:
            self._report_loss("ledger", error, len(reactions) + len(names))
        self._write_captures([item for item in items if isinstance(item, Capture)])

    def _write_events(self, items: list[Item], now: float, wall: float) -> None:
        for item in items:
            if isinstance(item, DecisionRecord):
                self.tally[item.scan, item.family, item.blocked, item.zone] += 1
        self._log_throttle.log(items, now)
        events = self._throttle.take(items, now, wall)
        if events:
            self._append(events)

    def _append(self, events: list[dict[str, Any]]) -> None:
        try:
            self._events.write(events)
        except OSError as error:
            self._report_loss("event file", error, len(events))

    def _write_captures(self, captures: list[Capture]) -> None:
        store = self._captures
        if store is None or not captures:  # None: a reload has switched captures off since
            return
        try:
            store.write(captures)
        except (OSError, SentryError) as error:
            self._report_loss("capture", error, len(captures))

    def _trim(self, added: int, wall: float) -> None:
        self._untrimmed += added
        if self._untrimmed >= TRIM_BATCH:
            self._untrimmed = 0
            self._ledger.trim(wall)

    def _report_loss(self, where: str, error: Exception, lost: int) -> None:
        self.lost += lost
        now = time.monotonic()
        if now - self._reported.get(where, float("-inf")) >= REPORT_INTERVAL_S:
            self._reported[where] = now
            log.error("%s: %s; %d records lost so far, blocking continues", where, error, self.lost)
            self.listener("records-lost", {"where": where, "error": error, "lost": self.lost})


def _blocks_alone(items: list[Item]) -> tuple[list[Item], int]:
    """Return the blocks, for which the space that is left is kept, and the number of records that
    are lost."""
    blocks = [item for item in items if isinstance(item, DecisionRecord) and item.blocked]
    records = sum(not isinstance(item, dict) for item in items)
    return [*blocks], records - len(blocks)
