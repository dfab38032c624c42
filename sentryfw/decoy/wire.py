"""Messages from the decoy process to the daemon: of one size, and checked on arrival.

The decoy process talks to attackers, so the daemon trusts a message only as far as it can check
it.
"""

import struct
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final, NamedTuple

CONNECTED: Final = 1
PAYLOAD: Final = 2
REQUEST: Final = 3
MAX_PAYLOAD: Final = 256
"""Bytes that are kept of the data that a visitor sends."""
MESSAGE: Final = struct.Struct(f"!BBHHH16s16s{MAX_PAYLOAD}s")
_SIZES: Final = {4: 4, 6: 16}


class Visit(NamedTuple):
    """A finished handshake with a decoy, or the first bytes of one."""

    kind: int
    """CONNECTED; REQUEST: CONNECTED, and then it sent what any web page makes a browser send;
    PAYLOAD: the first bytes, after the report of the handshake."""
    source: bytes
    """Address, 4 or 16 bytes, network order."""
    sport: int
    target: bytes
    port: int
    """The port that the visitor connected to, before redirection."""
    payload: bytes = b""


def encode(visit: Visit) -> bytes:
    """Return the message of a visit."""
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
    """Return the visit of a message; None if it is malformed, or its port is not a decoy."""
    if len(message) != MESSAGE.size:
        return None
    kind, family, sport, port, length, source, target, payload = MESSAGE.unpack(message)
    size = _SIZES.get(family)
    if size is None or kind not in {CONNECTED, PAYLOAD, REQUEST} or length > MAX_PAYLOAD:
        return None
    if not any(first <= port <= last for first, last in ports):
        return None
    address = ip_address(source[:size])
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        return None
    return Visit(kind, source[:size], sport, target[:size], port, payload[:length])


def shown(payload: bytes) -> str:
    """Return bytes as printable ASCII, all others as \\xNN; safe for terminals and logs."""
    return "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte != 0x5C else f"\\x{byte:02x}" for byte in payload
    )
