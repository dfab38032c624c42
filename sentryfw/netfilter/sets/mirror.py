"""The sets that a member with full trust fills: networks, and what its rules have learnt."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from sentryfw.netfilter.schema import (
    FLEET_NETWORK_SETS,
    PARTNER_SET_SIZE,
    PARTNER_SETS,
    PARTNER_TIMEOUT_S,
    PEER_SET_SIZE,
    PEER_SETS,
    PEER_TIMEOUT_S,
    SERVED_SET_SIZE,
    SERVED_SETS,
    SERVED_TIMEOUT_S,
    SERVED_UDP_SET_SIZE,
    SERVED_UDP_SETS,
    TABLE,
)
from sentryfw.netfilter.sets import elements
from sentryfw.netfilter.sets.counts import reported_count
from sentryfw.netlink import nftables as nl
from sentryfw.netlink import set_elements
from sentryfw.netlink.set_elements import Element, Lifetime
from sentryfw.netlink.socket import NfnetlinkSocket

if TYPE_CHECKING:
    from sentryfw.config.types import IPNetwork

KEY_BYTES: Final = {
    **dict(zip(PARTNER_SETS, (4, 16), strict=True)),
    **dict(zip(PEER_SETS, (4, 16), strict=True)),
    **dict(zip(SERVED_SETS, (16, 40), strict=True)),
    **dict(zip(SERVED_UDP_SETS, (16, 40), strict=True)),
}
"""Lengths of the keys of the learnt sets that are mirrored."""
TIMEOUTS_S: Final = {
    **dict.fromkeys(PARTNER_SETS, PARTNER_TIMEOUT_S),
    **dict.fromkeys(PEER_SETS, PEER_TIMEOUT_S),
    **dict.fromkeys((*SERVED_SETS, *SERVED_UDP_SETS), SERVED_TIMEOUT_S),
}
_SIZES: Final = {
    **dict.fromkeys(PARTNER_SETS, PARTNER_SET_SIZE),
    **dict.fromkeys(PEER_SETS, PEER_SET_SIZE),
    **dict.fromkeys(SERVED_SETS, SERVED_SET_SIZE),
    **dict.fromkeys(SERVED_UDP_SETS, SERVED_UDP_SET_SIZE),
}
MAX_SHARE: Final = 0.75
"""Part of a learnt set that others may fill: at 90 % partners are not confined any more."""
END_TOLERANCE_S: Final = 60.0
"""Difference between two ends below which an element stays as it is."""


class MirrorSets:
    """The sets of blocked networks of others, and the learnt sets, through one netlink socket."""

    def __init__(self, netlink: NfnetlinkSocket) -> None:
        self._netlink = netlink

    def block_networks(self, networks: "Mapping[IPNetwork, float]") -> None:
        """Block these networks (seconds; 0: forever) by the word of others, and no other ones.

        Of networks that overlap only the larger is added: it holds the smaller.
        """
        requests: list[nl.NftRequest] = [
            (nl.NFT_MSG_DELSETELEM, 0, nl.set_name(TABLE, name)) for name in FLEET_NETWORK_SETS
        ]
        for network in outer(networks):
            life = Lifetime(networks[network], networks[network])
            size = network.max_prefixlen // 8
            packed = set_elements.packed_range(int(network[0]), int(network[-1]), size, life)
            name = FLEET_NETWORK_SETS[network.version == 6]
            requests.append(set_elements.new_elements(TABLE, name, packed))
        self._netlink.transact(requests, "block networks for the fleet")

    def networks(self) -> "Iterator[tuple[IPNetwork, Element]]":
        """Yield the networks that are blocked by the word of others."""
        for name in FLEET_NETWORK_SETS:
            found = (item for part in elements.dump(self._netlink, name) for item in part)
            for start, end in set_elements.intervals(found):
                for network in set_elements.networks_of(start.key, end):
                    yield network, start

    def lift_network(self, network: "IPNetwork") -> bool:
        """End the block of a network; return whether there was one."""
        found = {item: element.expires for item, element in self.networks()}
        if found.pop(network, None) is None:
            return False
        self.block_networks(found)
        return True

    def has_room(self, name: str) -> bool:
        """Return whether others may add elements to a learnt set."""
        return (reported_count(self._netlink, name) or 0) < MAX_SHARE * _SIZES[name]

    def learn(self, name: str, given: Iterable[tuple[bytes, float]]) -> int:
        """Add elements (key, seconds) to a learnt set, or prolong them, in one transaction; return
        how many. What ends later here stays as it is."""
        requests: list[nl.NftRequest] = []
        packed: list[bytes] = []
        for key, seconds in given:
            found = elements.get(self._netlink, name, key)
            if found is not None:
                if found.expires >= seconds - END_TOLERANCE_S:
                    continue
                body = set_elements.set_element(TABLE, name, key)
                requests.append((nl.NFT_MSG_DELSETELEM, 0, body))
            packed.append(set_elements.packed_element(key, Lifetime(TIMEOUTS_S[name], seconds)))
        if packed:
            payloads = set_elements.payloads(packed)
            requests += [set_elements.new_elements(TABLE, name, payload) for payload in payloads]
            self._netlink.transact(requests, f"learn {name} for the fleet")
        return len(packed)


def outer(networks: "Iterable[IPNetwork]") -> "Iterator[IPNetwork]":
    """Yield the networks that no other one holds."""
    last: IPNetwork | None = None
    for network in sorted(networks, key=lambda n: (n.version, int(n[0]), n.prefixlen)):
        if last is None or last.version != network.version or int(network[-1]) > int(last[-1]):
            last = network
            yield network
