"""Bytes to fields: right for valid packets, a value for all others."""

import struct
import warnings
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.engine.model import Malformed, Packet
from sentryfw.engine.packet import (
    BAD_IHL,
    BAD_LENGTH,
    BAD_OFFSET,
    BAD_VERSION,
    EMPTY,
    LATER_FRAGMENT,
    MAX_EXTENSION_HEADERS,
    SHORT_EXTENSION,
    SHORT_IPV4,
    SHORT_IPV6,
    SHORT_TCP,
    SHORT_UDP,
    decode,
)
from support import forge
from support.forge import ipv4, ipv6, packed, tcp, udp

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # scapy's imports, not ours
    from scapy.layers import inet, inet6

A: Final = "198.51.100.7"
B: Final = "192.0.2.1"
A6: Final = "2001:db8:a::7"
B6: Final = "2001:db8:b::1"

HOP_BY_HOP = (0, bytes([0, 1, 4, 0, 0, 0, 0]))
ROUTING = (43, bytes(7))
DESTINATION = (60, bytes([0, 1, 4, 0, 0, 0, 0]))
LONG_DESTINATION = (60, bytes([2, 1, 20]) + bytes(20))
FIRST_FRAGMENT = (44, bytes([0, 0, 1, 0, 0, 0, 9]))
SECOND_FRAGMENT = (44, bytes([0, 0, 8, 0, 0, 0, 9]))
AH = (51, bytes([4]) + bytes(22))  # RFC 4302: 4 + 2 words


# --- valid packets


@pytest.mark.parametrize("flags", ["", "S", "SA", "FPU", "FSRPAUEC"])
def test_tcp_over_ipv4(flags: str) -> None:
    found = decode(ipv4(A, B, 6, tcp(443, flags, sport=5000)))
    assert found == Packet(packed(A), packed(B), 6, 5000, 443, forge.flag_byte(flags), 20)


def test_udp_over_ipv6() -> None:
    found = decode(ipv6(A6, B6, 17, udp(53, sport=5000)))
    assert found == Packet(packed(A6), packed(B6), 17, 5000, 53, 0, 40)


def test_ipv4_options_are_skipped() -> None:
    found = decode(ipv4(A, B, 6, tcp(443), options=b"\x01" * 40))
    assert found == Packet(packed(A), packed(B), 6, 40000, 443, 2, 60)


@pytest.mark.parametrize(
    ("chain", "length"),
    [
        ((HOP_BY_HOP,), 8),
        ((ROUTING,), 8),
        ((DESTINATION,), 8),
        ((LONG_DESTINATION,), 24),
        ((FIRST_FRAGMENT,), 8),
        ((AH,), 24),
        ((HOP_BY_HOP, DESTINATION, ROUTING, FIRST_FRAGMENT, AH, DESTINATION), 64),
    ],
    ids=["hop-by-hop", "routing", "destination", "long", "first-fragment", "ah", "rfc8200-order"],
)
def test_extension_headers_are_skipped(chain: tuple[tuple[int, bytes], ...], length: int) -> None:
    found = decode(ipv6(A6, B6, 6, tcp(443), chain=chain))
    assert found == Packet(packed(A6), packed(B6), 6, 40000, 443, 2, 40 + length)


def test_as_many_extension_headers_as_allowed_are_skipped() -> None:
    chain = (DESTINATION,) * MAX_EXTENSION_HEADERS
    found = decode(ipv6(A6, B6, 6, tcp(443), chain=chain))
    assert isinstance(found, Packet)
    assert found.dport == 443


@pytest.mark.parametrize("protocol", [1, 47, 132, 255])
def test_other_protocols_have_no_ports(protocol: int) -> None:
    assert decode(ipv4(A, B, protocol, b"")) == Packet(packed(A), packed(B), protocol, 0, 0, 0, 20)


@pytest.mark.parametrize("protocol", [50, 58, 59])
def test_what_is_no_extension_header_ends_the_chain(protocol: int) -> None:
    found = decode(ipv6(A6, B6, protocol, b"", chain=(DESTINATION,)))
    assert found == Packet(packed(A6), packed(B6), protocol, 0, 0, 0, 48)


def test_the_queue_may_cut_the_payload_off() -> None:
    whole = ipv4(A, B, 6, tcp(443) + bytes(1400))
    assert decode(whole[:40]) == decode(whole)
    whole = ipv6(A6, B6, 17, udp(443) + bytes(1400))
    assert decode(whole[:48]) == decode(whole)


def test_a_first_fragment_has_ports() -> None:
    found = decode(ipv4(A, B, 17, udp(53), fragment=0x2000))
    assert isinstance(found, Packet)
    assert found.dport == 53


def test_a_jumbogram_has_ports() -> None:
    payload = bytearray(ipv6(A6, B6, 6, tcp(443)))
    payload[4:6] = b"\0\0"
    found = decode(bytes(payload))
    assert isinstance(found, Packet)
    assert found.dport == 443


