"""Bounds of what floods of forged packets cause: flood mode, and caps on blocks.

The rules of the caps.
1. Each family has budgets of its own, and within it forgeable and proven evidence: who forges
   uses up neither those of the other family nor those of proofs.
2. Above `per_minute`, a source that was refused and sends another probe later counts against a
   second budget of the same size. Most sources of a flood come once.
3. At `max_elements`, a first block by forgeable evidence gives way that has dropped nothing for
   a while. The daemon reads that from the kernel's counters, and names them.

See docs/decisions.md: caps.
"""

import heapq
import math
from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Final

from sentryfw.engine.model import Source

FLOOD_START_PER_S: Final = 1000
"""New sources a second above which flood mode begins. No set of scans explains them: a /24 swept by
nmap from 254 hosts at once stays below."""
FLOOD_END_PER_S: Final = 200
"""New sources a second below which flood mode ends."""

PRESSURE_SHARE: Final = 0.9
"""Share of `max_elements` from which on idle blocks are looked for."""
MAX_CANDIDATES: Final = 65536
"""First blocks by forgeable evidence that are remembered in case they have to give way."""
MAX_TURNED_AWAY: Final = 65536
"""Sources that are remembered because `per_minute` was reached."""
MINUTE_S: Final = 60.0
SLOT_S: Final = 8.0
"""Seconds for which a restored block may count after its end; the kernel keeps its element longer,
until it collects what has ended."""


class FloodMeter:
    """Measures the rate of new sources, from their number and the time."""

    def __init__(self) -> None:
        self.is_flood = False
        self._since = 0.0
        self._before = 0
        """New sources up to `_since`."""

    def is_due(self, new_sources: int, now: float) -> bool:
        """Return whether update() would find something: a second is over, or many sources came."""
        return now - self._since >= 1 or new_sources > self._before + FLOOD_START_PER_S

    def update(self, new_sources: int, now: float) -> bool:
        """Measure the rate since the last call; return whether flood mode begins."""
        elapsed = max(now - self._since, 1.0)
        rate = (new_sources - self._before) / elapsed
        self._since, self._before = now, new_sources
        was_flood = self.is_flood
        self.is_flood = rate > (FLOOD_END_PER_S if was_flood else FLOOD_START_PER_S)
        return self.is_flood and not was_flood


class Budget:
    """Blocks of one family by one class of evidence: those of the last minute, and active ones."""

    def __init__(self) -> None:
        self.recent: deque[float] = deque()
        self.returned: deque[float] = deque()
        """Times of blocks of sources that had been turned away before."""
        self._ends: list[float] = []
        self._gone: list[float] = []
        """Ends of blocks that ended earlier; a heap, as `_ends`."""
        self._restored = 0
        self._ending: dict[int, int] = {}
        """How many restored blocks end in each slot: a million ends take no room of their own."""
        self._slots: list[int] = []
        """The numbers of these slots of SLOT_S; a heap."""

    def expire(self, now: float) -> None:
        """Forget what is over."""
        for times in (self.recent, self.returned):
            while times and times[0] <= now - MINUTE_S:
                times.popleft()
        while self._slots and (self._slots[0] + 1) * SLOT_S <= now:
            self._restored -= self._ending.pop(heapq.heappop(self._slots))
        ends, gone = self._ends, self._gone
        while ends and (ends[0] <= now or (gone and gone[0] == ends[0])):
            end = heapq.heappop(ends)
            if gone and gone[0] == end:
                heapq.heappop(gone)
        while gone and gone[0] <= now:  # it had ended by itself
            heapq.heappop(gone)

    @property
    def active(self) -> int:
        """The number of active blocks, after expire()."""
        return len(self._ends) - len(self._gone) + self._restored

    def restore(self, end: float) -> None:
        """Count a block of earlier that is active until `end`, which may be infinite."""
        self._restored += 1
        if end == math.inf:
            return
        slot = int(end / SLOT_S)
        if slot not in self._ending:
            self._ending[slot] = 0
            heapq.heappush(self._slots, slot)
        self._ending[slot] += 1

    def add(self, end: float) -> None:
        """Count a block that is active until `end`."""
        heapq.heappush(self._ends, end)

    def remove(self, end: float) -> None:
        """Count a block no more that was to end then."""
        heapq.heappush(self._gone, end)


