"""Packets of flows that this host does not know: after a failover, a boot, a flush of conntrack.

A router then sees what servers send to hosts behind, and takes the first packet of each flow for a
new one: three flows of one server look like an ACK scan. For FLOWS_UNKNOWN_S after such an event
these packets do not count as evidence. They are still dropped, as a stateful firewall drops them: a
scanner gets no answer. It has no SYN and no low port, and cannot cause the event.

See docs/decisions.md: unknown-flows.
"""

from typing import Final

from sentryfw.engine.model import Packet, Stray
from sentryfw.engine.packet import TCP, UDP, timestamps

FLOWS_UNKNOWN_S: Final = 60.0
"""Seconds in which flows become known: TCP's retransmissions come at most 60 s apart (RFC 6298)."""
MIN_CLIENT_PORT: Final = 1024
"""Lowest port of a client: at lower ones evidence stays evidence."""
UNKNOWN_FLOW: Final = Stray("packet of an unknown flow")

_FLAGS: Final = 0x17
"""FIN, SYN, RST, ACK."""
_ACK: Final = 0x10
_FIN_ACK: Final = 0x11


def may_be_flow(packet: Packet, *, listed: bool = False) -> bool:
    """Return whether a packet may belong to a flow that was opened before; `listed`: by a client.

    TCP: ACK with data, or with the timestamp option that answers one of ours (RFC 7323, section
    3.2: each segment has it, and nmap's has none or answers 0). UDP has no state to show, but a
    flow's datagrams have data.
    """
    if packet.dport < MIN_CLIENT_PORT and not listed:
        return False
    if packet.protocol == UDP:
        return packet.sport < packet.dport and len(packet.payload) > packet.transport + 8
    if packet.protocol != TCP or packet.flags & _FLAGS not in (_ACK, _FIN_ACK):
        return False
    payload, start = packet.payload, packet.transport
    if len(payload) < start + 20:
        return False
    end = start + (payload[start + 12] >> 4) * 4
    return len(payload) > end or any(timestamps(packet)[4:])
