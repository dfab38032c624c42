"""Find sources that share out the targets of a scan.

distributed-scan: many sources, each below its trigger, that share out the ports of one target, or
many sources of one prefix, or of one hardware address on link, that share out any targets.
Background noise repeats its favourite ports; a distributed scan does not. Header fields do not
matter: the sender chooses them.

See docs/decisions.md: distributed, hardware-address.
"""

from itertools import islice
from typing import Final, NamedTuple

from sentryfw.engine.model import (
    ARPHRD_ETHER,
    Action,
    DistributedScan,
    Outcome,
    Probe,
    Source,
    Target,
)
from sentryfw.engine.networks import NetworkIndex

CROWD_WINDOW_S: Final = 60.0
"""Seconds within which sources of nowhere in common share out a target's ports."""
DEFER_S: Final = 60.0
"""Seconds for which the strangers of a distributed scan are deferred, after its last sign."""
PREFIX_TIMEOUTS_S: Final[tuple[float, ...]] = (60.0, 300.0, 1200.0)
"""Seconds for which a prefix is blocked, by the times that it was found; the last one repeats."""
MAX_CROWD_OVERLAP: Final = 1.5
"""Sources for each target: those that share out a scan try each target once. One target counts as
MAX_TIMES at most, so that probes of one port do not hide the others."""
MAX_TIMES: Final = 4
REPEATED_TARGETS_RATIO: Final = 2
"""Times as many targets that are a scan however often each was tried: sources that try each target
twice would otherwise hide it, at twice the cost."""
MAX_CROWD_TARGETS: Final = 64
"""Targets remembered of one crowd; then it counts from the beginning."""
MAX_CROWDS: Final = 256
"""Targets with more ports than MAX_FEW_PORTS; FEW_SHARE as many have fewer."""
MAX_PREFIXES: Final = 1024
"""Prefixes with more targets than MAX_FEW_TARGETS; FEW_SHARE as many have fewer."""
MAX_ONCE: Final = 16384
"""Prefixes with one source, in each of two generations."""
MAX_HARDWARE: Final = 1024
"""Hardware addresses, as MAX_PREFIXES."""
MAX_HARDWARE_ONCE: Final = 4096
MAX_FEW_TARGETS: Final = 2
"""Targets up to which a crowd is in the lower tier: those of a forged flood."""
MAX_FEW_PORTS: Final = 8
"""Ports up to which a target's crowd is in the lower tier: one source can probe many addresses."""
FEW_SHARE: Final = 4
MAX_CROWD_SOURCES: Final = 64
"""Sources remembered of one crowd."""


class Shares(NamedTuple):
    """How many sources and targets make a distributed scan, within what time."""

    sources: int
    targets: int


SHARED_TARGET: Final = Shares(16, 32)
"""Sources of nowhere in common that share out the ports of one target within CROWD_WINDOW_S. The
noise of the Internet stays below: one address meets a few probes a minute."""
SHARED_24: Final = Shares(6, 5)
"""Sources of one IPv4 /24 that share out targets within the window. The first target of the first
source is not remembered."""
SHARED_56: Final = Shares(6, 5)
SHARED_48: Final = Shares(12, 11)
SHARED_HARDWARE: Final = Shares(8, 12)
"""Sources on link of one hardware address: a host that changes its address. More than for a prefix,
because behind a bridge or proxy they may be many hosts."""


