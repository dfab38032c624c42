"""The recorder: takes what happened off the packet path and writes it, in one thread.

append() never waits. What cannot be written (full disk, locked database) is counted and said;
detection and blocking go on.
"""

import logging
import queue
import sqlite3
import threading
import time
from collections import Counter
from typing import Any, Final, NamedTuple

from sentryfw.engine.model import Probe
from sentryfw.errors import SentryError
from sentryfw.record.entry import Entry, Named, Reaction, Sight, entry_fields, sight_of
from sentryfw.record.events import EventFile, render_entry, render_note, render_reaction
from sentryfw.record.evidence import Evidence, Glimpse
from sentryfw.record.ledger import Ledger

BACKLOG: Final = 100_000
"""Entries that may wait for the disk; more are counted as lost."""
SIGHTS_A_SECOND: Final = 1000
BATCH: Final = 500
TRIM_EVERY: Final = 1000
COMPLAINT_PAUSE: Final = 60.0
RETRY_POLL: Final = 1.0


class Capture(NamedTuple):
    """The packets of a block, to be written."""

    entry: Entry
    glimpses: list[Glimpse]


Item = Entry | Sight | Reaction | Named | Capture | dict[str, Any]

log = logging.getLogger("sentryfwd")


def _event(item: Item) -> dict[str, Any] | None:
    """What the event file is told of it; None: nothing."""
    if isinstance(item, Entry):
        return render_entry(item)
    if isinstance(item, Reaction):
        return render_reaction(item)
    if isinstance(item, Named):
        return render_note("host", item.at, **item._asdict())
    return item if isinstance(item, dict) else None


class Recorder:
    """A thread between the daemon and the disk."""

    def __init__(self, ledger: Ledger, events: EventFile, evidence: Evidence | None = None) -> None:
        self._ledger = ledger
        self._evidence = evidence
        self._events = events
        self._queue: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._complained: dict[str, float] = {}
        self._untrimmed = 0
        self.tally: Counter[tuple[str, int, bool]] = Counter()
        """Findings since the start: (scan, 4 or 6, blocked)."""
        self.lost = 0
        """Entries that did not reach the ledger or the event file."""
        self.unkept = 0
        """Probes below the trigger beyond SIGHTS_A_SECOND."""
        self._second = self._sights = 0

    def start(self) -> None:
        self._thread.start()

    def append(self, entry: Entry) -> None:
        """A block or a refusal."""
        self._put(entry)

    def capture(self, entry: Entry, glimpses: list[Glimpse]) -> None:
        """The packets that a block rests on."""
        if self._evidence is not None and glimpses:
            self._put(Capture(entry, glimpses))

    def keep_in(self, evidence: Evidence | None) -> None:
        """Where packets are written from now on; None: nowhere."""
        self._evidence = evidence

    def sight(self, probe: Probe, at: float) -> None:
        """A probe below the trigger, seen at `at` s since the epoch. In a flood only the first ones
        of each second are kept: writing all of them would cost more than judging them."""
        if int(at) != self._second:
            self._second, self._sights = int(at), 0
        self._sights += 1
        if self._sights <= SIGHTS_A_SECOND:
            self._put(sight_of(probe, at))
        else:
            self.unkept += 1

    def reaction(self, reaction: Reaction) -> None:
        """What became of a reaction."""
        self._put(reaction)

    def named(self, address: str, host: str) -> None:
        """A resolver told the name of an address."""
        self._put(Named(address, host, time.time()))

    def note(self, kind: str, **fields: object) -> None:
        """Something about the daemon itself."""
        self._put(render_note(kind, time.time(), **fields))

    def stop(self, patience: float = 0.5) -> None:
        """Write what is left, for at most so many seconds."""
        self._queue.put(None)
        self._thread.join(patience)

    def _put(self, item: Item) -> None:
        if self._queue.qsize() >= BACKLOG:
            self.lost += 1
        else:
            self._queue.put(item)

    def _work(self) -> None:
        running = True
        while running:
            items = self._wait()
            while len(items) < BATCH and not self._queue.empty():
                items.append(self._queue.get())
            running = None not in items
            self._write([item for item in items if item is not None])

    def _wait(self) -> list[Item | None]:
        """The next item; none of them now and then while the ledger waits for its disk."""
        try:
            return [self._queue.get(timeout=RETRY_POLL if self._ledger.fault else None)]
        except queue.Empty:
            self._ledger.retry()
            return []

    def _write(self, items: list[Item]) -> None:
        entries = [item for item in items if isinstance(item, Entry)]
        sights = [item for item in items if isinstance(item, Sight)]
        reactions = [item for item in items if isinstance(item, Reaction)]
        names = [item for item in items if isinstance(item, Named)]
        events = [event for item in items if (event := _event(item)) is not None]
        self._say_all(items)
        try:
            if events:
                self._events.write(events)
        except OSError as error:
            self._complain("event file", error, len(events))
        try:
            if entries or sights:
                self._ledger.add(entries, sights)
                self._trim(len(entries) + len(sights))
        except sqlite3.Error as error:
            self._complain("ledger", error, len(entries) + len(sights))
        try:
            if reactions or names:
                self._ledger.add_reactions(reactions, names)
                self._trim(len(reactions) + len(names))
        except sqlite3.Error as error:
            self._complain("ledger", error, len(reactions) + len(names))
        for item in items:
            if isinstance(item, Capture):
                self._keep(item)

    def _keep(self, capture: Capture) -> None:
        evidence = self._evidence
        if evidence is None:  # a reload ended it meanwhile
            return
        try:
            evidence.write(capture.entry, capture.glimpses)
        except (OSError, SentryError) as error:
            self._complain("capture", error, 1)

    def _trim(self, added: int) -> None:
        self._untrimmed += added
        if self._untrimmed >= TRIM_EVERY:
            self._untrimmed = 0
            self._ledger.trim()

    def _say_all(self, items: list[Item]) -> None:
        for item in items:
            if isinstance(item, Entry):
                self.tally[item.scan, item.family, item.blocked] += 1
                self._say(item)
            elif isinstance(item, Reaction):
                self._say_reaction(item)

    def _say(self, entry: Entry) -> None:
        what = f"{entry.scan} ({', '.join(entry.kinds)})"
        if entry.blocked:
            log.info(
                "blocked %s for %ds: %s, %s, offence %d",
                entry.address, entry.timeout_s, what, entry.reason, entry.offence,
                extra=entry_fields(entry),
            )  # fmt: skip
        else:
            log.info(
                "not blocked %s: %s, because: %s", entry.address, what, entry.reason,
                extra=entry_fields(entry),
            )  # fmt: skip

    def _say_reaction(self, reaction: Reaction) -> None:
        about = f" to {reaction.address}" if reaction.address else ""
        if reaction.ok:
            log.info("%s%s: %s", reaction.reaction, about, reaction.detail)
        else:
            log.error("%s%s failed: %s", reaction.reaction, about, reaction.detail)

    def _complain(self, where: str, error: Exception, lost: int) -> None:
        self.lost += lost
        now = time.monotonic()
        if now - self._complained.get(where, float("-inf")) >= COMPLAINT_PAUSE:
            self._complained[where] = now
            log.error("%s: %s; %d entries lost so far, blocking goes on", where, error, self.lost)
