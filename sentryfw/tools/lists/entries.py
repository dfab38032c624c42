"""The entries of a list, and the places that cannot be read."""

from ipaddress import IPv4Network, IPv6Network
from typing import Final, NamedTuple

from sentryfw.config.types import IPNetwork, parse_network
from sentryfw.text import plain

MAX_BYTES: Final = 16 << 20
"""Bytes of a list."""
WIDEST: Final = {4: 12, 6: 29}
"""The shortest prefix of a network in a list: a typing error must not block half the Internet."""
MAX_QUOTED_CHARS: Final = 60


class ListEntry(NamedTuple):
    """An address or a network of a list."""

    place: str
    """"line 3", "object 3"."""
    network: IPNetwork
    seconds: float | None = None
    """Seconds that the list gives it; None: the list names no end."""


class BadEntry(NamedTuple):
    """A place of a list that cannot be read."""

    place: str
    fault: str

    def __str__(self) -> str:
        return f"{self.place}: {self.fault}"


class ParsedList(NamedTuple):
    """A list as it was read."""

    entries: list[ListEntry]
    bad: list[BadEntry]
    left_out: dict[str, int]
    """Reasons for which entries that can be read are left out, with their number."""


class Reading:
    """A list while it is read."""

    def __init__(self) -> None:
        self.found = ParsedList([], [], {})

    def add(self, place: str, text: str, seconds: float | None = None) -> None:
        """Add an entry, or a bad one if the text is neither an address nor a network."""
        try:
            network = parse_network(text)
        except ValueError:
            self.refuse(place, f"{quoted(text)} is neither an address nor a network")
        else:
            self.add_network(place, network, seconds)

    def add_network(self, place: str, network: IPNetwork, seconds: float | None) -> None:
        """Add a network, if it is not too wide."""
        widest = WIDEST[network.version]
        if network.prefixlen < widest:
            self.leave_out(f"IPv{network.version} networks wider than /{widest}")
        elif seconds is not None and seconds <= 0:
            self.leave_out("their time is over")
        elif _cannot_be_a_host(network):
            self.leave_out("not an address of a host")
        else:
            self.found.entries.append(ListEntry(place, network, seconds))

    def refuse(self, place: str, fault: str) -> None:
        """Add a place that cannot be read."""
        self.found.bad.append(BadEntry(place, fault))

    def leave_out(self, why: str) -> None:
        """Count an entry that is left out."""
        self.found.left_out[why] = self.found.left_out.get(why, 0) + 1


def _cannot_be_a_host(network: IPv4Network | IPv6Network) -> bool:
    return (
        network.is_multicast
        or network.is_loopback
        or network.is_unspecified
        or (network.version == 4 and network.network_address.packed[0] in (0, 255))
    )


def quoted(text: str) -> str:
    """Return text of a list for a message."""
    return repr(plain(text)[:MAX_QUOTED_CHARS])
