"""Sources that other members of the fleet reported with forgeable evidence.

One own probe of such a source is enough to defer it: its SYNs to listed ports are served only when
they come again. It has no block, so a client whose address was forged elsewhere notices nothing.
"""

import threading
from collections import deque
from typing import Final

from sentryfw.engine.model import Source

DEFER_S: Final = 60.0
"""Seconds for which a probe of such a source defers it."""


MAX_RELEASED: Final = 10_000
"""Unblocked sources that are kept for the exchange; without a fleet it takes none."""


class Weighed:
    """Written by the thread of the control socket, read by the packet path."""

    def __init__(self) -> None:
        self._ends: dict[Source, float] = {}
        """Clock values at which the reports end."""
        self._released: deque[Source | None] = deque(maxlen=MAX_RELEASED)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, source: Source, end: float) -> None:
        """Weigh a source until a clock value; a longer report stays."""
        with self._lock:
            self._ends[source] = max(end, self._ends.get(source, end))

    def holds(self, source: Source, now: float) -> bool:
        """Return whether a report about a source is in effect."""
        return self._ends.get(source, now) > now

    def discard(self, source: Source) -> None:
        """Weigh a source no longer."""
        with self._lock:
            self._ends.pop(source, None)

    def expire(self, now: float) -> None:
        """Forget the reports that have ended."""
        with self._lock:
            for source in [source for source, end in self._ends.items() if end <= now]:
                del self._ends[source]

    def released(self, source: Source | None) -> None:
        """Follow an unblock of a source, or with None of all. Called by the packet path."""
        self._released.append(source)
        if source is None:
            with self._lock:
                self._ends.clear()
        elif self._ends:
            self.discard(source)

    def take_released(self) -> list[Source | None]:
        """Return the sources that were unblocked since the last call."""
        return [self._released.popleft() for _ in range(len(self._released))]
