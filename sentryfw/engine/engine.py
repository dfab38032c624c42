"""The verdict engine: decode -> classify -> observe -> decide.

The same object judges packets for the daemon, out of a capture, and in the tests.
"""

from collections import Counter, OrderedDict
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from sentryfw.engine.classify import UNCERTAIN, classify
from sentryfw.engine.correlate import MAX_GROUP, Crowd, Crowds, Twins
from sentryfw.engine.decide import Decider, Policy
from sentryfw.engine.fingerprint import attribute
from sentryfw.engine.model import (
    ACCEPT,
    DROP,
    Block,
    Evidence,
    Group,
    Malformed,
    Meta,
    Outcome,
    Packet,
    Probe,
    Refusal,
    Source,
    Stray,
    Verdict,
    source_of,
)
from sentryfw.engine.packet import TCP, decode, source_address
from sentryfw.engine.track import Horizons, Sight, SourceState, Tracker

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

_DROP: Final = Outcome(DROP)
_ACCEPT: Final = Outcome(ACCEPT)
_PLAIN: Final = (_DROP, _ACCEPT)
"""By verdict."""
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
        self._unlisted: Verdict = ACCEPT if observe else policy.unlisted

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
        sight = self.tracker.observe(probe, now)
        if sight is None:
            return _DROP
        if not sight.is_scan:
            return self._count(sight, probe, DROP)
        evidence = sight.evidence()._replace(last=probe, address=source)
        decision = self.decider.judge(evidence, _CONNECTED, now, flood=self.flood)
        return self._conclude(decision, DROP, now)

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
        is_answered = probe.kind == "udp" and probe.target[2] in self._answered
        passes = is_answered or probe.listed or probe.kind in UNCERTAIN
        verdict = ACCEPT if passes else self._unlisted
        sight = self.tracker.observe(probe, now)
        if sight is None:
            return _PLAIN[verdict]
        crowd: Crowd | None = None
        if twins is not None or sight.state.group is not None:
            self._join(twins, sight.state)
        elif sight.is_new and packet.protocol == TCP:
            crowd = self._crowds.observe(packet, probe, now)
            if crowd is not None and not crowd.flagged:
                crowd.flagged = True
                self.counters["distributed scans"] += 1
        if not sight.is_scan and (crowd is None or sight.targets < 2):
            return self._count(sight, probe, verdict)
        evidence = self._evidence(sight, crowd, packet, probe)
        decision = self.decider.judge(evidence, meta, now, flood=self.flood)
        outcome = self._conclude(decision, verdict, now)
        if is_answered and outcome.verdict == DROP:
            return Outcome(ACCEPT, outcome.action, blocks=outcome.blocks)
        return outcome

    def _count(self, sight: Sight, probe: Probe, verdict: Verdict) -> Outcome:
        """Below the trigger: kept if it is new, and there are not too many."""
        if sight.is_new and not self.flood:
            return Outcome(verdict, "count", probe=probe)
        return _PLAIN[verdict]

    def _conclude(self, decision: Block | Refusal, verdict: Verdict, now: float) -> Outcome:
        """What follows from a decision."""
        if isinstance(decision, Refusal):
            return self._refuse(decision, verdict, now)
        self.tracker.forget(decision.source)
        self._hold(decision, now)
        return Outcome(DROP, "block", blocks=(decision, *self._amend(decision.evidence, now)))

    def _join(self, twins: Group | None, state: SourceState) -> None:
        """One scan in several names: remember it with its sources, the largest group of each."""
        if twins is None or (state.group is not None and len(state.group) >= len(twins)):
            return
        state.group = twins
        if len(twins) == 2:  # the first of a group cannot know of it yet when its own probe comes
            for other in twins:
                known = self.tracker.get(other)
                if known is not None:
                    known.group = twins

    def _evidence(
        self, sight: Sight, crowd: Crowd | None, packet: Packet, probe: Probe
    ) -> Evidence:
        """All that is held against the source, with what it shares with others."""
        evidence = sight.evidence()._replace(
            tool=attribute(packet.payload, packet, probe.kind), last=probe,
            address=packet.source, inside=self._is_inside,
        )  # fmt: skip
        if sight.state.group is not None:
            companions = tuple(other for other in sight.state.group if other != probe.source)
            return evidence._replace(scan="decoy-scan", companions=companions)
        if crowd is not None:
            companions = tuple(sorted(crowd.sources))[:MAX_GROUP]
            return evidence._replace(scan="distributed-scan", companions=companions)
        return evidence

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

    def _refuse(self, refusal: Refusal, verdict: Verdict, now: float) -> Outcome:
        self.counters[f"refused {refusal.reason}"] += 1
        if refusal.reason.startswith("block."):  # only the cap stands against it
            self._hold(refusal, now)
        key = (refusal.source, refusal.reason)
        if self._refused.get(key, now) > now:
            return _PLAIN[verdict]
        if len(self._refused) >= MAX_HELD:
            self._refused.clear()  # said once more: better than to grow
        self._refused[key] = now + REFUSAL_PAUSE
        return Outcome(verdict, "refuse", refusals=(refusal,))

    def _malformed(self, reason: str, payload: bytes, meta: Meta, now: float) -> Outcome:
        self.counters["malformed"] += 1
        self.counters[f"malformed: {reason}"] += 1
        source = source_address(payload)
        if source is not None and self._is_held(source_of(source), now):
            return _DROP
        return _PLAIN[self._unlisted] if meta.unlisted else _ACCEPT

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
