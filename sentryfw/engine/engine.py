"""The verdict engine: decode -> classify -> observe -> decide.

The same object judges packets for the daemon, out of a capture, and in the tests.
"""

from collections import Counter
from typing import Final

from sentryfw.engine.classify import classify
from sentryfw.engine.decide import Decider, Policy
from sentryfw.engine.model import (
    ACCEPT,
    DROP,
    Malformed,
    Meta,
    Outcome,
    Packet,
    Probe,
    Refusal,
    Source,
    Stray,
    source_of,
)
from sentryfw.engine.packet import decode
from sentryfw.engine.track import Horizons, Tracker

HOLD: Final = 2.0
"""Seconds that packets of a source just blocked are dropped here: those that stood in the
queue when the block reached the kernel. Later ones the kernel drops; if one still comes, the
block is gone and the packet is new evidence."""
FLOOD_ON: Final = 1000
"""New sources a second that no set of scans explains: a /24 swept by nmap from 254 hosts at
once stays below."""
FLOOD_OFF: Final = 200
REFUSAL_PAUSE: Final = 60.0
"""Seconds between two refusals of the same source: said again, not a thousand times."""
MAX_HELD: Final = 65536

_ACCEPT: Final = Outcome(ACCEPT)
_DROP: Final = Outcome(DROP)


class Engine:
    """State of everything seen so far; handle() is its only input beside the ticks."""

    def __init__(self, horizons: Horizons, policy: Policy, max_sources: int = 65536) -> None:
        self.tracker = Tracker(horizons, max_sources)
        self.decider = Decider(policy)
        self.counters: Counter[str] = Counter()
        """Packets by kind, and by the reason why they are no probe."""
        self.flood = False
        self._held: dict[Source, float] = {}
        self._refused: dict[tuple[Source, str], float] = {}
        self._second = 0.0
        self._newcomers = 0

        observe = policy.mode == "observe"
        self._unlisted = Outcome(ACCEPT if observe else policy.unlisted)
        self._counted = self._unlisted._replace(action="count")

    def handle(self, payload: bytes, meta: Meta, now: float) -> Outcome:
        """Judge one packet. `now` in seconds on any clock that does not run backwards."""
        packet = decode(payload)
        if isinstance(packet, Malformed):
            return self._malformed(packet.reason, meta)
        probe = classify(packet, meta)
        if isinstance(probe, Stray):
            return self._stray(probe, packet, now)
        return self._judge(probe, meta, now)

    def tick(self, now: float) -> None:
        """Once a second: forget, and look at the rate of new sources."""
        self.tracker.expire(now)
        self._held = {source: end for source, end in self._held.items() if end > now}
        self._refused = {key: end for key, end in self._refused.items() if end > now}
        self._watch_flood(now)

    def release(self, source: Source) -> None:
        """The source was unblocked, or could not be blocked: start anew."""
        self._held.pop(source, None)
        self.tracker.forget(source)

    def release_all(self) -> None:
        """Every source was unblocked."""
        self._held.clear()

    def _judge(self, probe: Probe, meta: Meta, now: float) -> Outcome:
        self.counters[probe.kind] += 1
        if self._is_held(probe.source, now):
            return _DROP
        evidence = self.tracker.observe(probe, now)
        if now - self._second >= 1:
            self._watch_flood(now)
        if evidence is None:
            return self._unlisted
        decision = self.decider.decide(evidence, meta, now, flood=self.flood)
        if decision is None:
            return self._counted
        decision = decision._replace(evidence=self.tracker.detail(evidence))
        if isinstance(decision, Refusal):
            return self._refuse(decision, now)
        self._hold(probe.source, now)
        self.tracker.forget(probe.source)
        return Outcome(DROP, "block", blocks=(decision,))

    def _refuse(self, refusal: Refusal, now: float) -> Outcome:
        self.counters[f"refused {refusal.reason}"] += 1
        if refusal.reason.startswith("block."):  # only the cap stands against it
            self._hold(refusal.source, now)
        key = (refusal.source, refusal.reason)
        if self._refused.get(key, now) > now:
            return self._counted
        self._refused[key] = now + REFUSAL_PAUSE
        return Outcome(self._counted.verdict, "refuse", refusals=(refusal,))

    def _malformed(self, reason: str, meta: Meta) -> Outcome:
        self.counters["malformed"] += 1
        self.counters[f"malformed: {reason}"] += 1
        return self._unlisted if meta.unlisted else _ACCEPT

    def _stray(self, stray: Stray, packet: Packet, now: float) -> Outcome:
        self.counters[stray.reason] += 1
        if self._held and self._is_held(source_of(packet.source), now):
            return _DROP
        return _ACCEPT

    def _hold(self, source: Source, now: float) -> None:
        if len(self._held) >= MAX_HELD:
            del self._held[next(iter(self._held))]
        self._held[source] = now + HOLD

    def _is_held(self, source: Source, now: float) -> bool:
        end = self._held.get(source)
        return end is not None and end > now

    def _watch_flood(self, now: float) -> None:
        elapsed = now - self._second
        if elapsed < 1:
            return
        rate = (self.tracker.newcomers - self._newcomers) / elapsed
        self._second, self._newcomers = now, self.tracker.newcomers
        if self.flood:
            self.flood = rate > FLOOD_OFF
        else:
            self.flood = rate > FLOOD_ON
            self.counters["floods"] += self.flood