class Crowd:
    """Probes of many sources, from one prefix or to one target."""

    __slots__ = (
        "born", "members", "offences", "pairs", "place", "shares", "sources", "targets", "until",
    )  # fmt: skip

    def __init__(self, place: bytes, shares: Shares, now: float) -> None:
        self.place = place
        """The prefix of the sources, or the target: see DistributedScan."""
        self.shares = shares
        self.until = 0.0
        """Clock value until which it is known as a distributed scan."""
        self.offences = 0
        """Times that it was found and had not been known."""
        self.members: tuple[Source, ...] = ()
        """Some of its sources when it was found last."""
        self._restart(now)

    def _restart(self, now: float) -> None:
        self.born = now
        self.pairs = 0
        self.sources: dict[Source, None] = {}
        self.targets: dict[Target, int] = {}

    def add(self, probe: Probe, now: float, window: float) -> bool:
        """Add the first probe of a source to a target; return whether it is a scan by that."""
        shares = self.shares
        if now - self.born > window or len(self.targets) > MAX_CROWD_TARGETS:
            self._restart(now)
        if len(self.sources) < MAX_CROWD_SOURCES:
            self.sources[probe.source] = None
        times = self.targets.get(probe.target, 0)
        if times < MAX_TIMES:
            self.targets[probe.target] = times + 1
            self.pairs += 1
        targets = len(self.targets)
        return (
            targets >= shares.targets
            and len(self.sources) >= shares.sources
            and (
                self.pairs <= targets * MAX_CROWD_OVERLAP
                or targets >= shares.targets * REPEATED_TARGETS_RATIO
            )
        )

    def found(self, now: float, *, is_blocked: bool) -> DistributedScan:
        """Return the finding, and count from the beginning."""
        is_new = self.until <= now
        self.offences += is_new
        timeout = DEFER_S
        if is_blocked:
            timeout = PREFIX_TIMEOUTS_S[min(self.offences, len(PREFIX_TIMEOUTS_S)) - 1]
        self.members = tuple(self.sources)
        found = DistributedScan(
            self.place, timeout, self.members, tuple(self.targets), self.born, now,
            is_new=is_new, is_blocked=is_blocked,
        )  # fmt: skip
        self.until = now + timeout
        self._restart(now)
        return found


