"""The state that `watch` shows: kernel, ledger and daemon, and rates since the last reading."""

import sqlite3
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sentryfw.cli.answers import ask_stream, ask_stream_unprivileged
from sentryfw.cli.commands.status import daemon_status, queue_counts
from sentryfw.config.model import Config
from sentryfw.errors import NoPrivilege, NotRunning, SentryError
from sentryfw.netfilter.table import Table
from sentryfw.origin.origins import Origins
from sentryfw.query import watch
from sentryfw.query.summary import summary

READ_INTERVAL_S: Final = 1.0
"""Seconds between two readings of the state."""
MAX_RATES: Final = 60
"""Readings whose rate is kept."""
COUNT_PAUSE_RATIO: Final = 20
"""Without a daemon the blocks are counted in the kernel, which is slow for many of them: the next
count follows after this multiple of the time that the last one took."""

Item = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class View:
    """The result of one reading."""

    at: float
    """Seconds since the epoch."""
    fault: str = ""
    """The error that prevented the reading; the fields after `daemon` are empty then."""
    code: int = 0
    """The exit code of the fault."""
    warnings: Sequence[str] = ()
    daemon: Item = field(default_factory=dict)
    """Its `status`; empty if it is not running."""
    summary: Item = field(default_factory=dict)
    """The state in one word, with its reasons; known in spite of a fault."""
    divert: str | None = None
    counters: dict[str, int] = field(default_factory=dict)
    """Packets, by named counter."""
    rates: dict[str, float] = field(default_factory=dict)
    """Packets per second since the last reading, by named counter."""
    probes: Sequence[float] = ()
    """Probes per second at the last readings, oldest first."""
    confined: int = 0
    blocked: int | None = None
    """The number of blocks; None if it was not counted this time."""
    queue: dict[str, int] = field(default_factory=dict)
    """The kernel's counts of the queue, for root."""
    blocks: Sequence[Item] = ()
    sources: Sequence[Item] = ()


class StateReader:
    """Reads the state, and keeps the last counters for the rates."""

    def __init__(self, config: Config, table: Table) -> None:
        self._config = config
        self._table = table
        self._before: tuple[float, dict[str, int]] | None = None
        self._probes: deque[float] = deque(maxlen=MAX_RATES)
        self._blocked: int | None = None
        self._count_after = 0.0
        self._origins = Origins.of_config(config)

    def read(self) -> View:
        """Read the state. An error is part of the view: it may be over at the next reading."""
        warnings: list[str] = []
        daemon: Item = {}
        try:
            daemon = daemon_status(self._config)
            parts = self._parts(warnings)
            sources = self._sources() if daemon else []
            blocked = self._count(daemon)
        except (SentryError, OSError, sqlite3.Error) as error:
            self._before = None
            code = error.exit_code if isinstance(error, SentryError) else SentryError.exit_code
            return View(
                at=time.time(), fault=str(error), code=code, warnings=warnings, daemon=daemon,
                summary=self._summary(daemon, None),
            )  # fmt: skip
        head: Item = next((part["head"] for part in parts if "head" in part), {})
        counters = head.get("counters", {})
        rates = self._rates(counters, time.monotonic())
        blocks = [self._with_origin(part["block"]) for part in parts if "block" in part]
        return View(
            at=time.time(),
            warnings=[*warnings, *self._origins.faults],
            daemon=daemon,
            summary=self._summary(daemon, head.get("divert")),
            divert=head.get("divert"),
            counters=counters,
            confined=head.get("confined", 0),
            rates=rates,
            probes=list(self._probes),
            blocked=blocked,
            queue=queue_counts(self._config.queue.number),
            blocks=blocks,
            sources=sources,
        )

    def _parts(self, warnings: list[str]) -> list[Item]:
        try:
            parts = watch.parts(self._table, self._config.paths.ledger, warnings.append)
            return [{**part} for part in parts]
        except NoPrivilege:
            found = list(ask_stream_unprivileged(self._config.paths.control, {"do": "watch"}))
            warnings += [part["warning"] for part in found if "warning" in part]
            return found

    def _with_origin(self, block: Item) -> Item:
        return {**block, "origin": self._origins.of(block["address"]).item()}

    def _summary(self, daemon: Item, divert: str | None) -> Item:
        return {**summary(self._config, self._table, daemon, divert)}

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
            self._blocked = sum(self._table.sets.count_blocked().values())
            took = time.monotonic() - started
            self._count_after = time.monotonic() + COUNT_PAUSE_RATIO * took
        return self._blocked

    def _rates(self, counters: dict[str, int], now: float) -> dict[str, float]:
        before, self._before = self._before, (now, counters)
        if before is None or now <= before[0]:
            return {}
        seconds = now - before[0]
        rates = {  # the counters of a new table begin at 0
            name: max(0, count - before[1].get(name, 0)) / seconds
            for name, count in counters.items()
        }
        self._probes.append(rates.get("judged", 0.0))
        return rates


def total(rates: dict[str, float], names: Iterable[str]) -> float:
    """Return the packets per second of several counters."""
    return sum(rates.get(name, 0.0) for name in names)
