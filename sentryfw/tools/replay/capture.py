"""Captures as streams of records: pcap and pcapng, either byte order, plain or gzip.

pcap: draft-ietf-opsawg-pcap, section 4. pcapng: draft-ietf-opsawg-pcapng, section 4; section
headers, interface descriptions, enhanced, simple and (obsolete) packet blocks are read, other
blocks are skipped. Any bytes raise CaptureError at most. One chunk of the file is in memory,
however large the file is.
"""

import gzip
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import Struct  # mypyc of mypy 1.15 knows no struct.Struct in a NamedTuple
from typing import Final, NamedTuple, Protocol

from sentryfw.errors import SentryError

CHUNK_BYTES: Final = 1 << 17
"""Bytes per read: a chunk stays in the processor's cache while it is parsed."""
MAX_PACKET_BYTES: Final = 262144
"""MAXIMUM_SNAPLEN of libpcap: no tool writes more of one packet."""
MAX_BLOCK_BYTES: Final = 16 << 20
"""Wireshark's limit for one pcapng block."""
MAX_INTERFACES: Final = 65536
MAX_OFFSET_S: Final = 1 << 40
"""Largest if_tsoffset that is accepted."""

Record = tuple[float, int, bytes, int, int]
"""Seconds since the epoch, link type, a buffer, and the packet's start and end in it."""

SECTION: Final = 0x0A0D0D0A
INTERFACE: Final = 1
OLD_PACKET: Final = 2
SIMPLE_PACKET: Final = 3
ENHANCED_PACKET: Final = 6

IF_TSRESOL: Final = 9
IF_TSOFFSET: Final = 14

_MAGICS: Final = {
    b"\xa1\xb2\xc3\xd4": (">", 1e-6),
    b"\xd4\xc3\xb2\xa1": ("<", 1e-6),
    b"\xa1\xb2\x3c\x4d": (">", 1e-9),
    b"\x4d\x3c\xb2\xa1": ("<", 1e-9),
}
_SECTION: Final = b"\x0a\x0d\x0d\x0a"
_ORDERS: Final = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}


class CaptureError(SentryError):
    """A broken capture, or a file that is not one. `byte`: the offset in the (unpacked) file."""

    def __init__(self, byte: int, reason: str) -> None:
        self.byte = byte
        self.reason = reason
        super().__init__(f"byte {byte}: {reason}")


@contextmanager
def open_capture(path: Path) -> Iterator["Records"]:
    """Open a file. Raise CaptureError or OSError."""
    with path.open("rb") as file:
        if not file.seekable():
            raise SentryError(f"{path}: a pipe cannot be read twice: write it to a file first")
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if packed:
            with gzip.open(file) as unpacked:
                yield Records(Stream(unpacked))
        else:
            yield Records(Stream(file, is_plain=True))


class Readable(Protocol):
    """A file with read1(), which returns the bytes before a fault; read() would lose them."""

    def read1(self, size: int = -1, /) -> bytes: ...

    def read(self, size: int = -1, /) -> bytes: ...

    def seek(self, offset: int, /) -> int: ...


class Stream:
    """A file in chunks: `data` starts at the byte `base` of the file."""

    def __init__(self, file: Readable, *, is_plain: bool = False) -> None:
        """`is_plain`: the file goes back at no cost."""
        self._file = file
        self._is_plain = is_plain
        self.data = b""
        self.base = 0

    def peek(self, count: int) -> bytes:
        """Return the first bytes, fewer if the file ends."""
        while len(self.data) < count and self.advance(0):
            pass
        return self.data[:count]

    def advance(self, at: int) -> bool:
        """Drop the bytes before `at` and read on; return False at the end of the file."""
        self.base += at
        left = len(self.data) - at
        if self._is_plain:  # the rest is read again: to join it would copy the whole chunk
            self._file.seek(self.base)
            self.data = self._file.read(left + max(CHUNK_BYTES, left))
            return len(self.data) > left
        try:
            more = self._file.read1(max(CHUNK_BYTES, left))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            end = self.base + left
            raise CaptureError(end, f"gzip: {str(error).rstrip('.')}") from None
        self.data = self.data[at:] + more
        return bool(more)


