"""Ethernet frames made with struct, for tests that forge thousands of them."""

import socket
import struct
import zlib
from ipaddress import ip_address
from typing import Final

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10
URG: Final = 0x20

ETH_P_IP: Final = 0x0800
ETH_P_IPV6: Final = 0x86DD


def tcp_frame(
    ether: bytes, source: str, target: str, sport: int, dport: int, flags: int = SYN
) -> bytes:
    """Return a TCP segment without data. `ether`: destination and source MAC, 12 bytes. Each source
    has a sequence number of its own: those that share one are decoys."""
    seq = zlib.crc32(source.encode())
    header = struct.pack("!HHIIBBHHH", sport, dport, seq, 0, 0x50, flags, 64240, 0, 0)
    return _frame(ether, source, target, socket.IPPROTO_TCP, header, 16)


def tcp_segment(
    ether: bytes, source: str, target: str, sport: int, dport: int, flags: int, *,
    seq: int, ack: int, window: int = 64240, options: bytes = b"",
) -> bytes:  # fmt: skip
    """Return a TCP segment without data, with its sequence numbers; `options`: whole words."""
    words = 5 + len(options) // 4
    header = struct.pack("!HHIIBBHHH", sport, dport, seq, ack, words << 4, flags, window, 0, 0)
    return _frame(ether, source, target, socket.IPPROTO_TCP, header + options, 16)


def udp_frame(
    ether: bytes, source: str, target: str, sport: int, dport: int, data: bytes = b"?"
) -> bytes:
    """Return a UDP datagram."""
    header = struct.pack("!HHHH", sport, dport, 8 + len(data), 0)
    return _frame(ether, source, target, socket.IPPROTO_UDP, header + data, 6)


def icmp_frame(
    ether: bytes, source: str, target: str, kind: int, number: int, data: bytes = b""
) -> bytes:
    """Return an ICMP message of the sources' family; `number`: identifier and sequence number, or
    the type's field at their place."""
    message = struct.pack("!BBHI", kind, 0, 0, number) + data
    protocol = socket.IPPROTO_ICMPV6 if ":" in source else socket.IPPROTO_ICMP
    return _frame(ether, source, target, protocol, message, 2)


def ip_frame(
    ether: bytes, source: str, target: str, protocol: int, rest: bytes, *, ttl: int = 64
) -> bytes:
    """Return a packet of any protocol; `ttl` is the hop limit in IPv6."""
    here, there = ip_address(source).packed, ip_address(target).packed
    if len(here) == 16:
        header = struct.pack("!IHBB", 6 << 28, len(rest), protocol, ttl) + here + there
        return ether + struct.pack("!H", ETH_P_IPV6) + header + rest
    fields = (0x45, 0, 20 + len(rest), 0, 0x4000, ttl, protocol, 0)
    header = struct.pack("!BBHHHBBH", *fields) + here + there
    header = header[:10] + struct.pack("!H", _checksum(header)) + header[12:]
    return ether + struct.pack("!H", ETH_P_IP) + header + rest


def _frame(
    ether: bytes, source: str, target: str, protocol: int, transport: bytes, checksum_at: int
) -> bytes:
    here, there = ip_address(source).packed, ip_address(target).packed
    pseudo = here + there + struct.pack("!II", len(transport), protocol)
    if protocol == socket.IPPROTO_ICMP:
        pseudo = b""  # RFC 792: over the message alone
    checksum = struct.pack("!H", _checksum(pseudo + transport) or 0xFFFF)
    transport = transport[:checksum_at] + checksum + transport[checksum_at + 2 :]
    return ip_frame(ether, source, target, protocol, transport)


def _checksum(data: bytes) -> int:
    """Return the checksum of RFC 1071."""
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) & 1)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
