"""The fast way to a packet's headers leads to what decode() reads."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.engine.model import Malformed, Packet
from sentryfw.engine.packet import HIDDEN, decode
from sentryfw.netfilter.schema import COPY_RANGE_BYTES
from sentryfw.tools.replay.header import CUT_SHORT, read_header
from support import forge

TCP_PACKET = forge.ip("203.0.113.7", "192.0.2.1", forge.TCP, forge.tcp(22, "SA"))
UDP_PACKET = forge.ip("203.0.113.7", "192.0.2.1", forge.UDP, forge.udp(53, data=bytes(20)))


def _is_as_decoded(packet: bytes) -> bool:
    """In the middle of a buffer, where a capture's packets are."""
    found = read_header(b"before" + packet + b"after" * 20, 6, 6 + len(packet))
    expected = decode(_whole(packet)[:COPY_RANGE_BYTES])
    if found is CUT_SHORT:
        return isinstance(expected, Malformed) or expected.protocol == HIDDEN
    if isinstance(found, Malformed) or isinstance(expected, Malformed):
        return found == expected
    return _without_bytes(found) == _without_bytes(expected)


def _whole(packet: bytes) -> bytes:
    """Return an IPv4 packet of total length 0 with the length that was recorded."""
    if len(packet) >= 4 and packet[0] >> 4 == 4 and packet[2:4] == bytes(2):
        return packet[:2] + min(len(packet), 65535).to_bytes(2) + packet[4:]
    return packet


def _without_bytes(packet: Packet) -> Packet:
    """Return the header fields without the packet's bytes."""
    return Packet(
        packet.source, packet.target, packet.protocol, packet.sport, packet.dport, packet.flags,
        transport=packet.transport, payload=b"",
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


@pytest.mark.parametrize("flags", ["S", "SEC", "FS"])
def test_a_syn_keeps_the_bytes_that_the_table_tests(flags: str) -> None:
    packet = forge.ip("203.0.113.7", "192.0.2.1", forge.TCP, forge.tcp(22, flags))
    assert read_header(packet, 0, len(packet)) == decode(packet)


@pytest.mark.parametrize("packet", [TCP_PACKET, UDP_PACKET], ids=["tcp", "udp"])
def test_a_packet_cut_anywhere_is_read_as_decode_reads_it(packet: bytes) -> None:
    assert all(_is_as_decoded(packet[:end]) for end in range(len(packet)))


@given(_nearly_plain())
def test_headers_that_lie_are_read_as_decode_reads_them(packet: bytes) -> None:
    assert _is_as_decoded(packet)


@given(st.binary(max_size=100))
def test_any_bytes_are_read_as_decode_reads_them(packet: bytes) -> None:
    assert _is_as_decoded(packet)


# --- what only a capture shows


@pytest.mark.parametrize("size", [40, 1500, 70000])
def test_a_packet_of_length_0_is_as_long_as_the_recording(size: int) -> None:
    """The network card would have set the length and cut the packet (TSO)."""
    packet = TCP_PACKET[:2] + bytes(2) + TCP_PACKET[4:] + bytes(size - len(TCP_PACKET))
    found = read_header(packet, 0, len(packet))
    assert isinstance(found, Packet)
    assert (found.protocol, found.dport, found.flags) == (forge.TCP, 22, 0x12)
    assert found.payload[2:4] == min(size, 65535).to_bytes(2)


def test_a_packet_cut_before_its_ports_is_neither_a_probe_nor_malformed() -> None:
    options = forge.ip("2001:db8::7", "2001:db8::1", 60, b"\x06\x01" + bytes(14) + forge.tcp(22))
    assert isinstance(read_header(options, 0, len(options)), Packet)
    for packet in (options, TCP_PACKET, UDP_PACKET):
        head = 40 if packet is options else 20
        assert read_header(packet, 0, head + 4) is CUT_SHORT


def test_extension_headers_that_hide_the_ports_are_a_probe_as_in_the_daemon() -> None:
    """The counterparts: the queue copies no more, and a chain without an end."""
    long = b"\x3c\xff" + bytes(2046) + b"\x06\x00" + bytes(6) + forge.tcp(22)
    chain = b"\x3c\x00" + bytes(6)
    for body in (long, chain * 60):
        packet = forge.ip("2001:db8::7", "2001:db8::1", 60, body)
        found = read_header(packet, 0, len(packet))
        assert isinstance(found, Packet)
        assert found.protocol == HIDDEN
    contradiction = forge.ip("2001:db8::7", "2001:db8::1", 60, b"\x06\x05" + bytes(6))
    found = read_header(contradiction, 0, len(contradiction))
    assert isinstance(found, Malformed)
    assert found is not CUT_SHORT
