"""One look for `watch`: kernel, ledger and daemon, and what changed since the look before."""

import sqlite3
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from sentryfw import watching
from sentryfw.cli import remote
from sentryfw.cli.status import queue_counts
from sentryfw.config import Config
from sentryfw.control import ask, ask_stream
from sentryfw.errors import NoPrivilege, NotRunning, SentryError
from sentryfw.netfilter.table import Table

HISTORY: Final = 60
"""Looks whose rate is remembered."""
COUNT_SHARE: Final = 20
"""Without a daemon all blocks are counted in the kernel, which costs more than their number: after
a count there is none for so many times as long as it took."""

Item = dict[str, Any]


class View(NamedTuple):
    """What there is to show."""

    at: float
    """Seconds since the epoch."""
    fault: str
    """Why there is nothing to show, if there is nothing."""
    code: int
    """The exit code that the fault would end in."""
    warnings: list[str]
    daemon: Item
    """Its `status`; empty: it does not run."""
    divert: str | None
    counters: dict[str, int]
    """Packets, by named counter."""
    rates: dict[str, float]
    """Packets a second, likewise, since the look before."""
    probes: list[float]
    """Probes a second at the last looks, oldest first."""
    blocked: int | None
    """None: it was not counted this time."""
    queue: dict[str, int]
    """The kernel's own count, for root."""
    blocks: list[Item]
    sources: list[Item]


class Look:
    """Remembers the look before."""

    def __init__(self, config: Config, table: Table) -> None:
        self._config = config
        self._table = table
        self._before: tuple[float, dict[str, int]] | None = None
        self._probes: deque[float] = deque(maxlen=HISTORY)
        self._blocked: int | None = None
        self._count_after = 0.0

    def take(self) -> View:
        """What there is now. A fault is part of what is shown: it may be over at the next look."""
        warnings: list[str] = []
        daemon: Item = {}
        try:
            daemon = self._daemon()
            parts = self._parts(warnings)
            sources = self._sources() if daemon else []
            blocked = self._count(daemon)
        except (SentryError, OSError, sqlite3.Error) as error:
            self._before = None
            code = error.exit_code if isinstance(error, SentryError) else SentryError.exit_code
            return View(
                time.time(), str(error), code, warnings, daemon, None, {}, {}, [], None, {}, [], []
            )
        head: Item = next((part["head"] for part in parts if "head" in part), {})
        counters = head.get("counters", {})
        rates = self._rates(counters, time.monotonic())
        return View(
            time.time(), "", 0, warnings, daemon, head.get("divert"), counters, rates,
            list(self._probes), blocked, queue_counts(self._config.queue.number),
            [part["block"] for part in parts if "block" in part], sources,
        )  # fmt: skip

    def _daemon(self) -> Item:
        try:
            return ask(self._config.paths.control, {"do": "status"})
        except NotRunning:
            return {}

    def _parts(self, warnings: list[str]) -> list[Item]:
        try:
            return list(watching.parts(self._table, self._config.paths.ledger, warnings.append))
        except NoPrivilege:
            found = list(remote.ask_stream(self._config, {"do": "watch"}))
            warnings += [part["warning"] for part in found if "warning" in part]
            return found

    def _sources(self) -> list[Item]:
        try:
            return list(ask_stream(self._config.paths.control, {"do": "sources", "top": 50}))
        except NotRunning:
            return []

    def _count(self, daemon: Item) -> int | None:
        if daemon:
            self._blocked = daemon.get("blocked")
        elif time.monotonic() >= self._count_after:
            started = time.monotonic()
            self._blocked = sum(self._table.count_blocked().values())
            took = time.monotonic() - started
            self._count_after = time.monotonic() + COUNT_SHARE * took
        return self._blocked

    def _rates(self, counters: dict[str, int], now: float) -> dict[str, float]:
        before, self._before = self._before, (now, counters)
        if before is None or now <= before[0]:
            return {}
        seconds = now - before[0]
        rates = {  # a table that was made anew counts from 0
            name: max(0, count - before[1].get(name, 0)) / seconds
            for name, count in counters.items()
        }
        self._probes.append(rates.get("judged", 0.0))
        return rates


def total(rates: dict[str, float], names: Iterable[str]) -> float:
    """Packets a second, of several counters."""
    return sum(rates.get(name, 0.0) for name in names)