class CrowdTiers:
    """Crowds by their places, those of few targets apart: a forged flood pushes out its like."""

    def __init__(self, max_crowds: int, max_few_targets: int) -> None:
        self._max_crowds = max_crowds
        self._max_few_targets = max_few_targets
        self._few: dict[bytes, Crowd] = {}
        self._more: dict[bytes, Crowd] = {}

    def __len__(self) -> int:
        return len(self._few) + len(self._more)

    def get(self, place: bytes) -> Crowd | None:
        """Return the crowd of a place."""
        return self._more.get(place) or self._few.get(place)

    def begin(self, place: bytes, shares: Shares, now: float) -> Crowd:
        """Return a new crowd for a place without one."""
        crowd = Crowd(place, shares, now)
        self._put(self._few, crowd)
        return crowd

    def rise(self, crowd: Crowd) -> None:
        """Move a crowd to the upper tier, if it has the targets."""
        if len(crowd.targets) <= self._max_few_targets:
            return
        if self._few.pop(crowd.place, None) is not None:
            self._put(self._more, crowd)

    def _put(self, tier: dict[bytes, Crowd], crowd: Crowd) -> None:
        limit = self._max_crowds * FEW_SHARE if tier is self._few else self._max_crowds
        if len(tier) >= limit:
            # Some together: a dict looks for its first key past all that were removed before.
            for place in list(islice(tier, max(limit // 64, 1))):
                del tier[place]
        tier[crowd.place] = crowd


class SharedPlaces:
    """Crowds by the place that their sources share; places with one source are kept apart."""

    def __init__(self, max_crowds: int, max_once: int) -> None:
        self._tiers = CrowdTiers(max_crowds, MAX_FEW_TARGETS)
        self._max_once = max_once
        self._born = 0.0
        self._once: dict[bytes, Source] = {}
        self._before: dict[bytes, Source] = {}

    def __len__(self) -> int:
        return len(self._tiers)

    def crowd(
        self, place: bytes, shares: Shares, source: Source, now: float, window: float, *, thin: bool
    ) -> Crowd | None:
        """Return the crowd of a place; None while this is its one source. With `thin`, three
        quarters of the sources do not begin a place."""
        crowd = self._tiers.get(place)
        if crowd is not None:
            return crowd
        first = self._once.get(place) or self._before.get(place)
        if first is None:
            if thin and hash(source) & 3:
                return None
            if len(self._once) >= self._max_once or now - self._born > window:
                self._before, self._once, self._born = self._once, {}, now
            self._once[place] = source
            return None
        if first == source:
            return None
        crowd = self._tiers.begin(place, shares, now)
        crowd.sources[first] = None
        return crowd

    def is_known(self, place: bytes, now: float) -> bool:
        """Return whether a place is known as a distributed scan's."""
        crowd = self._tiers.get(place)
        return crowd is not None and crowd.until > now

    def rise(self, crowd: Crowd) -> None:
        """Move a crowd to the upper tier, if it has the targets."""
        self._tiers.rise(crowd)


class DistributedScanDetector:
    """Keeps crowds by target and by prefix; the oldest give way."""

    def __init__(self, window: float) -> None:
        """`window`: seconds within which sources of a prefix share out targets."""
        self.window = window
        self.defers = True
        """Whether strangers are deferred."""
        self.blocked: tuple[int, ...] = ()
        """Bytes of the prefixes whose strangers are blocked, too."""
        self.found: DistributedScan | None = None
        """A finding of observe(), until the engine takes it: its strangers are to be deferred."""
        self.onlink = NetworkIndex(())
        """Networks of neighbours: only there does a hardware address stand for a source."""
        self._targets = CrowdTiers(MAX_CROWDS, MAX_FEW_PORTS)
        self._prefixes = SharedPlaces(MAX_PREFIXES, MAX_ONCE)
        self._hardware = SharedPlaces(MAX_HARDWARE, MAX_HARDWARE_ONCE)
        self._thin = False

    def __len__(self) -> int:
        return len(self._targets) + len(self._prefixes) + len(self._hardware)

    def observe(
        self, probe: Probe, now: float, *, flood: bool = False, hardware: bytes = b""
    ) -> Crowd | None:
        """Add the first probe of a stranger to an unlisted target; return the distributed scan that
        it belongs to. `hardware`: the Ethernet address that it came from, or nothing."""
        self._thin = flood  # then a quarter: places stay known longer, at less cost
        source = probe.source
        scan = None
        if hardware and self.onlink.holds(source):  # a neighbour's prefix is that of all others
            place = ARPHRD_ETHER + hardware
            scan = self._in_place(self._hardware, place, SHARED_HARDWARE, probe, now)
        elif len(source) == 4:
            scan = self._in_place(self._prefixes, source[:3], SHARED_24, probe, now)
        elif len(source) == 8:
            if not self._prefixes.is_known(source[:6], now):  # else each /56 would be a finding
                scan = self._in_place(self._prefixes, source[:7], SHARED_56, probe, now)
            if scan is None:
                scan = self._in_place(self._prefixes, source[:6], SHARED_48, probe, now)
        # A place that is known already has strangers elsewhere wait for nothing.
        return self._at_target(probe, now) if scan is None else scan

    def _in_place(
        self, places: SharedPlaces, place: bytes, shares: Shares, probe: Probe, now: float
    ) -> Crowd | None:
        crowd = places.crowd(place, shares, probe.source, now, self.window, thin=self._thin)
        if crowd is None or crowd.until > now + DEFER_S / 2:
            return crowd
        is_scan = crowd.add(probe, now, self.window)
        places.rise(crowd)
        # Any new target of theirs prolongs it: a place has few hands.
        return self._conclude(crowd, now, is_scan=is_scan or crowd.until > now)

    def _at_target(self, probe: Probe, now: float) -> Crowd | None:
        address = probe.target[0]
        crowd = self._targets.get(address)
        if crowd is None:
            crowd = self._targets.begin(address, SHARED_TARGET, now)
        elif crowd.until > now + DEFER_S / 2:  # counts again when half of its time is over
            return crowd
        is_scan = crowd.add(probe, now, CROWD_WINDOW_S)
        self._targets.rise(crowd)
        return self._conclude(crowd, now, is_scan=is_scan)

    def _conclude(self, crowd: Crowd, now: float, *, is_scan: bool) -> Crowd | None:
        if is_scan:
            self.found = crowd.found(now, is_blocked=len(crowd.place) in self.blocked)
        return crowd if crowd.until > now else None


def joined(outcome: Outcome, found: DistributedScan) -> Outcome:
    """Return the outcome of a packet by which a distributed scan was found or prolonged."""
    action: Action = "count" if outcome.action == "pass" else outcome.action
    return Outcome(
        outcome.verdict, action, blocks=outcome.blocks, refusals=outcome.refusals,
        confinement=outcome.confinement, probe=outcome.probe, distributed=found,
    )  # fmt: skip
