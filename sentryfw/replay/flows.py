"""What the kernel would do with a recorded packet: rulesets/ and conntrack, as far as needed.

    early_drop -> conntrack -> late_drop -> divert_input -> judge

receive() says, for one packet, what these would: dropped, passed, or to be judged with which
Meta. Pure: the clock is an argument. Bounded: every table lets its oldest go. Not mirrored are
the rate limits of judge.nft (a capture is judged whole), sequence numbers, and interfaces.
"""

from typing import Final, Literal

from sentryfw.engine.classify import (
    ACK,
    FIN,
    ICMP_REQUESTS,
    ICMPV6_REQUESTS,
    RST,
    SYN,
    URG,
)
from sentryfw.engine.model import Block, Meta, Packet, Source, source_of
from sentryfw.engine.packet import ICMP, ICMPV6, SCTP, TCP, UDP
from sentryfw.replay.view import Addresses, Bounded, Line, Network, View, turned

Fate = Literal["outside", "sent", "answer", "dropped", "passed", "backscatter"]
"""outside: not between this side and somebody else; sent: by this side; answer: sent by this
side to a source that is blocked; passed: not looked at by the engine."""

MAX_FLOWS: Final = 65536
MAX_PARTNERS: Final = 65536
MAX_SUSPECTS: Final = 65536
PARTNER_TIMEOUT: Final = 86400.0
FRESH_TIMEOUT: Final = 10.0
SUSPECT_TIMEOUT: Final = 5.0
"""Both as in rulesets/sets.nft."""
PRUNE_EVERY: Final = 60.0

# nf_conntrack_proto_tcp.c and nf_conntrack_proto_udp.c: tcp_timeouts, udp_timeouts.
TCP_UNANSWERED: Final = 120.0
TCP_ESTABLISHED: Final = 432000.0
TCP_ENDING: Final = 120.0
TCP_CLOSED: Final = 10.0
UDP_UNANSWERED: Final = 30.0
UDP_ANSWERED: Final = 120.0

_MASK: Final = FIN | SYN | RST | ACK | URG
_VALID: Final = frozenset(
    (SYN, SYN | URG, SYN | ACK, RST, RST | ACK, FIN | ACK, FIN | ACK | URG, ACK, ACK | URG)
)
"""tcp_valid_flags; PSH and ECN masked. Other packets are `ct state invalid`."""
_TRACKED: Final = tuple(flags & _MASK in _VALID for flags in range(256))
_PURE_SYN: Final = tuple(flags & (FIN | SYN | RST | ACK) == SYN for flags in range(256))
_NEVER_SENT: Final = tuple(
    not flags & (SYN | RST | ACK) or any(
        flags & pair == pair for pair in (FIN | SYN, SYN | RST, FIN | RST)
    )
    for flags in range(256)
)  # fmt: skip
"""The four rules of divert_input.nft about flags that no stack sends."""

_LEGITIMATE: Final = frozenset((2, 4, 41, 46, 47, 50, 51, 59, 88, 89, 97, 103, 112, 115, 136, 137))
"""The protocols that divert_other accepts."""

_METAS: Final = {
    (unlisted, partner): Meta(unlisted=unlisted, partner=partner)
    for unlisted in (False, True)
    for partner in (False, True)
}
_HALF_OPEN: Final = {
    partner: Meta(unlisted=False, partner=partner, half_open=True) for partner in (False, True)
}


class Flow:
    """One connection, as conntrack has it."""

    __slots__ = ("answered", "assured", "closing", "end", "ours")

    def __init__(self, *, ours: bool, end: float) -> None:
        self.ours = ours
        """Started by this side."""
        self.answered = False
        self.assured = False
        """A handshake was finished."""
        self.closing = False
        self.end = end


