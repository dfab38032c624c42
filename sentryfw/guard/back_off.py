"""Delays between repairs of the table, and the alarm. Pure: times in, values out.

A program that keeps deleting the table would keep the daemon repairing it. After
ALARM_REPAIRS_COUNT repairs within ALARM_WINDOW_S the alarm is raised, and each further repair
waits, until no repair was necessary for BACK_OFF_RESET_S.

See docs/decisions.md: repair-delays.
"""

from collections import deque
from typing import Final, NamedTuple

ALARM_REPAIRS_COUNT: Final = 3
ALARM_WINDOW_S: Final = 60.0
DELAYS_S: Final = (1.0, 2.0, 5.0)
"""Seconds before each further repair; the last value repeats. Nothing is blocked during a delay."""
REPORT_INTERVAL_S: Final = 60.0
"""Seconds between two log messages about delayed repairs."""
BACK_OFF_RESET_S: Final = 300.0
"""Seconds without a repair after which the table is repaired at once again."""
MAX_REMEMBERED: Final = 64
"""Repairs that are remembered; far more than ALARM_WINDOW_S can hold."""


class Delay(NamedTuple):
    """A wait before the next repair."""

    seconds: float
    recent_repairs: int
    """Repairs within ALARM_WINDOW_S."""
    is_alarm: bool
    """Whether to raise the alarm: true for the first delay only."""
    is_reported: bool
    """Whether to log it."""


class BackOff:
    """The recent repairs, and the delay that follows from them."""

    def __init__(self) -> None:
        self._repairs: deque[float] = deque(maxlen=MAX_REMEMBERED)
        self._step = 0
        self._reported_at = float("-inf")

    def add_repair(self, now: float) -> None:
        """Remember a repair that was made at `now`."""
        self._repairs.append(now)

    def next_delay(self, now: float) -> Delay | None:
        """Return the wait before a repair that is due at `now`; None: repair at once."""
        if not self.is_active(now):
            return None
        is_reported = now - self._reported_at >= REPORT_INTERVAL_S
        if is_reported:
            self._reported_at = now
        seconds = DELAYS_S[min(self._step, len(DELAYS_S) - 1)]
        delay = Delay(seconds, self._recent(now), not self._step, is_reported)
        self._step += 1
        return delay

    def is_active(self, now: float) -> bool:
        """Return whether a repair that is due at `now` would have to wait."""
        return bool(self._step) or self._recent(now) >= ALARM_REPAIRS_COUNT

    def _recent(self, now: float) -> int:
        return sum(now - at < ALARM_WINDOW_S for at in self._repairs)

    def tick(self, now: float) -> None:
        """End the back-off if no repair was made for BACK_OFF_RESET_S."""
        if self._repairs and now - self._repairs[-1] > BACK_OFF_RESET_S:
            self._step = 0
