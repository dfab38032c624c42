"""The start of the IP packet, with scapy's link layers as the oracle."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib.mpls import MPLS
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import (
    ARP,
    LLC,
    SNAP,
    CookedLinux,
    CookedLinuxV2,
    Dot1AD,
    Dot1Q,
    Dot3,
    Ether,
    Loopback,
)
from scapy.layers.ppp import PPP, PPPoE

from sentryfw.tools.replay.link import MAX_HEADERS, behind
from sentryfw.tools.replay.linktypes import LINKS

V4 = IP(src="203.0.113.7", dst="192.0.2.1") / TCP(dport=22)
V6 = IPv6(src="2001:db8::7", dst="2001:db8:1::1") / TCP(dport=22)
IP_BYTES = {4: bytes(V4), 6: bytes(V6)}
SNAPPED = LLC(dsap=0xAA, ssap=0xAA, ctrl=3)
MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}


def _layers(version: int) -> dict[str, tuple[int, Any]]:
    ip = {4: V4, 6: V6}[version]
    kind = {4: 0x0800, 6: 0x86DD}[version]
    ppp = {4: 0x0021, 6: 0x0057}[version]
    family = {4: 2, 6: 10}[version]
    return {
        "ethernet": (1, Ether(**MACS) / ip),
        "vlan": (1, Ether(**MACS) / Dot1Q(vlan=7) / ip),
        "stacked vlan": (1, Ether(**MACS) / Dot1AD(vlan=7) / Dot1Q(vlan=8) / ip),
        "three tags": (1, Ether(**MACS) / Dot1Q(vlan=7) / Dot1Q(vlan=8) / Dot1Q(vlan=9) / ip),
        "pppoe": (1, Ether(**MACS, type=0x8864) / PPPoE(sessionid=5) / PPP(proto=ppp) / ip),
        "pppoe in vlan": (
            1, Ether(**MACS) / Dot1Q(vlan=7, type=0x8864) / PPPoE() / PPP(proto=ppp) / ip,
        ),
        "cooked": (113, CookedLinux(proto=kind) / ip),
        "cooked vlan": (113, CookedLinux(proto=0x8100) / Dot1Q(vlan=7, type=kind) / ip),
        "cooked v2": (276, CookedLinuxV2(proto=kind) / ip),
        "cooked v2 vlan": (276, CookedLinuxV2(proto=0x8100) / Dot1Q(vlan=7, type=kind) / ip),
        "pppoe, compressed": (
            1, Ether(**MACS, type=0x8864) / PPPoE(sessionid=5) / bytes([ppp]) / bytes(ip),
        ),
        "802.3 with SNAP": (1, Dot3(**MACS) / SNAPPED / SNAP(code=kind) / ip),
        "802.3 in a vlan": (
            1, Ether(**MACS) / Dot1Q(vlan=7, type=len(ip) + 8) / SNAPPED
            / SNAP(code=kind) / ip,
        ),
        "mpls": (1, Ether(**MACS, type=0x8847) / MPLS(label=16, s=1) / ip),
        "mpls stack": (
            1, Ether(**MACS, type=0x8848) / MPLS(label=16, s=0) / MPLS(label=17, s=0)
            / MPLS(label=18, s=1) / ip,
        ),
        "mpls in pppoe": (
            1, Ether(**MACS, type=0x8864) / PPPoE() / b"\x02\x81" / MPLS(label=16, s=1) / ip,
        ),
        "ethernet in mpls": (
            1, Ether(**MACS, type=0x8847) / MPLS(label=16, s=1) / bytes(4) / Ether(**MACS)
            / Dot1Q(vlan=9) / ip,
        ),
        "cooked mpls": (113, CookedLinux(proto=0x8847) / MPLS(label=16, s=1) / ip),
        "cooked v2 pppoe": (276, CookedLinuxV2(proto=0x8864) / PPPoE() / PPP(proto=ppp) / ip),
        "cooked 802.2": (
            113, CookedLinux(proto=4) / SNAPPED / SNAP(code=kind) / ip,
        ),
        "raw": (101, ip),
        "raw of BSD": (12, ip),
        "raw by version": ({4: 228, 6: 229}[version], ip),
        "loop": (108, family.to_bytes(4) + bytes(ip)),
        "null, little": (0, family.to_bytes(4, "little") + bytes(ip)),
        "null, big": (0, family.to_bytes(4) + bytes(ip)),
        "null of Darwin": (0, Loopback(type={4: 2, 6: 30}[version]) / bytes(ip)),
    }  # fmt: skip


CASES = [
    pytest.param(linktype, bytes(frame), IP_BYTES[version], id=f"{name}-ipv{version}")
    for version in (4, 6)
    for name, (linktype, frame) in _layers(version).items()
]
NO_IP = {
    "arp": (1, Ether(**MACS) / ARP()),
    "802.3 with LLC and SNAP": (1, Dot3(**MACS) / LLC() / SNAP() / b"data"),
    "pppoe with LCP": (1, Ether(**MACS, type=0x8864) / PPPoE() / PPP(proto=0xC021) / bytes(8)),
    "arp in a vlan": (1, Ether(**MACS) / Dot1Q(vlan=7) / ARP()),
    "cooked arp": (113, CookedLinux(proto=0x0806) / ARP()),
    "cooked v2 arp": (276, CookedLinuxV2(proto=0x0806) / ARP()),
    "null with another family": (0, (7).to_bytes(4) + bytes(V4)),
    "nothing": (101, b""),
    "more tags than anybody stacks": (
        1, bytes(12) + b"\x81\x00\x00\x01" * MAX_HEADERS + b"\x08\x00" + bytes(V4),
    ),
    "more labels than anybody stacks": (
        1, bytes(12) + b"\x88\x47" + b"\x00\x01\x00\x40" * MAX_HEADERS + bytes(V4),
    ),
    "mpls without a last label": (1, Ether(**MACS, type=0x8847) / MPLS(label=16, s=0)),
    "mpls with something else": (1, Ether(**MACS, type=0x8847) / MPLS(s=1) / b"\x90" / bytes(40)),
    "pppoe with compressed LCP": (1, Ether(**MACS, type=0x8864) / PPPoE() / b"\x23" / bytes(40)),
    "SNAP of a vendor": (
        1, Dot3(**MACS) / SNAPPED / SNAP(OUI=0xC, code=0x1234) / V4,
    ),
    "spanning tree": (1, Dot3(**MACS) / LLC(dsap=0x42, ssap=0x42, ctrl=3) / bytes(35)),
}  # fmt: skip


@pytest.mark.parametrize(("linktype", "frame", "ip"), CASES)
def test_the_ip_packet_is_found_where_scapy_put_it(linktype: int, frame: bytes, ip: bytes) -> None:
    before = b"before"  # a buffer holds many frames
    data = before + frame + b"after"
    end = len(before) + len(frame)
    at = LINKS[linktype](data, len(before), end)
    assert data[at:end] == ip


@pytest.mark.parametrize(("linktype", "frame", "ip"), CASES)
def test_a_frame_cut_before_its_ip_packet_holds_none(
    linktype: int, frame: bytes, ip: bytes
) -> None:
    for end in range(len(frame) - len(ip)):
        assert LINKS[linktype](frame, 0, end) == -1


@pytest.mark.parametrize("name", NO_IP)
def test_other_protocols_are_not_taken_for_ip(name: str) -> None:
    linktype, frame = NO_IP[name]
    assert LINKS[linktype](bytes(frame), 0, len(bytes(frame))) == -1


@given(st.integers(0, 0xFFFF), st.binary(max_size=64), st.data())
def test_no_bytes_make_it_raise_or_read_beyond_the_frame(
    kind: int, data: bytes, draw: st.DataObject
) -> None:
    kind = draw.draw(st.sampled_from((kind, 0x0800, 0x8100, 0x8847, 0x8864, len(data), 0)))
    start = draw.draw(st.integers(0, len(data)))
    end = draw.draw(st.integers(start, len(data)))
    at = behind(data, kind, start, end)
    assert at == -1 or start <= at <= end