# --- packets that lie

TCP4: Final = ipv4(A, B, 6, tcp(443))
TCP6: Final = ipv6(A6, B6, 6, tcp(443))


def _with(payload: bytes, offset: int, *values: int) -> bytes:
    changed = bytearray(payload)
    changed[offset : offset + len(values)] = values
    return bytes(changed)


@pytest.mark.parametrize(
    ("payload", "fault"),
    [
        pytest.param(b"", EMPTY, id="empty"),
        pytest.param(_with(TCP4, 0, 0x55), BAD_VERSION, id="version-5"),
        pytest.param(b"\0", BAD_VERSION, id="version-0"),
        pytest.param(b"\x45", SHORT_IPV4, id="one-byte"),
        pytest.param(TCP4[:19], SHORT_IPV4, id="ipv4-cut"),
        pytest.param(_with(TCP4, 0, 0x44), BAD_IHL, id="ihl-4"),
        pytest.param(_with(TCP4, 0, 0x40), BAD_IHL, id="ihl-0"),
        pytest.param(_with(TCP4, 0, 0x4F), BAD_IHL, id="ihl-beyond"),
        pytest.param(_with(TCP4, 2, 0, 19), BAD_LENGTH, id="total-below-header"),
        pytest.param(_with(TCP4, 2, 0, 0), BAD_LENGTH, id="total-0"),
        pytest.param(_with(TCP4, 2, 0, 39), SHORT_TCP, id="total-cuts-tcp"),
        pytest.param(TCP4[:39], SHORT_TCP, id="tcp-cut"),
        pytest.param(_with(TCP4, 6, 0x00, 0x01), LATER_FRAGMENT, id="fragment-1"),
        pytest.param(_with(TCP4, 6, 0x3F, 0xFF), LATER_FRAGMENT, id="fragment-last"),
        pytest.param(_with(TCP4, 32, 0x40), BAD_OFFSET, id="data-offset-4"),
        pytest.param(_with(TCP4, 32, 0x0F), BAD_OFFSET, id="data-offset-0"),
        pytest.param(ipv4(A, B, 17, udp(53)[:7]), SHORT_UDP, id="udp-cut"),
        pytest.param(TCP6[:39], SHORT_IPV6, id="ipv6-cut"),
        pytest.param(_with(TCP6, 4, 0, 19), SHORT_TCP, id="payload-length-cuts-tcp"),
        pytest.param(TCP6[:59], SHORT_TCP, id="tcp-over-ipv6-cut"),
        pytest.param(ipv6(A6, B6, 60, bytes([6]) + bytes(6)), SHORT_EXTENSION, id="extension-cut"),
        pytest.param(ipv6(A6, B6, 44, bytes([6]) + bytes(6)), SHORT_EXTENSION, id="fragment-cut"),
        pytest.param(ipv6(A6, B6, 51, bytes([6]) + bytes(6)), SHORT_EXTENSION, id="ah-cut"),
        pytest.param(
            ipv6(A6, B6, 6, tcp(443), chain=((60, bytes([255]) + bytes(6)),)),
            SHORT_TCP, id="extension-length-beyond",
        ),
        pytest.param(
            ipv6(A6, B6, 6, tcp(443), chain=((60, bytes([255]) + bytes(6)), DESTINATION)),
            SHORT_EXTENSION, id="extension-length-beyond-another",
        ),
        pytest.param(
            ipv6(A6, B6, 6, tcp(443), chain=(SECOND_FRAGMENT,)), LATER_FRAGMENT, id="fragment-6",
        ),
    ],
)  # fmt: skip
def test_a_packet_that_lies_is_malformed(payload: bytes, fault: Malformed) -> None:
    assert decode(payload) == fault


# --- any bytes


def _check_claims(payload: bytes) -> None:
    """What decode() reports lies within the bytes it was given."""
    found = decode(payload)
    if isinstance(found, Malformed):
        assert found.reason
        return
    size = {4: 4, 6: 16}[payload[0] >> 4]
    start = 12 if size == 4 else 8
    assert found.source == payload[start : start + size]
    assert found.target == payload[start + size : start + 2 * size]
    if found.protocol in (6, 17):
        header = 20 if found.protocol == 6 else 8
        assert found.transport + header <= len(payload)
        ports = struct.unpack_from("!HH", payload, found.transport)
        assert (found.sport, found.dport) == ports
    else:
        assert (found.sport, found.dport, found.flags) == (0, 0, 0)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_value(payload: bytes) -> None:
    _check_claims(payload)


@given(st.sampled_from([0x45, 0x4F, 0x60, 0x6F]), st.binary(max_size=200))
def test_any_bytes_behind_a_version_give_a_value(first: int, rest: bytes) -> None:
    _check_claims(bytes([first]) + rest)


