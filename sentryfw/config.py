"""The configuration: TOML -> Config, every fault at once, each with its key path.

Files in conf.d beside it come over it (config_files.py). A file that is not there gives the
defaults only at the default place. Durations are seconds
or text like "90s", "5m", "4h", "1d", "1h30m".
"""

import difflib
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self, get_args

from pydantic import AfterValidator, Field, ValidationError, model_validator

from sentryfw import config_files
from sentryfw.config_files import Sources
from sentryfw.config_forward import ListedForward
from sentryfw.config_metrics import Metrics
from sentryfw.config_respond import Respond
from sentryfw.engine.decide import Level, Policy
from sentryfw.engine.model import ACCEPT, DROP, Kind
from sentryfw.engine.track import Horizons
from sentryfw.errors import ConfigError
from sentryfw.fields import (
    Count,
    Directory,
    Duration,
    Interface,
    Network,
    Ports,
    Section,
    Trigger,
)

DEFAULT_PATH: Final = Path("/etc/sentryfw/sentryfw.toml")
DECOY_MARK: Final = 0x5E47
"""SO_MARK of the decoy's listening sockets: how nft knows them."""
MAX_BANNER: Final = 512
"""Bytes; one datagram, one segment."""
SET_SIZE: Final = 1048576
"""Size of block4 and block6 in rulesets/sets.nft."""


Upper = Annotated[Count, Field(ge=1, le=65536)]


def _banner(value: str) -> str:
    if len(value.encode()) > MAX_BANNER:
        raise ValueError(f"longer than {MAX_BANNER} bytes")
    return value


Banner = Annotated[str, AfterValidator(_banner)]


class Paths(Section):
    state: Directory = Path("/var/lib/sentryfw")
    """The ledger, and the packets behind the blocks."""
    runtime: Directory = Path("/run/sentryfw")
    """Lock and control socket."""
    log: Directory = Path("/var/log/sentryfw")
    """Events."""

    @property
    def ledger(self) -> Path:
        return self.state / "ledger.db"

    @property
    def allowlist(self) -> Path:
        """What `sentryfw allow` keeps; lists that others keep are [never_block] files."""
        return self.state / "allowlist"

    @property
    def evidence(self) -> Path:
        return self.state / "evidence"

    @property
    def lock(self) -> Path:
        return self.runtime / "sentryfwd.lock"

    @property
    def helper(self) -> Path:
        """Beside the runtime directory, which is the daemon's: this one is root's."""
        return self.runtime.with_name(f"{self.runtime.name}-respond.sock")

    @property
    def control(self) -> Path:
        return self.runtime / "control.sock"

    @property
    def events(self) -> Path:
        return self.log / "events.json"


class Watch(Section):
    interfaces: tuple[Interface, ...] = ()
    """None: all but lo."""
    inside: tuple[Interface, ...] = ()
    """Those that lead inside: judged by [inside]."""
    forward: bool = False
    """Whether what is routed through is judged too, as far as it comes in by `interfaces`."""
    listed_forward: Annotated[tuple[ListedForward, ...], Field(max_length=4096)] = ()
    listed_tcp: tuple[Ports, ...] = ()
    listed_udp: tuple[Ports, ...] = ()
    listed_sctp: tuple[Ports, ...] = ()
    mode: Literal["unlisted", "traps"] = "unlisted"
    """Which ports are judged: all that are unlisted, or chosen ones as far as they are."""
    upper_tcp: Upper = 65536
    """Ports below this one are watched (PortSentry's ADVANCED_PORTS_TCP)."""
    upper_udp: Upper = 65536
    trap_tcp: tuple[Ports, ...] = ()
    trap_udp: tuple[Ports, ...] = ()

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
                " that what is opened from inside is not judged"
            )
        if self.listed_forward and not self.forward:
            raise ValueError("listed_forward needs forward = true")
        return self