class Kernel:
    """The state that a kernel would have had at each packet of the capture."""

    def __init__(self, view: View, never_block: tuple[Network, ...] = ()) -> None:
        self._view = view
        self._local = Addresses(view.local)
        self._spared = Addresses(never_block)
        self._flows: Bounded[Line, Flow] = Bounded(MAX_FLOWS)
        """By the line as the other side sends."""
        self._suspects: Bounded[bytes, float] = Bounded(MAX_SUSPECTS)
        self._partners: Bounded[bytes, float] = Bounded(MAX_PARTNERS)
        self._blocked: dict[Source, float] = {}
        self._pruned = 0.0

    def __len__(self) -> int:
        """Everything that is remembered."""
        tables = self._flows, self._suspects, self._partners, self._blocked
        return sum(len(table) for table in tables)

    def block(self, block: Block) -> bool:
        """Whether it is a new one; else it changes the timeout of one that is alive."""
        known = self._blocked.get(block.source, block.at) > block.at
        self._blocked[block.source] = block.at + block.timeout
        return not known

    def receive(self, packet: Packet, now: float) -> Fate | Meta:
        """What becomes of one packet; a Meta: the engine judges it, then see confirm()."""
        source, target, protocol = packet.source, packet.target, packet.protocol
        if self._local[source]:
            return self._send(packet, now)
        if not self._local[target]:
            return "outside"
        blocked = bool(self._blocked) and self._is_blocked(source, now)
        tcp = protocol == TCP
        if blocked and tcp and _PURE_SYN[packet.flags]:
            return "dropped"  # early_drop
        flow = None
        if tcp or protocol == UDP:
            flow = self._find((source, target, protocol, packet.sport, packet.dport), packet, now)
        if blocked and (flow is None or not flow.ours):
            return "dropped"  # late_drop: direction original, or invalid
        if flow is not None and self._continue(flow, packet, now):
            aborted = tcp and packet.flags & RST and not flow.ours
            if aborted and (not flow.assured or self._forsake(source, now)):
                return self._half_open(source, now)
            return "passed"
        if self._spared[source]:
            self.confirm(packet, now)
            return "passed"
        return self._divert(packet, now)

    def confirm(self, packet: Packet, now: float) -> None:
        """The packet reached the host: conntrack keeps the connection it starts."""
        if packet.protocol == TCP:
            if not _TRACKED[packet.flags] or packet.flags & (FIN | RST):
                return
            if packet.flags & SYN and packet.flags & ACK:
                return
        elif packet.protocol != UDP:
            return
        line = (packet.source, packet.target, packet.protocol, packet.sport, packet.dport)
        if line not in self._flows:
            self._flows.keep(line, Flow(ours=False, end=now + _first_timeout(packet)))

    def prune(self, now: float) -> None:
        """Once a second: forget blocks that have ended."""
        if now - self._pruned >= PRUNE_EVERY:
            self._pruned = now
            self._blocked = {source: end for source, end in self._blocked.items() if end > now}

    # --- divert_input and judge

    def _half_open(self, source: bytes, now: float) -> Fate | Meta:
        """A reset after our SYN/ACK, or right after the handshake: how scans leave an open port."""
        if self._spared[source]:
            return "passed"
        return _HALF_OPEN[self._holds(self._partners, _key(source), now)]

    def _divert_other(self, packet: Packet, now: float) -> Fate | Meta:
        """Neither TCP nor UDP."""
        source, target, protocol = packet.source, packet.target, packet.protocol
        port, kind = packet.dport, packet.flags
        if protocol in (ICMP, ICMPV6):
            requests = ICMP_REQUESTS if protocol == ICMP else ICMPV6_REQUESTS
            passes = kind not in requests
        else:
            passes = protocol in _LEGITIMATE
        if passes or (protocol == SCTP and self._is_listed(target, SCTP, port)):
            return "passed"
        return _METAS[True, self._holds(self._partners, _key(source), now)]

    def _divert(self, packet: Packet, now: float) -> Fate | Meta:
        source, target, protocol = packet.source, packet.target, packet.protocol
        port, flags = packet.dport, packet.flags
        tcp = protocol == TCP
        if not tcp and protocol != UDP:
            return self._divert_other(packet, now)
        key = _key(source)
        listed = self._is_listed(target, protocol, port)
        if self._holds(self._suspects, key, now) and (not tcp or _PURE_SYN[flags]):
            if listed:
                return _METAS[False, self._holds(self._partners, key, now)]
        elif tcp and _NEVER_SENT[flags]:
            return self._judge_unlisted(key, now)
        if listed:
            self.confirm(packet, now)
            return "passed"
        if tcp and (flags & RST or flags & (SYN | ACK) == SYN | ACK):
            return "backscatter"
        return self._judge_unlisted(key, now)

    def _judge_unlisted(self, key: bytes, now: float) -> Meta:
        self._suspects.pop(key, None)
        self._suspects.keep(key, now + SUSPECT_TIMEOUT)
        return _METAS[True, bool(self._partners) and self._holds(self._partners, key, now)]

    def _is_listed(self, address: bytes, protocol: int, port: int) -> bool:
        """A local socket would take it, or it is listed by hand."""
        view = self._view
        return (protocol, port) in view.listed or (address, protocol, port) in view.sockets

    def _learn_partner(self, source: bytes, now: float) -> None:
        key = _key(source)
        if self._holds(self._suspects, key, now) or self._holds(self._partners, key, now):
            return
        self._partners.pop(key, None)
        self._partners.keep(key, now + PARTNER_TIMEOUT)

    def _forsake(self, source: bytes, now: float) -> bool:
        """No partner after all, if it became one just now; whether it did."""
        key = _key(source)
        end = self._partners.get(key)
        if end is None or now > end - PARTNER_TIMEOUT + FRESH_TIMEOUT:
            return False
        self._partners.pop(key, None)
        return True

    @staticmethod
    def _holds(table: Bounded[bytes, float], key: bytes, now: float) -> bool:
        end = table.get(key)
        return end is not None and end > now

    def _is_blocked(self, source: bytes, now: float) -> bool:
        end = self._blocked.get(source_of(source))
        return end is not None and end > now and not self._spared[source]

    # --- conntrack

    def _find(self, line: Line, packet: Packet, now: float) -> Flow | None:
        """The connection that the packet belongs to; `line` as the other side sends."""
        if packet.protocol == TCP and not _TRACKED[packet.flags]:
            return None
        flow = self._flows.get(line)
        if flow is None:
            return self._find_older(line, packet, now) if self._view.older else None
        if flow.end <= now or (flow.closing and packet.flags & (SYN | ACK) == SYN):
            del self._flows[line]
            return None
        return flow

    def _find_older(self, line: Line, packet: Packet, now: float) -> Flow | None:
        """A connection that the kernel knew before the capture began."""
        if packet.flags & SYN or turned(line) not in self._view.older:
            return None
        _, target, protocol, _, port = line
        ours = not self._is_listed(target, protocol, port)
        flow = Flow(ours=ours, end=now + TCP_ESTABLISHED)
        flow.answered = flow.assured = True
        self._flows.keep(line, flow)
        return flow

    def _continue(self, flow: Flow, packet: Packet, now: float) -> bool:
        """A packet of the other side; whether it is `ct state established`."""
        if not flow.ours and not flow.answered:
            return False
        if packet.protocol == UDP:
            flow.answered = True
            flow.end = now + UDP_ANSWERED
            return True
        if flow.ours and not flow.answered and packet.flags & RST:
            flow.end = now  # a connection that was refused is forgotten
            return True
        if not flow.ours and packet.flags & (SYN | FIN | RST | ACK) == ACK and not flow.closing:
            flow.assured = True
        flow.answered = True
        _renew(flow, packet.flags, now)
        if flow.assured and not flow.ours:
            self._learn_partner(packet.source, now)
        return True

    def _send(self, packet: Packet, now: float) -> Fate:
        """A packet of this side."""
        source, target, protocol = packet.source, packet.target, packet.protocol
        sport, dport = packet.sport, packet.dport
        blocked = bool(self._blocked) and self._is_blocked(target, now)
        if protocol not in (TCP, UDP):
            return "answer" if blocked and _is_unreachable(packet) else "sent"
        line = (target, source, protocol, dport, sport)
        flow = self._find(line, packet, now)
        if flow is not None:
            self._answer(line, flow, packet, now)
            return "answer" if blocked and not flow.ours else "sent"
        judged = blocked or self._holds(self._suspects, _key(target), now)
        if self._starts(packet, judged=judged):
            self._flows.keep(line, Flow(ours=True, end=now + _first_timeout(packet)))
            return "sent"
        return "answer" if blocked else "sent"

    def _starts(self, packet: Packet, *, judged: bool) -> bool:
        """Whether this side opens a connection. What it sends to a source whose packets were
        dropped here is the recorded answer to them: there, no connection came of it."""
        if packet.protocol == TCP:
            if _PURE_SYN[packet.flags]:
                return True
            return not judged and packet.flags & (SYN | FIN | RST | ACK) == ACK
        return not (judged and self._is_listed(packet.source, UDP, packet.sport))

    def _answer(self, line: Line, flow: Flow, packet: Packet, now: float) -> None:
        if packet.protocol == UDP:
            flow.answered |= not flow.ours
            flow.end = now + (UDP_ANSWERED if flow.answered else UDP_UNANSWERED)
        elif packet.flags & RST and not flow.ours and not flow.answered:
            del self._flows[line]
        else:
            flow.answered |= not flow.ours
            if flow.answered or packet.flags & (FIN | RST):
                _renew(flow, packet.flags, now)


def _renew(flow: Flow, flags: int, now: float) -> None:
    if flags & RST:
        flow.closing, flow.end = True, now + TCP_CLOSED
    elif flags & FIN or flow.closing:
        flow.closing, flow.end = True, now + TCP_ENDING
    else:
        flow.end = now + TCP_ESTABLISHED


def _first_timeout(packet: Packet) -> float:
    if packet.protocol == UDP:
        return UDP_UNANSWERED
    return TCP_UNANSWERED if packet.flags & SYN else TCP_ESTABLISHED


def _is_unreachable(packet: Packet) -> bool:
    """ICMP type 3 (RFC 792), ICMPv6 type 1 (RFC 4443): what a closed UDP port answers."""
    return (packet.protocol, packet.flags) in ((ICMP, 3), (ICMPV6, 1))


def _key(address: bytes) -> bytes:
    """As the sets suspect and partner are keyed: an IPv4 address, an IPv6 /64."""
    return address[:8]
