"""Our blocks at CrowdSec's local API, so that every bouncer there enforces them.

What is wanted is kept by source, not as a queue of orders: a block that ended while the API was
away is never pushed. A decision has the block's time, and ends there by itself.
"""

import logging
import time
from collections import deque
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from sentryfw.config.neighbours import Crowdsec
from sentryfw.errors import ReactionFailed
from sentryfw.host.credentials import read_secrets
from sentryfw.record.records import BY_HAND
from sentryfw.respond.incident import Incident
from sentryfw.respond.neighbours.alert import Announced, of_block, of_incident
from sentryfw.respond.neighbours.lapi import Answer, Order, Place, carry_out
from sentryfw.respond.reaction_queue import EXPECTED, Report, ResultReporter, reason_of
from sentryfw.respond.worker_thread import PacedThread

GAP_S: Final = 1.0
"""Seconds between two orders: what happens in between goes into the next one."""
MIN_RETRY_S: Final = 10.0
MAX_RETRY_S: Final = 600.0
"""Seconds before an order that failed is tried again: doubled from the shortest to the longest."""
ORDER_BATCH: Final = 500
"""Deletions, decisions and alerts of one order, of each."""
MAX_SECRET_CHARS: Final = 500
RESTORED: Final = "an active block"

log: Final = logging.getLogger("sentryfwd")


class _Work(NamedTuple):
    """The sources and blocks of one order."""

    exactly: bool
    delete: list[str]
    push: list[Announced]
    notes: list[Announced]


