"""Evidence by source, in bounded memory that a flood cannot flush: observe(probe) -> Observation.

The rules of this file.
1. Evidence is the number of distinct targets (address, protocol, port); packets to a target
   already seen renew its time and count as probes only. With `repeats` each weighs again.
2. Two horizons: `window` and `slow_window`. A target weighs 1/trigger of its kind, so kinds
   with their own triggers mix; from 1 up it is a scan. A listed target weighs half. In flood mode
   no kind weighs more than 1/`trigger`, but for what is proven.
3. Each family has a table of its own (table.py), in which forged sources take no scanner's place.
4. A source that was quiet for `slow_window` is forgotten.
5. Who comes back to the same pings or resets of listed ports, a second later and to none that is
   new, is a monitor or a health check: they weigh nothing until a new one comes.
6. The ports of one service, and of the questions that a client puts to many at once (SERVICES), are
   one target an address.

See docs/decisions.md: weights, health-checks, full-source-table, observation.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from sentryfw.engine.model import Evidence, Kind, Probe, Scan, Seen, Source, Target
from sentryfw.engine.packet import TCP, UDP
from sentryfw.engine.table import MAX_SOURCES, SourceState, SourceTable

MAX_TARGETS: Final = 64
"""Targets remembered of one source; more than any sensible trigger."""
SCANNER_THRESHOLD: Final = 1.5
"""Score from which a source is a scanner beyond doubt."""
MAX_SCANNER_TARGETS: Final = 5
"""Targets remembered of such a source: one that is observed or never blocked costs 2 kB, however
much it scans."""
RETURNING: Final = frozenset[Kind](("icmp", "rst"))
"""Kinds that monitors and health checks send again and again."""
ROUND_S: Final = 1.0
"""Seconds between the rounds of a monitor, at least."""
_ROUNDING_SHARE: Final = 1e-9
"""Added to a sum of shares: six times 1/6 is slightly below 1."""
_PACKED: Final = SourceState(0.0)
"""State in the observation of a source that was packed at once."""

SERVICES: Final = (
    # Sharing files; looking for a name, a printer, a player. NetBIOS (RFC 1001, 1002), SMB
    # (MS-SMB2), mDNS (RFC 6762), LLMNR (RFC 4795), SSDP and events (UPnP Device Architecture 2.0),
    # WS-Discovery (OASIS 1.1), BJNP (Canon's printers), TP-Link's plugs, LPD (RFC 1179), IPP (RFC
    # 8010), a printer's raw port (IANA: pdl-datastream).
    (
        (UDP, 137), (UDP, 138), (TCP, 139), (TCP, 445), (UDP, 5353), (UDP, 5355), (UDP, 1900),
        (UDP, 7900), (TCP, 2869), (UDP, 3702), (UDP, 8612), (UDP, 9999),
        (TCP, 515), (TCP, 631), (TCP, 9100),
    ),
    ((UDP, 500), (UDP, 4500)),  # IKE: RFC 7296, section 2.23
)  # fmt: skip
"""Services of several ports: (protocol, port)."""
_SERVICE_OF: Final = {port: service for service in SERVICES for port in service}
_IS_OF_SERVICE: Final = bytearray(65536)
"""Flags by port number: 1 where a service of SERVICES may be."""
for _, _port in _SERVICE_OF:
    _IS_OF_SERVICE[_port] = 1


class Horizons(NamedTuple):
    """Triggers and windows: how many targets within what time make a scan."""

    trigger: int
    """Distinct targets within `window`, >= 1."""
    window: float
    """Seconds."""
    slow_trigger: int
    slow_window: float
    triggers: Mapping[Kind, int]
    """Triggers of single kinds; the others have `trigger`."""
    repeats: bool = False
    """Whether probes count instead of distinct targets, as in PortSentry."""


class Observation:
    """Score of a source after a probe; most probes need no more."""

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
        """Distinct targets within the window that decided, or within `window`."""
        self.score = score
        """Sum of the targets' shares of a trigger within `window`; a scan from 1 up."""
        self.slow_score = slow_score
        """Sum of the targets' shares of a slow trigger within `slow_window`."""
        self.is_new = is_new
        """Whether the target is new for this source."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of the probes that the score rests on, in order of appearance."""
        return self.state.kinds

    @property
    def is_scan(self) -> bool:
        return self.score >= 1 or self.slow_score >= 1

    @property
    def has_two_unlisted(self) -> bool:
        """Whether the source has two unlisted targets: any client may have listed ones."""
        if self.targets < 2:
            return False
        return sum(not seen[3] for seen in self.state.targets.values()) >= 2

    def evidence(
        self, last: Probe | None = None, address: bytes = b"", *, tool: str = "unknown",
        inside: bool = False, scan: Scan | None = None, companions: tuple[Source, ...] = (),
        is_sender: bool = False, zone: str = "",
    ) -> Evidence:  # fmt: skip
        """Return the evidence against the source, with its targets; see Evidence for the rest.

        `scan`: the finding; None: the one that the targets show.
        """
        state = self.state
        trace = tuple(
            Seen(target, at, kind, listed)
            for target, (at, _, kind, listed) in state.targets.items()
        )
        sample = tuple(state.targets)
        return Evidence(
            self.source, self.targets, state.probes, state.kinds,
            first_seen=state.first_seen, last_seen=self.at, score=self.score,
            slow_score=self.slow_score, scan=scan or finding(sample, state.kinds), sample=sample,
            is_new=self.is_new, trace=trace, tool=tool, last=last, address=address, inside=inside,
            companions=companions, is_sender=is_sender, zone=zone,
        )  # fmt: skip


