"""The pcapng format, which tcpdump, Wireshark and scapy read. Pure: bytes in, bytes out.

Follows draft-ietf-opsawg-pcapng: a section header, one interface of raw IP packets, enhanced
packet blocks. Little-endian; lengths and options are padded to four bytes.
"""

import struct
from collections.abc import Iterable, Iterator
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
"""Bytes of a comment; the format allows 65535."""
MAX_LENGTH: Final = 0x7FFFFFFF


def section(comment: str, application: str, snaplen: int) -> bytes:
    """Return the start of a file: its section header and the interface of its packets."""
    header = struct.pack("<IHHq", BYTE_ORDER, 1, 0, UNKNOWN_LENGTH)
    options = _options((OPT_COMMENT, comment), (SHB_USERAPPL, application))
    interface = struct.pack("<HHI", LINKTYPE_RAW, 0, snaplen)
    return _block(SECTION_HEADER, header + options) + _block(INTERFACE, interface)


def packet(at: float, data: bytes, length: int, comment: str) -> bytes:
    """Return one packet block.

    `at`: seconds since the epoch; `data`: the first bytes of a packet of `length` bytes.
    """
    micros = max(0, round(at * 1_000_000))
    whole = min(max(length, len(data)), MAX_LENGTH)
    header = struct.pack(
        "<IIIII", 0, micros >> 32 & 0xFFFFFFFF, micros & 0xFFFFFFFF, len(data), whole
    )
    return _block(ENHANCED_PACKET, header + _padded(data) + _options((OPT_COMMENT, comment)))


def join(files: Iterable[bytes]) -> bytes:
    """Join several of our files into one, under the head of the first.

    Several sections in one file are allowed, but libpcap 1.10 refuses a second raw interface as
    one of another kind.
    """
    made = b""
    for data in files:
        made += b"".join(
            block for kind, block in _blocks(data) if not made or kind == ENHANCED_PACKET
        )
    return made


def _blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and bytes of each block; a block that was cut off ends the file."""
    offset = 0
    while offset + 12 <= len(data):
        kind, size = struct.unpack_from("<II", data, offset)
        if size < 12 or offset + size > len(data):
            return
        yield kind, data[offset : offset + size]
        offset += size


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


def packets(data: bytes) -> Iterator[bytes]:
    """Yield the packets in one of our files, as far as their bytes were kept."""
    for block, size in _packet_blocks(data):
        yield block[28 : min(28 + size, len(block) - 4)]


def commented(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the comment and the whole block of each packet in one of our files."""
    for block, size in _packet_blocks(data):
        options = 28 + size + (-size & 3)
        code, length = 0, 0
        if options + 4 <= len(block):
            code, length = struct.unpack_from("<HH", block, options)
        start = options + 4
        yield block[start : start + length] if code == OPT_COMMENT else b"", block


def _packet_blocks(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield each packet's block, and how many bytes of the packet it should have."""
    for kind, block in _blocks(data):
        if kind == ENHANCED_PACKET and len(block) >= 32:
            yield block, struct.unpack_from("<I", block, 20)[0]
