"""Decode one IP packet: bytes -> Packet | Malformed. Never raises, for any bytes.

Only headers are read, each after a length check. A length beyond the captured bytes is not a
fault: the queue copies only the first bytes of a packet (nfnetlink_queue's copy range). Conntrack
reassembles fragments before the input hook sees a packet (nf_defrag_ipv4 and nf_defrag_ipv6 at
priority -400); a later fragment that still arrives here has no ports.
"""

import struct
from typing import Final

from sentryfw.engine.model import Malformed, Packet

TCP: Final = 6
UDP: Final = 17
ICMP: Final = 1
ICMPV6: Final = 58
SCTP: Final = 132
DCCP: Final = 33
UDP_LITE: Final = 136
FRAGMENT: Final = 44
NO_NEXT_HEADER: Final = 59
AUTHENTICATION: Final = 51

MAX_EXTENSION_HEADERS: Final = 32
"""Extension headers that are read. RFC 8200, section 4.1 lists seven, one of them twice. Linux
reads any number, so a packet with more is an evasion, not malformed: see HIDDEN."""
HIDDEN: Final = 0
"""Protocol of a packet whose transport header is not visible: behind more extension headers
than are read, or beyond the bytes that the queue copies. (0 is hop-by-hop options, never a
transport.)"""

_IPV4_TCP = struct.Struct("!2xH2xH4x4s4sHH8xBB")
_IPV4 = struct.Struct("!BxHxxHxBxx4s4s")
_IPV6 = struct.Struct("!IHBx16s16s")
_PORTS = struct.Struct("!HH")
_TCP = struct.Struct("!HH8xBB")
_SCTP = struct.Struct("!HH8xB")

# Hop-by-hop, routing, destination options, mobility, HIP, shim6: next header, then the
# length in 8-byte units beyond the first (RFC 8200 section 4; RFC 6275, 7401, 5533).
_EXTENSIONS: Final = frozenset((0, 43, 60, 135, 139, 140))

EMPTY = Malformed("empty")
SHORT_IPV4 = Malformed("IPv4 header cut short")
BAD_IHL = Malformed("IPv4 header length below 5 words or beyond the packet")
BAD_LENGTH = Malformed("IPv4 total length shorter than its header")
SHORT_IPV6 = Malformed("IPv6 header cut short")
SHORT_EXTENSION = Malformed("IPv6 extension header cut short")
LATER_FRAGMENT = Malformed("later fragment, no ports")
SHORT_TCP = Malformed("TCP header cut short")
BAD_OFFSET = Malformed("TCP data offset below 5 words")
SHORT_UDP = Malformed("UDP header cut short")
SHORT_SCTP = Malformed("SCTP header cut short")
SHORT_DCCP = Malformed("DCCP header cut short")
SHORT_UDP_LITE = Malformed("UDP-Lite header cut short")
SHORT_ICMP = Malformed("ICMP header cut short")
BAD_VERSION = Malformed("IP version neither 4 nor 6")


def decode(payload: bytes) -> Packet | Malformed:
    """Return the header fields of a packet (RFC 791, RFC 8200, RFC 9293, RFC 768)."""
    if not payload:
        return EMPTY
    version = payload[0] >> 4
    if version == 4:
        return _decode_ipv4(payload)
    if version == 6:
        return _decode_ipv6(payload)
    return BAD_VERSION


def source_address(payload: bytes) -> bytes | None:
    """Return the source address of a packet that may be malformed after its first header."""
    if len(payload) >= 20 and payload[0] >> 4 == 4:
        return payload[12:16]
    if len(payload) >= 40 and payload[0] >> 4 == 6:
        return payload[8:24]
    return None


def _decode_ipv4(payload: bytes) -> Packet | Malformed:
    if payload[0] == 0x45 and len(payload) >= 40 and payload[9] == TCP:
        found = _decode_ipv4_tcp(payload)
        if found is not None:
            return found
    if len(payload) < 20:
        return SHORT_IPV4
    first: int
    total: int
    fragment: int
    first, total, fragment, protocol, source, target = _IPV4.unpack_from(payload)
    offset = (first & 0x0F) << 2
    if offset < 20 or offset > len(payload):
        return BAD_IHL
    if total < offset:
        return BAD_LENGTH
    if fragment & 0x1FFF:
        return LATER_FRAGMENT
    return _decode_transport(payload, min(total, len(payload)), offset, protocol, source, target)


def _decode_ipv4_tcp(payload: bytes) -> Packet | None:
    """Return a TCP packet without IPv4 options in one step; None: it has a fault, or is shorter."""
    total: int
    fragment: int
    words: int
    total, fragment, source, target, sport, dport, words, flags = _IPV4_TCP.unpack_from(payload)
    if total < 40 or fragment & 0x1FFF or words < 0x50:
        return None
    return Packet(source, target, TCP, sport, dport, flags, transport=20, payload=payload)


