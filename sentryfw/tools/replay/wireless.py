"""Find the IP packet in a Wi-Fi frame (IEEE 802.11), and in the headers that drivers put before it.

Only plain data frames are read: neither encrypted ones nor aggregates.
"""

from typing import Final

from sentryfw.tools.replay.link import after_llc, behind

TYPE_DATA: Final = 0x08
"""First byte of a data frame, masked: bits 2 and 3 are its type."""
_NULL: Final = 0x40
_QOS: Final = 0x80
_TO_AND_FROM: Final = 0x03
_MORE_FRAGMENTS: Final = 0x04
_PROTECTED: Final = 0x40
_ORDER: Final = 0x80
_AGGREGATE: Final = 0x80
_IEEE80211: Final = (105).to_bytes(4, "little")
"""The link type behind a PPI header."""
PRISM_BYTES: Final = 144


def ieee80211(data: bytes, start: int, end: int) -> int:
    """Find the packet behind a header of IEEE 802.11, section 9.2.4, and LLC."""
    if start + 26 > end:
        return -1
    kind, flags = data[start], data[start + 1]
    if kind & 0x0F != TYPE_DATA or kind & _NULL or flags & _PROTECTED:
        return -1
    at = start + (30 if flags & _TO_AND_FROM == _TO_AND_FROM else 24)
    if kind & _QOS:
        if at >= end or data[at] & _AGGREGATE:
            return -1
        at += 6 if flags & _ORDER else 2
    if flags & _MORE_FRAGMENTS or data[start + 22] & 0x0F:
        return -1
    return behind(data, *after_llc(data, at, end), end)


def radiotap(data: bytes, start: int, end: int) -> int:
    """Find the packet behind a radiotap header, which has its length in bytes 2 and 3."""
    return _after(data, start, end, int.from_bytes(data[start + 2 : start + 4], "little"))


def ppi(data: bytes, start: int, end: int) -> int:
    """Find the packet behind a header of Per-Packet Information."""
    if data[start + 4 : start + 8] != _IEEE80211:
        return -1
    return _after(data, start, end, int.from_bytes(data[start + 2 : start + 4], "little"))


def prism(data: bytes, start: int, end: int) -> int:
    """Find the packet behind a Prism header, or the AVS header that some drivers put there."""
    if data[start : start + 2] == b"\x80\x21":
        return avs(data, start, end)
    return _after(data, start, end, PRISM_BYTES)


def avs(data: bytes, start: int, end: int) -> int:
    """Find the packet behind an AVS header, which has its length in bytes 4 to 7."""
    return _after(data, start, end, int.from_bytes(data[start + 4 : start + 8]))


def _after(data: bytes, start: int, end: int, size: int) -> int:
    return ieee80211(data, start + size, end) if size >= 8 else -1
