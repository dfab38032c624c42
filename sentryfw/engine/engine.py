"""The verdict engine: decode -> classify -> observe -> decide.

Used by the daemon, by replay of captures and by the tests.

See docs/decisions.md: drain, zones, monotonic.
"""

from typing import Final

from sentryfw.engine.classify import UNCERTAIN, classify, refine
from sentryfw.engine.correlate.distributed import Crowd, joined
from sentryfw.engine.correlate.requests import DecoyRequests
from sentryfw.engine.correlate.zones import Zone, ZoneRules, Zones
from sentryfw.engine.counters import Counters
from sentryfw.engine.decide import Policy
from sentryfw.engine.decided import Draining, downgrade_decoys
from sentryfw.engine.deferral import AGAIN_AFTER_S, FIRST_AGE_S, Deferrals
from sentryfw.engine.fingerprint import attribute
from sentryfw.engine.flows import UNKNOWN_FLOW, may_be_flow
from sentryfw.engine.model import (
    ACCEPT,
    DROP,
    REJECT,
    Block,
    Confinement,
    DistributedScan,
    Evidence,
    Group,
    Malformed,
    Meta,
    Outcome,
    Packet,
    Probe,
    Refusal,
    Scan,
    Source,
    Stray,
    Verdict,
    source_of,
)
from sentryfw.engine.networks import LINK_LOCAL_ONLY, NetworkIndex, Whole6
from sentryfw.engine.packet import TCP, decode, source_address
from sentryfw.engine.strays import TRACE, gets_no_answer
from sentryfw.engine.table import MAX_SOURCES, SourceState
from sentryfw.engine.track import Horizons, Observation

_DROP: Final = Outcome(DROP)
_ACCEPT: Final = Outcome(ACCEPT)
_REJECT: Final = Outcome(REJECT)
_CONNECTED: Final = Meta(unlisted=True, partner=False)
"""Facts about a finished handshake with a decoy: proven, so a partner is blocked too."""


def is_compiled() -> bool:
    """Return whether this process runs the compiled engine."""
    return not __file__.endswith(".py")


