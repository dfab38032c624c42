"""The sets of the table, for replay's model of it: ports that are not watched, and sets that rules
fill.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, NamedTuple

from sentryfw.tools.replay.view import Network

_PORTS: Final = 1 << 16


class Unwatched(NamedTuple):
    """The sets unwatched_*: by port number, 1 where the port is not watched."""

    tcp: bytes = bytes(_PORTS)
    udp: bytes = bytes(_PORTS)
    reset: bytes = bytes(_PORTS)
    protocol: bool = False
    """Protocols other than TCP and UDP are not watched."""


class Rules(NamedTuple):
    """The values of a configuration that the table has."""

    unwatched: Unwatched = Unwatched()
    greylist: bytes = bytes(_PORTS)
    """1 where a SYN is deferred, by port number."""
    defers_raw_syn: bool = True
    whole6: tuple[Network, ...] = ()
    """The IPv6 networks in which a source is a whole address."""


def by_port(ranges: Iterable[tuple[int, int]]) -> bytes:
    """Return 1 for each port of the ranges, by its number; 0 for the others."""
    flags = bytearray(_PORTS)
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