class Tracker:
    """Sources and their targets, in the order of their last probes."""

    def __init__(self, horizons: Horizons, max_sources: int = MAX_SOURCES) -> None:
        """`max_sources`: sources of a family with two targets or more."""
        self._four = SourceTable(4, max_sources)
        self._six = SourceTable(16, max_sources)
        self.reconfigure(horizons)
        self.new_sources = 0
        """Sources seen for the first time."""

    def __len__(self) -> int:
        return len(self._four) + len(self._six)

    @property
    def pushed_out(self) -> int:
        """The number of sources that were forgotten early, because a table was full."""
        return self._four.pushed_out + self._six.pushed_out

    def reconfigure(self, horizons: Horizons) -> None:
        """Weigh probes by these values from now on; targets seen before keep their shares."""
        self.horizons = horizons
        self._window = horizons.window
        self._slow_window = horizons.slow_window
        self._repeats = horizons.repeats
        self._weight: dict[Kind, float] = {k: 1 / n for k, n in horizons.triggers.items()}
        self._default_weight = 1 / horizons.trigger
        self._flood_weight = {
            kind: weight if kind == "connect" else min(weight, self._default_weight)
            for kind, weight in self._weight.items()
        }
        self._slow_share = horizons.trigger / max(horizons.slow_trigger, horizons.trigger)
        self.follow_flood(is_flood=False)

    def follow_flood(self, *, is_flood: bool) -> None:
        """Weigh no kind more than the default trigger does while packets are being forged."""
        self._weights = self._flood_weight if is_flood else self._weight
        self._is_flood = is_flood

    def observe(self, probe: Probe, now: float, *, is_lone: bool = False) -> Observation:
        """Add a probe and return its source's score.

        `is_lone`: no other source sent the same; while packets are being forged, the source is
        packed at once.
        """
        home = self._table(probe.source)
        state = home.take(probe.source) or self._unpack(home, probe.source, now)
        if state is None:
            self.new_sources += 1
            if is_lone and self._is_flood and home.packs_newcomers:
                observed = self._pack(home, probe, now)
                if observed is not None:
                    return observed
            state = SourceState(now)
        state.last_seen = now
        state.probes += 1
        if probe.kind not in state.kinds:
            state.kinds += (probe.kind,)
        targets = state.targets
        target = probe.target
        if _IS_OF_SERVICE[target[2]]:
            target = _known_as(target, targets)
        before = targets.pop(target, None)
        share = self._share(probe.kind, listed=probe.listed)
        kind, listed = probe.kind, probe.listed
        if before is not None:
            # The heavier kind counts: an ACK after each SYN does not lower the SYN's weight.
            if before[1] > share:
                kind, listed = before[2], before[3]
            share = share + before[1] if self._repeats else max(share, before[1])
        targets[target] = (now, share, kind, listed)
        is_new = before is None or self._repeats
        if before is None and probe.kind in RETURNING:
            state.new_at = now
        observed = self._weigh(probe.source, state, now, is_new=is_new)
        # Not all targets of a scanner that is not blocked are needed.
        if len(targets) > MAX_TARGETS or (
            len(targets) > MAX_SCANNER_TARGETS and observed.score >= SCANNER_THRESHOLD
        ):
            del targets[next(iter(targets))]
        is_lone = is_lone and self._is_flood and state.group is None
        home.put(probe.source, state, self._window, is_lone=is_lone)
        return observed

    def take_back(self, probe: Probe, now: float) -> None:
        """Remove the evidence of a deferred SYN, which came again; heavier evidence stays."""
        home = self._table(probe.source)
        state = home.take(probe.source) or self._unpack(home, probe.source, now)
        if state is None:
            return
        seen = state.targets.get(probe.target)
        if seen is not None and seen[3]:
            state.probes -= 1
            share = self._share(probe.kind, listed=True)
            if seen[1] <= share + _ROUNDING_SHARE:
                del state.targets[probe.target]
            elif self._repeats:
                state.targets[probe.target] = (seen[0], seen[1] - share, seen[2], seen[3])
        if state.targets:
            home.put(probe.source, state, self._window)

    def restore(self, probe: Probe, at: float) -> None:
        """Add a probe from before a restart; called with the oldest first, `at` a clock value."""
        new_sources = self.new_sources
        self.observe(probe, at)
        self.new_sources = new_sources  # a known source is not part of a flood

    def everything(self) -> tuple[list[Source], list[SourceState]]:
        """Return the sources and, in the same order, their states. The caller only reads them.

        In a flood, those that sent one probe some time ago are left out.
        """
        sources: list[Source] = []
        states: list[SourceState] = []
        for place in (*self._four.whole(), *self._six.whole()):
            sources += place
            states += place.values()
        return sources, states

    def get(self, source: Source) -> SourceState | None:
        """Return a source; in a flood, not one that sent one probe some time ago."""
        return self._table(source).get(source)

    def forget(self, source: Source) -> None:
        """Drop the evidence against a source, which is blocked now or was unblocked."""
        self._table(source).forget(source)

    def expire(self, now: float, budget: int = 8192) -> None:
        """Forget sources that were quiet for the slow window, at most `budget` of a place."""
        for table in (self._four, self._six):
            table.expire(now - self._slow_window, budget)

    def _table(self, source: Source) -> SourceTable:
        return self._four if len(source) == 4 else self._six

    def _pack(self, home: SourceTable, probe: Probe, now: float) -> Observation | None:
        """Pack a new source and return its score; None: its first probe is a scan."""
        share = self._share(probe.kind, listed=probe.listed)
        score = share + _ROUNDING_SHARE
        if score >= 1:
            return None
        home.pack(probe, now, self._window)
        slow = share * self._slow_share + _ROUNDING_SHARE
        return Observation(probe.source, _PACKED, now, 1, score, slow, is_new=True)

    def _unpack(self, home: SourceTable, source: Source, now: float) -> SourceState | None:
        """Return a packed source with the share of its target, or None."""
        packed = home.take_packed(source)
        if packed is None or packed.last_seen < now - self._slow_window:
            return None
        state = SourceState(packed.first_seen)
        state.last_seen = packed.last_seen
        state.probes = packed.probes
        state.kinds = (packed.kind,)
        share = self._share(packed.kind, listed=packed.listed)
        share = share * packed.probes if self._repeats else share
        state.targets[packed.target] = (packed.last_seen, share, packed.kind, packed.listed)
        return state

    def _share(self, kind: Kind, *, listed: bool) -> float:
        share = self._weights.get(kind, self._default_weight)
        return share / 2 if listed else share

    def _weigh(
        self, source: Source, state: SourceState, now: float, *, is_new: bool
    ) -> Observation:
        since = now - self._window
        slow_since = now - self._slow_window
        score, slow = _ROUNDING_SHARE, _ROUNDING_SHARE / self._slow_share
        recent = older = 0
        returned = state.new_at + ROUND_S
        for seen, share, kind, _ in state.targets.values():
            if seen >= returned and kind in RETURNING:
                continue
            if seen >= since:
                score += share
                recent += 1
            if seen >= slow_since:
                slow += share
                older += 1
        slow *= self._slow_share
        count = older if slow >= 1 and score < 1 else recent
        return Observation(source, state, now, count, score, slow, is_new=is_new)


def _known_as(target: Target, targets: dict[Target, tuple[float, float, Kind, bool]]) -> Target:
    """Return the target, or the one of its service under which the source is known."""
    address, protocol, port = target
    for other in _SERVICE_OF.get((protocol, port), ()):
        if (address, *other) in targets:
            return (address, *other)
    return target


def finding(targets: tuple[Target, ...], kinds: tuple[Kind, ...]) -> Scan:
    """Return the finding, named as in Snort's port_scan: one port of several hosts is a sweep."""
    addresses = {address for address, _, _ in targets}
    services = {(protocol, port) for _, protocol, port in targets}
    protocols = {protocol for _, protocol, _ in targets}
    if "protocol" in kinds and len(protocols) * 2 > len(targets):
        return "protocol-scan"
    return "portsweep" if len(addresses) > len(services) else "portscan"