class Records:
    """The packets of an open file in order, one at a time: advance() sets the attributes."""

    def __init__(self, stream: Stream) -> None:
        """Read the file's header. Raise CaptureError."""
        self.seconds = 0.0
        """Seconds since the epoch."""
        self.linktype = 0
        self.data = b""
        """A buffer, and the packet's start and end in it."""
        self.start = 0
        self.end = 0
        self._stream = stream
        self._blocks: Iterator[Record] | None = None
        """The packets of a pcapng file."""
        magic = stream.peek(4)
        order, self._unit = _MAGICS.get(magic, ("<", 0.0))
        self._is_big = order == ">"
        if magic in _MAGICS:
            header = stream.peek(24)
            if len(header) < 24:
                raise CaptureError(len(header), "the file header is cut short")
            self.linktype = struct.unpack(order + "I", header[20:])[0] & 0xFFFF
            self.data, self.end = stream.data, len(header)
        elif magic == _SECTION:
            self._blocks = _read_pcapng(stream)
        else:
            raise CaptureError(0, "not a capture: neither pcap nor pcapng (plain or gzip)")

    def _word(self, at: int) -> int:
        """Return four bytes of a pcap file: compiled, that is faster than a struct."""
        data = self.data
        if self._is_big:
            return data[at] << 24 | data[at + 1] << 16 | data[at + 2] << 8 | data[at + 3]
        return data[at] | data[at + 1] << 8 | data[at + 2] << 16 | data[at + 3] << 24

    def advance(self) -> bool:
        """Go to the next packet; return False after the last. Raise CaptureError or OSError."""
        if self._blocks is not None:
            record = next(self._blocks, None)
            if record is None:
                return False
            self.seconds, self.linktype, self.data, self.start, self.end = record
            return True
        while True:
            data, at = self.data, self.end
            if at + 16 <= len(data):
                captured = self._word(at + 8)
                end = at + 16 + captured
                if end <= len(data):
                    self.seconds = self._word(at) + self._word(at + 4) * self._unit
                    self.start, self.end = at + 16, end
                    return True
                if captured > MAX_PACKET_BYTES:
                    raise CaptureError(self._stream.base + at, f"a packet of {captured} bytes")
            if not self._stream.advance(at):
                if self._stream.data:
                    raise CaptureError(self._stream.base, "the last packet is cut short")
                self.end = 0
                self.data = b""
                return False
            self.data, self.end = self._stream.data, 0


# --- pcapng


class Interface(NamedTuple):
    """An interface description block."""

    linktype: int
    snaplen: int
    unit: float
    """Seconds per timestamp unit."""
    offset: int
    """Seconds to add to each timestamp."""


class Layout(NamedTuple):
    """The structures of a section, in its byte order."""

    order: str
    words: Struct
    enhanced: Struct
    """Interface, timestamp (two words), captured length."""
    old: Struct
    """Interface of 16 bits, drop count, timestamp (two words), captured length."""


def _layout(order: str) -> Layout:
    return Layout(order, *(Struct(order + code) for code in ("II", "IIII", "HxxIII")))


def _read_pcapng(stream: Stream) -> Iterator[Record]:
    layout = _layout("<")
    interfaces: list[Interface] = []
    now = 0.0
    at = 0
    while (found := _find_block(stream, at, layout)) is not None:
        at, kind, size, layout = found
        data, where = stream.data, stream.base + at
        body, end = at + 8, at + size - 4
        if kind in (ENHANCED_PACKET, OLD_PACKET):
            record = _timed(data, body, end, kind, layout, interfaces, where)
            now = record[0]
            yield record
        elif kind == SIMPLE_PACKET:
            yield _simple(data, body, end, layout, interfaces, where, now)
        elif kind == INTERFACE:
            if len(interfaces) >= MAX_INTERFACES:
                raise CaptureError(where, f"more than {MAX_INTERFACES} interfaces")
            interfaces.append(_interface(data, body, end, layout, where))
        elif kind == SECTION:
            interfaces = []
        at += size


