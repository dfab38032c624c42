"""The sets of the table, for replay's model of it: ports that are not watched, and sets that rules
fill.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple, Self

from sentryfw.config.model import Config
from sentryfw.config.types import MAX_PORT, PortRange
from sentryfw.netfilter.ruleset import unwatched


class Unwatched(NamedTuple):
    """The sets unwatched_*: by port number, 1 where the port is not watched."""

    tcp: bytes = bytes(MAX_PORT + 1)
    udp: bytes = bytes(MAX_PORT + 1)
    reset: bytes = bytes(MAX_PORT + 1)
    protocol: bool = False
    """Protocols other than TCP and UDP are not watched."""

    @classmethod
    def of(cls, config: Config) -> Self:
        """Return the sets of a configuration."""
        tcp, udp = (by_port(unwatched(config, name)) for name in ("tcp", "udp"))
        if config.watch.mode == "traps":
            return cls(tcp, udp, by_port([(0, MAX_PORT)]), protocol=True)
        return cls(tcp, udp, tcp)


def by_port(ranges: Iterable[PortRange]) -> bytes:
    """Return 1 for each port of the ranges, by its number; 0 for the others."""
    flags = bytearray(MAX_PORT + 1)
    for first, last in ranges:
        flags[first : last + 1] = b"\1" * (last + 1 - first)
    return bytes(flags)


class DynamicSet:
    """A set that rules fill. Its elements expire; a full one takes no new element."""

    __slots__ = ("_expires", "_size", "_timeout")

    def __init__(self, size: int, timeout: float) -> None:
        self._expires: OrderedDict[bytes, float] = OrderedDict()
        self._size = size
        self._timeout = timeout

    def __len__(self) -> int:
        return len(self._expires)

    def has(self, key: bytes, now: float) -> bool:
        """Return whether the key is in the set and has not expired."""
        expires = self._expires.get(key)
        return expires is not None and expires > now

    def add(self, key: bytes, now: float) -> None:
        """Add the key. One that is in the set keeps its time."""
        if not self.has(key, now):
            self.update(key, now)

    def update(self, key: bytes, now: float) -> None:
        """Add the key, or renew its time."""
        elements = self._expires
        if key in elements:
            del elements[key]
        elif len(elements) >= self._size:
            if next(iter(elements.values())) > now:
                return
            elements.popitem(last=False)
        elements[key] = now + self._timeout

    def delete(self, key: bytes) -> None:
        """Delete the key if it is in the set."""
        self._expires.pop(key, None)
