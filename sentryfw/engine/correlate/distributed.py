"""Find sources that share out the targets of a scan.

distributed-scan: many sources, each below its trigger, that share out the ports of one target, or
many sources of one prefix that share out any targets. Background noise repeats its favourite ports;
a distributed scan does not. Header fields do not matter: the sender chooses them.

See docs/decisions.md: distributed.
"""

from typing import Final, NamedTuple

from sentryfw.engine.model import DistributedScan, Probe, Source, Target

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
MAX_PREFIXES: Final = 2048
"""Prefixes with two sources or more."""
MAX_ONCE: Final = 16384
"""Prefixes with one source, in each of two generations."""
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
        self._targets: dict[bytes, Crowd] = {}
        self._prefixes: dict[bytes, Crowd] = {}
        self._born = 0.0
        self._thin = False
        self._once: dict[bytes, Source] = {}
        """Prefixes with one source: the many of a forged flood."""
        self._before: dict[bytes, Source] = {}

    def __len__(self) -> int:
        return len(self._targets) + len(self._prefixes)

    def observe(self, probe: Probe, now: float, *, flood: bool = False) -> Crowd | None:
        """Add the first probe of a stranger to an unlisted target; return the distributed scan that
        it belongs to."""
        self._thin = flood
        source = probe.source
        scan = None
        if len(source) == 4:
            scan = self._in_prefix(source[:3], SHARED_24, probe, now)
        elif len(source) == 8:
            scan = self._in_prefix(source[:7], SHARED_56, probe, now)
            if scan is None:
                scan = self._in_prefix(source[:6], SHARED_48, probe, now)
        # A prefix that is known already has strangers elsewhere wait for nothing.
        return self._at_target(probe, now) if scan is None else scan

    def _in_prefix(self, place: bytes, shares: Shares, probe: Probe, now: float) -> Crowd | None:
        crowd = self._prefixes.get(place)
        if crowd is None:
            first = self._once.get(place) or self._before.get(place)
            if first is None:
                if self._thin and hash(probe.source) & 3:
                    return None  # in a flood, a quarter: prefixes stay known longer, at less cost
                if len(self._once) >= MAX_ONCE or now - self._born > self.window:
                    self._before, self._once, self._born = self._once, {}, now
                self._once[place] = probe.source
                return None
            if first == probe.source:
                return None
            if len(self._prefixes) >= MAX_PREFIXES:
                del self._prefixes[next(iter(self._prefixes))]
            crowd = self._prefixes[place] = Crowd(place, shares, now)
            crowd.sources[first] = None
        elif crowd.until > now + DEFER_S / 2:
            return crowd
        is_scan = crowd.add(probe, now, self.window)
        # Any new target of theirs prolongs it: a prefix has few hands.
        return self._conclude(crowd, now, is_scan=is_scan or crowd.until > now)

    def _at_target(self, probe: Probe, now: float) -> Crowd | None:
        address = probe.target[0]
        crowd = self._targets.get(address)
        if crowd is None:
            if len(self._targets) >= MAX_CROWDS:
                del self._targets[next(iter(self._targets))]
            crowd = self._targets[address] = Crowd(address, SHARED_TARGET, now)
        elif crowd.until > now + DEFER_S / 2:  # counts again when half of its time is over
            return crowd
        return self._conclude(crowd, now, is_scan=crowd.add(probe, now, CROWD_WINDOW_S))

    def _conclude(self, crowd: Crowd, now: float, *, is_scan: bool) -> Crowd | None:
        if is_scan:
            self.found = crowd.found(now, is_blocked=len(crowd.place) in self.blocked)
        return crowd if crowd.until > now else None
