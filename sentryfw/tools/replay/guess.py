"""The first pass over a capture: a guess of the protected side, and what its kernel knew before.

- The protected side: scanned.py. Without a scan, the host with the most flows: captures are
  recorded there.
- A listed port answered a SYN, a datagram or an SCTP INIT; or its client went on to send data; or
  it sent a datagram, and the answer came from another port.
- A connection is older than the capture if more than one segment of it, but no SYN, was recorded,
  in both directions or in one.

See docs/decisions.md: replay-guess.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network
from typing import Final, Literal, NamedTuple

from sentryfw.engine.classify import (
    ACK,
    FIN,
    ICMP_REQUESTS,
    ICMPV6_REQUESTS,
    RST,
    SCTP_COOKIE_ECHO,
    SCTP_INIT,
    SYN,
)
from sentryfw.engine.model import Packet
from sentryfw.engine.packet import ICMP, ICMPV6, SCTP, TCP, UDP
from sentryfw.tools.replay.passes import Pass
from sentryfw.tools.replay.scanned import Asked, Scanned
from sentryfw.tools.replay.view import (
    LEGITIMATE,
    MAX_ADDRESSES,
    Addresses,
    Bounded,
    CaptureView,
    Line,
    Network,
    Service,
    Socket,
    turned,
)

MAX_LINES: Final = 65536
MAX_SOCKETS: Final = 65536

MIN_STREAM: Final = 12
"""Packets of one flow that no host sends to a closed port. nmap(1) repeats a probe 10 times."""
MAX_TWINS: Final = 2
"""Lone segments from one host to another with one sequence number: nmap(1) has one a scan."""

DISCOVERY: Final = frozenset((137, 1900, 3702, 5353, 5355, 8612, 9999))
"""UDP ports of discovery, which asks every host of a network: NetBIOS, SSDP, WS-Discovery, mDNS,
LLMNR, Canon BJNP, TP-Link."""

_REPLIES: Final = {
    (ICMP, 0): 8,
    (ICMP, 14): 13,
    (ICMP, 16): 15,
    (ICMP, 18): 17,
    (ICMPV6, 129): 128,
    (ICMPV6, 140): 139,
}
"""The request that an ICMP message answers (RFC 792, 950, 4443, 4620)."""
SCTP_INIT_ACK: Final = 2
SCTP_COOKIE_ACK: Final = 11

State = Literal["asked", "stealth", "ack", "data", "half", "refused", "answered"]
"""State of a line. asked: a SYN, a datagram, a request; stealth: flags that open nothing; ack: one
segment without a SYN; data: such a segment of a stack; half: a SYN/ACK whose SYN is not recorded;
refused: reset."""


class Segment(NamedTuple):
    """The fields of a TCP segment by which a connection differs from a probe."""

    sequence: int
    is_used: bool
    """It has data, or TCP options: nmap's and masscan's probes without a SYN have neither."""


class Guess(Pass):
    """The first pass. Bounded: the oldest lines are forgotten first."""

    def __init__(self, whole6: Iterable[Network] = ()) -> None:
        """`whole6`: the IPv6 networks in which a source is a whole address (NAT64)."""
        super().__init__()
        self._whole6 = tuple(whole6)
        self._lines: Bounded[Line, State] = Bounded(MAX_LINES)
        self._sequences: Bounded[Line, int] = Bounded(MAX_LINES)
        self._streams: Bounded[Line, int] = Bounded(MAX_LINES)
        self._senders: Bounded[tuple[bytes, int, bytes], None] = Bounded(MAX_LINES)
        """Ports from which a host sent datagrams to another one."""
        self._asked: Bounded[Asked, None] = Bounded(MAX_LINES)
        """Services that were asked and did not answer."""
        self._answered: Bounded[Asked, None] = Bounded(MAX_LINES)
        self._flows: Counter[bytes] = Counter()
        self._sockets: Bounded[Socket, None] = Bounded(MAX_SOCKETS)
        self._older: Bounded[Line, None] = Bounded(MAX_LINES)

    def take(self, packet: Packet, _seconds: float, data: bytes, at: int, end: int) -> None:
        """Take one packet, in the order of the capture."""
        source, target, protocol = packet.source, packet.target, packet.protocol
        line = (source, target, protocol, packet.sport, packet.dport)
        if protocol == TCP:
            self._see_tcp(packet, line, data, at, end)
        elif protocol == UDP:
            self._see_udp(line)
        elif protocol == SCTP:
            self._see_sctp(packet, line)
        elif protocol in (ICMP, ICMPV6):
            self._see_icmp(packet)
        elif protocol not in LEGITIMATE and not self._answer(turned(line)):
            self._open(line, "asked")

    # --- protocols

    def _see_tcp(self, packet: Packet, line: Line, data: bytes, at: int, end: int) -> None:
        flags = packet.flags
        kind = flags & (SYN | ACK)
        if flags & RST:
            self._refuse(turned(line))
        elif kind == ACK:
            if self._lines.get(line) != "answered":
                self._see_ack(line, _segment(packet, data, at, end))
        elif kind == SYN | ACK:
            if not self._answer(turned(line)) and line not in self._lines:
                self._keep(line, "half")
        else:
            self._open(line, "asked" if kind == SYN and not flags & FIN else "stealth")

    def _see_ack(self, line: Line, segment: Segment) -> None:
        state = self._lines.get(line)
        back = turned(line)
        other = self._lines.get(back)
        if state == "asked":  # the SYN/ACK is not recorded
            if segment.is_used:
                self._answer(line)
        elif state == "half" or (state == "data" and segment.sequence != self._sequences.get(line)):
            self._is_older(line)
        elif state in ("ack", "data"):
            if segment.is_used or self._is_stream(line):
                self._is_older(line)
        elif state is None and other is None:
            self._open(line, "data" if segment.is_used else "ack")
            self._sequences.keep(line, segment.sequence)
        elif other in ("ack", "data", "half"):
            self._is_older(back)
        elif other == "asked" and segment.is_used:
            self._answer(back)

    def _see_udp(self, line: Line) -> None:
        if self._answer(turned(line)):
            return
        source, target, _, sport, dport = line
        if (target, dport, source) in self._senders:  # TFTP answers from another port (RFC 1350)
            self._sockets.keep((target, UDP, dport), None)
            return
        self._senders.keep((source, sport, target), None)
        self._open(line, "asked")
        if self._lines.get(line) == "asked" and self._is_stream(line):
            self._answer(line)

    def _see_sctp(self, packet: Packet, line: Line) -> None:
        chunk = packet.flags
        if chunk in (SCTP_INIT_ACK, SCTP_COOKIE_ACK):
            self._answer(turned(line))
        elif chunk in (SCTP_INIT, SCTP_COOKIE_ECHO):
            self._open(line, "asked")

    def _see_icmp(self, packet: Packet) -> None:
        source, target, protocol, kind = (
            packet.source, packet.target, packet.protocol, packet.flags,
        )  # fmt: skip
        request = _REPLIES.get((protocol, kind))
        if request is not None:
            self._answer((target, source, protocol, 0, request))
        elif kind in (ICMP_REQUESTS if protocol == ICMP else ICMPV6_REQUESTS):
            self._open((source, target, protocol, 0, kind), "asked")

    # --- lines

    def _is_stream(self, line: Line) -> bool:
        """Count a packet; return whether the line has more of them than a probe."""
        count = self._streams.get(line, 0) + 1
        self._streams.keep(line, count)
        return count >= MIN_STREAM

    def _keep(self, line: Line, state: State) -> None:
        self._lines.keep(line, state)
        for address in line[:2]:
            if address in self._flows or len(self._flows) < MAX_ADDRESSES:
                self._flows[address] += 1

    def _open(self, line: Line, state: State) -> None:
        if line in self._lines or not (_is_host(line[0]) and _is_host(line[1])):
            return
        self._keep(line, state)
        source, target, protocol, _, port = line
        asked = (source, target, protocol, port)
        is_question = state != "data" and not (protocol == UDP and port in DISCOVERY)
        if is_question and asked not in self._answered:
            self._asked.keep(asked, None)

    def _answer(self, opened: Line) -> bool:
        """Mark a line as answered; return whether it was opened."""
        found = self._lines.get(opened)
        if found == "asked":
            self._settle(opened)
            _, target, protocol, _, port = opened
            if protocol in (TCP, UDP, SCTP):
                self._sockets.keep((target, protocol, port), None)
        return found is not None

    def _refuse(self, opened: Line) -> None:
        if self._lines.get(opened) in ("asked", "ack", "data"):
            self._lines[opened] = "refused"

    def _is_older(self, line: Line) -> None:
        self._settle(line)
        self._older.keep(line, None)

    def _settle(self, line: Line) -> None:
        self._lines[line] = "answered"
        source, target, protocol, _, port = line
        asked = (source, target, protocol, port)
        self._asked.pop(asked, None)
        self._answered.keep(asked, None)

    # --- the guess

    def addresses(self, not_local: Iterable[Network] = ()) -> list[bytes]:
        """Return the addresses of this side, sorted; never one of `not_local`."""
        elsewhere = Addresses(not_local)
        asked = [service for service in self._asked if not elsewhere[service[1]]]
        scanned = Scanned(asked, self._answered, self._whole6)
        found = scanned.addresses()
        if not found:
            flows = Counter({a: n for a, n in self._flows.items() if not elsewhere[a]})
            probed = Counter(target for _, target, _, _ in asked)
            served = Counter(address for address, _, _ in self._sockets)
            resolvers = scanned.resolvers
            order = sorted(
                flows, key=lambda a: (a in resolvers, -flows[a], -probed[a], -served[a], a)
            )
            found = set(order[:1])
        return sorted(found, key=lambda a: (len(a), a))

    def view(
        self,
        local: tuple[Network, ...],
        listed: frozenset[Service] | None,
        not_local: tuple[Network, ...] = (),
    ) -> CaptureView:
        """Return the protected side; guess an empty `local`, and `listed` where it is None."""
        networks = local or tuple(_host(address) for address in self.addresses(not_local))
        here = Addresses(networks)
        sockets = frozenset(
            socket for socket in self._sockets if listed is None and here[socket[0]]
        )
        older = frozenset(
            end for line in self._old() for end in (line, turned(line)) if here[end[0]]
        )
        return CaptureView(networks, listed or frozenset(), sockets, older)

    def _old(self) -> Iterator[Line]:
        """Yield the connections that are older than the capture."""
        yield from self._older
        alone = [line for line, state in self._lines.items() if state == "data"]
        twins = Counter((*line[:2], self._sequences.get(line)) for line in alone)
        used = [line for line in alone if twins[*line[:2], self._sequences.get(line)] <= MAX_TWINS]
        yield from used
        ends = {line[:4] for lines in (self._older, used) for line in lines}
        yield from (
            line for line, state in self._lines.items() if state == "ack" and line[:4] in ends
        )


def _segment(packet: Packet, data: bytes, at: int, end: int) -> Segment:
    transport = at + packet.transport
    if len(packet.source) == 4:
        size = int.from_bytes(data[at + 2 : at + 4])
    else:
        size = 40 + int.from_bytes(data[at + 4 : at + 6])
    header = (data[transport + 12] >> 4) << 2
    sequence = int.from_bytes(data[transport + 4 : transport + 8])
    return Segment(sequence, header > 20 or transport + header < (at + size if size else end))


def _is_host(address: bytes) -> bool:
    """Return whether an address is neither unspecified, multicast nor a likely broadcast."""
    if len(address) == 4:
        return address[0] != 0 and not 224 <= address[0] < 240 and address[3] != 255
    return address[0] != 0xFF and any(address)


def _host(address: bytes) -> Network:
    return IPv4Network(address) if len(address) == 4 else IPv6Network(address)
