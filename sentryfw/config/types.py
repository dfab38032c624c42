"""Types of the configuration's values: durations, ports, networks, paths.

Each parser takes a TOML value and raises ValueError with a message that shows what to write.
"""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Final

from sentryfw.config.form import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
)
from sentryfw.engine.track import MAX_TARGETS

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SECONDS: Final = re.compile(r"\d{1,12}", re.ASCII)
_DURATION: Final = re.compile(r"(?:\d{1,12}[smhdw]){1,8}", re.ASCII)
_PORTS: Final = re.compile(r"(\d{1,5})(?:\s*-\s*(\d{1,5}))?", re.ASCII)
_INTERFACE: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.@:-]{0,13}\*|[A-Za-z0-9_.@:-]{0,14})")
"""IFNAMSIZ is 16 with its last NUL; nft counts the star, too."""
_MAX_DURATION_S: Final = 10 * 365 * 86400
MAX_BLOCKS: Final = 1 << 20
"""Sources of a family that can be blocked at once: the size of the block sets."""
MAX_PORT: Final = 65535

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network
PortRange = tuple[int, int]
"""First and last port."""


def parse_duration(value: object) -> float:
    """Return seconds from a number of seconds or text like "1h30m". Raise ValueError for others."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError('a duration is a number of seconds or text like "90s", "5m", "4h", "1d"')
    if isinstance(value, str):
        text = value.strip()
        if _SECONDS.fullmatch(text):
            seconds = float(text)
        elif _DURATION.fullmatch(text):
            seconds = float(sum(int(n) * _UNITS[u] for n, u in re.findall(r"(\d+)([smhdw])", text)))
        else:
            raise ValueError(f'{value!r} is not a duration: write "90s", "5m", "4h", "1d", "1h30m"')
    else:
        seconds = float(min(value, _MAX_DURATION_S + 1))
    if not 0 < seconds <= _MAX_DURATION_S:
        raise ValueError(f"{value!r} is out of range: more than 0, at most ten years")
    return seconds


def _parse_ports(value: object) -> tuple[int, int]:
    """Return first and last port of 22 or "6000-6010". Raise ValueError for others."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError('a port is a number, or text like "6000-6010"')
    match = _PORTS.fullmatch(value.strip() if isinstance(value, str) else f"{value:d}"[:32])
    if match is None:
        raise ValueError(f'{str(value)[:32]!r} is not a port: write 22 or "6000-6010"')
    low, high = int(match[1]), int(match[2] or match[1])
    if not 0 <= low <= high <= MAX_PORT:
        raise ValueError(f"{value!r} is not a port range within 0-{MAX_PORT}")
    return low, high


def parse_address(text: str) -> IPAddress:
    """Return an address that a person or a program wrote. Raise ValueError for other text.

    An IPv4-mapped address (::ffff:192.0.2.1; RFC 4291, section 2.5.5.2) is the IPv4 address:
    servers with one socket for both families log it so, and no packet carries it.
    """
    return unmapped(ip_address(text.strip()))


def unmapped(address: IPAddress) -> IPAddress:
    """Return the IPv4 address of an IPv4-mapped one; another one as it is."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def parse_network(text: str) -> IPNetwork:
    """Return the network of an address or a network; host bits are ignored, and a network of
    IPv4-mapped addresses is the IPv4 network. Raise ValueError for other text."""
    network = ip_network(text.strip(), strict=False)
    first = unmapped(network.network_address)
    if isinstance(network, IPv6Network) and first.version == 4 and network.prefixlen >= 96:
        return ip_network((first.packed, network.prefixlen - 96))
    return network


def _network(value: object) -> IPNetwork:
    if not isinstance(value, str):
        raise ValueError('an address is text like "192.0.2.1" or "2001:db8::/32"')
    try:
        return parse_network(value)
    except ValueError:
        raise ValueError(f"{value!r} is neither an address nor a network") from None


def _network6(value: object) -> IPv6Network:
    """Return an IPv6 network as _network() does."""
    network = _network(value)
    if isinstance(network, IPv4Network):
        raise ValueError(f"{value!r} is not an IPv6 network")
    return network


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a number, not true or false")  # pydantic reads true as 1
    return value


def _interface(value: str) -> str:
    if not _INTERFACE.fullmatch(value):
        raise ValueError(f'{value!r} is not an interface name: write "eth0" or "ppp*"')
    return value


def _absolute(value: Path) -> Path:
    if not value.is_absolute():
        raise ValueError(f"{value} is not an absolute path")
    return value


def duration_text(seconds: float) -> str | float:
    """Return a duration as text with one unit: 90 -> "90s", 3600 -> "1h"; fractions of a second
    stay a number."""
    if not seconds.is_integer():
        return seconds
    unit = next(unit for unit in "dhms" if seconds % _UNITS[unit] == 0)
    return f"{seconds / _UNITS[unit]:.0f}{unit}"


Duration = Annotated[
    float, BeforeValidator(parse_duration), PlainSerializer(duration_text, when_used="json")
]


def ports_text(ports: tuple[int, int]) -> str:
    """Return ports as the configuration and nft write them: 22, 6000-6010."""
    first, last = ports
    return str(first) if first == last else f"{first}-{last}"


def matches(interface: str, patterns: Iterable[str]) -> bool:
    """Return whether an interface matches one of the patterns: "eth0", "ppp*"."""
    return any(fnmatchcase(interface, pattern) for pattern in patterns)


def is_within(inner: IPNetwork, outer: IPNetwork) -> bool:
    """Return whether a network is another one or a part of it; never across families."""
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def merged(ranges: Iterable[PortRange]) -> list[PortRange]:
    """Return ranges sorted, and joined where they touch: an anonymous set takes no overlap. The
    ranges are of ports, or of addresses as numbers."""
    found: list[PortRange] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def is_loopback(host: str) -> bool:
    """Return whether a host's name or address is of this host alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


Ports = Annotated[PortRange, BeforeValidator(_parse_ports), PlainSerializer(ports_text)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]
Network6 = Annotated[IPv6Network, BeforeValidator(_network6)]
Interface = Annotated[str, AfterValidator(_interface)]
Directory = Annotated[Path, AfterValidator(_absolute)]
Count = Annotated[int, BeforeValidator(_no_bool)]
Trigger = Annotated[Count, Field(ge=1, le=MAX_TARGETS)]


class Section(BaseModel):
    """A table of the configuration.

    Its validator is built when it is used first, not at import: an entry point can still switch
    off pydantic's search for plugins (docs/decisions.md, pydantic-plugins).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, defer_build=True)

    @classmethod
    def build(cls) -> None:
        """Build the validator, those of the tables inside first: pydantic then shares them, which
        saves the daemon 0.7 MiB."""
        for field in cls.model_fields.values():
            if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
                field.annotation.build()
        cls.model_rebuild()