class Engine:
    """Judges packets and remembers their sources; input: handle(), handle_connect(), tick()."""

    flows_unknown_until: float = 0.0
    """Clock value until which packets of flows may come that this host does not know (flows.py)."""

    def __init__(self, horizons: Horizons, policy: Policy, max_sources: int = MAX_SOURCES) -> None:
        self.zones = Zones(ZoneRules("", (), horizons, policy), max_sources)
        self.tracker = self.zones.all[0].tracker
        """The evidence in the default zone."""
        self.decider = self.zones.all[0].decider
        """The decider of the default zone; its caps and offences are those of all zones."""
        self.counters = Counters()
        self.whole6 = LINK_LOCAL_ONLY
        """Networks whose addresses stand for themselves."""
        self.draining = Draining()
        self._deferrals = Deferrals()
        self._requests = DecoyRequests()

    @property
    def flood(self) -> bool:
        """Whether flood mode is on in a zone."""
        return self.zones.is_flood

    def reconfigure(self, horizons: Horizons, policy: Policy) -> None:
        """Judge by these values, and without other zones, from the next packet on.

        Sources, offences and active blocks stay known; targets seen before keep their weight.
        """
        self.zones.use((ZoneRules("", (), horizons, policy),))

    def handle(
        self, payload: bytes, meta: Meta, now: float, hardware: bytes = b"", number: int = 0
    ) -> Outcome:
        """Judge one packet. `now` in seconds on any clock that does not run backwards; `hardware`:
        the Ethernet address of the frame's sender, where it is known; `number`: the zone that the
        packet came in by, as an index of zones.all."""
        zone = self.zones.all[number]
        packet = decode(payload)
        if isinstance(packet, Malformed):
            return self._malformed(zone, packet.reason, payload, meta, now)
        packet.hardware = hardware
        probe = classify(packet, meta)
        if probe is TRACE and meta.unlisted:
            source = source_of(packet.source, self.whole6)
            probe = zone.side.traces.judge(source, packet, now, is_flood=zone.flood.is_flood)
        if isinstance(probe, Stray):
            return self._stray(zone, probe, packet, meta, now)
        if len(packet.source) == 16 and packet.source in self.whole6:
            source = source_of(packet.source, self.whole6)
            if len(source) == 8:  # the anycast address of a shared /64: all of it would be blocked
                self.counters.strays["anycast source"] += 1
                return _plain(zone.unlisted) if meta.unlisted else _ACCEPT
            probe = Probe(source, probe.target, probe.kind, listed=probe.listed)
        if now < self.flows_unknown_until and may_be_flow(packet, listed=probe.listed):
            outcome = self._stray(zone, UNKNOWN_FLOW, packet, meta, now)
            return _plain(zone.unlisted) if meta.unlisted else outcome
        if meta.deferred:
            return self._defer(zone, packet, probe, meta, now)
        probe = refine(packet, probe, self.decider.policy.decoys, self.counters.probes)
        outcome = self._judge(zone, packet, probe, meta, now)
        found = zone.side.distributed.found
        return outcome if found is None else self._distribute(zone, outcome, found)

    def handle_connect(
        self, source: bytes, target: bytes, port: int, now: float, *, is_request: bool = False
    ) -> Outcome:
        """Judge a connection that a decoy accepted: its finished handshake is proven evidence.
        `is_request`: it sent what any web page makes a browser send: at one decoy that is forgeable
        evidence, which the source's next packet may decide by."""
        probe = Probe(source_of(source, self.whole6), (target, TCP, port), "connect")
        self.counters.probes["connect"] += 1
        if self.decider.is_protected(source):  # nft accepts it before the blocks
            self.counters.strays["connect, never blocked"] += 1
            return _DROP
        if self.draining.holds(probe.source, now):
            return _DROP
        zone = self.zones.all[0]  # the decoy does not see the interface
        horizons = zone.tracker.horizons
        if is_request and not (
            horizons.repeats
            or self._requests.is_second(probe.source, probe.target, now, horizons.window)
        ):
            probe = Probe(probe.source, probe.target, "syn")
            return self._count(zone, zone.tracker.observe(probe, now), probe, DROP)
        observed = zone.tracker.observe(probe, now)
        if zone.others and not observed.is_scan:
            observed = zone.joined(observed, now)
        if not observed.is_scan:
            return self._count(zone, observed, probe, DROP)
        evidence = observed.evidence(probe, source)
        decision = zone.decider.judge(evidence, _CONNECTED, now, flood=zone.flood.is_flood)
        return self._conclude(zone, decision, DROP, _CONNECTED)

    def tick(self, now: float) -> None:
        """Forget expired state and measure the rate of new sources; called once a second."""
        self.draining.expire(now)
        self._deferrals.expire(now)
        for side in (self.zones.outside, self.zones.inside):
            side.traces.expire(now)
        for zone in self.zones.all:
            zone.expire(now)
            self.counters.floods += zone.measure_flood(now)

    def release(self, source: Source) -> None:
        """Forget a source that was unblocked or could not be blocked."""
        self.draining.release(source)
        self.zones.forget(source)
        self.decider.caps.release(source)

    def protect(self, never_block: NetworkIndex) -> None:
        """Replace the networks that are never blocked."""
        self.zones.protect(self.decider.policy._replace(never_block=never_block))

    def use_neighbours(self, whole6: Whole6, onlink: NetworkIndex) -> None:
        """Replace the networks whose addresses stand for themselves, and those on link."""
        self.whole6 = whole6
        for side in (self.zones.outside, self.zones.inside):
            side.distributed.onlink = onlink

    def release_all(self) -> None:
        """Stop draining: all sources were unblocked."""
        self.draining.clear()
        self.decider.caps.release_all()

    def _judge(self, zone: Zone, packet: Packet, probe: Probe, meta: Meta, now: float) -> Outcome:
        self.counters.probes[probe.kind] += 1
        if zone.flood.is_due(zone.tracker.new_sources, now):
            self.counters.floods += zone.measure_flood(now)
        twins = zone.side.decoys.observe(packet, probe.source, now)
        if self.draining.holds(probe.source, now):
            return _DROP
        is_answered = probe.kind == "udp" and probe.target[2] in zone.decider.policy.answered
        passes = is_answered or probe.listed or probe.kind in UNCERTAIN
        verdict = ACCEPT if passes else zone.unlisted
        if meta.deferred:
            verdict = zone.first_time
        is_lone = twins is None and not (zone.others and zone.is_known_elsewhere(probe.source))
        observed = zone.tracker.observe(probe, now, is_lone=is_lone)
        if zone.others and not observed.is_scan:
            observed = zone.joined(observed, now)
        crowd: Crowd | None = None
        if twins is not None or observed.state.group is not None:
            _join_group(zone, twins, observed.state)
        elif observed.is_new and not (probe.listed or meta.partner or observed.is_scan):
            crowd = zone.side.distributed.observe(
                probe, now, flood=zone.flood.is_flood, hardware=packet.hardware
            )
        if not observed.is_scan and (crowd is None or not observed.has_two_unlisted):
            return self._count(zone, observed, probe, verdict)
        kinds = observed.kinds
        known = zone.refusals.known(probe.source, kinds, now, partner=meta.partner)
        if known is not None:
            self.counters.refusals[known] += 1
            return _plain(verdict)
        is_sender = zone.side.decoys.senders.is_sender(probe.source, now)
        evidence = _evidence(zone, observed, crowd, packet, probe, is_sender=is_sender)
        decision = zone.decider.judge(evidence, meta, now, flood=zone.flood.is_flood)
        outcome = self._conclude(zone, decision, verdict, meta)
        if is_answered and outcome.verdict == DROP:
            return Outcome(ACCEPT, outcome.action, blocks=outcome.blocks)
        return outcome

    def _defer(self, zone: Zone, packet: Packet, probe: Probe, meta: Meta, now: float) -> Outcome:
        """Drop a SYN to a listed port until it comes again; then take back what it counted."""
        if self.draining.holds(probe.source, now):
            return _DROP
        age = self._deferrals.age(packet, now)
        if age == FIRST_AGE_S:
            self.counters.deferred += 1
            outcome = self._judge(zone, packet, probe, meta, now)
            if outcome.action != "count":
                return outcome
            # Not kept for a restart: it is taken back when the SYN comes again.
            return _DROP if outcome.verdict == DROP else Outcome(ACCEPT, "defer", probe=probe)
        if age < AGAIN_AFTER_S:
            return _plain(zone.first_time)
        self.counters.came_again += 1
        zone.tracker.take_back(probe, now)
        return _ACCEPT

    def _distribute(self, zone: Zone, outcome: Outcome, found: DistributedScan) -> Outcome:
        """Return the outcome of a probe by which a distributed scan was found or prolonged."""
        zone.side.distributed.found = None
        self.counters.distributed_scans += found.is_new
        if zone.observes:
            found = found._replace(is_blocked=False)
        return joined(outcome, found if zone.defers else found._replace(timeout=0.0))

    def _count(self, zone: Zone, observed: Observation, probe: Probe, verdict: Verdict) -> Outcome:
        """Return the outcome below the trigger; a new target is reported, except in a flood."""
        if observed.is_new and not zone.flood.is_flood:
            return Outcome(verdict, "count", probe=probe)
        return _plain(verdict)

    def _conclude(
        self, zone: Zone, decision: Block | Confinement | Refusal, verdict: Verdict, meta: Meta
    ) -> Outcome:
        """Carry out a decision and return the outcome."""
        if isinstance(decision, Refusal):
            return self._refuse(zone, decision, verdict, meta)
        self.zones.forget(decision.source)
        if isinstance(decision, Confinement):
            self.draining.begin(decision.source, None, decision.at)
            self.counters.confined += 1
            return Outcome(DROP, "confine", confinement=decision)
        self.draining.begin(decision.source, decision, decision.at)
        downgraded = downgrade_decoys(zone.decider, self.draining, decision.evidence, decision.at)
        return Outcome(DROP, "block", blocks=(decision, *downgraded))

    def _refuse(self, zone: Zone, refusal: Refusal, verdict: Verdict, meta: Meta) -> Outcome:
        self.counters.refusals[refusal.reason] += 1
        if refusal.reason.startswith("block."):  # a cap is the only obstacle
            self.draining.begin(refusal.source, None, refusal.at)
        if not zone.refusals.add(refusal, partner=meta.partner):
            return _plain(verdict)
        return Outcome(verdict, "refuse", refusals=(refusal,))

    def _malformed(
        self, zone: Zone, reason: str, payload: bytes, meta: Meta, now: float
    ) -> Outcome:
        self.counters.malformed[reason] += 1
        source = source_address(payload)
        if source is not None and self.draining.holds(source_of(source, self.whole6), now):
            return _DROP
        return _plain(zone.unlisted) if meta.unlisted else _ACCEPT

    def _stray(self, zone: Zone, stray: Stray, packet: Packet, meta: Meta, now: float) -> Outcome:
        self.counters.strays[stray.reason] += 1
        if len(self.draining) and self.draining.holds(source_of(packet.source, self.whole6), now):
            return _DROP
        is_silent = meta.unlisted and gets_no_answer(stray, packet, meta)
        return _DROP if is_silent and zone.unlisted != ACCEPT else _ACCEPT