class FamilyCaps:
    """The budgets of one address family, and its blocks that may have to give way."""

    def __init__(self) -> None:
        self.forgeable = Budget()
        self.proven = Budget()
        self.first: OrderedDict[Source, float] = OrderedDict()
        """First blocks by forgeable evidence, and when they end."""
        self.idle: deque[Source] = deque()
        """Those of them that have dropped nothing for a while."""

    def expire(self, now: float) -> None:
        """Forget blocks that have ended."""
        self.forgeable.expire(now)
        self.proven.expire(now)
        first, idle = self.first, self.idle
        while first and next(iter(first.values())) <= now:
            first.popitem(last=False)
        while idle and first.get(idle[0], 0.0) <= now:
            idle.popleft()

    def release(self, source: Source) -> None:
        """Count the first block of a source no more."""
        end = self.first.pop(source, None)
        if end is not None:
            self.forgeable.remove(end)


class Caps:
    """Counts of the blocks made in the last minute and of the active blocks, with their limits."""

    def __init__(self, per_minute: int, max_elements: int) -> None:
        self._per_minute = per_minute
        self._max_elements = max_elements
        self._four = FamilyCaps()
        self._six = FamilyCaps()
        self._turned_away: OrderedDict[Source, None] = OrderedDict()

    def restore(self, ends: Iterable[tuple[int, float]]) -> None:
        """Replace the active blocks: the length of each source, and the end as a clock value.

        They count as forgeable, and none of them gives way.
        """
        self._four = FamilyCaps()
        self._six = FamilyCaps()
        for size, end in ends:
            (self._four if size == 4 else self._six).forgeable.restore(end)

    def reconfigure(self, per_minute: int, max_elements: int) -> None:
        """Change the limits; the counts stay."""
        self._per_minute = per_minute
        self._max_elements = max_elements

    def exceeded(self, source: Source, now: float, *, forgeable: bool) -> str | None:
        """Return the config key of the limit that a block of this source would exceed, or None."""
        family = self._family(source)
        family.expire(now)
        budget = family.forgeable if forgeable else family.proven
        may_return = source in self._turned_away and len(budget.returned) < self._per_minute
        if len(budget.recent) >= self._per_minute and not may_return:
            self._turn_away(source)
            return "block.per_minute"
        may_displace = forgeable and len(family.idle) > 0
        if budget.active >= self._max_elements and not may_displace:
            return "block.max_elements"
        return None

    def count(
        self, source: Source, now: float, timeout: float, *, forgeable: bool, offence: int
    ) -> Source | None:
        """Count a block that exceeds no limit; return the source whose block gives way to it."""
        family = self._family(source)
        family.expire(now)
        budget = family.forgeable if forgeable else family.proven
        is_full = len(budget.recent) >= self._per_minute
        (budget.returned if is_full else budget.recent).append(now)
        self._turned_away.pop(source, None)
        displaced = None
        if forgeable and budget.active >= self._max_elements and family.idle:
            displaced = family.idle.popleft()
            family.release(displaced)
        end = now + timeout
        budget.add(end)
        if forgeable and offence <= 1 and len(family.first) < MAX_CANDIDATES:
            family.first[source] = end
            family.first.move_to_end(source)
        return displaced

    def release(self, source: Source) -> None:
        """Count the first block of a source no more: it was ended before its time."""
        self._family(source).release(source)

    def release_all(self) -> None:
        """Count no block as active: all were ended."""
        self.restore(())

    def pressed(self, now: float) -> list[Source]:
        """Return the blocks that may have to give way, the oldest first, of families near their
        limit."""
        found: list[Source] = []
        for family in (self._four, self._six):
            family.expire(now)
            if family.forgeable.active >= self._max_elements * PRESSURE_SHARE:
                found += family.first
        return found

    def give_way(self, idle: Iterable[Source]) -> None:
        """Let these blocks give way from now on: they have dropped nothing for a while."""
        self._four.idle.clear()
        self._six.idle.clear()
        for source in idle:
            self._family(source).idle.append(source)

    def _family(self, source: Source) -> FamilyCaps:
        return self._four if len(source) == 4 else self._six

    def _turn_away(self, source: Source) -> None:
        self._turned_away[source] = None
        self._turned_away.move_to_end(source)
        if len(self._turned_away) > MAX_TURNED_AWAY:
            self._turned_away.popitem(last=False)
