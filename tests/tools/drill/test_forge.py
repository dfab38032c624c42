"""Forged packets are byte for byte what scapy makes of the same fields."""

from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6

from sentryfw.tools.drill import forge
from sentryfw.tools.drill.attacks import ATTACKS

ENDS = {
    4: ("198.18.0.1", "198.18.0.2"),
    6: ("2001:2::1", "2001:2::2"),
}


def without_ipv4_checksum(packet: bytes) -> bytes:
    """Return the packet as raw(7) takes it: the kernel writes length and checksum of the header."""
    return packet[:10] + bytes(2) + packet[12:] if packet[0] >> 4 == 4 else packet


def by_scapy(family: int, transport: Any) -> bytes:
    source, target = ENDS[family]
    network: Any = IP(src=source, dst=target, id=0) if family == 4 else IPv6(src=source, dst=target)
    return without_ipv4_checksum(bytes(network / transport))


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("port", [1, 80, 65535])
@pytest.mark.parametrize(
    "flags", [attack.flags for attack in ATTACKS if attack.flags.isupper() or not attack.flags]
)
def test_a_tcp_packet(family: int, port: int, flags: str) -> None:
    made = forge.tcp(*ENDS[family], port, flags)
    transport = TCP(sport=40000, dport=port, flags=flags, seq=port, window=1024)
    assert made == by_scapy(family, transport)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("port", [1, 80, 65535])
def test_a_udp_packet(family: int, port: int) -> None:
    assert forge.udp(*ENDS[family], port) == by_scapy(family, UDP(sport=40000, dport=port))


def test_a_udp_checksum_of_zero_is_sent_as_all_ones() -> None:
    """RFC 768: a checksum of 0 would mean that there is none."""
    packets = [forge.udp(*ENDS[4], port) for port in range(65536)]
    assert all(packet[26:28] != b"\0\0" for packet in packets)
    assert any(packet[26:28] == b"\xff\xff" for packet in packets)
