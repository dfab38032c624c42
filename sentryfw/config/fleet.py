"""The section [fleet]: the firewalls that this one shares blocks with, and what each may do."""

import re
from ipaddress import ip_address
from typing import Annotated, Final, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from sentryfw.config.form import AfterValidator, Field, model_validator
from sentryfw.config.types import Count, Directory, Duration, Section

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


class Fleet(Section):
    """Sharing of blocks with other firewalls; off without a name."""

    name: Name = ""
    """The name of this firewall in the fleet."""
    members: Annotated[dict[Name, FleetMember], Field(max_length=MAX_MEMBERS)] = Field(
        default_factory=dict
    )
    """The other firewalls by their names."""
    hub: FleetHub = Field(default_factory=FleetHub)
    agree: Annotated[Count, Field(ge=0, le=MAX_MEMBERS)] = 0
    """Members that have to report a source with forgeable evidence, so that two targets here block
    it by their word; 0: their word only defers, however many they are."""

    @property
    def mirrors(self) -> bool:
        """Whether a member has full trust: it gets more than blocks of sources."""
        return any(member.trust == "full" for member in self.members.values())

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.members and not self.name:
            raise ValueError('members need a name of this firewall: name = "fw1"')
        if self.hub.is_on and not self.name:
            raise ValueError('a hub needs a name of this firewall: name = "fw1"')
        if self.agree == 1:
            raise ValueError("agree = 1: one member alone agrees with none; write 2 or more, or 0")
        if self.agree > len(self.members):
            raise ValueError(f"agree = {self.agree}: there are {len(self.members)} members")
        if "" in self.members:
            raise ValueError("a member has a name")
        if self.name in self.members:
            raise ValueError(f"{self.name} is this firewall, and cannot be a member as well")
        return self
