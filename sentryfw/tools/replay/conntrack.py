"""Connection tracking of a recorded host: TCP and UDP flows, as nf_conntrack keeps them.

Pure: the clock is an argument. Bounded: the oldest flow goes first. Sequence numbers, ICMP and SCTP
are not tracked.
"""

from typing import Final

from sentryfw.engine.classify import ACK, FIN, RST, SYN, URG
from sentryfw.engine.model import Packet
from sentryfw.engine.packet import TCP, UDP
from sentryfw.tools.replay.view import Bounded, CaptureView, Line, turned

MAX_FLOWS: Final = 65536

# nf_conntrack_proto_tcp.c and nf_conntrack_proto_udp.c: tcp_timeouts, udp_timeouts.
TCP_UNANSWERED_S: Final = 120.0
TCP_ESTABLISHED_S: Final = 432000.0
TCP_ENDING_S: Final = 120.0
TCP_CLOSED_S: Final = 10.0
UDP_UNANSWERED_S: Final = 30.0
UDP_ANSWERED_S: Final = 120.0

_MASK: Final = FIN | SYN | RST | ACK | URG
_VALID: Final = frozenset(
    (SYN, SYN | URG, SYN | ACK, RST, RST | ACK, FIN | ACK, FIN | ACK | URG, ACK, ACK | URG)
)
"""tcp_valid_flags; PSH and ECN masked. Other packets are `ct state invalid`."""
TRACKED: Final = tuple(flags & _MASK in _VALID for flags in range(256))
"""Whether conntrack tracks a TCP packet, by its flags."""
PURE_SYN: Final = tuple(flags & (FIN | SYN | RST | ACK) == SYN for flags in range(256))
"""Whether a TCP packet opens a connection, by its flags."""


class Flow:
    """One connection."""

    __slots__ = ("answered", "assured", "closing", "end", "ours")

    def __init__(self, *, ours: bool, end: float) -> None:
        self.ours = ours
        """This side started it: packets of the other side have `ct direction reply`."""
        self.answered = False
        self.assured = False
        """A handshake was finished (`ct status assured`)."""
        self.closing = False
        self.end = end
        """The time at which it is forgotten."""


class Connections:
    """The flows of a host, by the line as the other side sends."""

    def __init__(self, view: CaptureView) -> None:
        self._view = view
        self._flows: Bounded[Line, Flow] = Bounded(MAX_FLOWS)

    def __len__(self) -> int:
        return len(self._flows)

    def find(self, line: Line, packet: Packet, now: float) -> Flow | None:
        """Return the flow that the packet belongs to. `line`: as the other side sends."""
        if packet.protocol == TCP and not TRACKED[packet.flags]:
            return None
        flow = self._flows.get(line)
        if flow is None:
            return self._find_older(line, packet, now) if self._view.older else None
        if flow.end <= now or (flow.closing and packet.flags & (SYN | ACK) == SYN):
            del self._flows[line]
            return None
        return flow

    def _find_older(self, line: Line, packet: Packet, now: float) -> Flow | None:
        """Return a flow that the kernel knew before the capture began."""
        if packet.flags & SYN or turned(line) not in self._view.older:
            return None
        _, target, protocol, _, port = line
        ours = not self._view.is_listed(target, protocol, port)
        flow = Flow(ours=ours, end=now + TCP_ESTABLISHED_S)
        flow.answered = flow.assured = True
        self._flows.keep(line, flow)
        return flow

    def receive(self, flow: Flow, packet: Packet, now: float) -> bool:
        """Track a packet of the other side; return whether it is `ct state established`."""
        if not flow.ours and not flow.answered:
            return False
        if packet.protocol == UDP:
            flow.answered = True
            flow.end = now + UDP_ANSWERED_S
            return True
        if flow.ours and not flow.answered and packet.flags & RST:
            flow.end = now  # a refused connection is forgotten
            return True
        if not flow.ours and packet.flags & (SYN | FIN | RST | ACK) == ACK and not flow.closing:
            flow.assured = True
        flow.answered = True
        _renew(flow, packet.flags, now)
        return True

    def confirm(self, packet: Packet, now: float) -> None:
        """Keep the flow that a packet of the other side starts: it reached the host."""
        if packet.protocol == TCP:
            if not TRACKED[packet.flags] or packet.flags & (FIN | RST):
                return
            if packet.flags & SYN and packet.flags & ACK:
                return
        elif packet.protocol != UDP:
            return
        line = (packet.source, packet.target, packet.protocol, packet.sport, packet.dport)
        if line not in self._flows:
            self._flows.keep(line, Flow(ours=False, end=now + _first_timeout(packet)))

    def start(self, line: Line, packet: Packet, now: float) -> None:
        """Keep the flow that a packet of this side starts."""
        self._flows.keep(line, Flow(ours=True, end=now + _first_timeout(packet)))

    def send(self, line: Line, flow: Flow, packet: Packet, now: float) -> None:
        """Track a packet of this side."""
        if packet.protocol == UDP:
            flow.answered |= not flow.ours
            flow.end = now + (UDP_ANSWERED_S if flow.answered else UDP_UNANSWERED_S)
        elif packet.flags & RST and not flow.ours and not flow.answered:
            del self._flows[line]
        else:
            flow.answered |= not flow.ours
            if flow.answered or packet.flags & (FIN | RST):
                _renew(flow, packet.flags, now)


def _renew(flow: Flow, flags: int, now: float) -> None:
    if flags & RST:
        flow.closing, flow.end = True, now + TCP_CLOSED_S
    elif flags & FIN or flow.closing:
        flow.closing, flow.end = True, now + TCP_ENDING_S
    else:
        flow.end = now + TCP_ESTABLISHED_S


def _first_timeout(packet: Packet) -> float:
    if packet.protocol == UDP:
        return UDP_UNANSWERED_S
    return TCP_UNANSWERED_S if packet.flags & SYN else TCP_ESTABLISHED_S
