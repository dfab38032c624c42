"""The sections of the configuration, and the engine's parameters made of them.

Durations are seconds or text like "90s", "5m", "4h", "1d", "1h30m".

See docs/decisions.md: merged-triggers, limits-in-config.
"""

from ipaddress import IPv6Network
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from sentryfw.config.decoy import Decoy
from sentryfw.config.fleet import Fleet
from sentryfw.config.form import (
    AfterValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from sentryfw.config.forward import ListedForward
from sentryfw.config.metrics import Metrics
from sentryfw.config.origin import Geo, Labels
from sentryfw.config.record import EvidenceSection, RecordSection, ReportSection
from sentryfw.config.respond import Respond
from sentryfw.config.types import (
    MAX_BLOCKS,
    Count,
    Directory,
    Duration,
    Interface,
    Network,
    Network6,
    Ports,
    Section,
    Trigger,
)
from sentryfw.config.zone import INSIDE, MAX_ZONES, Inside, ZoneSection, check_zones
from sentryfw.engine.correlate.zones import ZoneRules
from sentryfw.engine.decide import Level, Policy
from sentryfw.engine.model import ACCEPT, DROP, REJECT, Kind, Verdict
from sentryfw.engine.networks import NO_NETWORKS, NetworkIndex
from sentryfw.engine.track import Horizons

Upper = Annotated[Count, Field(ge=1, le=65536)]


class Paths(Section):
    """Directories; the files in them have fixed names."""

    state: Directory = Path("/var/lib/sentryfw")
    """Directory of the ledger, the allowlist and the packets behind blocks."""
    runtime: Directory = Path("/run/sentryfw")
    """Directory of the lock and the control socket."""
    log: Directory = Path("/var/log/sentryfw")
    """Directory of the event file."""

    @property
    def ledger(self) -> Path:
        return self.state / "ledger.db"

    @property
    def allowlist(self) -> Path:
        """List kept by `sentryfw allow`; [never_block] files are kept by the operator."""
        return self.state / "allowlist"

    @property
    def allowlist_names(self) -> Path:
        """Addresses of the names in the allowlist (host/allowed_names.py)."""
        return self.state / "allowlist.names"

    @property
    def evidence(self) -> Path:
        return self.state / "evidence"

    @property
    def fleet_key(self) -> Path:
        """Private key that signs the entries of this firewall for its fleet."""
        return self.state / "fleet.key"

    @property
    def lock(self) -> Path:
        return self.runtime / "sentryfwd.lock"

    @property
    def helper(self) -> Path:
        """Socket of the helper, beside the runtime directory: that one is the daemon's, this one
        root's."""
        return self.runtime.with_name(f"{self.runtime.name}-respond.sock")

    @property
    def link_status(self) -> Path:
        """Report of sentryfw-link, in its own directory beside ours."""
        return self.runtime.with_name(f"{self.runtime.name}-link") / "status.json"

    @property
    def control(self) -> Path:
        return self.runtime / "control.sock"

    @property
    def events(self) -> Path:
        return self.log / "events.json"


class Watch(Section):
    """Packets that are judged."""

    interfaces: tuple[Interface, ...] = ()
    """Interfaces whose packets are judged; empty: all but lo."""
    inside: tuple[Interface, ...] = ()
    """Interfaces that lead inside; their packets are judged by [inside]."""
    forward: bool = False
    """Whether packets that this host forwards are judged, as far as they arrive on `interfaces`."""
    listed_forward: Annotated[tuple[ListedForward, ...], Field(max_length=4096)] = ()
    listed_tcp: tuple[Ports, ...] = ()
    listed_udp: tuple[Ports, ...] = ()
    listed_sctp: tuple[Ports, ...] = ()
    raw_syn: Literal["defer", "serve"] = "defer"
    """Treatment of a SYN to a listed port that has the shape of a raw-socket scanner's."""
    greylist_tcp: tuple[Ports, ...] = ()
    """Listed ports where the SYN of every source that was not served there is deferred."""
    mode: Literal["unlisted", "traps"] = "unlisted"
    """Ports that are judged: all unlisted ones, or chosen ones while they are unlisted."""
    upper_tcp: Upper = 65536
    """Ports below this one are watched (PortSentry's ADVANCED_PORTS_TCP)."""
    upper_udp: Upper = 65536
    trap_tcp: tuple[Ports, ...] = ()
    trap_udp: tuple[Ports, ...] = ()

    @property
    def defers_raw_syn(self) -> bool:
        """Whether SYNs of raw-socket scanners are deferred; with traps they are served."""
        return self.raw_syn == "defer" and self.mode != "traps"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.mode == "unlisted" and (self.trap_tcp or self.trap_udp):
            raise ValueError('trap_tcp and trap_udp need mode = "traps"')
        if self.mode == "traps" and min(self.upper_tcp, self.upper_udp) < 65536:
            raise ValueError('upper_tcp and upper_udp need mode = "unlisted"')
        if self.forward and self.mode == "traps":
            raise ValueError('forward needs mode = "unlisted": traps are ports of this host')
        if self.forward and not (self.interfaces or self.inside):
            raise ValueError(
                "forward needs interfaces (those that lead outside) or inside (the others), so"
                " that connections opened from inside are not judged"
            )
        if self.listed_forward and not self.forward:
            raise ValueError("listed_forward needs forward = true")
        return self


NAT64: Final = IPv6Network("64:ff9b::/96")
"""The well-known prefix of NAT64 (RFC 6052, section 2.1): one /64 holds all of IPv4."""
TRIGGERS: Final[dict[Kind, int]] = {
    "null": 2, "fin": 2, "xmas": 2, "synfin": 2, "badflags": 2, "urg": 2, "icmp": 10, "rst": 16,
    "connect": 1,
}  # fmt: skip
"""Triggers by kind: 2 for packets that no stack sends, 10 for pings (a sweep needs many targets),
16 for resets of listed ports (each is half a target; health checks end so), 1 for connections to
decoys."""


def _over_defaults(triggers: dict[Kind, int]) -> dict[Kind, int]:
    return {**TRIGGERS, **triggers}


class Detect(Section):
    """Number of probes that make a scan."""

    count: Literal["targets", "probes"] = "targets"
    """Unit of a trigger: distinct targets, or every probe as in PortSentry."""
    trigger: Trigger = 3
    window: Duration = 300.0
    slow_trigger: Trigger = 6
    slow_window: Duration = 86400.0
    triggers: Annotated[dict[Kind, Trigger], AfterValidator(_over_defaults)] = TRIGGERS
    """Triggers by kind; kinds that are not named keep those of TRIGGERS."""
    whole6: Annotated[tuple[Network6, ...], Field(max_length=4096)] = (NAT64,)
    """IPv6 networks in which a source is a whole address instead of a /64; link-local addresses and
    connected prefixes are sources so without being named."""
    mode: Literal["block", "observe"] = "block"


_VERDICTS: Final[dict[str, Verdict]] = {"drop": DROP, "accept": ACCEPT, "reject": REJECT}


class BlockSection(Section):
    """Timeouts and limits of blocks."""

    timeouts: Annotated[tuple[Duration, ...], Field(min_length=1, max_length=32)] = (
        3600.0, 14400.0, 86400.0, 604800.0,
    )  # fmt: skip
    """Timeouts by offence; the last one repeats. Zeek's are 10 min, 1 h, 24 h, 7 d."""
    unlisted: Literal["drop", "accept", "reject"] = "drop"
    """Verdict of a probe below the trigger; "reject": a RST or an ICMP error answers it."""
    while_away: Literal["pass", "drop"] = "pass"
    """Verdict of unlisted TCP and UDP while no daemon has the queue, unless it was stopped."""
    per_minute: Annotated[Count, Field(ge=1, le=MAX_BLOCKS)] = 6000
    max_elements: Annotated[Count, Field(ge=1, le=MAX_BLOCKS)] = 65536
    tcp: Level = "block"
    """Reaction to a scan in TCP: PortSentry's BLOCK_TCP 1, 0 ("observe"), 2 ("command")."""
    udp: Level = "block"
    prefixes: Literal["off", "defer", "ipv6", "both"] = "defer"
    """Reaction to a scan that many sources share out; the last two drop a prefix's strangers."""


class NeverBlock(Section):
    """Sources that are never blocked."""

    addresses: tuple[Network, ...] = ()
    files: tuple[Directory, ...] = ()
    """Files with addresses, one a line (host/address_list.py)."""
    interfaces: tuple[Interface, ...] = ()
    """Interfaces whose connected networks are never blocked."""
    gateways: bool = True
    resolvers: bool = True
    ssh_peers: bool = True
    partners: bool = True


class Queue(Section):
    """The netfilter queue."""

    number: Annotated[Count, Field(ge=0, le=65535)] = 5277
    max_len: Annotated[Count, Field(ge=64, le=1 << 20)] = 16384
    """Packets that may wait for a verdict."""


class Config(Section):
    """The whole configuration."""

    paths: Paths = Field(default_factory=Paths)
    watch: Watch = Field(default_factory=Watch)
    decoy: Decoy = Field(default_factory=Decoy)
    detect: Detect = Field(default_factory=Detect)
    inside: Inside = Field(default_factory=Inside)
    zone: Annotated[tuple[ZoneSection, ...], Field(max_length=MAX_ZONES)] = ()
    block: BlockSection = Field(default_factory=BlockSection)
    never_block: NeverBlock = Field(default_factory=NeverBlock)
    evidence: EvidenceSection = Field(default_factory=EvidenceSection)
    record: RecordSection = Field(default_factory=RecordSection)
    queue: Queue = Field(default_factory=Queue)
    metrics: Metrics = Field(default_factory=Metrics)
    respond: Respond = Field(default_factory=Respond)
    report: ReportSection = Field(default_factory=ReportSection)
    geo: Geo = Field(default_factory=Geo)
    labels: Labels = Field(default_factory=Labels)
    fleet: Fleet = Field(default_factory=Fleet)

    @field_validator("zone")
    @classmethod
    def _check_zones(
        cls, value: tuple[ZoneSection, ...], info: ValidationInfo
    ) -> tuple[ZoneSection, ...]:
        watch = info.data.get("watch")  # None: it has a fault of its own
        check_zones(value, watch.inside if watch is not None else ())
        return value

    def horizons(self) -> Horizons:
        """Return the engine's triggers and windows."""
        detect = self.detect
        return Horizons(
            trigger=detect.trigger,
            window=detect.window,
            slow_trigger=detect.slow_trigger,
            slow_window=detect.slow_window,
            triggers=dict(detect.triggers),
            repeats=detect.count == "probes",
        )

    def policy(self, never_block: NetworkIndex = NO_NETWORKS) -> Policy:
        """Return the engine's policy; `never_block` comes from the host and from this config."""
        block = self.block
        return Policy(
            timeouts=block.timeouts,
            mode=self.detect.mode,
            unlisted=_VERDICTS[block.unlisted],
            per_minute=block.per_minute,
            max_elements=block.max_elements,
            partners=self.never_block.partners,
            never_block=never_block,
            tcp=block.tcp,
            udp=block.udp,
            prefixes="off" if self.watch.mode == "traps" else block.prefixes,
            repeats=self.detect.count == "probes",
            answered=self.decoy.answered,
            decoys=self.decoy.tcp_ports,
        )

    @property
    def drops_while_away(self) -> bool:
        """Whether unlisted packets are dropped while the daemon is away; never those that it would
        accept itself, or refuse."""
        block = self.block
        drops = block.while_away == "drop" and block.unlisted == "drop"
        return drops and self.detect.mode == "block"

    def zones(self, never_block: NetworkIndex = NO_NETWORKS) -> tuple[ZoneRules, ...]:
        """Return the engine's zones, the default one first; `never_block`: see policy()."""
        default = ZoneRules("", (), self.horizons(), self.policy(never_block))
        return default, *(self.rules(zone, default) for zone in self.named_zones())

    def named_zones(self) -> tuple[ZoneSection, ...]:
        """Return the zones besides the default one; [watch] inside is one of them."""
        inside = self.watch.inside
        return (*((self.inside.zone(inside),) if inside else ()), *self.zone)

    def accepting(self) -> list[str]:
        """Return the interfaces of zones that accept unlisted packets: they lead inside, or are
        only observed."""
        zones = self.named_zones()
        found = [zone for zone in zones if zone.inside or self._mode(zone) == "observe"]
        return [name for zone in found for name in zone.interfaces]

    def rules(self, zone: ZoneSection, default: ZoneRules | None = None) -> ZoneRules:
        """Return a zone's rules; a kind's trigger is that of [detect.triggers], and no lower than
        the zone's where that is above the default zone's."""
        default = default or ZoneRules("", (), self.horizons(), self.policy())
        horizons, common = default.horizons, self.detect.trigger
        horizons = horizons._replace(**zone.own_horizons())
        if zone.slow_trigger is None:
            horizons = horizons._replace(slow_trigger=max(horizons.slow_trigger, horizons.trigger))
        if zone.slow_window is None:
            horizons = horizons._replace(slow_window=max(horizons.slow_window, horizons.window))
        derived = {
            kind: max(number, horizons.trigger) if number > common else number
            for kind, number in self.detect.triggers.items()
        }
        policy = default.policy
        return ZoneRules(
            zone.name,
            zone.interfaces,
            horizons._replace(triggers={**derived, **zone.triggers}),
            policy._replace(
                mode=self._mode(zone),
                unlisted=ACCEPT if zone.inside else policy.unlisted,
                timeouts=zone.timeouts or policy.timeouts,
                spared=zone.never_block,
            ),
            zone.inside,
        )

    def _mode(self, zone: ZoneSection) -> Literal["block", "observe"]:
        """Return a zone's mode; [detect] mode = "observe" holds for all that do not name one, and
        for [inside] always."""
        if zone.mode is None or (zone.name == INSIDE and self.watch.inside):
            return "observe" if "observe" in (zone.mode, self.detect.mode) else "block"
        return zone.mode