class CrowdsecPush(PacedThread):
    """Keeps decisions for our blocks at the API, and pushes alerts about the others."""

    ends_with_daemon: Final = False

    def __init__(self, config: Crowdsec, report: Report) -> None:
        super().__init__("crowdsec")
        self._config = config
        self.reporter = ResultReporter("crowdsec", report)
        self.proven_only = config.forgeable != "decision"
        self._blocks: dict[str, Announced] = {}
        """The blocks that have decisions, or will have."""
        self._exactly = False
        """Whether the decisions at the API have to be compared with the blocks."""
        self._delete: dict[str, None] = {}
        self._push: dict[str, None] = {}
        self._notes: deque[Announced] = deque()
        self._retry_s = MIN_RETRY_S

    @property
    def waiting(self) -> int:
        """Changes and alerts that wait."""
        return self._exactly + len(self._delete) + len(self._push) + len(self._notes)

    def describe(self, address: str, timeout: float, incident: Incident | None) -> None:
        """Take what is known about a block, before want() asks for its decision."""
        with self._condition:
            if address in self._blocks or len(self._blocks) < self._config.max_decisions:
                made = of_block(address, timeout, time.time(), BY_HAND)
                self._blocks[address] = made if incident is None else of_incident(incident)

    def want(self, address: str, *, present: bool) -> None:
        """Push the decision for a block, or delete it."""
        with self._condition:
            if not present:
                self._blocks.pop(address, None)
                self._push.pop(address, None)
                self._delete[address] = None
            elif address in self._blocks:
                self._push[address] = None
            else:
                self.reporter.failure(address, self._full())
            self._condition.notify()

    def restore(self, active: Mapping[str, float]) -> None:
        """Make the decisions those of exactly these blocks, by seconds left (0: permanent)."""
        now, chosen = time.time(), sorted(active)[: self._config.max_decisions]
        with self._condition:
            self._blocks = {a: of_block(a, active[a], now, RESTORED) for a in chosen}
            self._compare()
        if len(active) > len(chosen):
            more = len(active) - len(chosen)
            self.reporter.failure("", f"{more} blocks are left out: {self._full()}")

    def want_exactly(self, addresses: set[str]) -> None:
        """Delete the decisions of all other blocks."""
        with self._condition:
            self._blocks = {a: block for a, block in self._blocks.items() if a in addresses}
            self._compare()

    def _compare(self) -> None:
        """Let the next order compare the decisions with the blocks, instead of single changes."""
        self._exactly = True
        self._delete.clear()
        self._push.clear()
        self._condition.notify()

    def put(self, incident: Incident) -> None:
        """Push an alert about a block that gets no decision: its evidence can be forged."""
        is_noted = self._config.forgeable == "alert" and incident.forgeable
        if incident.action != "blocked" or not is_noted:
            return
        with self._condition:
            if len(self._notes) < self._config.spool:
                self._notes.append(of_incident(incident))
                self._condition.notify()
            else:
                self.reporter.failure(incident.address, f"{self._config.spool} alerts wait")

    def stop(self, deadline: float) -> None:
        """End the thread; report the changes that were not sent."""
        super().stop(deadline)
        if self.waiting:
            self.reporter.failure("", f"{self.waiting} not sent: the daemon ended")

    def _full(self) -> str:
        return (
            f"{self._config.max_decisions} decisions are there ([respond.crowdsec] max_decisions)"
        )

    # --- the thread

    def _run(self) -> None:
        while True:
            with self._condition:
                if not self._wait_until_due():
                    return
                work = self._take()
            self._perform(work)

    def _take(self) -> _Work:
        """Take the next order: a comparison alone, then a batch of changes."""
        if self._exactly:
            self._exactly = False
            return _Work(True, [], [], [])
        delete, push = _first(self._delete), _first(self._push)
        for address in delete:
            del self._delete[address]
        for address in push:
            del self._push[address]
        count = min(ORDER_BATCH, len(self._notes))
        notes = [self._notes.popleft() for _ in range(count)]
        return _Work(False, delete, [self._blocks[address] for address in push], notes)

    def _perform(self, work: _Work) -> None:
        begin = time.monotonic()
        answer = self._carry_out(work)
        seconds = time.monotonic() - begin
        where = urlsplit(self._config.url or "").hostname
        with self._condition:
            if answer.error:
                self._put_back(work)
                wait, self._retry_s = self._retry_s, min(self._retry_s * 2, MAX_RETRY_S)
            else:
                wait, self._retry_s = GAP_S, MIN_RETRY_S
                if work.exactly:
                    self._push |= dict.fromkeys(sorted(self._blocks.keys() - set(answer.there)))
            self._not_before = time.monotonic() + wait
        if answer.error:
            detail = f"{where}: {answer.error}; {self.waiting} wait, tried again in {wait:g}s"
            self.reporter.failure("", detail, seconds)
            return
        if work.exactly:
            detail = f"{where}: {len(answer.there)} decisions are there, {answer.deleted} deleted"
            self.reporter.success("", detail, seconds)
        for address in work.delete:
            self.reporter.success(address, f"{where}: decision deleted", seconds)
        for block in work.push:
            self.reporter.success(block.address, f"{where}: decision pushed", seconds)
        for block in work.notes:
            self.reporter.success(block.address, f"{where}: alert pushed", seconds)

    def _put_back(self, work: _Work) -> None:
        """Keep what failed, unless a newer change has replaced it."""
        self._exactly = self._exactly or work.exactly
        if not self._exactly:  # else the comparison finds what is missing, and what is too much
            self._delete = dict.fromkeys(work.delete) | self._delete
            failed = [block.address for block in work.push if block.address in self._blocks]
            self._push = dict.fromkeys(failed) | self._push
        room = max(0, self._config.spool - len(self._notes))
        self._notes.extendleft(reversed(work.notes[:room]))
        for block in work.notes[room:]:
            self.reporter.failure(block.address, f"{self._config.spool} alerts wait")

    def _carry_out(self, work: _Work) -> Answer:
        try:
            push = [block.alert(decides=True) for block in work.push]
            push += [block.alert(decides=False) for block in work.notes]
            with self._condition:
                exactly = sorted(self._blocks) if work.exactly else None
            return carry_out(self._place(), Order(exactly, work.delete, push))
        except Exception as error:  # reported, and tried again
            if not isinstance(error, EXPECTED):
                log.exception("crowdsec: unexpected error")
            return Answer(reason_of(error))

    def _place(self) -> Place:
        config = self._config
        if config.url is None or config.credentials is None:
            raise ReactionFailed("not configured")
        user, password = read_login(config.credentials)
        ca = str(config.ca) if config.ca else None
        return Place(config.url, ca, config.timeout, user, password)


def read_login(path: Path) -> tuple[str, str]:
    """Return the machine's name and password in a file. Raise ReactionFailed if others can read it,
    or without one of them."""
    secrets = read_secrets(path)
    user, password = secrets.get("user"), secrets.get("password")
    for word in (user, password):
        if not isinstance(word, str) or not 0 < len(word) <= MAX_SECRET_CHARS:
            raise ReactionFailed(f'{path}: write user = "..." and password = "..."')
    return str(user), str(password)


def _first(addresses: dict[str, None]) -> list[str]:
    return list(islice(addresses, ORDER_BATCH))
