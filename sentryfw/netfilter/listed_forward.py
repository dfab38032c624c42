"""The elements of the sets listed_forward4 and listed_forward6, from [[watch.listed_forward]].

A set of intervals over several fields takes no two elements that overlap. So the ports that a
network lists are left out of the networks within it, and ports are joined where they touch.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from sentryfw.config.forward import NUMBERS, ListedForward
from sentryfw.config.types import MAX_PORT, PortRange, merged, ports_text

Key = tuple[IPv4Network | IPv6Network, int]
"""Network and IP protocol number."""
_EVERY: Final[PortRange] = (0, MAX_PORT)


def elements(entries: Iterable[ListedForward], version: int) -> list[str]:
    """Return `network . protocol . ports` for one IP version, without overlap."""
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
    """Yield `ranges` without the ports in `taken`. Both are in order and without overlap."""
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
