"""Evidence per source: observe(probe, now) -> Sight. Bounded, and not to be flushed.

The rules of this file.
1. Evidence is the number of distinct targets (address, protocol, port); packets to a target
   already seen renew its time and count as probes only. With `repeats` each weighs again.
2. Two horizons: `window` and `slow_window`. A target weighs 1/trigger of its kind, so kinds
   with triggers of their own mix; from 1 up it is a scan. A listed target weighs half.
3. A table that is full admits no new source, so a spoofed flood cannot push out one that is
   half-seen. What is turned away leaves its mark in a Bloom filter; a source that the filter
   has seen is a latecomer and gets a place beside the table, where only latecomers push out
   each other. A scanner that starts in the middle of a flood loses one probe by that; a forged
   source, which comes once, leaves four bits.
4. A source that was quiet for `slow_window` is forgotten.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final, NamedTuple

from sentryfw.engine.model import Evidence, Group, Kind, Probe, Scan, Seen, Source, Target

MAX_TARGETS: Final = 64
"""Targets remembered of one source; more than any sensible trigger."""
KEPT: Final = 5
ENOUGH: Final = 1.5
"""Targets remembered of a source that is a scanner beyond doubt, in shares of a trigger: one
that is only observed, or spared, costs 2 kB however much it scans."""
LATECOMERS: Final = 4096
"""Places for sources that the filter has seen, beside a full table."""
_BLOCK: Final = 64
"""Bytes that a CPU fetches from memory at once."""
_ROUNDING: Final = 1e-9
"""Shares like 1/6 add up to a hair below 1."""


class Horizons(NamedTuple):
    """When targets make a scan."""

    trigger: int
    """Distinct targets within `window`, >= 1."""
    window: float
    """Seconds."""
    slow_trigger: int
    slow_window: float
    triggers: Mapping[Kind, int]
    """Triggers of kinds that have their own."""
    repeats: bool = False
    """Whether probes count, as PortSentry counts them, instead of distinct targets."""


class SourceState:
    """What is known of one source."""

    __slots__ = ("first_seen", "group", "kinds", "last_seen", "probes", "targets")

    def __init__(self, now: float) -> None:
        self.first_seen = now
        self.last_seen = now
        self.probes = 0
        self.kinds: tuple[Kind, ...] = ()
        self.targets: dict[Target, tuple[float, float, Kind, bool]] = {}
        """Target -> when it was last probed, its share of a trigger; kind and whether listed."""
        self.group: Group | None = None
        """Whom a group of senders of the same was found to consist of; shared by them."""


class Sight:
    """How near a probe brings its source to a scan: all that most packets have to tell."""

    __slots__ = ("at", "is_new", "score", "slow_score", "source", "state", "targets")

    def __init__(
        self, source: Source, state: SourceState, at: float, targets: int, score: float,
        slow_score: float, *, is_new: bool,
    ) -> None:  # fmt: skip
        self.source = source
        self.state = state
        self.at = at
        """Clock value."""
        self.targets = targets
        """Distinct targets within the window that fired, or within `window`."""
        self.score = score
        """Shares of a trigger within `window`; a scan from 1 up."""
        self.slow_score = slow_score
        """Shares of a slow trigger within `slow_window`."""
        self.is_new = is_new
        """Whether the target was not seen before."""

    @property
    def is_scan(self) -> bool:
        return self.score >= 1 or self.slow_score >= 1

    def evidence(self) -> Evidence:
        """What is held against the source, with its finding and its targets, for the record."""
        state = self.state
        trace = tuple(
            Seen(target, at, kind, listed)
            for target, (at, _, kind, listed) in state.targets.items()
        )
        sample = tuple(state.targets)
        return Evidence(
            self.source, self.targets, state.probes, state.kinds, state.first_seen, self.at,
            self.score, self.slow_score, _finding(sample, state.kinds), sample, self.is_new,
            trace=trace,
        )  # fmt: skip


class Tracker:
    """Sources and their targets, in order of last sight."""

    def __init__(self, horizons: Horizons, max_sources: int = 65536) -> None:
        self._sources: dict[Source, SourceState] = {}
        self._latecomers: OrderedDict[Source, SourceState] = OrderedDict()
        self._max_sources = max_sources
        self._filter = SeenFilter(max_sources * 32)
        self.reconfigure(horizons)
        self.turned_away = 0
        """Probes of sources that found no place."""
        self.newcomers = 0
        """Sources seen for the first time, admitted or not."""

    def __len__(self) -> int:
        return len(self._sources) + len(self._latecomers)

    def reconfigure(self, horizons: Horizons) -> None:
        """Weigh by these from now on; what was seen before keeps its share of a trigger."""
        self.horizons = horizons
        self._window = horizons.window
        self._slow_window = horizons.slow_window
        self._repeats = horizons.repeats
        self._weight: dict[Kind, float] = {k: 1 / n for k, n in horizons.triggers.items()}
        self._default_weight = 1 / horizons.trigger
        self._slow_share = horizons.trigger / max(horizons.slow_trigger, horizons.trigger)

    def observe(self, probe: Probe, now: float) -> Sight | None:
        """Add a probe; what it makes of its source, None if there was no room."""
        state = self._sources.pop(probe.source, None)
        if state is not None:
            self._sources[probe.source] = state  # last in order: seen last
        else:
            state = self._admit(probe.source, now)
            if state is None:
                return None
        state.last_seen = now
        state.probes += 1
        if probe.kind not in state.kinds:
            state.kinds += (probe.kind,)
        targets = state.targets
        before = targets.pop(probe.target, None)
        share = self._share(probe)
        if before is not None:
            # The heavier kind counts: an ACK after each SYN does not make the SYN weigh less.
            share = share + before[1] if self._repeats else max(share, before[1])
        targets[probe.target] = (now, share, probe.kind, probe.listed)
        is_new = before is None or self._repeats
        sight = self._weigh(probe.source, state, now, is_new=is_new)
        # A scan that is not blocked need not be remembered whole.
        if len(targets) > MAX_TARGETS or (len(targets) > KEPT and sight.score >= ENOUGH):
            del targets[next(iter(targets))]
        return sight

    def restore(self, probe: Probe, at: float) -> None:
        """Evidence from before a restart, oldest first; `at` on the engine's clock."""
        newcomers = self.newcomers
        self.observe(probe, at)
        self.newcomers = newcomers  # what was known before is no flood now

    def everything(self) -> tuple[list[Source], list[SourceState]]:
        """All sources and, in the same order, their states: references, for who only reads."""
        first, second = self._sources, self._latecomers
        return [*first, *second], [*first.values(), *second.values()]

    def get(self, source: Source) -> SourceState | None:
        return self._sources.get(source) or self._latecomers.get(source)

    def forget(self, source: Source) -> None:
        """Drop what is held against a source (it is blocked now, or was unblocked)."""
        self._sources.pop(source, None)
        self._latecomers.pop(source, None)

    def expire(self, now: float, budget: int = 8192) -> None:
        """Forget up to `budget` sources that were quiet for the slow window."""
        horizon = now - self.horizons.slow_window
        stale: list[Source] = []
        for home in (self._sources, self._latecomers):
            for source, state in home.items():
                if state.last_seen > horizon or len(stale) >= budget:
                    break
                stale.append(source)
        for source in stale:
            self.forget(source)

    def _admit(self, source: Source, now: float) -> SourceState | None:
        state = self._latecomers.pop(source, None)
        if state is None:
            self.newcomers += 1
        if len(self._sources) < self._max_sources:
            home = self._sources
        elif state is not None or self._filter.add(source):
            home = self._latecomers
            if len(home) >= LATECOMERS:
                self._latecomers.popitem(last=False)
        else:
            self.turned_away += 1
            return None
        state = home[source] = state or SourceState(now)
        return state

    def _share(self, probe: Probe) -> float:
        share = self._weight.get(probe.kind, self._default_weight)
        return share / 2 if probe.listed else share

    def _weigh(self, source: Source, state: SourceState, now: float, *, is_new: bool) -> Sight:
        since = now - self._window
        slow_since = now - self._slow_window
        score, slow = _ROUNDING, _ROUNDING / self._slow_share
        recent = older = 0
        for seen, share, _, _ in state.targets.values():
            if seen >= since:
                score += share
                recent += 1
            if seen >= slow_since:
                slow += share
                older += 1
        slow *= self._slow_share
        count = older if slow >= 1 and score < 1 else recent
        return Sight(source, state, now, count, score, slow, is_new=is_new)


