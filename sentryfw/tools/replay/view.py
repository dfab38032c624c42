"""The protected side of a capture: its addresses, listed ports and older connections.

The operator states them, or the first pass over the capture guesses them (guess.py).
"""

from collections import OrderedDict
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network
from typing import Final, NamedTuple, TypeVar

Network = IPv4Network | IPv6Network
Socket = tuple[bytes, int, int]
"""Address, IP protocol number, port."""
Service = tuple[int, int]
"""IP protocol number, port."""
Line = tuple[bytes, bytes, int, int, int]
"""Source, destination, IP protocol number, source port, destination port."""

MAX_ADDRESSES: Final = 32768

LEGITIMATE: Final = frozenset((2, 4, 41, 46, 47, 50, 51, 59, 88, 89, 97, 103, 112, 115, 137))
"""The protocols that chain divert_other accepts."""


K = TypeVar("K")
V = TypeVar("V")


class Bounded(OrderedDict[K, V]):
    """A table of limited size; the oldest entry goes first."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def keep(self, key: K, value: V) -> None:
        self[key] = value
        if len(self) > self._size:
            self.popitem(last=False)


class Addresses(dict[bytes, bool]):
    """Whether an address lies in some networks: `addresses[address]`, at the cost of a dict."""

    def __init__(self, networks: Iterable[Network]) -> None:
        super().__init__()
        self._single: set[bytes] = set()
        self._nets: list[tuple[int, int, int]] = []
        for network in networks:
            address = network.network_address
            if network.prefixlen == network.max_prefixlen:
                self._single.add(address.packed)
            else:
                self._nets.append((len(address.packed), int(network.netmask), int(address)))

    def __missing__(self, address: bytes) -> bool:
        if len(self) >= MAX_ADDRESSES:
            self.clear()
        number = int.from_bytes(address)
        found = address in self._single or any(
            len(address) == size and number & mask == net for size, mask, net in self._nets
        )
        self[address] = found
        return found


class CaptureView(NamedTuple):
    """The protected side, as its host knows itself."""

    local: tuple[Network, ...]
    listed: frozenset[Service]
    """Protocols and ports that are listed on every local address."""
    sockets: frozenset[Socket] = frozenset()
    """Ports that are listed on one address."""
    older: frozenset[Line] = frozenset()
    """Connections older than the capture, from this side's end."""

    def is_listed(self, address: bytes, protocol: int, port: int) -> bool:
        """Return whether a local socket would take it, or it is listed by hand."""
        return (protocol, port) in self.listed or (address, protocol, port) in self.sockets


def turned(line: Line) -> Line:
    """Return the line of the other direction."""
    source, target, protocol, sport, dport = line
    return target, source, protocol, dport, sport


def neighbours(local: Iterable[Network]) -> list[Network]:
    """Return the networks that a capture's local addresses are most likely connected to: the /24 of
    an IPv4 address, the /64 of an IPv6 address. A capture does not show the prefix."""
    return [
        network.supernet(new_prefix=min(network.prefixlen, 24 if network.version == 4 else 64))
        for network in local
    ]
