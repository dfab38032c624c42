"""What the values of a configuration are made of: durations, ports, networks, paths.

Each parser takes what TOML gives and raises ValueError with what to write instead.
"""

import re
import sys
from collections.abc import Iterable
from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from types import ModuleType
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from sentryfw.engine.track import MAX_TARGETS

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SECONDS: Final = re.compile(r"\d{1,12}", re.ASCII)
_DURATION: Final = re.compile(r"(?:\d{1,12}[smhdw]){1,8}", re.ASCII)
_PORTS: Final = re.compile(r"(\d{1,5})(?:\s*-\s*(\d{1,5}))?", re.ASCII)
_INTERFACE: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.@:-]{0,13}\*|[A-Za-z0-9_.@:-]{0,14})")
"""IFNAMSIZ is 16 with its last NUL; nft counts the star, too."""
_LONGEST: Final = 10 * 365 * 86400
PORTS: Final = 65535
"""The highest port."""

PortRange = tuple[int, int]
"""First and last."""


def parse_duration(value: object) -> float:
    """Seconds out of a number of seconds or text like "1h30m". ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError('a duration is a number of seconds or text like "90s", "5m", "4h", "1d"')
    if isinstance(value, str):
        text = value.strip()
        if _SECONDS.fullmatch(text):
            seconds = float(text)
        elif _DURATION.fullmatch(text):
            seconds = float(sum(int(n) * _UNITS[u] for n, u in re.findall(r"(\d+)([smhdw])", text)))
        else:
            raise ValueError(f'{value!r} is no duration: write "90s", "5m", "4h", "1d", "1h30m"')
    else:
        seconds = float(min(value, _LONGEST + 1))
    if not 0 < seconds <= _LONGEST:
        raise ValueError(f"{value!r} is out of range: more than 0, at most ten years")
    return seconds


def _parse_ports(value: object) -> tuple[int, int]:
    """A port or a range, 22 or "6000-6010" -> (first, last)."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError('a port is a number, or text like "6000-6010"')
    match = _PORTS.fullmatch(value.strip() if isinstance(value, str) else f"{value:d}"[:32])
    if match is None:
        raise ValueError(f'{str(value)[:32]!r} is no port: write 22 or "6000-6010"')
    low, high = int(match[1]), int(match[2] or match[1])
    if not 0 <= low <= high <= PORTS:
        raise ValueError(f"{value!r} is no port range within 0-{PORTS}")
    return low, high


def _parse_network(value: object) -> IPv4Network | IPv6Network:
    """An address or a network; host bits are forgiven, they are what people write."""
    if not isinstance(value, str):
        raise ValueError('an address is text like "192.0.2.1" or "2001:db8::/32"')
    try:
        return ip_network(value.strip(), strict=False)
    except ValueError:
        raise ValueError(f"{value!r} is neither an address nor a network") from None


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a number, not true or false")  # pydantic takes true for 1
    return value


def _interface(value: str) -> str:
    if not _INTERFACE.fullmatch(value):
        raise ValueError(f'{value!r} is no interface name: write "eth0" or "ppp*"')
    return value


def _absolute(value: Path) -> Path:
    if not value.is_absolute():
        raise ValueError(f"{value} is no absolute path")
    return value


def duration_text(seconds: float) -> str | float:
    """As one writes it, and exactly: 90 -> "90s", 3600 -> "1h"; what is no whole second stays a
    number."""
    if not seconds.is_integer():
        return seconds
    unit = next(unit for unit in "dhms" if seconds % _UNITS[unit] == 0)
    return f"{seconds / _UNITS[unit]:.0f}{unit}"


Duration = Annotated[
    float, BeforeValidator(parse_duration), PlainSerializer(duration_text, when_used="json")
]


def ports_text(ports: tuple[int, int]) -> str:
    """As in the configuration and in nft: 22, 6000-6010."""
    first, last = ports
    return str(first) if first == last else f"{first}-{last}"


def matches(interface: str, patterns: Iterable[str]) -> bool:
    """Whether an interface is one of those that are named: "eth0", "ppp*"."""
    return any(fnmatchcase(interface, pattern) for pattern in patterns)


def merged(ranges: Iterable[PortRange]) -> list[PortRange]:
    """In order, and joined where they touch: an anonymous set takes no overlap. Ports, or addresses
    as numbers."""
    found: list[PortRange] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


Ports = Annotated[PortRange, BeforeValidator(_parse_ports), PlainSerializer(ports_text)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_parse_network)]
Interface = Annotated[str, AfterValidator(_interface)]
Directory = Annotated[Path, AfterValidator(_absolute)]
Count = Annotated[int, BeforeValidator(_no_bool)]
Trigger = Annotated[Count, Field(ge=1, le=MAX_TARGETS)]


def _without_plugins() -> None:
    """What looks for pydantic's plugins reads the metadata of everything that is installed: 15 ms
    of every command, and code of others in a root process. Nothing is found instead; where
    pydantic has moved it, it looks as usual."""
    place = "pydantic.plugin._loader"
    if place not in sys.modules:
        module = ModuleType(place)
        module.get_plugins = lambda: ()  # type: ignore[attr-defined]
        sys.modules[place] = module


_without_plugins()


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)
