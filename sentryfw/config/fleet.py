"""The section [fleet]: the firewalls that this one shares blocks with, and what each may do."""

import re
from ipaddress import ip_address
from typing import Annotated, Final, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from sentryfw.config.form import AfterValidator, Field, model_validator
from sentryfw.config.neighbours import check_api
from sentryfw.config.types import Count, Directory, Duration, Section
from sentryfw.config.webhook import WebhookUrl

MAX_MEMBERS: Final = 1000
MAX_SOURCES: Final = 65536
"""Sources of all members together: the size of the fleet's sets."""
HUB_PORT: Final = 6379
_KEY: Final = re.compile(r"[0-9a-f]{64}")
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")


def _key(value: str) -> str:
    if not _KEY.fullmatch(value):
        raise ValueError("a key is 64 hexadecimal digits: `sentryfw fleet key` prints it there")
    return value


def _name(value: str) -> str:
    if value and not _NAME.fullmatch(value):
        raise ValueError(f"{value!r} is not a name: letters a-z, digits and hyphens, 32 at most")
    return value


Name = Annotated[str, AfterValidator(_name)]


class HubAddress(NamedTuple):
    """A server, taken apart."""

    host: str
    port: int
    is_encrypted: bool
    socket: str = ""
    """Path of its UNIX socket; then the others mean nothing."""


def parse_hub(url: str) -> HubAddress:
    """Return the server that a URL names. Raise ValueError with what to write."""
    if url.startswith("unix:///"):
        return HubAddress("", 0, is_encrypted=False, socket=url.removeprefix("unix://"))
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or HUB_PORT
    except ValueError:
        host, port, parts = "", 0, urlsplit("")
    if parts.scheme not in ("redis", "rediss") or not host:
        raise ValueError(f"{url!r} is not a hub: write rediss://HOST:PORT, or unix:///PATH")
    if parts.username or parts.password or parts.path.strip("/") or parts.query:
        raise ValueError(
            "the hub's URL has a host and a port alone: user and password_file are keys"
        )
    if parts.scheme == "redis" and not _is_loopback(host):
        raise ValueError("redis:// is not encrypted, so it is for this host alone: write rediss://")
    return HubAddress(host, port, is_encrypted=parts.scheme == "rediss")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _hub(value: str) -> str:
    if value:
        parse_hub(value)
    return value


class FleetHub(Section):
    """The Redis or Valkey server that carries the entries. The program sentryfw-link speaks with
    it; it is not trusted."""

    url: Annotated[str, AfterValidator(_hub)] = ""
    """rediss://HOST:PORT, redis://localhost:PORT or unix:///PATH; empty: there is none."""
    sentinels: Annotated[
        tuple[Annotated[str, AfterValidator(_hub)], ...], Field(max_length=16)
    ] = ()
    """URLs of Redis Sentinels, which know the server; then `url` is empty."""
    service: str = "sentryfw"
    """Name of the server in the Sentinels' configuration."""
    user: str = ""
    """Name of the user at the hub; empty: the name of this firewall."""
    password_file: Directory | None = None
    ca: Directory | None = None
    """Certificate of the authority that signed the hub's; without it the system's are used."""
    certificate: Directory | None = None
    """Certificate of this firewall."""
    key: Directory | None = None
    """Private key of that certificate."""
    keep: Annotated[Count, Field(ge=1000, le=10_000_000)] = 200_000
    """Entries of this firewall that the hub keeps."""

    @property
    def is_on(self) -> bool:
        """Whether there is a hub."""
        return bool(self.url or self.sentinels)

    @property
    def addresses(self) -> tuple[HubAddress, ...]:
        """The server, or its Sentinels."""
        return tuple(map(parse_hub, self.sentinels or (self.url,)))

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.url and self.sentinels:
            raise ValueError("url and sentinels exclude each other: Sentinels know the server")
        if "" in self.sentinels:
            raise ValueError("a Sentinel has a URL")
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together")
        return self