def _plain(verdict: Verdict) -> Outcome:
    """Return the outcome of a packet without evidence."""
    if verdict == DROP:
        return _DROP
    return _ACCEPT if verdict == ACCEPT else _REJECT


def _join_group(zone: Zone, twins: Group | None, state: SourceState) -> None:
    """Remember a decoy group with its sources; a source keeps the largest group it is in."""
    if twins is None or (state.group is not None and len(state.group) >= len(twins)):
        return
    state.group = twins
    if len(twins) == 2:  # the first source of a group was alone when its own probe came
        for each in (zone, *zone.others):
            for other in twins:
                known = each.tracker.get(other)
                if known is not None:
                    known.group = twins


def _evidence(
    zone: Zone, observed: Observation, crowd: Crowd | None, packet: Packet, probe: Probe, *,
    is_sender: bool,
) -> Evidence:  # fmt: skip
    """Return the evidence against the source, with what it shares with other sources."""
    scan: Scan | None = None
    companions: tuple[Source, ...] = ()
    if observed.state.group is not None:
        scan = "decoy-scan"
        companions = tuple(other for other in observed.state.group if other != probe.source)
    elif crowd is not None:
        scan = "distributed-scan"
        companions = tuple(sorted(s for s in crowd.members if s != probe.source))
    return observed.evidence(
        probe, packet.source, tool=attribute(packet.payload, packet, probe.kind),
        inside=zone.is_inside, scan=scan, companions=companions, is_sender=is_sender,
        zone=zone.name,
    )  # fmt: skip
