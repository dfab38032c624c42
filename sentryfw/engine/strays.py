"""Packets to closed ports that are no probes: what the world sends anyway.

Each rule names the innocent it spares, and what of a scanner it lets pass by.
"""

from collections.abc import Callable
from typing import Final

from sentryfw.engine.model import Packet, Stray

LATE: Final = Stray("late packet of a partner")
TRACE: Final = Stray("path trace")
REPLY: Final = Stray("late reply")

TRACE_HOPS: Final = 10
"""traceroute(8), tracepath(8) and mtr(8) count the TTL up from 1 and stop a few hops beyond us:
what reaches us has at most this many left. Stacks start at 64, 128 or 255, nmap at 37 or more."""
TRACE_PORTS: Final = 32768
"""They use high ports: traceroute from 33434, tracepath from 44444, mtr from 33000."""


def udp_stray(packet: Packet) -> Stray | None:
    """Why a datagram to a closed port is no probe; None: it may be one."""
    if packet.dport >= TRACE_PORTS and _hops_left(packet) <= TRACE_HOPS:
        return TRACE
    is_reply = _REPLIES.get(packet.sport)
    if is_reply is not None and is_reply(packet.payload, packet.transport + 8):
        return REPLY
    return None


def _hops_left(packet: Packet) -> int:
    """TTL (RFC 791) or hop limit (RFC 8200)."""
    return packet.payload[8] if len(packet.source) == 4 else packet.payload[7]


def _is_dns_response(payload: bytes, data: int) -> bool:
    """The QR bit (RFC 1035, section 4.1.1): an answer to a question of ours that had been given
    up. `nmap -g 53` sends questions or nothing."""
    return len(payload) >= data + 12 and bool(payload[data + 2] & 0x80)


def _is_ntp_server(payload: bytes, data: int) -> bool:
    """Mode 4 (RFC 5905, section 7.3)."""
    return len(payload) >= data + 48 and payload[data] & 0x07 == 4


def _is_ssdp_response(payload: bytes, data: int) -> bool:
    """The answer to a search by multicast (UPnP Device Architecture 2.0, section 1.3.3)."""
    return payload[data : data + 9] == b"HTTP/1.1 "


def _is_netbios_response(payload: bytes, data: int) -> bool:
    """NetBIOS name service: a response has the R bit first (RFC 1002, section 4.2.1.1)."""
    return len(payload) >= data + 12 and bool(payload[data + 2] & 0x80)


_REPLIES: Final[dict[int, Callable[[bytes, int], bool]]] = {
    53: _is_dns_response,
    123: _is_ntp_server,
    137: _is_netbios_response,
    1900: _is_ssdp_response,
    5353: _is_dns_response,
    5355: _is_dns_response,
}
"""Services that answer late, or to a question that went to many, by their source port; the
content has to be an answer, because a source port alone is what `nmap -g` forges."""