class Decoy(Section):
    """Ports that look open: PortSentry's modes tcp and udp."""

    tcp: tuple[Ports, ...] = ()
    udp: tuple[Ports, ...] = ()
    banner: Banner = ""
    """What who connects is shown, and who is blocked for a datagram."""
    port: Annotated[Count, Field(ge=1, le=65535)] = 5278
    """Where the one listener behind all of them is; nobody gets there but by a decoy."""
    connections: Annotated[Count, Field(ge=1, le=4096)] = 256
    """Open at once; who comes then is evidence all the same, and is closed at once."""
    timeout: Annotated[Duration, Field(le=60)] = 5.0
    """How long a connection is kept for its first bytes."""

    @property
    def wanted(self) -> bool:
        """Whether there is anything for a decoy to do: without a banner, a UDP port is silent."""
        return bool(self.tcp or self.answered)

    @property
    def answered(self) -> frozenset[int]:
        """UDP ports that answer with the banner."""
        ranges = self.udp if self.banner else ()
        return frozenset(port for first, last in ranges for port in range(first, last + 1))


TRIGGERS: Final[dict[Kind, int]] = {
    "null": 1, "fin": 1, "xmas": 1, "synfin": 1, "badflags": 1, "urg": 1, "icmp": 10, "connect": 1,
}  # fmt: skip
"""Of kinds that no stack ever sends, of pings, of which it takes many addresses to make a sweep,
and of connections to decoys."""


def _over_defaults(triggers: dict[Kind, int]) -> dict[Kind, int]:
    return {**TRIGGERS, **triggers}


class Detect(Section):
    count: Literal["targets", "probes"] = "targets"
    """What a trigger counts: distinct targets, or, as PortSentry, every probe."""
    trigger: Trigger = 3
    window: Duration = 300.0
    slow_trigger: Trigger = 6
    slow_window: Duration = 86400.0
    triggers: Annotated[dict[Kind, Trigger], AfterValidator(_over_defaults)] = TRIGGERS
    """Kinds with a trigger of their own; what is not named keeps that of TRIGGERS."""
    mode: Literal["block", "observe"] = "block"


class Inside(Section):
    """Scanners inside: what clients do there is more, and to block them is graver."""

    trigger: Trigger = 20
    window: Duration = 300.0
    slow_trigger: Trigger = 60
    slow_window: Duration = 86400.0
    mode: Literal["block", "observe"] = "observe"


class BlockSection(Section):
    timeouts: Annotated[tuple[Duration, ...], Field(min_length=1, max_length=32)] = (
        3600.0, 14400.0, 86400.0, 604800.0,
    )  # fmt: skip
    """By offence; the last one repeats. After Zeek's catch-and-release: 10 min, 1 h, 24 h, 7 d."""
    unlisted: Literal["drop", "accept"] = "drop"
    per_minute: Annotated[Count, Field(ge=1, le=SET_SIZE)] = 6000
    max_elements: Annotated[Count, Field(ge=1, le=SET_SIZE)] = 65536
    tcp: Level = "block"
    """What a scan in TCP leads to: PortSentry's BLOCK_TCP 1, 0 ("observe"), 2 ("command")."""
    udp: Level = "block"


class NeverBlock(Section):
    addresses: tuple[Network, ...] = ()
    files: tuple[Directory, ...] = ()
    """Lists of addresses, one a line (allowlist.py)."""
    interfaces: tuple[Interface, ...] = ()
    """Interfaces whose connected networks are meant."""
    gateways: bool = True
    resolvers: bool = True
    ssh_peers: bool = True
    partners: bool = True


class Evidence(Section):
    """The packets behind a block, a small pcapng each, in [paths] state/evidence."""

    packets: Annotated[Count, Field(ge=0, le=64)] = 8
    """The last ones of a source that are kept; 0: none."""
    max_files: Annotated[Count, Field(ge=1, le=SET_SIZE)] = 4096
    max_age: Duration = 2592000.0


class Queue(Section):
    number: Annotated[Count, Field(ge=0, le=65535)] = 5277
    max_len: Annotated[Count, Field(ge=64, le=1 << 20)] = 16384
    """Packets that may wait for a verdict."""


