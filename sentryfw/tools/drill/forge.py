"""IP packets of a scan, in any source's name. Pure: values in, bytes out.

See docs/decisions.md: own-forged-packets.
"""

import socket
import struct
from ipaddress import ip_address
from typing import Final

SOURCE_PORT: Final = 40000
_WINDOW_BYTES: Final = 1024
_FLAGS: Final = "FSRPAU"
"""Letters of the TCP flags, from the lowest bit on."""


def tcp(source: str, target: str, port: int, flags: str) -> bytes:
    """Return a packet of a TCP header alone. `flags`: letters of FSRPAU, in any order."""
    bits = sum(1 << _FLAGS.index(letter) for letter in flags)
    header = struct.pack(
        "!HHIIBBHHH", SOURCE_PORT, port, port, 0, 5 << 4, bits, _WINDOW_BYTES, 0, 0
    )
    return _packet(source, target, socket.IPPROTO_TCP, header, checksum_at=16)


def udp(source: str, target: str, port: int) -> bytes:
    """Return a packet of a UDP header alone."""
    header = struct.pack("!HHHH", SOURCE_PORT, port, 8, 0)
    return _packet(source, target, socket.IPPROTO_UDP, header, checksum_at=6)


def _packet(source: str, target: str, protocol: int, header: bytes, *, checksum_at: int) -> bytes:
    """Return a packet with the transport's checksum. raw(7) fills in that of the IPv4 header."""
    here, there = ip_address(source).packed, ip_address(target).packed
    pseudo = here + there + struct.pack("!II", len(header), protocol)
    # RFC 768: a checksum of 0 is sent as all ones, which TCP takes for the same number.
    checksum = struct.pack("!H", _checksum(pseudo + header) or 0xFFFF)
    transport = header[:checksum_at] + checksum + header[checksum_at + 2 :]
    if len(here) == len(there) == 16:
        fixed = struct.pack("!IHBB", 6 << 28, len(transport), protocol, 64)
    else:
        fixed = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(transport), 0, 0, 64, protocol, 0)
    return fixed + here + there + transport


def _checksum(data: bytes) -> int:
    """Return the checksum of RFC 1071 of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF
