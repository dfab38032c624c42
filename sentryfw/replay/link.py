"""Link layer -> where the IP packet starts in a frame, or -1. Never raises, whatever the bytes.

Link types are the numbers of https://www.tcpdump.org/linktypes.html.
"""

from collections.abc import Callable
from typing import Final

ETH_P_IP: Final = b"\x08\x00"
ETH_P_IPV6: Final = b"\x86\xdd"
ETH_P_PPP_SES: Final = b"\x88\x64"
_IP: Final = frozenset((ETH_P_IP, ETH_P_IPV6))
_VLAN: Final = frozenset((b"\x81\x00", b"\x88\xa8", b"\x91\x00"))
_PPP_IP: Final = frozenset((b"\x00\x21", b"\x00\x57"))
_AF_IP: Final = frozenset(
    number.to_bytes(4, order)  # AF_INET; AF_INET6 of Linux, NetBSD, FreeBSD, Darwin
    for number in (2, 10, 24, 28, 30)
    for order in ("big", "little")
)
"""The first four bytes of BSD null (the capturing host's byte order) and loop."""

MAX_TAGS: Final = 8

Find = Callable[[bytes, int, int], int]
"""Buffer, start and end of the frame -> start of the IP packet in the buffer, or -1."""


def _ethernet(data: bytes, start: int, end: int) -> int:
    at = start + 14
    if at <= end and data[start + 12 : at] == ETH_P_IP:  # nearly every frame
        return at
    return _after_type(data, start + 12, end)


def _cooked(data: bytes, start: int, end: int) -> int:
    """Linux cooked v1: 16 bytes, the EtherType last."""
    return _after_type(data, start + 14, end)


def _cooked2(data: bytes, start: int, end: int) -> int:
    """Linux cooked v2: 20 bytes, the EtherType first; a VLAN tag still follows the 20."""
    at = start + 20
    if at > end:
        return -1
    kind = data[start : start + 2]
    if kind in _IP:
        return at
    return _after_type(data, at + 2, end) if kind in _VLAN else -1


def _after_type(data: bytes, at: int, end: int) -> int:
    """What follows an EtherType at `at`, behind any VLAN tags and a PPPoE session header."""
    for _ in range(MAX_TAGS):
        if at + 2 > end:
            return -1
        kind = data[at : at + 2]
        if kind in _IP:
            return at + 2
        if kind == ETH_P_PPP_SES:  # RFC 2516: version, code, session, length; then PPP's protocol
            return at + 10 if at + 10 <= end and data[at + 8 : at + 10] in _PPP_IP else -1
        if kind not in _VLAN:
            return -1
        at += 4
    return -1


def _raw(_data: bytes, start: int, end: int) -> int:
    return start if start < end else -1


def _null(data: bytes, start: int, end: int) -> int:
    at = start + 4
    return at if at <= end and data[start:at] in _AF_IP else -1


LINKS: Final[dict[int, Find]] = {
    0: _null,
    1: _ethernet,
    12: _raw,
    101: _raw,
    108: _null,
    113: _cooked,
    228: _raw,
    229: _raw,
    276: _cooked2,
}
