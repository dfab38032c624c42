"""Zones: groups of interfaces whose packets are judged by triggers and a mode of their own.

Each zone has its tracker, its decider and its flood meter; caps and offences are those of all. A
scan that is shared out over several zones of one side is one: a source's targets in the others are
added to those in the zone where its packet came in, each with its share of the trigger there, and
decoys and distributed scans are looked for in all zones of a side together. Never across the sides:
a host outside can forge the addresses of those inside.

See docs/decisions.md: zones, inside.
"""

from typing import NamedTuple

from sentryfw.engine.caps import FloodMeter
from sentryfw.engine.correlate.decoys import DecoyDetector
from sentryfw.engine.correlate.distributed import DistributedScanDetector
from sentryfw.engine.decide import Decider, Policy
from sentryfw.engine.decided import Refusals
from sentryfw.engine.model import (
    ACCEPT,
    DROP,
    Evidence,
    Kind,
    Probe,
    Scan,
    Seen,
    Source,
    Target,
    Verdict,
)
from sentryfw.engine.networks import NO_NETWORKS
from sentryfw.engine.strays import Traces
from sentryfw.engine.table import MAX_SOURCES
from sentryfw.engine.track import RETURNING, ROUND_S, Horizons, Observation, Tracker, finding


class ZoneRules(NamedTuple):
    """The operator's choices about a zone."""

    name: str
    """Empty for the default zone."""
    interfaces: tuple[str, ...]
    """Names and patterns; empty for the default zone, which has all others."""
    horizons: Horizons
    policy: Policy
    is_inside: bool = False


class Side:
    """State that the zones of one side share."""

    def __init__(self) -> None:
        self.decoys = DecoyDetector()
        self.distributed = DistributedScanDetector(0.0)
        self.traces = Traces(0.0)

    def follow(self, zones: "list[Zone]") -> None:
        """Use the windows of the first of these zones, and the prefixes that one of them blocks."""
        for zone in zones:
            zone.others = tuple(other for other in zones if other is not zone)
        if zones:
            self.distributed.window = self.traces.window = zones[0].tracker.horizons.window
            blocked = (zone.decider.policy.blocked_prefixes() for zone in zones)
            self.distributed.blocked = next(filter(None, blocked), ())


class Zone:
    """The evidence and the decisions of one zone."""

    def __init__(self, rules: ZoneRules, side: Side, max_sources: int = MAX_SOURCES) -> None:
        self.tracker = Tracker(rules.horizons, max_sources)
        self.decider = Decider(rules.policy)
        self.refusals = Refusals()
        self.flood = FloodMeter()
        self.others: tuple[Zone, ...] = ()
        """The other zones of its side."""
        self.reconfigure(rules, side)

    def reconfigure(self, rules: ZoneRules, side: Side) -> None:
        """Judge by these values from the next packet on; what is known of sources stays."""
        self.name = rules.name
        self.interfaces = rules.interfaces
        self.is_inside = rules.is_inside
        self.side = side
        self.tracker.reconfigure(rules.horizons)
        self.tracker.follow_flood(is_flood=self.flood.is_flood)
        self.decider.reconfigure(rules.policy)
        self.refusals.decide_again()
        self.observes = rules.policy.mode == "observe"
        self.unlisted: Verdict = ACCEPT if self.observes else rules.policy.unlisted
        self.first_time: Verdict = ACCEPT if self.observes else DROP
        self.defers = not self.observes and rules.policy.prefixes != "off"

    def measure_flood(self, now: float) -> int:
        """Measure the rate of new sources; return 1 if a flood began, else 0."""
        began = self.flood.update(self.tracker.new_sources, now)
        self.tracker.follow_flood(is_flood=self.flood.is_flood)
        return began

    def expire(self, now: float) -> None:
        """Forget expired state."""
        self.tracker.expire(now)
        self.refusals.expire(now)

    def is_known_elsewhere(self, source: Source) -> bool:
        """Return whether another zone of the side has evidence against a source."""
        return any(other.tracker.get(source) is not None for other in self.others)

    def joined(self, observed: Observation, now: float) -> Observation:
        """Return the observation with the source's targets in the other zones of the side."""
        found: dict[Target, Seen] = {}
        kinds = observed.state.kinds
        probes, first_seen = observed.state.probes, observed.state.first_seen
        score, slow, count = observed.score, observed.slow_score, observed.targets
        for other in self.others:
            state = other.tracker.get(observed.source)
            if state is None:
                continue
            probes += state.probes
            first_seen = min(first_seen, state.first_seen)
            horizons = other.tracker.horizons
            slow_share = horizons.trigger / max(horizons.slow_trigger, horizons.trigger)
            for target, (at, share, kind, listed) in state.targets.items():
                if target in observed.state.targets or target in found:
                    continue
                if at < now - horizons.slow_window:
                    continue
                if kind in RETURNING and at >= state.new_at + ROUND_S:
                    continue
                found[target] = Seen(target, at, kind, listed)
                kinds = kinds if kind in kinds else (*kinds, kind)
                slow += share * slow_share
                if at >= now - horizons.window:
                    score += share
                    count += 1
        if not found:
            return observed
        return Joined(
            observed, found, kinds, probes=probes, first_seen=first_seen, score=score,
            slow_score=slow, count=count,
        )  # fmt: skip


