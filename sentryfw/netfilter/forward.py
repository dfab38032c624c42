"""[[watch.listed_forward]] -> elements of the sets listed_forward and listed_forward6.

Sets of intervals over several fields take no two elements that overlap: what a network lists
is left out of the networks within it, and ports are joined where they touch.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from sentryfw.config_forward import NUMBERS, ListedForward
from sentryfw.fields import PORTS, PortRange, merged, ports_text

Key = tuple[IPv4Network | IPv6Network, int]
"""Network, IP protocol number."""
_EVERY: Final[PortRange] = (0, PORTS)


def elements(entries: Iterable[ListedForward], version: int) -> list[str]:
    """`network . protocol . ports`, for one IP version, none overlapping another."""
    listed = _listed(entries, version)
    found = []
    for network, protocol in sorted(listed, key=_order):
        around = (network.supernet(new_prefix=size) for size in range(network.prefixlen))
        outside = [ports for other in around for ports in listed.get((other, protocol), [])]
        rest = _without(merged(listed[network, protocol]), merged(outside))
        found += [f"{network} . {protocol} . {ports_text(ports)}" for ports in rest]
    return found


def _listed(entries: Iterable[ListedForward], version: int) -> dict[Key, list[PortRange]]:
    listed: dict[Key, list[PortRange]] = defaultdict(list)
    for entry in entries:
        for network in (network for network in entry.to if network.version == version):
            for name in ("tcp", "udp", "sctp"):
                ports: tuple[PortRange, ...] = getattr(entry, name)
                if ports:
                    listed[network, NUMBERS[name]] += ports
            for number in entry.protocols:
                listed[network, number].append(_EVERY)
    return listed


def _order(key: Key) -> tuple[bytes, int, int]:
    return key[0].network_address.packed, key[0].prefixlen, key[1]


def _without(ranges: list[PortRange], taken: list[PortRange]) -> Iterator[PortRange]:
    """What of `ranges` is not in `taken`; both in order and without overlap."""
    for first, last in ranges:
        start = first
        for low, high in taken:
            if high < start or low > last:
                continue
            if low > start:
                yield start, low - 1
            start = high + 1
        if start <= last:
            yield start, last