def _find_block(stream: Stream, at: int, layout: Layout) -> tuple[int, int, int, Layout] | None:
    """Read until the next block is in memory; return its offset, type, size and layout."""
    while True:
        data = stream.data
        left = len(data) - at
        need = 12
        if left >= 12:
            if data.startswith(_SECTION, at):
                layout = _section_layout(data, at, stream.base + at)
            kind, need = layout.words.unpack_from(data, at)
            if need < 12 or need & 3 or need > MAX_BLOCK_BYTES:
                raise CaptureError(stream.base + at, f"a block of {need} bytes")
            if left >= need:
                _check_tail(data, at, need, stream.base)
                return at, kind, need, layout
        if not stream.advance(at):
            if left:
                raise CaptureError(stream.base, "the last block is cut short")
            return None
        at = 0


def _section_layout(data: bytes, at: int, where: int) -> Layout:
    order = _ORDERS.get(data[at + 8 : at + 12])
    if order is None:
        raise CaptureError(where + 8, "a section with an unknown byte order")
    return _layout(order)


def _check_tail(data: bytes, at: int, size: int, base: int) -> None:
    if data[at + 4 : at + 8] != data[at + size - 4 : at + size]:
        raise CaptureError(base + at + size - 4, "a block's two lengths differ")
    if data.startswith(_SECTION, at) and size < 28:
        raise CaptureError(base + at, "a section header cut short")


def _timed(
    data: bytes, body: int, end: int, kind: int, layout: Layout,
    interfaces: list[Interface], where: int,
) -> Record:  # fmt: skip
    """Return the packet of an enhanced or an old packet block; both have 20 bytes before it."""
    start = body + 20
    if start > end:
        raise CaptureError(where, "a packet block cut short")
    shape = layout.enhanced if kind == ENHANCED_PACKET else layout.old
    index, high, low, captured = shape.unpack_from(data, body)
    if start + captured > end:
        raise CaptureError(where, f"a packet of {captured} bytes in a smaller block")
    if index >= len(interfaces):
        raise CaptureError(where, f"a packet of interface {index}, which is not described")
    linktype, _, unit, offset = interfaces[index]
    return ((high << 32) + low) * unit + offset, linktype, data, start, start + captured


def _simple(
    data: bytes, body: int, end: int, layout: Layout,
    interfaces: list[Interface], where: int, now: float,
) -> Record:  # fmt: skip
    """Return the packet of a simple block: it has the last time and the first interface."""
    if not interfaces:
        raise CaptureError(where, "a packet of interface 0, which is not described")
    if body + 4 > end:
        raise CaptureError(where, "a packet block cut short")
    [original] = struct.unpack_from(layout.order + "I", data, body)
    snaplen = interfaces[0].snaplen or MAX_PACKET_BYTES
    size = min(original, snaplen, end - body - 4)
    return now, interfaces[0].linktype, data, body + 4, body + 4 + size


def _interface(data: bytes, body: int, end: int, layout: Layout, where: int) -> Interface:
    if body + 8 > end:
        raise CaptureError(where, "an interface description cut short")
    linktype, snaplen = struct.unpack_from(layout.order + "HxxI", data, body)
    unit, offset = 1e-6, 0
    for code, value in _options(data, body + 8, end, layout):
        if code == IF_TSRESOL and len(value) == 1:
            exponent = value[0] & 0x7F
            unit = 2.0**-exponent if value[0] & 0x80 else 10.0**-exponent
        elif code == IF_TSOFFSET and len(value) == 8:
            [offset] = struct.unpack(layout.order + "q", value)
            if abs(offset) > MAX_OFFSET_S:
                raise CaptureError(where, f"timestamps {offset} seconds off")
    return Interface(linktype, snaplen, unit, offset)


def _options(data: bytes, at: int, end: int, layout: Layout) -> Iterator[tuple[int, bytes]]:
    """Yield code and value of each option; an option that exceeds the block ends them."""
    while at + 4 <= end:
        code, size = struct.unpack_from(layout.order + "HH", data, at)
        if code == 0 or at + 4 + size > end:
            return
        yield code, data[at + 4 : at + 4 + size]
        at += 4 + (size + 3 & ~3)
