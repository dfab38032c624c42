"""The headers of a recorded packet, as engine.packet.decode() reads them, and faster.

A capture is read twice, and most of its packets are IPv4 without options that carry TCP or UDP.
Such a packet is read in place; a SYN keeps its bytes, which the table tests. decode() reads the
others.

A capture shows two things that the queue never does: a packet whose total length is 0, because the
network card cuts it into segments after it is recorded (TSO), and a packet of which only the first
bytes were recorded.

See docs/decisions.md: replay-headers.
"""

from typing import Final

from sentryfw.engine.classify import ACK, SYN
from sentryfw.engine.model import Malformed, Packet
from sentryfw.engine.packet import HIDDEN, TCP, UDP, decode
from sentryfw.netfilter.schema import COPY_RANGE_BYTES

CUT_SHORT: Final = Malformed("cut short by the capture")
"""The recorded bytes end before the transport header, and those that the queue copies do not."""

_PLAIN: Final = 0x45
"""IPv4 with a header of five words."""
_MIN_BYTES: Final = 40
_OPEN: Final = SYN | ACK


def read_header(data: bytes, at: int, end: int) -> Packet | Malformed:
    """Return decode() of the packet between `at` and `end`, in most cases without its bytes."""
    if at + _MIN_BYTES <= end and data[at] == _PLAIN:
        total = data[at + 2] << 8 | data[at + 3]
        protocol = data[at + 9]
        if data[at + 6] & 0x1F == 0 and data[at + 7] == 0:  # not a later fragment
            source, target = data[at + 12 : at + 16], data[at + 16 : at + 20]
            sport = data[at + 20] << 8 | data[at + 21]
            dport = data[at + 22] << 8 | data[at + 23]
            if protocol == TCP and total >= _MIN_BYTES and data[at + 32] >= 0x50:
                flags = data[at + 33]
                opens = flags & _OPEN == SYN
                payload = data[at : min(end, at + COPY_RANGE_BYTES)] if opens else b""
                return Packet(
                    source, target, TCP, sport, dport, flags, transport=20, payload=payload
                )
            if protocol == UDP and total >= 28:
                return Packet(source, target, UDP, sport, dport, 0, transport=20, payload=b"")
    return _decode(data, at, end)


def _decode(data: bytes, at: int, end: int) -> Packet | Malformed:
    payload = data[at : min(end, at + COPY_RANGE_BYTES)]
    if payload[2:4] == b"\x00\x00" and payload[0] >> 4 == 4:
        size = min(end - at, 0xFFFF)
        payload = payload[:2] + size.to_bytes(2) + payload[4:]
    packet = decode(payload)
    if end - at >= COPY_RANGE_BYTES or _length(payload) <= end - at:
        return packet
    if isinstance(packet, Malformed) or (packet.protocol == HIDDEN and packet.transport == 40):
        return CUT_SHORT
    return packet


def _length(payload: bytes) -> int:
    """Return the length that a packet claims to have, and 0 if its first header is not whole."""
    if len(payload) >= 40 and payload[0] >> 4 == 6:
        return 40 + int.from_bytes(payload[4:6])
    if len(payload) >= 20 and payload[0] >> 4 == 4:
        return int.from_bytes(payload[2:4])
    return 0
