"""The verdict engine: decode -> classify -> observe -> decide.

The same object judges packets for the daemon, out of a capture, and in the tests.
"""

from collections import Counter, OrderedDict
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from sentryfw.engine.classify import UNCERTAIN, classify
from sentryfw.engine.correlate import MAX_GROUP, Crowds, Twins
from sentryfw.engine.decide import Decider, Policy
from sentryfw.engine.fingerprint import attribute
from sentryfw.engine.model import (
    ACCEPT,
    DROP,
    Block,
    Evidence,
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
from sentryfw.engine.packet import TCP, decode, source_address
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
_CONNECTED: Final = Meta(unlisted=True, partner=False)
"""A partner may be blocked for what nobody can forge."""


class Engine:
    """State of everything seen so far; handle() is its only input beside the ticks."""

    def __init__(self, horizons: Horizons, policy: Policy, max_sources: int = 65536) -> None:
        self.tracker = Tracker(horizons, max_sources)
        self.decider = Decider(policy)
        self.counters: Counter[str] = Counter()
        """Packets by kind, and by the reason why they are no probe."""
        self.flood = False
        self._twins = Twins()
        self._crowds = Crowds()
        self._held: OrderedDict[Source, float] = OrderedDict()
        self._blocked: dict[Source, Block] = {}
        """Blocks of the last moments, in case they turn out to be decoys."""
        self._refused: dict[tuple[Source, str], float] = {}
        self._second = 0.0
        self._newcomers = 0

        self.inside: Engine | None = None
        """Who judges what comes from inside, by triggers of its own; None: this one does."""
        self._is_inside = False
        self._follow(policy)

    def reconfigure(self, horizons: Horizons, policy: Policy) -> None:
        """Judge by these from the next packet on. What is known of sources, of their offences and
        of live blocks stays; a target seen before weighs as it did then."""
        self.tracker.reconfigure(horizons)
        self.decider.reconfigure(policy)
        self._follow(policy)

    def _follow(self, policy: Policy) -> None:
        observe = policy.mode == "observe"
        self._answered = policy.answered
        self._unlisted = Outcome(ACCEPT if observe else policy.unlisted)

    def add_inside(self, horizons: Horizons, policy: Policy, max_sources: int = 65536) -> None:
        """Sources inside are judged apart, by these; counters, caps and offences are of all."""
        inside = Engine(horizons, policy, max_sources)
        inside._is_inside = True
        inside.counters = self.counters
        inside.decider.share(self.decider)
        self.inside = inside

    def handle(self, payload: bytes, meta: Meta, now: float) -> Outcome:
        """Judge one packet. `now` in seconds on any clock that does not run backwards."""
        if meta.inside and self.inside is not None:
            return self.inside.handle(payload, meta, now)
        packet = decode(payload)
        if isinstance(packet, Malformed):
            return self._malformed(packet.reason, payload, meta, now)
        probe = classify(packet, meta)
        if isinstance(probe, Stray):
            return self._stray(probe, packet, now)
        return self._judge(packet, probe, meta, now)

    def handle_connect(self, source: bytes, target: bytes, port: int, now: float) -> Outcome:
        """Judge a connection that a decoy took: a finished handshake, which nobody can forge."""
        probe = Probe(source_of(source), (target, TCP, port), "connect")
        self.counters["connect"] += 1
        if self.decider.spares(source):  # nft let it past the blocks; it is no evidence either
            self.counters["connect, never blocked"] += 1
            return _DROP
        if self._is_held(probe.source, now):
            return _DROP
        evidence = self.tracker.observe(probe, now)
        if evidence is None:
            return _DROP
        decision = self.decider.decide(evidence, _CONNECTED, now, flood=self.flood)
        if decision is None:
            keep = evidence.is_new and not self.flood
            return Outcome(DROP, "count", probe=probe) if keep else _DROP
        detail = self.tracker.detail(evidence)._replace(last=probe, address=source)
        return self._conclude(decision._replace(evidence=detail), _DROP, now)

    def tick(self, now: float) -> None:
        """Once a second: forget, and look at the rate of new sources."""
        self.tracker.expire(now)
        while self._held and next(iter(self._held.values())) <= now:
            self._held.popitem(last=False)
        self._blocked = {s: block for s, block in self._blocked.items() if s in self._held}
        self._refused = {key: end for key, end in self._refused.items() if end > now}
        self._watch_flood(now)
        if self.inside is not None:
            self.inside.tick(now)

    def release(self, source: Source) -> None:
        """The source was unblocked, or could not be blocked: start anew."""
        self._held.pop(source, None)
        self._blocked.pop(source, None)
        self.tracker.forget(source)
        if self.inside is not None:
            self.inside.release(source)

    def protect(self, never_block: tuple[IPv4Network | IPv6Network, ...]) -> None:
        """Who is never blocked from now on."""
        self.decider.policy = self.decider.policy._replace(never_block=never_block)
        if self.inside is not None:
            self.inside.protect(never_block)

    def release_all(self) -> None:
        """Every source was unblocked."""
        self._held.clear()
        self._blocked.clear()
        if self.inside is not None:
            self.inside.release_all()

    def _judge(self, packet: Packet, probe: Probe, meta: Meta, now: float) -> Outcome:
        self.counters[probe.kind] += 1
        if now - self._second >= 1 or self.tracker.newcomers > self._newcomers + FLOOD_ON:
            self._watch_flood(now)
        twins = self._twins.observe(packet, probe.source, now)
        if probe.source in self._held and self._is_held(probe.source, now):
            return _DROP
        evidence = self.tracker.observe(probe, now)
        is_answered = probe.kind == "udp" and probe.target[2] in self._answered
        passes = is_answered or probe.listed or probe.kind in UNCERTAIN
        verdict = _ACCEPT if passes else self._unlisted
        if evidence is None:
            return verdict
        if twins or evidence.companions:
            evidence = self._with_decoys(evidence, probe, twins or [])
        elif evidence.is_new and probe.target[1] == TCP:
            evidence = self._with_crowd(evidence, packet, probe, now)
        if evidence.scan == "distributed-scan" and evidence.targets >= 2:
            decision = self.decider.judge(evidence, meta, now, flood=self.flood)
        else:
            found = self.decider.decide(evidence, meta, now, flood=self.flood)
            if found is None:
                keep = evidence.is_new and not self.flood
                return verdict._replace(action="count", probe=probe) if keep else verdict
            decision = found
        detail = self._detail(decision.evidence, packet, probe)
        outcome = self._conclude(decision._replace(evidence=detail), verdict, now)
        return outcome._replace(verdict=ACCEPT) if is_answered else outcome

    def _conclude(self, decision: Block | Refusal, verdict: Outcome, now: float) -> Outcome:
        """What follows from a decision."""
        if isinstance(decision, Refusal):
            return self._refuse(decision, verdict, now)
        self.tracker.forget(decision.source)
        self._hold(decision, now)
        return Outcome(DROP, "block", (decision, *self._amend(decision.evidence, now)))

    def _with_decoys(self, evidence: Evidence, probe: Probe, twins: list[Source]) -> Evidence:
        """The evidence, as that of one scan in several names."""
        if len(twins) > len(evidence.companions) + 1:
            # The first of a group cannot know of it yet when its own probe comes.
            for source in twins if len(twins) == 2 else (probe.source,):
                state = self.tracker.get(source)
                if state is not None:
                    state.group = twins
            companions = tuple(source for source in twins if source != probe.source)
            evidence = evidence._replace(companions=companions)
        return evidence._replace(scan="decoy-scan")

    def _with_crowd(self, evidence: Evidence, packet: Packet, probe: Probe, now: float) -> Evidence:
        """The evidence, as that of one of many that share out a scan, if it is."""
        crowd = self._crowds.observe(packet, probe, now)
        if crowd is None:
            return evidence
        if not crowd.flagged:
            crowd.flagged = True
            self.counters["distributed scans"] += 1
        return evidence._replace(
            scan="distributed-scan", companions=tuple(sorted(crowd.sources))[:MAX_GROUP]
        )

    def _amend(self, evidence: Evidence, now: float) -> tuple[Block, ...]:
        """Blocks of a moment ago whose sources turn out to be of the same group as this one:
        shortened, and the offence taken back."""
        if evidence.scan != "decoy-scan":
            return ()
        amended = []
        for source in evidence.companions:
            block = self._blocked.get(source)
            if block is not None and block.evidence.scan != "decoy-scan":
                others = (*(s for s in evidence.companions if s != source), evidence.source)
                old = block.evidence._replace(scan="decoy-scan", companions=others)
                self.decider.pardon(source)
                amended.append(self.decider.shorten(old, now))
                self._blocked[source] = amended[-1]
        return tuple(amended)

    def _detail(self, evidence: Evidence, packet: Packet, probe: Probe) -> Evidence:
        tool = attribute(packet.payload, packet, probe.kind)
        return self.tracker.detail(evidence)._replace(
            tool=tool, last=probe, address=packet.source, inside=self._is_inside
        )

    def _refuse(self, refusal: Refusal, verdict: Outcome, now: float) -> Outcome:
        self.counters[f"refused {refusal.reason}"] += 1
        if refusal.reason.startswith("block."):  # only the cap stands against it
            self._hold(refusal, now)
        key = (refusal.source, refusal.reason)
        if self._refused.get(key, now) > now:
            return verdict
        if len(self._refused) >= MAX_HELD:
            self._refused.clear()  # said once more: better than to grow
        self._refused[key] = now + REFUSAL_PAUSE
        return verdict._replace(action="refuse", refusals=(refusal,))

    def _malformed(self, reason: str, payload: bytes, meta: Meta, now: float) -> Outcome:
        self.counters["malformed"] += 1
        self.counters[f"malformed: {reason}"] += 1
        source = source_address(payload)
        if source is not None and self._is_held(source_of(source), now):
            return _DROP
        return self._unlisted if meta.unlisted else _ACCEPT

    def _stray(self, stray: Stray, packet: Packet, now: float) -> Outcome:
        self.counters[stray.reason] += 1
        if self._held and self._is_held(source_of(packet.source), now):
            return _DROP
        return _ACCEPT

    def _hold(self, decision: Block | Refusal, now: float) -> None:
        source = decision.source
        if len(self._held) >= MAX_HELD:
            oldest, _ = self._held.popitem(last=False)
            self._blocked.pop(oldest, None)
        self._held[source] = now + HOLD
        self._held.move_to_end(source)
        if isinstance(decision, Block):
            self._blocked[source] = decision

    def _is_held(self, source: Source, now: float) -> bool:
        end = self._held.get(source)
        return end is not None and end > now

    def _watch_flood(self, now: float) -> None:
        elapsed = max(now - self._second, 1.0)
        rate = (self.tracker.newcomers - self._newcomers) / elapsed
        self._second, self._newcomers = now, self.tracker.newcomers
        if self.flood:
            self.flood = rate > FLOOD_OFF
        else:
            self.flood = rate > FLOOD_ON
            self.counters["floods"] += self.flood
