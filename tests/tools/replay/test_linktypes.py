"""Link types other than Ethernet and Linux cooked, which are in test_link.py."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from sentryfw.tools.replay.linktypes import LINKS

V4 = bytes(IP(src="203.0.113.7", dst="192.0.2.1") / TCP(dport=22))
V6 = bytes(IPv6(src="2001:db8::7", dst="2001:db8:1::1") / TCP(dport=22))
SNAP = b"\xaa\xaa\x03\x00\x00\x00"


def _attribute(kind: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


CASES: dict[str, tuple[int, bytes, bytes]] = {
    "ppp": (9, b"\x00\x21", V4),
    "ppp of IPv6": (9, b"\x00\x57", V6),
    "ppp, compressed": (9, b"\x21", V4),
    "ppp with address and control": (50, b"\xff\x03\x00\x57", V6),
    "ppp with Cisco HDLC": (50, b"\x0f\x00\x08\x00", V4),
    "ppp of a session": (51, b"\xff\x03\x21", V4),
    "ppp with a direction": (204, b"\x01\xff\x03\x00\x21", V4),
    "ppp with MPLS": (9, b"\x02\x81\x00\x01\x01\x40", V4),
    "Cisco HDLC": (104, b"\x0f\x00\x86\xdd", V6),
    "frame relay": (107, b"\x18\x41\x03\xcc", V4),
    "frame relay of IPv6": (107, b"\x18\x41\x03\x8e", V6),
    "LLC": (100, SNAP + b"\x08\x00", V4),
    "LLC with IP's own SAP": (100, b"\x06\x06\x03", V4),
    "FDDI": (10, bytes(13) + SNAP + b"\x86\xdd", V6),
    "SLIP": (8, bytes(16), V4),
    "raw of OpenBSD": (14, b"", V6),
    "pflog": (117, b"\x3d\x02" + bytes(62), V4),
    "nflog": (239, b"\x02\x00\x00\x00" + _attribute(10, b"name\0") + _attribute(9, b""), V4),
    "nflog, big": (
        239, b"\x0a\x00\x00\x00" + _attribute(10, b"name\0", ">") + _attribute(9, b"", ">"), V6,
    ),
}  # fmt: skip
NO_IP: dict[str, tuple[int, bytes]] = {
    "LCP": (9, b"\xff\x03\xc0\x21" + V4),
    "keepalive of Cisco HDLC": (104, b"\x8f\x00\x80\x35" + V4),
    "LMI of frame relay": (107, b"\x00\x01\x03\x08" + V4),
    "spanning tree": (100, b"\x42\x42\x03" + V4),
    "pflog of another family": (117, b"\x3d\x07" + bytes(62) + V4),
    "pflog shorter than itself": (117, b"\x00\x02" + V4),
    "nflog without a packet": (239, bytes(4) + _attribute(10, b"name") * 50),
    "nflog of empty attributes": (239, bytes(400)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_ip_packet_is_found(name: str) -> None:
    linktype, header, ip = CASES[name]
    data = b"before" + header + ip + b"after"
    end = len(data) - 5
    assert data[LINKS[linktype](data, 6, end) : end] == ip


@pytest.mark.parametrize("name", CASES)
def test_a_frame_cut_before_its_ip_packet_holds_none(name: str) -> None:
    linktype, header, ip = CASES[name]
    data = header + ip
    assert all(LINKS[linktype](data, 0, end) == -1 for end in range(len(header)))


@pytest.mark.parametrize("name", NO_IP)
def test_other_protocols_are_not_taken_for_ip(name: str) -> None:
    linktype, frame = NO_IP[name]
    assert LINKS[linktype](frame, 0, len(frame)) == -1


@given(st.sampled_from(sorted(LINKS)), st.binary(max_size=64), st.data())
def test_no_bytes_make_it_raise_or_read_beyond_the_frame(
    linktype: int, data: bytes, draw: st.DataObject
) -> None:
    start = draw.draw(st.integers(0, len(data)))
    end = draw.draw(st.integers(start, len(data)))
    at = LINKS[linktype](data, start, end)
    assert at == -1 or start <= at <= end
