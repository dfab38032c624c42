"""Two clocks at one moment, whether the wall clock was set since, and pauses of long loops.

The daemon counts on the monotonic clock, which is never set. The ledger counts on the wall clock,
which outlasts a restart and a reboot.
"""

import time
from typing import Final, NamedTuple, Self

CLOCK_JUMP_S: Final = 5.0
"""Seconds by which the wall clock may drift from the monotonic one before it counts as set."""


class Moment(NamedTuple):
    """One moment on both clocks, in seconds."""

    monotonic: float
    wall: float

    @classmethod
    def now(cls) -> Self:
        """Read both clocks."""
        return cls(time.monotonic(), time.time())

    def to_wall(self, monotonic: float) -> float:
        """Convert a time of the monotonic clock to the wall clock."""
        return self.wall - self.monotonic + monotonic


class ClockJump(NamedTuple):
    """The wall clock was set."""

    seconds: float
    """Forward; negative: back."""
    read_at: float
    """The old wall clock's time of the daemon's start, or of the jump before this one. Blocks
    that had ended by that time were not restored; after a jump back they may be active again."""


class ClockWatch:
    """Detects jumps of the wall clock: it drifts from the monotonic clock by CLOCK_JUMP_S."""

    def __init__(self, start: Moment) -> None:
        self._epoch = start.wall - start.monotonic
        self._read_at = start.wall

    def check(self, now: Moment) -> ClockJump | None:
        """Return the jump since the last call, or None."""
        epoch = now.wall - now.monotonic
        seconds = epoch - self._epoch
        if abs(seconds) <= CLOCK_JUMP_S:
            return None
        read_at = min(now.monotonic + self._epoch, self._read_at)
        self._epoch = epoch
        self._read_at = now.wall
        return ClockJump(seconds, read_at)


class Pauses:
    """Lets other threads run, so that a long loop delays the packet path a moment at a time."""

    def __init__(self, every: float = 0.001, length: float = 0.0005) -> None:
        """`every`: seconds between two pauses; `length`: seconds of a pause."""
        self._every = every
        self._length = length
        self._next = time.monotonic() + every

    def __call__(self) -> None:
        """Sleep, if it is time for a pause."""
        if time.monotonic() >= self._next:
            time.sleep(self._length)
            self._next = time.monotonic() + self._every
