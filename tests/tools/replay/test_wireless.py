"""Wi-Fi frames, with scapy's as the oracle."""

import struct
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dot11 import Dot11, Dot11QoS, RadioTap
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import LLC, SNAP

from sentryfw.tools.replay.wireless import avs, ieee80211, ppi, prism, radiotap

V4: Final = IP(src="203.0.113.7", dst="192.0.2.1") / TCP(dport=22)
IP_BYTES: Final = bytes(V4)
MACS: Final = {f"addr{n}": f"02:00:00:00:00:0{n}" for n in range(1, 5)}
DATA: Final = LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / SNAP(code=0x0800) / V4


def _wifi(flags: str = "to_DS", subtype: int = 0, **fields: Any) -> bytes:
    head = Dot11(type=2, subtype=subtype, FCfield=flags, **MACS, **fields)
    return bytes(head / Dot11QoS() / DATA if subtype & 8 else head / DATA)


PLAIN: Final = _wifi()
PPI: Final = struct.pack("<BBHI", 0, 0, 8, 105)
FRAMES: Final[dict[str, tuple[Callable[[bytes, int, int], int], bytes]]] = {
    "to the access point": (ieee80211, PLAIN),
    "from the access point": (ieee80211, _wifi("from_DS")),
    "between access points": (ieee80211, _wifi("to_DS+from_DS")),
    "quality of service": (ieee80211, _wifi(subtype=8)),
    "radiotap": (radiotap, bytes(RadioTap()) + PLAIN),
    "prism": (prism, b"\x44\x00\x00\x00" + bytes(140) + PLAIN),
    "AVS": (avs, b"\x80\x21\x10\x01" + (64).to_bytes(4) + bytes(56) + PLAIN),
    "AVS as prism": (prism, b"\x80\x21\x10\x01" + (64).to_bytes(4) + bytes(56) + PLAIN),
    "PPI": (ppi, PPI + PLAIN),
}
OTHERS: Final[dict[str, tuple[Callable[[bytes, int, int], int], bytes]]] = {
    "encrypted": (ieee80211, _wifi("to_DS+protected")),
    "a beacon": (ieee80211, bytes(Dot11(type=0, subtype=8, **MACS)) + bytes(60)),
    "no data": (ieee80211, _wifi(subtype=4)),
    "a later fragment": (ieee80211, _wifi(SC=1)),
    "an aggregate": (
        ieee80211,
        _wifi(subtype=8)[:24] + b"\x80" + _wifi(subtype=8)[25:],
    ),
    "a radiotap header without a length": (radiotap, bytes(8) + PLAIN),
    "PPI of Ethernet": (ppi, struct.pack("<BBHI", 0, 0, 8, 1) + PLAIN),
}


@pytest.mark.parametrize("name", FRAMES)
def test_the_ip_packet_is_found_where_scapy_put_it(name: str) -> None:
    find, frame = FRAMES[name]
    data = b"before" + frame + b"after"
    end = len(data) - 5
    assert data[find(data, 6, end) : end] == IP_BYTES


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_cut_before_its_ip_packet_holds_none(name: str) -> None:
    find, frame = FRAMES[name]
    assert all(find(frame, 0, end) == -1 for end in range(len(frame) - len(IP_BYTES)))


@pytest.mark.parametrize("name", OTHERS)
def test_other_frames_hold_none(name: str) -> None:
    find, frame = OTHERS[name]
    assert find(frame, 0, len(frame)) == -1


@given(st.sampled_from((ieee80211, radiotap, prism, avs, ppi)), st.binary(max_size=64), st.data())
def test_no_bytes_make_it_raise_or_read_beyond_the_frame(
    find: Callable[[bytes, int, int], int], data: bytes, draw: st.DataObject
) -> None:
    start = draw.draw(st.integers(0, len(data)))
    end = draw.draw(st.integers(start, len(data)))
    at = find(data, start, end)
    assert at == -1 or start <= at <= end
