"""Find the IP packet behind an EtherType: its offset, or -1. No bytes make these functions raise.

Headers that say otherwise what comes next, PPP's and LLC's, are turned into EtherTypes.
"""

from typing import Final

ETH_P_IP: Final = 0x0800
ETH_P_IPV6: Final = 0x86DD
ETH_P_PPP_SES: Final = 0x8864
ETH_P_MPLS_UC: Final = 0x8847
ETH_P_MPLS_MC: Final = 0x8848
ETH_P_802_3_MIN: Final = 0x0600
"""Smaller values are the length of an IEEE 802.3 frame, and LLC comes next."""
_VLAN: Final = frozenset((0x8100, 0x88A8, 0x9100, 0x9200))

_PPP: Final = {0x21: ETH_P_IP, 0x57: ETH_P_IPV6, 0x281: ETH_P_MPLS_UC, 0x283: ETH_P_MPLS_MC}
"""EtherTypes of PPP's protocols (RFC 1332, RFC 5072, RFC 3032)."""
_LLC_SNAP: Final = b"\xaa\xaa\x03"
_LLC_IP: Final = b"\x06\x06\x03"

MAX_HEADERS: Final = 16
"""VLAN tags, MPLS labels and other headers before the IP packet."""

Next = tuple[int, int]
"""EtherType and offset of what comes next; the offset is -1 if it is unknown."""

NOTHING: Final = 0, -1


def at_type(data: bytes, at: int, end: int) -> int:
    """Find the packet behind the EtherType at `at`."""
    return behind(data, int.from_bytes(data[at : at + 2]), at + 2, end)


def behind(data: bytes, kind: int, at: int, end: int) -> int:
    """Find the packet in what an EtherType announces, which starts at `at`."""
    for _ in range(MAX_HEADERS):
        if at < 0 or at > end:
            return -1
        if kind in (ETH_P_IP, ETH_P_IPV6):
            return at
        if kind in _VLAN:
            kind, at = int.from_bytes(data[at + 2 : at + 4]), at + 4
        elif kind == ETH_P_PPP_SES:  # RFC 2516: version, code, session, length; then PPP
            kind, at = after_ppp(data, at + 6, end)
        elif kind in (ETH_P_MPLS_UC, ETH_P_MPLS_MC):
            kind, at = _after_label(data, kind, at, end)
        elif kind < ETH_P_802_3_MIN:
            kind, at = after_llc(data, at, end)
        else:
            return -1
    return -1


def after_ppp(data: bytes, at: int, end: int) -> Next:
    """Read PPP's protocol, of one byte where it is compressed (RFC 1661, section 6.5)."""
    if at >= end:
        return NOTHING
    size = 1 if data[at] & 1 else 2
    return _PPP.get(int.from_bytes(data[at : at + size]), 0xFFFF), at + size


def _after_label(data: bytes, kind: int, at: int, end: int) -> Next:
    """Read an MPLS label (RFC 3032). Behind the last one is an IP packet, or, behind a control word
    of zeros (RFC 4448), an Ethernet frame."""
    if at + 5 > end:
        return NOTHING
    if not data[at + 2] & 1:
        return kind, at + 4
    at += 4
    version = data[at] >> 4
    if version in (4, 6):
        return ETH_P_IP if version == 4 else ETH_P_IPV6, at
    if version == 0 and at + 18 <= end:
        return int.from_bytes(data[at + 16 : at + 18]), at + 18
    return NOTHING


def after_llc(data: bytes, at: int, end: int) -> Next:
    """Read LLC (IEEE 802.2): IP's own SAP, or SNAP with an EtherType (RFC 1042)."""
    head = data[at : at + 3]
    if head == _LLC_IP and at + 3 <= end:
        return ETH_P_IP, at + 3
    if head == _LLC_SNAP and at + 8 <= end and data[at + 3 : at + 5] == b"\x00\x00":
        kind = int.from_bytes(data[at + 6 : at + 8])
        return kind if kind >= ETH_P_802_3_MIN else 0xFFFF, at + 8
    return NOTHING
