"""Overload: packets and blocks that were lost because something was full.

Totals are compared once a tick. An event reports that a loss began, one a minute that it continues,
one that it is over. docs/operations.md describes what each loss does to the traffic.

See docs/decisions.md: queue-loss.
"""

import logging
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final

from sentryfw.daemon.watches.early_limit import EarlyLimit
from sentryfw.engine.counters import Counters
from sentryfw.engine.engine import Engine
from sentryfw.errors import SentryError
from sentryfw.netfilter.table import Table
from sentryfw.netfilter.verdicts import Reader
from sentryfw.record.recorder import Recorder

log: Final = logging.getLogger("sentryfwd")
clock: Final = time.monotonic

EVENT_INTERVAL_S: Final = 60.0
"""Seconds between two events of a continuing loss; after as long without a loss it is over."""
STALL_S: Final = 2.0
"""Delay of a tick, in seconds, that counts as a stall of the loop."""


class Loss(StrEnum):
    """A place where something is lost, as `status --json` names it."""

    QUEUE_FULL = "queue full"
    SOCKET_BUFFER_FULL = "socket buffer full"
    SOURCE_TABLE_FULL = "source table full"
    BLOCK_SET_FULL = "block set full"
    BLOCK_CAP = "block cap"
    PARTNER_SET_FULL = "partner set full"
    SERVED_SET_FULL = "served set full"
    CONTROL_PLACES = "control places"
    LEDGER_ROWS = "ledger rows"
    STALLED = "stalled"


ReportLoss = Callable[..., None]
"""Called with (event, what=..., lost=..., total=...)."""


def block_cap(counters: Counters) -> int:
    """Return the scans that a cap kept from being blocked, and the blocks that gave way."""
    capped = (n for reason, n in counters.refusals.items() if reason.startswith("block."))
    return sum(capped) + counters.displaced


class Overload:
    """Totals of each loss, and the losses that continue."""

    def __init__(self, report: ReportLoss, period: float) -> None:
        """`period`: seconds between two calls of update()."""
        self.totals = dict.fromkeys(Loss, 0)
        self._report = report
        self._period = period
        self._updated_at: float | None = None
        self._growing: dict[Loss, _Growth] = {}

    def update(self, totals: Mapping[Loss, int], now: float) -> None:
        """Update the totals, and report the changes that are due."""
        if self._updated_at is not None and now - self._updated_at > self._period + STALL_S:
            totals = {**totals, Loss.STALLED: self.totals[Loss.STALLED] + 1}
            self._report("stalled", seconds=round(now - self._updated_at - self._period, 1))
        self._updated_at = now
        for loss, total in totals.items():
            if total > self.totals[loss]:
                self._grew(loss, total, now)
            elif loss in self._growing and now - self._growing[loss].seen >= EVENT_INTERVAL_S:
                growth = self._growing.pop(loss)
                lost = self.totals[loss] - growth.before
                self._report("overload-over", what=loss.value, lost=lost)

    def _grew(self, loss: Loss, total: int, now: float) -> None:
        growth = self._growing.setdefault(loss, _Growth(self.totals[loss]))
        growth.seen = now
        self.totals[loss] = total
        if loss is not Loss.STALLED and now - growth.reported >= EVENT_INTERVAL_S:
            growth.reported = now
            self._report("overload", what=loss.value, lost=total - growth.before, total=total)


class _Growth:
    """A continuing loss."""

    def __init__(self, before: int) -> None:
        self.before = before
        self.seen = float("-inf")
        self.reported = float("-inf")


class QueueLoss:
    """Packets that reached the queue rule and found the queue full.

    Only root may read the kernel's own count (/proc/net/netfilter/nfnetlink_queue), so this is a
    difference: packets that the table counted before the queue, less those that left the queue or
    were numbered and lost behind it.
    """

    def __init__(self) -> None:
        self.lost = 0
        self._base: int | None = None
        self._before = 0

    def update(self, queued: int | None, numbered: int) -> int:
        """Return the total. To be called when no packet waits in the queue.

        `queued`: the table's counter, None without one; `numbered`: packets that the kernel has
        put into the queue.
        """
        if queued is None or self._base is None or queued - numbered < self._base:
            # The first call, or the counter was reset with the table.
            self._base = None if queued is None else queued - numbered - self.lost
            self._before = self.lost
            return self.lost
        # A packet that another processor is just putting in is in one count only.
        missing = queued - numbered - self._base
        self.lost = max(self.lost, min(missing, self._before))
        self._before = missing
        return self.lost


class LossWatch:
    """Collects the losses of the packet path once a tick, and reports them."""

    def __init__(
        self, table: Table, reader: Reader, engine: Engine, recorder: Recorder, period: float,
        others: Callable[[], Mapping[Loss, int]] = dict,
    ) -> None:  # fmt: skip
        """`others` returns the totals of losses beside the packet path."""
        self._others = others
        self._table = table
        self._reader = reader
        self._engine = engine
        self._recorder = recorder
        self._overload = Overload(self._report, period)
        self._queue_loss = QueueLoss()
        self._queue_loss.update(self._queued(), reader.received)
        self._failures = 0

    @property
    def totals(self) -> dict[Loss, int]:
        return self._overload.totals

    def start(self) -> None:
        """Measure the delay of the first tick from now on."""
        self._overload.update({}, clock())

    def tick(self) -> bool:
        """Report losses and failures. Return whether verdicts are given: no packet waits in the
        queue, or some left it since the last tick."""
        reader = self._reader
        before, queued = reader.received, self._queued()
        reader.receive()
        if reader.is_drained:
            self._queue_loss.update(queued, reader.received + reader.skipped)
        losses = {
            Loss.QUEUE_FULL: self._queue_loss.lost,
            Loss.SOCKET_BUFFER_FULL: reader.skipped,
            Loss.SOURCE_TABLE_FULL: self._engine.zones.pushed_out,
            Loss.BLOCK_SET_FULL: self._engine.counters.block_set_full,
            Loss.BLOCK_CAP: block_cap(self._engine.counters),
            **self._others(),
        }
        self._overload.update(losses, clock())
        if reader.failures != self._failures:
            self._failures = reader.failures
            log.error(
                "%d packets accepted unjudged, or verdicts sent again; the last failure: %r",
                self._failures, reader.last_failure,
            )  # fmt: skip
        return reader.is_drained or reader.received > before

    def _queued(self) -> int | None:
        """Return the packets that the table has counted before the queue; None during a repair."""
        try:
            counter = self._table.counter("queued")
        except SentryError:
            return None
        return counter.packets if counter else None

    def _report(self, event: str, **fields: object) -> None:
        self._recorder.note(event, **fields)
        log.warning("%s: %s", event, ", ".join(f"{key} {value}" for key, value in fields.items()))


class FloodWatch:
    """Reports that flood mode began and ended, and moves the limit of new sources."""

    def __init__(self, engine: Engine, recorder: Recorder, early_limit: EarlyLimit) -> None:
        self._early_limit = early_limit
        self._engine = engine
        self._recorder = recorder
        self._floods = 0
        self._is_reported = False

    def tick(self) -> None:
        """Report a change of flood mode since the last tick, also one that is over already."""
        self._early_limit.tick()
        floods = self._engine.counters.floods
        if floods != self._floods:
            self._floods, self._is_reported = floods, True
            self._recorder.note("flood", on=True)
            log.warning("flood mode on: a single forgeable packet no longer blocks")
        if self._is_reported and not self._engine.flood:
            self._is_reported = False
            self._recorder.note("flood", on=False)
            log.warning("flood mode off")
