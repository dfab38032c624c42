"""What the decoy tells the daemon: messages of one size, checked on arrival.

The decoy talks to attackers, so its messages are believed as far as they can be checked.
"""

import struct
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final, NamedTuple

CONNECTED: Final = 1
PAYLOAD: Final = 2
MAX_PAYLOAD: Final = 256
"""Bytes of what a visitor sends that are kept."""
MESSAGE: Final = struct.Struct(f"!BBHHH16s16s{MAX_PAYLOAD}s")
_SIZES: Final = {4: 4, 6: 16}


class Visit(NamedTuple):
    """A finished handshake with a decoy, or the first bytes of one."""

    kind: int
    source: bytes
    """Address, 4 or 16 bytes, network order."""
    sport: int
    target: bytes
    port: int
    """The one that the visitor meant."""
    payload: bytes = b""


def encode(visit: Visit) -> bytes:
    """One message."""
    payload = visit.payload[:MAX_PAYLOAD]
    family = 4 if len(visit.source) == 4 else 6
    return MESSAGE.pack(
        visit.kind,
        family,
        visit.sport,
        visit.port,
        len(payload),
        visit.source,
        visit.target,
        payload,
    )


def decode(message: bytes, ports: Iterable[tuple[int, int]]) -> Visit | None:
    """The visit, or None if the message is no such thing, or of a port that is no decoy."""
    if len(message) != MESSAGE.size:
        return None
    kind, family, sport, port, length, source, target, payload = MESSAGE.unpack(message)
    size = _SIZES.get(family)
    if size is None or kind not in {CONNECTED, PAYLOAD} or length > MAX_PAYLOAD:
        return None
    if not any(first <= port <= last for first, last in ports):
        return None
    address = ip_address(source[:size])
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        return None
    return Visit(kind, source[:size], sport, target[:size], port, payload[:length])


def shown(payload: bytes) -> str:
    """Bytes as text that harms no terminal and no log: printable ASCII, the rest as \\xNN."""
    return "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte != 0x5C else f"\\x{byte:02x}" for byte in payload
    )
