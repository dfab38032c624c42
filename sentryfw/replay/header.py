"""The headers of a recorded packet, as engine.packet.decode() reads them, and faster.

A capture is read twice, and most of what is in it is IPv4 without options that carries TCP or
UDP: such a packet is read where it lies, in one go. Everything else is left to decode().
"""

import struct
from typing import Final

from sentryfw.engine.model import Malformed, Packet
from sentryfw.engine.packet import TCP, UDP, decode

COPY_RANGE: Final = 256
"""Bytes of a packet that the daemon's queue copies: the engine sees no more of it here."""

_PLAIN: Final = 0x45
"""IPv4 with a header of five words."""
_SIZE: Final = 40
_HEADERS: Final = struct.Struct("!xxHxxHxBxx4s4sHH8xBB")


def read_header(data: bytes, at: int, end: int) -> Packet | Malformed:
    """decode() of the packet between `at` and `end`, but without the packet in it."""
    if at + _SIZE <= end and data[at] == _PLAIN:
        fields = _HEADERS.unpack_from(data, at)
        total, fragment, protocol, source, target, sport, dport, words, flags = fields
        if not fragment & 0x1FFF:
            if protocol == TCP and total >= _SIZE and words >= 0x50:
                return Packet(source, target, TCP, sport, dport, flags, 20, b"")
            if protocol == UDP and total >= 28:
                return Packet(source, target, UDP, sport, dport, 0, 20, b"")
    return decode(data[at : min(end, at + COPY_RANGE)])