class FleetMember(Section):
    """Another firewall."""

    key: Annotated[str, AfterValidator(_key)]
    """Its public key, Ed25519, as hexadecimal text."""
    trust: Literal["full", "weigh", "show"] = "weigh"
    """full: its blocks are made here without caps; weigh: by evidence, within the caps; show: they
    are only shown."""
    max_alive: Annotated[Count, Field(ge=1, le=MAX_SOURCES)] = 2000
    """Sources of its entries in effect at once."""
    per_minute: Annotated[Count, Field(ge=1, le=MAX_SOURCES)] = 60
    max_time: Duration = 14400.0
    """Longest block."""


class FleetCrowdsec(Section):
    """CrowdSec's local API, whose decisions are taken as those of one more member."""

    url: WebhookUrl | None = None
    """URL of the local API; None: off."""
    credentials: Directory | None = None
    """TOML file with a bouncer's `key`, mode 0600."""
    ca: Directory | None = None
    """File of CA certificates; None: the system's."""
    name: Name = "crowdsec"
    """Its name among the members."""
    trust: Literal["full", "weigh", "show"] = "weigh"
    """full: every decision blocks, networks as well; weigh: those by hand block, others only defer;
    show: they are only shown."""
    max_alive: Annotated[Count, Field(ge=1, le=MAX_SOURCES)] = 2000
    """Sources in effect at once; a quarter is kept for decisions by hand."""
    per_minute: Annotated[Count, Field(ge=1, le=MAX_SOURCES)] = 60
    max_time: Annotated[Duration, Field(ge=60, le=14400)] = 14400.0
    """Longest time of a decision here, unless the API has it still."""
    interval: Annotated[Duration, Field(ge=1, le=3600)] = 10.0
    """Seconds between two questions for what has changed."""
    timeout: Annotated[Duration, Field(le=120)] = 15.0
    """Seconds for an answer."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_api(self.url, self.credentials)
        if not self.name:
            raise ValueError("it has a name among the members")
        return self


class Fleet(Section):
    """Sharing of blocks with other firewalls; off without a name."""

    name: Name = ""
    """The name of this firewall in the fleet."""
    members: Annotated[dict[Name, FleetMember], Field(max_length=MAX_MEMBERS)] = Field(
        default_factory=dict
    )
    """The other firewalls by their names."""
    hub: FleetHub = Field(default_factory=FleetHub)
    crowdsec: FleetCrowdsec = Field(default_factory=FleetCrowdsec)
    agree: Annotated[Count, Field(ge=0, le=MAX_MEMBERS)] = 0
    """Members that have to report a source with forgeable evidence, so that two targets here block
    it by their word; 0: their word only defers, however many they are."""

    @property
    def others(self) -> dict[str, "FleetMember | FleetCrowdsec"]:
        """All whose word counts here, by their names: firewalls and CrowdSec."""
        neighbour = {self.crowdsec.name: self.crowdsec} if self.crowdsec.url else {}
        return {**self.members, **neighbour}

    @property
    def mirrors(self) -> bool:
        """Whether a firewall has full trust: it gets more than blocks of sources."""
        return any(member.trust == "full" for member in self.members.values())

    @property
    def takes_networks(self) -> bool:
        """Whether one of the others may block networks."""
        return any(other.trust == "full" for other in self.others.values())

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.members and not self.name:
            raise ValueError('members need a name of this firewall: name = "fw1"')
        if self.hub.is_on and not self.name:
            raise ValueError('a hub needs a name of this firewall: name = "fw1"')
        if self.agree == 1:
            raise ValueError("agree = 1: one member alone agrees with none; write 2 or more, or 0")
        if self.agree > len(self.others):
            raise ValueError(f"agree = {self.agree}: there are {len(self.others)} members")
        if "" in self.members:
            raise ValueError("a member has a name")
        if self.crowdsec.url is not None and self.crowdsec.name in (self.name, *self.members):
            raise ValueError(f"{self.crowdsec.name} is a firewall: give CrowdSec another name")
        if self.name in self.members:
            raise ValueError(f"{self.name} is this firewall, and cannot be a member as well")
        return self
