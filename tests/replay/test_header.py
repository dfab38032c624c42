"""The fast way to a packet's headers leads to what decode() reads."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.engine.model import Malformed, Packet
from sentryfw.engine.packet import decode
from sentryfw.replay.header import COPY_RANGE, read_header
from support import forge

TCP_PACKET = forge.ip("203.0.113.7", "192.0.2.1", forge.TCP, forge.tcp(22, "SA"))
UDP_PACKET = forge.ip("203.0.113.7", "192.0.2.1", forge.UDP, forge.udp(53, data=bytes(20)))


def _is_as_decoded(packet: bytes) -> bool:
    """In the middle of a buffer, where a capture's packets are."""
    found = read_header(b"before" + packet + b"after" * 20, 6, 6 + len(packet))
    expected = decode(packet[:COPY_RANGE])
    if isinstance(found, Malformed) or isinstance(expected, Malformed):
        return found == expected
    return _without_bytes(found) == _without_bytes(expected)


def _without_bytes(packet: Packet) -> Packet:
    """Where the headers lie and what they say, without the packet itself."""
    return Packet(
        packet.source, packet.target, packet.protocol, packet.sport, packet.dport, packet.flags,
        packet.transport, b"",
    )  # fmt: skip


@st.composite
def _nearly_plain(draw: st.DrawFn) -> bytes:
    """IPv4 with TCP, UDP or something else, each field that decides now and then a lie."""
    rest = draw(st.binary(max_size=300))
    return struct.pack(
        "!BBHHHBBH4s4s",
        draw(st.sampled_from((0x45, 0x45, 0x45, 0x44, 0x46, 0x4F, 0x55, 0x65))),
        0,
        draw(st.sampled_from((20 + len(rest), 20 + len(rest), 0, 19, 27, 28, 39, 40, 65535))),
        1,
        draw(st.sampled_from((0, 0, 0x2000, 0x4000, 1, 0x1FFF))),
        64,
        draw(st.sampled_from((6, 6, 17, 17, 1, 132, 0))),
        0,
        draw(st.binary(min_size=4, max_size=4)),
        draw(st.binary(min_size=4, max_size=4)),
    ) + rest  # fmt: skip


@pytest.mark.parametrize("packet", [TCP_PACKET, UDP_PACKET], ids=["tcp", "udp"])
def test_a_plain_packet_is_read_without_a_copy_of_it(packet: bytes) -> None:
    found, expected = read_header(packet, 0, len(packet)), decode(packet)
    assert isinstance(expected, Packet)
    assert found == _without_bytes(expected)


@pytest.mark.parametrize("packet", [TCP_PACKET, UDP_PACKET], ids=["tcp", "udp"])
def test_a_packet_cut_anywhere_is_read_as_decode_reads_it(packet: bytes) -> None:
    assert all(_is_as_decoded(packet[:end]) for end in range(len(packet)))


@given(_nearly_plain())
def test_headers_that_lie_are_read_as_decode_reads_them(packet: bytes) -> None:
    assert _is_as_decoded(packet)


@given(st.binary(max_size=100))
def test_any_bytes_are_read_as_decode_reads_them(packet: bytes) -> None:
    assert _is_as_decoded(packet)
