"""The IPv6 networks whose addresses stand for themselves: sources there are whole addresses.

Everywhere else an IPv6 source is a /64. Link-local addresses, neighbours in a connected prefix and
the networks of `[detect] whole6` (NAT64) share their /64 with strangers.

See docs/decisions.md: whole6.
"""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from struct import Struct
from typing import Final, NamedTuple, Self

from sentryfw.config.model import Config
from sentryfw.config.types import IPNetwork
from sentryfw.netlink import message as nl
from sentryfw.netlink import route

LINK_LOCAL: Final = IPv6Network("fe80::/10")
_IFADDRMSG: Final = Struct("=BBBBI")
_MIN_PREFIX_BITS: Final = 64
"""Shortest prefix of an interface that counts as connected; ppp and tunnels may have /0."""


class Neighbours(NamedTuple):
    """The networks of neighbours, and those whose addresses stand for themselves."""

    onlink: tuple[IPNetwork, ...] = ()
    """Without overlap, IPv4 first; link-local included."""
    whole6: tuple[IPv6Network, ...] = ()
    """In order and without overlap: what is on-link, and [detect] whole6."""

    @classmethod
    def of(cls, config: Config, networks: Iterable[IPNetwork]) -> Self:
        """Return them for a configuration and the networks of onlink()."""
        given = list(networks)
        four = collapse_addresses(n for n in given if isinstance(n, IPv4Network))
        six = {LINK_LOCAL, *(n for n in given if isinstance(n, IPv6Network))}
        whole = collapse_addresses({*six, *config.detect.whole6})
        return cls((*four, *collapse_addresses(six)), tuple(whole))


def neighbours(config: Config) -> Neighbours:
    """Return the present networks of neighbours of this network namespace."""
    return Neighbours.of(config, onlink())


def onlink() -> list[IPNetwork]:
    """Return the networks of neighbours, IPv4 and IPv6, without link-local and loopback ones.

    A prefix that only a route calls on-link does not count: its hosts need not be neighbours.
    They are the prefixes of addresses of this network namespace: not of point-to-point addresses,
    nor IPv6 prefixes shorter than /64 (ppp, tunnels).
    """
    return list(dict.fromkeys(n for n in _prefixes() if not n.is_link_local and not n.is_loopback))


def _prefixes() -> Iterator[IPNetwork]:
    for body in route.dump(route.RTM_GETADDR, bytes(8)):  # struct ifaddrmsg
        _, prefix, _, _, _ = _IFADDRMSG.unpack_from(body)
        address = nl.attributes(body[8:]).get(route.IFA_ADDRESS, b"")
        shortest = _MIN_PREFIX_BITS if len(address) == 16 else 1
        if address and shortest <= prefix < len(address) * 8:
            yield ip_network((address, prefix), strict=False)
