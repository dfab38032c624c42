"""Remember deferred SYNs: a network stack sends a SYN again, a raw-socket scanner does not.

The rules of this file.
1. Two SYNs are the same if addresses, ports and sequence number are. Options may differ: stacks
   leave ECN and TFO out of a retransmission.
2. It came again if it comes AGAIN_AFTER_S or more after its first time: tools that send a probe
   twice at once do not wait, and stacks wait a second (RFC 6298, section 2).
3. The table has two generations of bounded size. A flood of forged SYNs makes them shorter; that
   serves no scanner: a SYN that was forgotten is deferred once more. At the ruleset's limit of
   10,000 a second a generation lasts longer than a stack's first retransmission timeout.

See docs/decisions.md: defer.
"""

from typing import Final

from sentryfw.engine.model import Packet

AGAIN_AFTER_S: Final = 0.7
"""Seconds after which a SYN that comes again is a retransmission. Shorter than the shortest initial
timeout of stacks, a second, less what the network varies."""
GENERATION_S: Final = 40.0
"""Seconds of a generation: a SYN is known for one or two of them. Stacks give up after a minute."""
MAX_DEFERRED: Final = 65536
"""Deferred SYNs of a generation: six seconds of as many as the ruleset lets through."""
FIRST_AGE_S: Final = -1.0
"""Age of a SYN that comes for the first time."""


class Deferrals:
    """The times at which deferred SYNs came first."""

    def __init__(self, max_deferred: int = MAX_DEFERRED) -> None:
        self._max_deferred = max_deferred
        self._born = 0.0
        self._now: dict[bytes, float] = {}
        self._before: dict[bytes, float] = {}

    def __len__(self) -> int:
        return len(self._now) + len(self._before)

    def age(self, packet: Packet, now: float) -> float:
        """Return the seconds since this SYN came first; FIRST_AGE_S if it is the first time."""
        at = packet.transport
        key = packet.source + packet.target + packet.payload[at : at + 8]
        first = self._now.get(key)
        if first is None:
            first = self._before.get(key)
        if first is not None:
            return now - first
        if len(self._now) >= self._max_deferred or now - self._born > GENERATION_S:
            self._begin_generation(now)
        self._now[key] = now
        return FIRST_AGE_S

    def expire(self, now: float) -> None:
        """Forget the SYNs of generations that are over."""
        if len(self) and now - self._born > GENERATION_S:
            self._begin_generation(now)

    def _begin_generation(self, now: float) -> None:
        stale = now - self._born > 2 * GENERATION_S
        self._before = {} if stale else self._now
        self._now = {}
        self._born = now