class Joined(Observation):
    """An observation of a source that is known in other zones of the side, too."""

    def __init__(
        self, observed: Observation, elsewhere: dict[Target, Seen], kinds: tuple[Kind, ...],
        *, probes: int, first_seen: float, score: float, slow_score: float, count: int,
    ) -> None:  # fmt: skip
        is_slow = slow_score >= 1 and score < 1
        targets = len(observed.state.targets) + len(elsewhere) if is_slow else count
        super().__init__(
            observed.source, observed.state, observed.at, targets, score, slow_score,
            is_new=observed.is_new,
        )  # fmt: skip
        self._elsewhere = elsewhere
        self._kinds = kinds
        self._probes = probes
        self._first_seen = first_seen

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return self._kinds

    def evidence(
        self, last: Probe | None = None, address: bytes = b"", *, tool: str = "unknown",
        inside: bool = False, scan: Scan | None = None, companions: tuple[Source, ...] = (),
        is_sender: bool = False, zone: str = "",
    ) -> Evidence:  # fmt: skip
        """Return the evidence of all zones, in the order of time."""
        own = super().evidence(
            last, address, tool=tool, inside=inside, companions=companions, is_sender=is_sender,
            zone=zone,
        )  # fmt: skip
        trace = tuple(sorted((*self._elsewhere.values(), *own.trace), key=_time))
        sample = tuple(seen.target for seen in trace)
        return own._replace(
            kinds=self._kinds, probes=self._probes, first_seen=self._first_seen,
            scan=scan or finding(sample, self._kinds), sample=sample, trace=trace,
        )  # fmt: skip


def _time(seen: Seen) -> float:
    return seen.at


def _without_common(rules: ZoneRules) -> ZoneRules:
    """Return a zone's rules without the common never-block networks: their index is shared."""
    return rules._replace(policy=rules.policy._replace(never_block=NO_NETWORKS))


class Zones:
    """The zones of an engine: the default zone first, the others in the configuration's order."""

    def __init__(self, rules: ZoneRules, max_sources: int) -> None:
        self._max_sources = max_sources
        self.outside, self.inside = Side(), Side()
        self.all = [Zone(rules, self._side(rules), max_sources)]
        self._link()

    def _side(self, rules: ZoneRules) -> Side:
        return self.inside if rules.is_inside else self.outside

    def use(self, rules: tuple[ZoneRules, ...]) -> None:
        """Have these zones, the default one first.

        A zone keeps its evidence by its name, one with another name by its interfaces.
        """
        first, *wanted = (rules[0], *map(_without_common, rules[1:]))
        default, *rest = self.all
        default.reconfigure(first, self._side(first))
        kept = {zone.name: zone for zone in rest}
        names = {each.name for each in wanted}
        renamed = {zone.interfaces: zone for zone in rest if zone.name not in names}
        share = self._max_sources // max(1, len(wanted))
        self.all = [default]
        for each in wanted:
            known = kept.get(each.name)
            if known is None:
                known = renamed.pop(each.interfaces, None)
            if known is None:
                known = Zone(each, self._side(each), share)
            else:
                known.reconfigure(each, self._side(each))
            self.all.append(known)
        self._link()

    def _link(self) -> None:
        default = self.all[0]
        for zone in self.all[1:]:
            zone.decider.share(default.decider)
        for side in (self.outside, self.inside):
            side.follow([zone for zone in self.all if zone.side is side])

    def protect(self, policy: Policy) -> None:
        """Use another policy of the default zone: its never-block networks are those of all."""
        self.all[0].decider.reconfigure(policy)
        for zone in self.all:
            zone.refusals.decide_again()
        self._link()

    def named(self, name: str) -> Zone:
        """Return a zone by its name; the default zone if it is gone."""
        return next((zone for zone in self.all if zone.name == name), self.all[0])

    def forget(self, source: Source) -> None:
        """Forget the evidence of a source in every zone."""
        for zone in self.all:
            zone.tracker.forget(source)

    @property
    def is_flood(self) -> bool:
        """Whether flood mode is on in a zone."""
        return any(zone.flood.is_flood for zone in self.all)

    @property
    def tracked(self) -> int:
        """The number of sources with evidence, over all zones."""
        return sum(len(zone.tracker) for zone in self.all)

    @property
    def pushed_out(self) -> int:
        """The number of sources that were forgotten early, over all zones."""
        return sum(zone.tracker.pushed_out for zone in self.all)