class Config(Section):
    paths: Paths = Paths()
    watch: Watch = Watch()
    decoy: Decoy = Decoy()
    detect: Detect = Detect()
    inside: Inside = Inside()
    block: BlockSection = BlockSection()
    never_block: NeverBlock = NeverBlock()
    evidence: Evidence = Evidence()
    queue: Queue = Queue()
    metrics: Metrics = Metrics()
    respond: Respond = Respond()

    def horizons(self) -> Horizons:
        detect = self.detect
        return Horizons(
            detect.trigger, detect.window, detect.slow_trigger, detect.slow_window,
            dict(detect.triggers), detect.count == "probes",
        )  # fmt: skip

    def policy(self, never_block: tuple[IPv4Network | IPv6Network, ...]) -> Policy:
        """For the engine; `never_block` from the live host and this configuration."""
        block = self.block
        return Policy(
            timeouts=block.timeouts,
            mode=self.detect.mode,
            unlisted=DROP if block.unlisted == "drop" else ACCEPT,
            per_minute=block.per_minute,
            max_elements=block.max_elements,
            partners=self.never_block.partners,
            never_block=never_block,
            tcp=block.tcp,
            udp=block.udp,
            repeats=self.detect.count == "probes",
            answered=self.decoy.answered,
        )

    def inside_horizons(self) -> Horizons:
        """For sources inside: kinds that no stack sends trigger as they do outside."""
        own = self.inside
        return self.horizons()._replace(
            trigger=own.trigger, window=own.window, slow_trigger=own.slow_trigger,
            slow_window=own.slow_window,
        )  # fmt: skip

    def inside_policy(self, never_block: tuple[IPv4Network | IPv6Network, ...]) -> Policy:
        """Nothing from inside is dropped for being unlisted."""
        observes = "observe" in (self.inside.mode, self.detect.mode)
        return self.policy(never_block)._replace(
            mode="observe" if observes else "block", unlisted=ACCEPT
        )


class Loaded(NamedTuple):
    """A configuration, and the files it is made of."""

    config: Config
    sources: Sources


def load(path: Path | None) -> Config:
    """The configuration in a file and conf.d beside it; None: the default place. ConfigError with
    every fault."""
    return load_with_sources(path).config


def load_with_sources(path: Path | None) -> Loaded:
    """The same, and where each value came from."""
    sources = config_files.read(path or DEFAULT_PATH, optional=path is None)
    return Loaded(_validated(sources), sources)


def parse(data: bytes, where: str) -> Config:
    """The configuration in TOML bytes. ConfigError with every fault."""
    return _validated(config_files.only(data, where))


def _validated(sources: Sources) -> Config:
    try:
        config = Config.model_validate(sources.table)
    except ValidationError as error:
        faults = [_fault(item) for item in error.errors()]
        files = [sources.origin(item["loc"]) or sources.where for item in error.errors()]
        raise ConfigError(sources.where, faults, files) from None
    for family in ("tcp", "udp"):
        if getattr(config.block, family) == "command" and not config.respond.command.argv:
            file = sources.origin(("block", family)) or sources.where
            raise ConfigError(
                sources.where, [f'block.{family}: "command" needs respond.command.argv'], [file]
            )
    return config


def _fault(error: Any) -> str:  # noqa: ANN401 - pydantic's ErrorDetails, read by key
    path = [str(part) for part in error["loc"] if part != "[key]"]
    key = ".".join(path)
    if error["type"] == "extra_forbidden":
        nearest = difflib.get_close_matches(path[-1], _keys_beside(path), n=1, cutoff=0.5)
        return f"{key}: unknown key" + (f", did you mean {nearest[0]!r}?" if nearest else "")
    message = error["msg"].removeprefix("Value error, ")
    given = error["input"]
    if isinstance(given, dict | list) or repr(given)[:32] in message:
        shown = ""
    else:
        shown = f" (got {repr(given)[:80]})"
    return f"{key}: {message[0].lower()}{message[1:]}{shown}"


def _keys_beside(path: list[str]) -> list[str]:
    model: Any = Config
    for part in path[:-1]:
        # A number is a place in a list: its items are the tuple's first argument.
        model = get_args(model)[0] if part.isdigit() else model.model_fields[part].annotation
    return list(model.model_fields)