def _decode_ipv6(payload: bytes) -> Packet | Malformed:
    if len(payload) < 40:
        return SHORT_IPV6
    _, length, protocol, source, target = _IPV6.unpack_from(payload)
    # A payload length of 0 means a jumbogram (RFC 2675) or is false; the captured bytes decide.
    end = min(40 + length, len(payload)) if length else len(payload)
    offset = 40
    if protocol != TCP and protocol != UDP:  # noqa: PLR1714 - the packet path: no tuple, no set
        chain = _walk_extensions(payload, end, protocol)
        if isinstance(chain, Malformed):
            if chain is SHORT_EXTENSION and 40 + length > len(payload):
                return Packet(source, target, HIDDEN, 0, 0, 0, transport=40, payload=payload)
            return chain
        offset, protocol = chain
    found = _decode_transport(payload, end, offset, protocol, source, target)
    if isinstance(found, Malformed) and offset > 40 and 40 + length > len(payload):
        return Packet(source, target, HIDDEN, 0, 0, 0, transport=40, payload=payload)
    return found


def _walk_extensions(payload: bytes, end: int, protocol: int) -> tuple[int, int] | Malformed:
    """Return offset and protocol number of the header after the extension headers."""
    offset = 40
    for _ in range(MAX_EXTENSION_HEADERS + 1):
        if protocol in _EXTENSIONS:
            size = 8
        elif protocol in (FRAGMENT, AUTHENTICATION):
            size = 0
        else:
            return offset, protocol
        if offset + 8 > end:
            return SHORT_EXTENSION
        if protocol == FRAGMENT:
            if int.from_bytes(payload[offset + 2 : offset + 4]) & 0xFFF8:
                return LATER_FRAGMENT
            size = 8
        elif protocol == AUTHENTICATION:  # RFC 4302, section 2.2: words beyond the first two
            size = (payload[offset + 1] + 2) << 2
        else:
            size += payload[offset + 1] << 3
        protocol = payload[offset]
        offset += size
    return offset, HIDDEN


def _decode_transport(
    payload: bytes, end: int, offset: int, protocol: int, source: bytes, target: bytes
) -> Packet | Malformed:
    if protocol == TCP:
        if offset + 20 > end:
            return SHORT_TCP
        words: int
        sport, dport, words, flags = _TCP.unpack_from(payload, offset)
        if words < 0x50:
            return BAD_OFFSET
        return Packet(source, target, TCP, sport, dport, flags, transport=offset, payload=payload)
    if protocol == UDP:
        if offset + 8 > end:
            return SHORT_UDP
        sport, dport = _PORTS.unpack_from(payload, offset)
        return Packet(source, target, UDP, sport, dport, 0, transport=offset, payload=payload)
    return _decode_other(payload, end, offset, protocol, source, target)


def _decode_other(
    payload: bytes, end: int, offset: int, protocol: int, source: bytes, target: bytes
) -> Packet | Malformed:
    if protocol == SCTP:
        if offset + 16 > end:
            return SHORT_SCTP
        sport, dport, chunk = _SCTP.unpack_from(payload, offset)
        return Packet(source, target, SCTP, sport, dport, chunk, transport=offset, payload=payload)
    if protocol == DCCP:  # RFC 4340, section 5.1
        if offset + 12 > end:
            return SHORT_DCCP
        sport, dport = _PORTS.unpack_from(payload, offset)
        kind = payload[offset + 8] >> 1 & 0x0F
        return Packet(source, target, DCCP, sport, dport, kind, transport=offset, payload=payload)
    if protocol == UDP_LITE:  # RFC 3828, section 3.1
        if offset + 8 > end:
            return SHORT_UDP_LITE
        sport, dport = _PORTS.unpack_from(payload, offset)
        return Packet(source, target, UDP_LITE, sport, dport, 0, transport=offset, payload=payload)
    kind = 0
    if protocol in (ICMP, ICMPV6):
        if offset + 8 > end:
            return SHORT_ICMP
        kind = payload[offset]
    return Packet(source, target, protocol, 0, 0, kind, transport=offset, payload=payload)


def timestamps(packet: Packet) -> bytes:
    """Return the value of a TCP packet's timestamp option, or nothing: the sender's time, and the
    time that it answers (RFC 7323, section 3.2), 4 bytes each."""
    payload, at = packet.payload, packet.transport + 20
    if len(payload) < at:
        return b""
    end = min(packet.transport + (payload[at - 8] >> 4) * 4, len(payload))
    while at + 1 < end and payload[at] != 0:
        if payload[at] == 1:
            at += 1
            continue
        size = payload[at + 1]
        if size < 2:
            return b""
        if payload[at] == 8 and size == 10 and at + 10 <= end:
            return payload[at + 2 : at + 10]
        at += size
    return b""
