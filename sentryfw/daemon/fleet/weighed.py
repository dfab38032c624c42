"""Sources that other members of the fleet reported with forgeable evidence.

One own probe of such a source is enough to defer it: its SYNs to listed ports are served only when
they come again. It has no block, so a client whose address was forged elsewhere notices nothing.
Where [fleet] agree members report it, two own targets block it by their word.
"""

import threading
from collections import deque
from typing import Final, NamedTuple

from sentryfw.engine.model import Source, Target

DEFER_S: Final = 60.0
"""Seconds for which a probe of such a source defers it."""


MAX_RELEASED: Final = 10_000
"""Unblocked sources that are kept for the exchange; without a fleet it takes none."""


MIN_TARGETS: Final = 2
"""Own distinct targets of a source that several members report, from which it is blocked."""


class Agreement(NamedTuple):
    """Several members report a source that has tried two targets of this host."""

    members: list[str]
    seconds: float
    """For which as many members as are needed report it."""


class Weighed:
    """Written by the thread of the control socket, read by the packet path."""

    def __init__(self, agree: int = 0) -> None:
        """`agree`: members that make two own targets enough; 0: no number does."""
        self.agree = agree
        self._ends: dict[Source, dict[str, float]] = {}
        """Clock values at which the reports end, by the member."""
        self._own: dict[Source, set[Target]] = {}
        """Targets that reported sources have tried here."""
        self._released: deque[Source | None] = deque(maxlen=MAX_RELEASED)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, source: Source, end: float, member: str = "") -> None:
        """Weigh a source until a clock value; a longer report of the member stays."""
        with self._lock:
            ends = dict(self._ends.get(source, {}))  # the packet path may read the one before
            ends[member] = max(end, ends.get(member, end))
            self._ends[source] = ends

    def holds(self, source: Source, now: float) -> bool:
        """Return whether a report about a source is in effect."""
        return any(end > now for end in self._ends.get(source, {}).values())

    def try_target(self, source: Source, target: Target, now: float) -> Agreement | None:
        """Count a new own target of a source; return the agreement that makes it a block."""
        ends = {name: end for name, end in self._ends.get(source, {}).items() if end > now}
        if not self.agree or len(ends) < self.agree:
            return None
        with self._lock:
            own = self._own.setdefault(source, set())
            own.add(target)
            if len(own) < MIN_TARGETS:
                return None
            del self._own[source]
        return Agreement(sorted(ends), sorted(ends.values())[-self.agree] - now)

    def discard(self, source: Source) -> None:
        """Weigh a source no longer."""
        with self._lock:
            self._ends.pop(source, None)
            self._own.pop(source, None)

    def expire(self, now: float) -> None:
        """Forget the reports that have ended."""
        with self._lock:
            ended = [s for s, ends in self._ends.items() if max(ends.values()) <= now]
            for source in ended:
                del self._ends[source]
                self._own.pop(source, None)

    def released(self, source: Source | None) -> None:
        """Follow an unblock of a source, or with None of all. Called by the packet path."""
        self._released.append(source)
        if source is None:
            with self._lock:
                self._ends.clear()
                self._own.clear()
        elif self._ends:
            self.discard(source)

    def take_released(self) -> list[Source | None]:
        """Return the sources that were unblocked since the last call."""
        return [self._released.popleft() for _ in range(len(self._released))]
