"""Where a capture is looked at from: which addresses are this side, which ports are listed.

Told by the operator, or guessed in a first pass over the capture:
- this side is the address that was probed the most without an answer, or answered the most,
  and every other one that was probed more than it probed, unless only this side itself tried
  to reach it.
- listed is what answered a SYN with SYN/ACK, or a datagram with a datagram.
- a connection of which both directions, but no SYN, were seen is older than the capture.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network
from typing import Final, NamedTuple, TypeVar

from sentryfw.engine.classify import ACK, FIN, RST, SYN
from sentryfw.engine.model import Packet
from sentryfw.engine.packet import TCP, UDP

Network = IPv4Network | IPv6Network
Socket = tuple[bytes, int, int]
"""Address, IP protocol number, port."""
Service = tuple[int, int]
"""IP protocol number, port."""
Line = tuple[bytes, bytes, int, int, int]
"""Source, destination, IP protocol number, source port, destination port."""

MAX_LINES: Final = 65536
MAX_ADDRESSES: Final = 32768
MAX_SOCKETS: Final = 65536
MAX_OPENERS: Final = 8


K = TypeVar("K")
V = TypeVar("V")


class Bounded(OrderedDict[K, V]):
    """A table of limited size; what was put in first goes first."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def keep(self, key: K, value: V) -> None:
        self[key] = value
        if len(self) > self._most:
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


class View(NamedTuple):
    """What the host that is protected would know by itself."""

    local: tuple[Network, ...]
    listed: frozenset[Service]
    """On whatever local address."""
    sockets: frozenset[Socket] = frozenset()
    """Listed on one address."""
    older: frozenset[Line] = frozenset()
    """Connections older than the capture, from this side's end."""


class Guess:
    """The first pass. Bounded: what is forgotten first is what was seen first."""

    def __init__(self) -> None:
        self._lines: Bounded[Line, str] = Bounded(MAX_LINES)
        self._probed: Counter[bytes] = Counter()
        self._probing: Counter[bytes] = Counter()
        self._answering: Counter[bytes] = Counter()
        self._openers: dict[bytes, set[bytes]] = {}
        self._sockets: Bounded[Socket, None] = Bounded(MAX_SOCKETS)
        self._older: Bounded[Line, None] = Bounded(MAX_LINES)

    def see(self, packet: Packet) -> None:
        """One packet, in the order of the capture."""
        source, target, protocol = packet.source, packet.target, packet.protocol
        sport, dport, flags = packet.sport, packet.dport, packet.flags
        line = (source, target, protocol, sport, dport)
        if protocol == TCP:
            if flags & RST:
                return
            kind = flags & (SYN | ACK)
            if kind == ACK:
                self._see_ack(line)
            elif kind == SYN | ACK:
                self._answer(turned(line))
            else:
                self._open(line, "open" if kind == SYN and not flags & FIN else "stealth")
        elif protocol == UDP and not self._answer(turned(line)):
            self._open(line, "open")

    def _see_ack(self, line: Line) -> None:
        if line in self._lines:
            return
        back = turned(line)
        state = self._lines.get(back)
        if state is None:
            self._open(line, "ack")
        elif state == "ack":
            self._settle(back)
            self._older.keep(back, None)

    def _open(self, line: Line, state: str) -> None:
        source, target = line[:2]
        if line in self._lines or not _is_host(target):
            return
        self._lines.keep(line, state)
        self._count(self._probing, source)
        if self._count(self._probed, target):
            openers = self._openers.setdefault(target, set())
            if len(openers) < MAX_OPENERS:
                openers.add(source)

    def _answer(self, opened: Line) -> bool:
        """What opened this line is answered. Whether it was there."""
        found = self._lines.get(opened)
        if found == "open":
            _, target, protocol, _, port = opened
            self._settle(opened)
            self._count(self._answering, target)
            self._sockets.keep((target, protocol, port), None)
        return found is not None

    def _settle(self, line: Line) -> None:
        self._lines[line] = "answered"
        source, target = line[:2]
        self._count(self._probing, source, -1)
        self._count(self._probed, target, -1)

    @staticmethod
    def _count(counter: Counter[bytes], address: bytes, step: int = 1) -> bool:
        if address not in counter and len(counter) >= MAX_ADDRESSES:
            return False
        counter[address] += step
        return True

    # --- what follows

    def addresses(self) -> list[bytes]:
        """This side, the most probed address first."""
        weight = self._probed + self._answering
        sides = [a for a in weight if weight[a] >= self._probing[a]]
        top = max(sides, key=weight.__getitem__, default=None)
        if top is None:
            return []
        probed = {a for a, n in self._probed.items() if n > self._probing[a]} | {top}
        ours = {a for a in probed if a == top or not self._openers[a] <= probed}
        return sorted(ours, key=lambda a: (-weight[a], len(a), a))

    def view(self, local: tuple[Network, ...], listed: frozenset[Service] | None) -> View:
        """With what the operator said of it: an empty `local`, or no `listed`, is guessed."""
        networks = local or tuple(_host(address) for address in self.addresses())
        here = Addresses(networks)
        sockets = frozenset(
            socket for socket in self._sockets if listed is None and here[socket[0]]
        )
        older = frozenset(
            end for line in self._older for end in (line, turned(line)) if here[end[0]]
        )
        return View(networks, listed or frozenset(), sockets, older)


def turned(line: Line) -> Line:
    """The other direction."""
    source, target, protocol, sport, dport = line
    return target, source, protocol, dport, sport


def _is_host(address: bytes) -> bool:
    """Neither multicast nor, by its looks, a broadcast."""
    if len(address) == 4:
        return address[0] < 224 and address[3] != 255
    return address[0] != 0xFF


def _host(address: bytes) -> Network:
    return IPv4Network(address) if len(address) == 4 else IPv6Network(address)
