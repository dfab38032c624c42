"""Find the IP packet in a frame by its link type. No bytes make these functions raise.

Link types are the numbers of https://www.tcpdump.org/linktypes.html.
"""

from collections.abc import Callable
from typing import Final, Literal

from sentryfw.tools.replay.link import after_llc, after_ppp, at_type, behind
from sentryfw.tools.replay.wireless import avs, ieee80211, ppi, prism, radiotap

ETHERNET: Final = 1
"""LINKTYPE_ETHERNET, the usual one."""
_IP: Final = b"\x08\x00"
_AF_BYTES: Final = frozenset((2, 10, 24, 28, 30))
"""AF_INET; AF_INET6 of Linux, NetBSD, FreeBSD, Darwin."""
_AF_IP: Final = frozenset(number.to_bytes(4, "big") for number in _AF_BYTES) | frozenset(
    number.to_bytes(4, "little") for number in _AF_BYTES
)
"""The first four bytes of BSD null (the capturing host's byte order) and loop."""

NFULA_PAYLOAD: Final = 9
MAX_ATTRIBUTES: Final = 32

Find = Callable[[bytes, int, int], int]
"""A function of buffer, start and end of the frame: the offset of the IP packet, or -1."""


def ethernet(data: bytes, start: int, end: int) -> int:
    """Find the packet in an Ethernet frame."""
    at = start + 14
    if at <= end and data[start + 12 : at] == _IP:  # nearly every frame
        return at
    return at_type(data, start + 12, end)


def _cooked(data: bytes, start: int, end: int) -> int:
    """Find the packet in Linux cooked v1: 16 bytes, the EtherType last."""
    return at_type(data, start + 14, end)


def _cooked2(data: bytes, start: int, end: int) -> int:
    """Find the packet in Linux cooked v2: 20 bytes, the EtherType first."""
    return behind(data, int.from_bytes(data[start : start + 2]), start + 20, end)


def _raw(_data: bytes, start: int, end: int) -> int:
    """Find the packet in a frame without a header."""
    return start if start < end else -1


def _null(data: bytes, start: int, end: int) -> int:
    """Find the packet behind an address family."""
    at = start + 4
    return at if at <= end and data[start:at] in _AF_IP else -1


def _ppp(data: bytes, start: int, end: int) -> int:
    """Find the packet in PPP; address and control (RFC 1662) may have been left out."""
    at = start + 2 if data[start : start + 2] in (b"\xff\x03", b"\x0f\x00") else start
    if at > start and data[start] == 0x0F:  # Cisco HDLC in a frame of PPP
        return at_type(data, at, end)
    return behind(data, *after_ppp(data, at, end), end)


def _ppp_directed(data: bytes, start: int, end: int) -> int:
    """Find the packet in PPP behind a byte for the direction."""
    return _ppp(data, start + 1, end)


def _cisco_hdlc(data: bytes, start: int, end: int) -> int:
    return at_type(data, start + 2, end)


def _frame_relay(data: bytes, start: int, end: int) -> int:
    """Find the packet in frame relay with a header of two bytes (RFC 2427)."""
    at = start + 4
    return at if at <= end and data[start + 2 : at] in (b"\x03\xcc", b"\x03\x8e") else -1


def _llc(data: bytes, start: int, end: int) -> int:
    """Find the packet in LLC without a header before it (RFC 2684)."""
    return behind(data, *after_llc(data, start, end), end)


def _fddi(data: bytes, start: int, end: int) -> int:
    return behind(data, *after_llc(data, start + 13, end), end)


def _slip(_data: bytes, start: int, end: int) -> int:
    return start + 16 if start + 16 < end else -1


def _pflog(data: bytes, start: int, end: int) -> int:
    """Find the packet behind a header that begins with its length, of OpenBSD's packet filter."""
    if start >= end:
        return -1
    at = start + (data[start] + 3 & ~3)
    return at if start + 4 <= at < end and data[start + 1] in _AF_BYTES else -1


def _nflog(data: bytes, start: int, end: int) -> int:
    """Find the packet in an NFLOG record: attributes in the order of the recording host."""
    order: Literal["little", "big"] = "little"
    if start + 8 <= end and int.from_bytes(data[start + 4 : start + 6], order) > end - start:
        order = "big"
    at = start + 4
    for _ in range(MAX_ATTRIBUTES):
        if at + 4 > end:
            break
        size = int.from_bytes(data[at : at + 2], order)
        if int.from_bytes(data[at + 2 : at + 4], order) == NFULA_PAYLOAD:
            return at + 4
        at += max(size + 3 & ~3, 4)
    return -1


LINKS: Final[dict[int, Find]] = {
    0: _null,
    ETHERNET: ethernet,
    8: _slip,
    9: _ppp,
    10: _fddi,
    12: _raw,
    14: _raw,
    50: _ppp,
    51: _ppp,
    100: _llc,
    101: _raw,
    104: _cisco_hdlc,
    105: ieee80211,
    107: _frame_relay,
    108: _null,
    113: _cooked,
    117: _pflog,
    119: prism,
    127: radiotap,
    163: avs,
    166: _ppp,
    192: ppi,
    204: _ppp_directed,
    228: _raw,
    229: _raw,
    239: _nflog,
    276: _cooked2,
}
