"""Overload: what was lost where something was full: counted, said once, not a thousand times.

Each look compares totals with the last ones. An event says that a loss began, one a minute that
it goes on, one that it is over. docs/operations.md says what each kind does to the traffic.
"""

from collections.abc import Callable, Mapping
from typing import Final

PAUSE: Final = 60.0
"""Seconds between two events of a loss that goes on; as long without one it is over."""
STALL: Final = 2.0
"""Seconds more than it should be since the last look, that make a stall."""

KINDS: Final = (
    "queue full",
    "socket buffer full",
    "source table full",
    "block set full",
    "stalled",
)

Say = Callable[..., None]
"""(event, what=..., lost=..., total=...)."""


class Overload:
    """Totals of each kind, and which of them grow."""

    def __init__(self, say: Say, period: float) -> None:
        self.totals = dict.fromkeys(KINDS, 0)
        self._say = say
        self._period = period
        self._looked: float | None = None
        self._growing: dict[str, _Growth] = {}

    def look(self, totals: Mapping[str, int], now: float) -> None:
        """Once a period, from the loop that gives the verdicts."""
        if self._looked is not None and now - self._looked > self._period + STALL:
            totals = {**totals, "stalled": self.totals["stalled"] + 1}
            self._say("stalled", seconds=round(now - self._looked - self._period, 1))
        self._looked = now
        for kind, total in totals.items():
            if total > self.totals[kind]:
                self._grew(kind, total, now)
            elif kind in self._growing and now - self._growing[kind].seen >= PAUSE:
                growth = self._growing.pop(kind)
                self._say("overload-over", what=kind, lost=self.totals[kind] - growth.before)

    def _grew(self, kind: str, total: int, now: float) -> None:
        growth = self._growing.setdefault(kind, _Growth(self.totals[kind]))
        growth.seen = now
        self.totals[kind] = total
        if kind != "stalled" and now - growth.said >= PAUSE:
            growth.said = now
            self._say("overload", what=kind, lost=total - growth.before, total=total)


class _Growth:
    """A loss that goes on."""

    def __init__(self, before: int) -> None:
        self.before = before
        self.seen = float("-inf")
        self.said = float("-inf")


class QueueLoss:
    """Packets that the queue rule saw and the queue had no room for. The kernel's own count is
    for root alone (/proc/net/netfilter/nfnetlink_queue), so it is a difference: of what the
    table counted in front of the queue, and what came out or was numbered and lost behind it."""

    def __init__(self) -> None:
        self.lost = 0
        self._base: int | None = None
        self._before = 0

    def look(self, queued: int | None, numbered: int) -> int:
        """`queued`: the table's counter, None without one; `numbered`: packets the kernel has put
        into the queue. To be called when nothing waits in the queue."""
        if queued is None or self._base is None or queued - numbered < self._base:
            # The first look, or the counter was reset with the table.
            self._base = None if queued is None else queued - numbered - self.lost
            self._before = self.lost
            return self.lost
        # What another processor is just putting in is in one count and not yet in the other.
        missing = queued - numbered - self._base
        self.lost = max(self.lost, min(missing, self._before))
        self._before = missing
        return self.lost
