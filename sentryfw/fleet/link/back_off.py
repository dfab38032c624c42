"""Delays between attempts to reach the hub: doubled, bounded, with jitter, so that the members of a
fleet do not come back to a hub that starts in the same moment."""

from collections.abc import Callable
from typing import Final

FIRST_S: Final = 0.25
LONGEST_S: Final = 30.0


class HubBackOff:
    """The delays of one connection."""

    def __init__(self, random: Callable[[], float]) -> None:
        """`random`: a number from 0 to below 1."""
        self._random = random
        self._bound = FIRST_S

    def succeeded(self) -> None:
        """Begin with the shortest delay again."""
        self._bound = FIRST_S

    def delay(self) -> float:
        """Return the seconds before the next attempt: half of a bound that doubles, and up to as
        much again."""
        bound, self._bound = self._bound, min(LONGEST_S, 2 * self._bound)
        return bound / 2 + self._random() * bound / 2
