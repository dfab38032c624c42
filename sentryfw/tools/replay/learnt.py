"""The facts that the table's rules learn about sources, for replay's model of it: partners and the
services they use, peers, multicast questions of this side (rulesets/learn.nft).
"""

from collections.abc import Iterable

from sentryfw.engine.classify import FIN, RST, SYN
from sentryfw.engine.model import Packet
from sentryfw.engine.packet import TCP, UDP
from sentryfw.netfilter.schema import (
    ASKED_SET_SIZE,
    ASKED_TIMEOUT_S,
    FRESH_SET_SIZE,
    FRESH_TIMEOUT_S,
    PARTNER_SET_SIZE,
    PARTNER_TIMEOUT_S,
    PEER_SET_SIZE,
    PEER_TIMEOUT_S,
    SERVED_SET_SIZE,
    SERVED_TIMEOUT_S,
    SERVED_UDP_SET_SIZE,
)
from sentryfw.tools.replay.sets import DynamicSet
from sentryfw.tools.replay.view import Addresses, Network


class Learnt:
    """The sets that rules fill, except the suspects. Keys: an address, or an IPv6 /64."""

    def __init__(self, whole6: Iterable[Network]) -> None:
        """`whole6`: the IPv6 networks in which a source is a whole address."""
        self._whole6 = Addresses(whole6)
        self._partners = DynamicSet(PARTNER_SET_SIZE, PARTNER_TIMEOUT_S)
        self._fresh = DynamicSet(FRESH_SET_SIZE, FRESH_TIMEOUT_S)
        self._served = DynamicSet(SERVED_SET_SIZE, SERVED_TIMEOUT_S)
        self._served_udp = DynamicSet(SERVED_UDP_SET_SIZE, SERVED_TIMEOUT_S)
        self._peers = DynamicSet(PEER_SET_SIZE, PEER_TIMEOUT_S)
        self._asked = DynamicSet(ASKED_SET_SIZE, ASKED_TIMEOUT_S)

    def __len__(self) -> int:
        """Return the number of elements."""
        sets = self._partners, self._fresh, self._served, self._served_udp, self._peers
        return sum(map(len, sets)) + len(self._asked)

    def key(self, address: bytes) -> bytes:
        """Return the key of an address: an IPv4 address, an IPv6 /64, a whole IPv6 address."""
        return address[:8] if len(address) == 16 and not self._whole6[address] else address

    def is_partner(self, key: bytes, now: float) -> bool:
        """Return whether the source has been a partner for longer than FRESH_TIMEOUT_S."""
        return self._partners.has(key, now) and not self._fresh.has(key, now)

    def was_served(self, packet: Packet, now: float) -> bool:
        """Apply the chains accept_served4 and accept_served6."""
        home = self._served if packet.protocol == TCP else self._served_udp
        key = self.key(packet.source)
        return home.has(_service(key, packet.target, packet.protocol, packet.dport), now)

    def is_used(self, packet: Packet, now: float) -> bool:
        """Apply chain accept_used."""
        return self.is_partner(self.key(packet.source), now) and self.was_served(packet, now)

    def is_peer(self, key: bytes, now: float) -> bool:
        """Return whether the source answered this side."""
        return self._peers.has(key, now)

    def has_asked(self, protocol: int, port: int, now: float) -> bool:
        """Return whether this side sent a multicast or broadcast question from this port."""
        return self._asked.has(_asked(protocol, port), now)

    def learn_peer(self, address: bytes, now: float) -> None:
        """Apply chain learn_peer."""
        self._peers.add(self.key(address), now)

    def learn_asked(self, packet: Packet, now: float) -> None:
        """Apply chain learn_asked to a datagram that this side sent."""
        if _is_to_everybody(packet.target):
            self._asked.update(_asked(packet.protocol, packet.sport), now)

    def learn_reply(self, packet: Packet, now: float, *, assured: bool) -> None:
        """Apply chain learn_served to an answer of a listed service; `assured`: `ct status`."""
        key = self.key(packet.target)
        service = _service(key, packet.source, packet.protocol, packet.sport)
        if packet.protocol == UDP:
            self._served_udp.update(service, now)
            return
        if not assured or packet.flags & (SYN | RST):
            return
        if not packet.flags & FIN and self._served.has(service, now):
            return
        if not self._partners.has(key, now):
            self._fresh.update(key, now)
        self._partners.update(key, now)
        self._served.update(service, now)


def _service(key: bytes, target: bytes, protocol: int, port: int) -> bytes:
    """Return a key of the served sets."""
    return key + target + bytes((protocol,)) + port.to_bytes(2)


def _asked(protocol: int, port: int) -> bytes:
    """Return a key of the set `asked`; a capture has one interface."""
    return bytes((protocol,)) + port.to_bytes(2)


def _is_to_everybody(address: bytes) -> bool:
    """Return whether an address is a multicast (224/4, ff00::/8) or broadcast address.

    A directed broadcast ends in 255 in the networks that most hosts have. 240/4 are hosts.
    """
    if len(address) == 16:
        return address[0] == 0xFF
    return address[0] & 0xF0 == 224 or address[3] == 255
