"""Ethernet frames for the generators: SYNs, right down to their checksums."""

import socket
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

ETHER: Final = bytes.fromhex("025346574201025346574202" + "0800")
"""From the attacker's end of the wire to the defended host's (bench/lab.py, MACS)."""
TARGET: Final = bytes((198, 18, 0, 1))
SYN: Final = 0x02

_IPV4: Final = struct.Struct("!BBHHHBBH4s4s")
_TCP: Final = struct.Struct("!HHIIBBHHH")


def syn(source: str | int, dport: int, sport: int = 40000, sequence: int = 1) -> bytes:
    """A SYN to the defended host; the source as text or as a number."""
    address = socket.inet_aton(source) if isinstance(source, str) else source.to_bytes(4)
    segment = _TCP.pack(sport, dport, sequence, 0, 0x50, SYN, 64240, 0, 0)
    pseudo = address + TARGET + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(segment))
    checksum = internet_checksum(pseudo + segment)
    header = _IPV4.pack(0x45, 0, 40, sport, 0, 64, socket.IPPROTO_TCP, 0, address, TARGET)
    header = header[:10] + struct.pack("!H", internet_checksum(header)) + header[12:]
    return ETHER + header + segment[:16] + struct.pack("!H", checksum) + segment[18:]


def internet_checksum(data: bytes) -> int:
    """Return the checksum of RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


def write_frames(path: Path, frames: Iterable[bytes]) -> None:
    """Write frames for bench/c/send.c: each after its length."""
    with path.open("wb") as file:
        file.writelines(struct.pack("=H", len(frame)) + frame for frame in frames)
