"""Captures for the tests of replay: records made of scapy packets or bytes, written by scapy."""

import io
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from scapy.utils import PcapNgWriter, PcapWriter

from sentryfw.tools.replay.capture import Record, Records, Stream
from support import forge

START = 1_700_000_000.0
US = "192.0.2.1"
THEM = "203.0.113.7"


class Seen(NamedTuple):
    """One record with a copy of its bytes."""

    time: float
    linktype: int
    data: bytes


def each(found: Records) -> Iterator[Record]:
    """Yield the packets of an open capture."""
    while found.advance():
        yield found.seconds, found.linktype, found.data, found.start, found.end


def records(data: bytes) -> list[Seen]:
    """Return the records that the reader finds in a file's bytes."""
    return [
        Seen(time, linktype, buffer[start:end])
        for time, linktype, buffer, start, end in each(Records(Stream(io.BytesIO(data))))
    ]


def ethernet(payload: bytes) -> bytes:
    kind = b"\x08\x00" if payload[0] >> 4 == 4 else b"\x86\xdd"
    return bytes(12) + kind + payload


def tcp(source: str, target: str, dport: int, flags: str = "S", sport: int = 40000) -> bytes:
    """Return a frame."""
    return ethernet(forge.ip(source, target, forge.TCP, forge.tcp(dport, flags, sport)))


def udp(source: str, target: str, dport: int, sport: int = 40000) -> bytes:
    return ethernet(forge.ip(source, target, forge.UDP, forge.udp(dport, sport)))


def pcap_header(linktype: int = 1, magic: int = 0xA1B2C3D4) -> bytes:
    return struct.pack("<IHHiIII", magic, 2, 4, 0, 0, 262144, linktype)


def pcap_record(frame: bytes, time: float = START) -> bytes:
    seconds = int(time)
    return struct.pack(
        "<IIII", seconds, round((time - seconds) * 1e6), len(frame), len(frame)
    ) + frame  # fmt: skip


def pcap(frames: Iterable[tuple[float, bytes]], linktype: int = 1) -> bytes:
    """Return frames with their seconds after START."""
    return pcap_header(linktype) + b"".join(
        pcap_record(frame, START + after) for after, frame in frames
    )


def write_pcap(path: Path, packets: Iterable[Any], **options: Any) -> None:
    with PcapWriter(str(path), sync=True, **options) as writer:
        for packet in packets:
            writer.write(packet)


def write_pcapng(path: Path, packets: Iterable[Any]) -> None:
    with PcapNgWriter(str(path)) as writer:
        for packet in packets:
            writer.write(packet)