def _finding(targets: tuple[Target, ...], kinds: tuple[Kind, ...]) -> Scan:
    """Names as in Snort's port_scan: one port of several hosts is a sweep."""
    addresses = {address for address, _, _ in targets}
    services = {(protocol, port) for _, protocol, port in targets}
    protocols = {protocol for _, protocol, _ in targets}
    if "protocol" in kinds and len(protocols) * 2 > len(targets):
        return "protocol-scan"
    return "portsweep" if len(addresses) > len(services) else "portscan"


class SeenFilter:
    """A Bloom filter of sources in two generations, `size` bytes each.

    Four bits a source, all of them in one block, so that a source costs two fetches from memory
    (Putze, Sanders and Singler, Cache-, Hash- and Space-Efficient Bloom Filters, 2007). A
    generation ends when an eighth of its bits may be set: both together mistake 1 source in 800
    for one seen before, however long the flood lasts.
    """

    def __init__(self, size: int) -> None:
        self._blocks = max(size, 1024) // _BLOCK
        self._room = 0
        self._now = bytearray()
        self._before = bytearray()

    def add(self, source: Source) -> bool:
        """Whether the source was seen before; it is from now on."""
        if not self._room:
            self._before = self._now or bytearray(self._blocks * _BLOCK)
            self._now = bytearray(self._blocks * _BLOCK)
            self._room = self._blocks * _BLOCK >> 2
        self._room -= 1
        now, before = self._now, self._before
        spread = hash(source)
        block = (spread & 0x0FFFFFFF) % self._blocks * _BLOCK
        seen = True
        for shift in (28, 37, 46, 55):  # nine bits each: one of a block's 512
            place = spread >> shift
            byte, bit = block + (place >> 3 & 63), 1 << (place & 7)
            old = now[byte]
            if not old & bit:
                now[byte] = old | bit
                seen = seen and before[byte] & bit != 0
        return seen