SEEDS: Final = [
    TCP4,
    ipv4(A, B, 17, udp(53), options=b"\x01" * 12),
    TCP6,
    ipv6(A6, B6, 17, udp(53), chain=(HOP_BY_HOP, ROUTING, FIRST_FRAGMENT, AH, LONG_DESTINATION)),
    ipv6(A6, B6, 6, tcp(22), chain=(DESTINATION,) * (MAX_EXTENSION_HEADERS + 2)),
]
BITS = st.tuples(st.integers(0, 120), st.integers(0, 255))


@given(st.sampled_from(SEEDS), st.lists(BITS, max_size=6), st.integers(0, 200))
def test_any_mutation_of_a_valid_packet_gives_a_value(
    seed: bytes, flips: list[tuple[int, int]], size: int
) -> None:
    payload = bytearray(seed)
    for offset, value in flips:
        payload[offset % len(payload)] ^= value
    _check_claims(bytes(payload[:size]))


@pytest.mark.parametrize("seed", SEEDS, ids=["tcp4", "udp4", "tcp6", "udp6-chain", "long-chain"])
def test_every_truncation_gives_a_value(seed: bytes) -> None:
    for size in range(len(seed) + 1):
        _check_claims(seed[:size])


@pytest.mark.parametrize("seed", SEEDS, ids=["tcp4", "udp4", "tcp6", "udp6-chain", "long-chain"])
def test_every_value_of_every_header_byte_gives_a_value(seed: bytes) -> None:
    for offset in range(len(seed)):
        for value in range(256):
            _check_claims(_with(seed, offset, value))


# --- scapy as the oracle

PORTS = st.integers(0, 65535)
PADDED = st.integers(0, 10).map(lambda words: [("NOP", None)] * (words * 4))


@st.composite
def _transports(draw: st.DrawFn) -> Any:
    sport, dport = draw(PORTS), draw(PORTS)
    body = draw(st.binary(max_size=40))
    if draw(st.booleans()):
        flags = draw(st.integers(0, 255))
        layer = inet.TCP(sport=sport, dport=dport, flags=flags, options=draw(PADDED))
    else:
        layer = inet.UDP(sport=sport, dport=dport)
    return layer / body if body else layer


OPTIONS6: Final = st.sampled_from(
    [
        inet6.IPv6ExtHdrDestOpt,
        lambda: inet6.IPv6ExtHdrDestOpt(options=[inet6.PadN(optdata=bytes(30))]),
        lambda: inet6.IPv6ExtHdrRouting(addresses=["2001:db8::5", "2001:db8::6"]),
        lambda: inet6.IPv6ExtHdrFragment(offset=0, m=1, id=7),
        lambda: inet6.IPv6ExtHdrFragment(offset=0, m=0, id=7),
    ]
)


@st.composite
def _ipv4_packets(draw: st.DrawFn) -> bytes:
    options = draw(st.integers(0, 10)) * 4
    header = inet.IP(
        src=str(draw(st.ip_addresses(v=4))),
        dst=str(draw(st.ip_addresses(v=4))),
        tos=draw(st.integers(0, 255)),
        flags=draw(st.sampled_from(["", "DF", "MF"])),
        options=[inet.IPOption_NOP()] * options,
    )
    return bytes(header / draw(_transports()))


@st.composite
def _ipv6_packets(draw: st.DrawFn) -> bytes:
    packet = inet6.IPv6(
        src=str(draw(st.ip_addresses(v=6))),
        dst=str(draw(st.ip_addresses(v=6))),
        tc=draw(st.integers(0, 255)),
        fl=draw(st.integers(0, 0xFFFFF)),
    )
    if draw(st.booleans()):
        packet /= inet6.IPv6ExtHdrHopByHop()
    for make in draw(st.lists(OPTIONS6, max_size=4)):
        packet /= make()
    return bytes(packet / draw(_transports()))


def _check_against_scapy(payload: bytes, dissect: Any) -> None:
    """Dissected anew: fields as they are on the wire, not as they were asked for."""
    header = dissect(payload)
    protocol = 6 if inet.TCP in header else 17
    layer = header[inet.TCP if protocol == 6 else inet.UDP]
    flags = int(layer.flags) & 0xFF if protocol == 6 else 0
    transport = len(payload) - len(layer.original)
    assert decode(payload) == Packet(
        packed(header.src), packed(header.dst), protocol, layer.sport, layer.dport, flags, transport
    )


@given(_ipv4_packets())
def test_ipv4_is_read_as_scapy_reads_it(payload: bytes) -> None:
    _check_against_scapy(payload, inet.IP)


@given(_ipv6_packets())
def test_ipv6_is_read_as_scapy_reads_it(payload: bytes) -> None:
    _check_against_scapy(payload, inet6.IPv6)
