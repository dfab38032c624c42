"""Packets -> pcapng, in memory: what tcpdump, Wireshark and scapy read. Pure.

After draft-ietf-opsawg-pcapng: a section header, one interface of raw IP packets, enhanced
packet blocks. Little-endian; lengths and options are padded to four bytes.
"""

import struct
from typing import Final

LINKTYPE_RAW: Final = 101
"""The packet begins with its IPv4 or IPv6 header (tcpdump.org/linktypes.html)."""

SECTION_HEADER: Final = 0x0A0D0D0A
INTERFACE: Final = 1
ENHANCED_PACKET: Final = 6
BYTE_ORDER: Final = 0x1A2B3C4D
UNKNOWN_LENGTH: Final = -1

OPT_COMMENT: Final = 1
SHB_USERAPPL: Final = 4
MAX_COMMENT: Final = 1024
"""Bytes; the format takes 65535."""
MAX_LENGTH: Final = 0x7FFFFFFF


def section(comment: str, application: str, snaplen: int) -> bytes:
    """The head of a file: where it comes from, and what its packets are. Files that are put one
    behind the other are a file again."""
    header = struct.pack("<IHHq", BYTE_ORDER, 1, 0, UNKNOWN_LENGTH)
    options = _options((OPT_COMMENT, comment), (SHB_USERAPPL, application))
    interface = struct.pack("<HHI", LINKTYPE_RAW, 0, snaplen)
    return _block(SECTION_HEADER, header + options) + _block(INTERFACE, interface)


def packet(at: float, data: bytes, length: int, comment: str) -> bytes:
    """One packet, seen at `at` (seconds since the epoch); `data` is the first of its `length`
    bytes."""
    micros = max(0, round(at * 1_000_000))
    whole = min(max(length, len(data)), MAX_LENGTH)
    header = struct.pack(
        "<IIIII", 0, micros >> 32 & 0xFFFFFFFF, micros & 0xFFFFFFFF, len(data), whole
    )
    return _block(ENHANCED_PACKET, header + _padded(data) + _options((OPT_COMMENT, comment)))


def _block(kind: int, body: bytes) -> bytes:
    size = len(body) + 12
    return struct.pack("<II", kind, size) + body + struct.pack("<I", size)


def _options(*options: tuple[int, str]) -> bytes:
    made = b""
    for code, text in options:
        value = text.encode(errors="replace")[:MAX_COMMENT].decode(errors="ignore").encode()
        made += struct.pack("<HH", code, len(value)) + _padded(value)
    return made + bytes(4)  # opt_endofopt


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) & 3)
