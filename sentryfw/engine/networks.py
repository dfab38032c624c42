"""Sets of networks: those never blocked, and those whose addresses are sources by themselves.

100,000 networks are searched in a microsecond, by bisection; the second kind costs most packets
one look into a dictionary.

See docs/decisions.md: whole6.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network
from typing import Final

_LOW: Final = 0xFFFFFFFFFFFFFFFF
"""The lower half of an IPv6 address."""
_PREFIX_BYTES: Final = 8
"""Length of a /64, the usual source."""
Range = tuple[int, int]
"""The first and the last address of a range, as numbers."""
_NO_IDENTIFIER: Final = bytes(8)


class NetworkIndex:
    """Networks of both families as the edges of their joined ranges.

    An edge is the first address of a range, or the first one behind it: an address with an odd
    number of edges at or before it lies in a range. A range up to the last address has one edge.
    """

    def __init__(self, networks: Iterable[IPv4Network | IPv6Network]) -> None:
        spans4: list[Range] = []
        spans6: list[Range] = []
        for network in networks:
            (spans4 if isinstance(network, IPv4Network) else spans6).append(_span(network))
        self._use(spans4, spans6)

    def _use(self, spans4: list[Range], spans6: list[Range]) -> None:
        self._edges4 = array("I", _edges(spans4, 32))
        edges6 = _edges(spans6, 128)
        self._high6 = array("Q", [edge >> 64 for edge in edges6])
        self._low6 = array("Q", [edge & _LOW for edge in edges6])

    def __eq__(self, other: object) -> bool:
        """Return whether the networks of both cover the same addresses."""
        return (
            isinstance(other, NetworkIndex)
            and self._edges4 == other._edges4
            and self._high6 == other._high6
            and self._low6 == other._low6
        )

    def __hash__(self) -> int:
        return hash((len(self._edges4), len(self._high6)))

    def __repr__(self) -> str:
        return f"NetworkIndex.of_ranges({self.ranges(4)}, {self.ranges(6)})"

    def holds(self, source: bytes) -> bool:
        """Return whether a whole source, an address or the 8 bytes of a /64, lies in a range."""
        if len(source) == 4:
            return bisect_right(self._edges4, int.from_bytes(source, "big")) & 1 == 1
        if not self._high6:
            return False
        high = int.from_bytes(source[:8], "big")
        start = bisect_left(self._high6, high)
        end = bisect_right(self._high6, high, start)
        if len(source) == 8:  # as many edges up to its first address as up to its last
            first = start + (start < end and self._low6[start] == 0)
            return first & 1 == 1 and first == end
        low = int.from_bytes(source[8:], "big")
        return bisect_right(self._low6, low, start, end) & 1 == 1

    def overlaps(self, network: IPv4Network | IPv6Network) -> bool:
        """Return whether an address of the network lies in a range."""
        before, to_last = self._edges_up_to(network)
        return before & 1 == 1 or to_last > before

    def covers(self, network: IPv4Network | IPv6Network) -> bool:
        """Return whether all addresses of the network lie in one range."""
        before, to_last = self._edges_up_to(network)
        return before & 1 == 1 and to_last == before

    def _edges_up_to(self, network: IPv4Network | IPv6Network) -> tuple[int, int]:
        """Return how many edges lie at or before the first, and the last, address of a network."""
        first, last = _span(network)
        if isinstance(network, IPv4Network):
            return bisect_right(self._edges4, first), bisect_right(self._edges4, last)
        return self._up_to6(first), self._up_to6(last)

    @staticmethod
    def of_ranges(ranges4: list[Range], ranges6: list[Range]) -> "NetworkIndex":
        """Return the networks that cover these ranges of IPv4 and of IPv6."""
        made = NetworkIndex(())
        made._use(ranges4, ranges6)
        return made

    def joined(self, other: "NetworkIndex") -> "NetworkIndex":
        """Return the networks of both."""
        return NetworkIndex.of_ranges(
            self.ranges(4) + other.ranges(4), self.ranges(6) + other.ranges(6)
        )

    def ranges(self, version: int) -> list[Range]:
        """Return the ranges of a family, 4 or 6, in order."""
        return _pairs(self._bounds(version))

    def changes(self, before: "NetworkIndex", version: int) -> tuple[list[Range], list[Range]]:
        """Return the ranges of a family that others held and these do not, and the reverse.

        Most edges of 100,000 networks are equal: only what lies between the first and the last
        that differ is compared as ranges.
        """
        old = before._bounds(version)  # noqa: SLF001 - of the same class
        new = self._bounds(version)
        shorter = min(len(old), len(new))
        start = 0
        while start < shorter and old[start] == new[start]:
            start += 1
        same = 0
        while same < shorter - start and old[-1 - same] == new[-1 - same]:
            same += 1
        start, same = start & ~1, same & ~1
        there = _pairs(old[start : len(old) - same])
        after = _pairs(new[start : len(new) - same])
        return sorted(set(there).difference(after)), sorted(set(after).difference(there))

    def _bounds(self, version: int) -> list[int]:
        """Return the edges of a family as numbers; after a range up to the last address, too."""
        if version == 4:
            edges, bits = self._edges4.tolist(), 32
        else:
            halves = zip(self._high6, self._low6, strict=True)
            edges, bits = [high << 64 | low for high, low in halves], 128
        if len(edges) & 1:
            edges.append(1 << bits)
        return edges

    def _up_to6(self, address: int) -> int:
        """Return how many edges of IPv6 lie at or before an address."""
        high = address >> 64
        start = bisect_left(self._high6, high)
        end = bisect_right(self._high6, high, start)
        return bisect_right(self._low6, address & _LOW, start, end)


def _span(network: IPv4Network | IPv6Network) -> Range:
    first = int(network.network_address)
    return first, first | ((1 << (network.max_prefixlen - network.prefixlen)) - 1)


def _pairs(edges: list[int]) -> list[Range]:
    return [(edges[at], edges[at + 1] - 1) for at in range(0, len(edges), 2)]


def _edges(spans: list[Range], bits: int) -> list[int]:
    """Return the edges of ranges, joined where they overlap or touch, in order."""
    spans.sort()
    edges: list[int] = []
    for first, last in spans:
        if edges and first <= edges[-1]:
            if last >= edges[-1]:
                edges[-1] = last + 1
        else:
            edges += (first, last + 1)
    if edges and edges[-1] >> bits:
        edges.pop()
    return edges


NO_NETWORKS: Final = NetworkIndex(())


class Whole6:
    """Networks whose addresses stand for themselves; link-local addresses always do.

    Networks of /64 and longer are found by their first 8 bytes, shorter ones by bisection.
    """

    def __init__(self, networks: Iterable[IPv6Network] = ()) -> None:
        self._parts: dict[bytes, list[tuple[int, int]]] = {}
        """First and last interface identifier of each network within a /64, by that /64."""
        self._starts: list[bytes] = []
        """First /64 of each shorter network, in order, and of the gap behind it: an address that
        has an odd number of them at or before it is in a network."""
        spans: list[tuple[int, int]] = []
        for network in networks:
            first, last = int(network.network_address), int(network.broadcast_address)
            if network.prefixlen < 64:
                spans.append((first >> 64, last >> 64))
            else:
                part = self._parts.setdefault((first >> 64).to_bytes(8, "big"), [])
                part.append((first & _LOW, last & _LOW))
        spans.sort()
        end = -1
        for low, high in spans:
            if low > end:
                self._starts.append(low.to_bytes(8, "big"))
                self._starts.append(_after(high))
            elif high > end:
                self._starts[-1] = _after(high)
            end = max(end, high)

    def __contains__(self, address: bytes) -> bool:
        """Return whether an IPv6 address, 16 bytes, stands for itself."""
        if address[0] == 0xFE and address[1] & 0xC0 == 0x80:
            return True
        prefix = address[:_PREFIX_BYTES]
        part = self._parts.get(prefix)
        if part is not None:
            identifier = int.from_bytes(address[_PREFIX_BYTES:], "big")
            for first, last in part:
                if first <= identifier <= last:
                    return True
        return bool(self._starts) and bisect_right(self._starts, prefix) & 1 == 1

    def key(self, address: bytes) -> bytes:
        """Return the source that an IPv6 address belongs to: 16 bytes, or the 8 of its /64.

        A zero identifier is the /64 everywhere: a set's element looks the same for both.
        """
        if address in self and address[_PREFIX_BYTES:] != _NO_IDENTIFIER:
            return address
        return address[:_PREFIX_BYTES]


def _after(last: int) -> bytes:
    """Return the /64 after one, given by number; longer than any where there is none."""
    return b"\xff" * 9 if last == _LOW else (last + 1).to_bytes(8, "big")


LINK_LOCAL_ONLY: Final = Whole6()
