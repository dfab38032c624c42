"""Bytes to fields: right for valid packets, a value for all others."""

import struct
import warnings
from dataclasses import replace
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
    HIDDEN,
    LATER_FRAGMENT,
    MAX_EXTENSION_HEADERS,
    SHORT_EXTENSION,
    SHORT_ICMP,
    SHORT_IPV4,
    SHORT_IPV6,
    SHORT_SCTP,
    SHORT_TCP,
    SHORT_UDP,
    decode,
)
from support import forge
from support.forge import icmp, ipv4, ipv6, packed, sctp, tcp, udp

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
    payload = ipv4(A, B, 6, tcp(443, flags, sport=5000))
    bits = forge.flag_byte(flags)
    assert decode(payload) == Packet(
        packed(A), packed(B), 6, 5000, 443, bits, transport=20, payload=payload
    )


def test_udp_over_ipv6() -> None:
    payload = ipv6(A6, B6, 17, udp(53, sport=5000))
    assert decode(payload) == Packet(
        packed(A6), packed(B6), 17, 5000, 53, 0, transport=40, payload=payload
    )


@pytest.mark.parametrize("chunk", [1, 2, 3, 10, 255])
def test_sctp_has_ports_and_its_first_chunk_s_type(chunk: int) -> None:
    payload = ipv4(A, B, 132, sctp(3868, chunk, sport=5000))
    assert decode(payload) == Packet(
        packed(A), packed(B), 132, 5000, 3868, chunk, transport=20, payload=payload
    )
    payload = ipv6(A6, B6, 132, sctp(3868, chunk, sport=5000))
    assert decode(payload) == Packet(
        packed(A6), packed(B6), 132, 5000, 3868, chunk, transport=40, payload=payload
    )


@pytest.mark.parametrize("kind", [0, 3, 8, 13, 128, 255])
def test_icmp_has_its_type_and_no_ports(kind: int) -> None:
    payload = ipv4(A, B, 1, icmp(kind))
    assert decode(payload) == Packet(
        packed(A), packed(B), 1, 0, 0, kind, transport=20, payload=payload
    )
    payload = ipv6(A6, B6, 58, icmp(kind))
    assert decode(payload) == Packet(
        packed(A6), packed(B6), 58, 0, 0, kind, transport=40, payload=payload
    )


def test_ipv4_options_are_skipped() -> None:
    payload = ipv4(A, B, 6, tcp(443), options=b"\x01" * 40)
    assert decode(payload) == Packet(
        packed(A), packed(B), 6, 40000, 443, 2, transport=60, payload=payload
    )


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
    payload = ipv6(A6, B6, 6, tcp(443), chain=chain)
    end = 40 + length
    assert decode(payload) == Packet(
        packed(A6), packed(B6), 6, 40000, 443, 2, transport=end, payload=payload
    )


def test_as_many_extension_headers_as_allowed_are_skipped() -> None:
    chain = (DESTINATION,) * MAX_EXTENSION_HEADERS
    found = decode(ipv6(A6, B6, 6, tcp(443), chain=chain))
    assert isinstance(found, Packet)
    assert found.dport == 443


def test_a_chain_longer_than_the_limit_hides_its_transport() -> None:
    """Linux reads it, so it is an evasion and not a malformed packet."""
    payload = ipv6(A6, B6, 6, tcp(443), chain=(DESTINATION,) * (MAX_EXTENSION_HEADERS + 1))
    end = 48 + 8 * MAX_EXTENSION_HEADERS
    assert decode(payload) == Packet(
        packed(A6), packed(B6), HIDDEN, 0, 0, 0, transport=end, payload=payload
    )


@pytest.mark.parametrize("headers", [1, 2])
@pytest.mark.parametrize("protocol", [6, 17], ids=["tcp", "udp"])
def test_a_chain_beyond_what_the_queue_copies_hides_its_transport(
    protocol: int, headers: int
) -> None:
    rest = tcp(443) if protocol == 6 else udp(443)
    copied = ipv6(A6, B6, protocol, rest, chain=((60, bytes([63]) + bytes(510)),) * headers)[:512]
    found = decode(copied)
    assert isinstance(found, Packet)
    assert (found.source, found.target, found.protocol) == (packed(A6), packed(B6), HIDDEN)


@pytest.mark.parametrize("protocol", [47, 89, 255])
def test_other_protocols_have_no_ports(protocol: int) -> None:
    payload = ipv4(A, B, protocol, b"")
    assert decode(payload) == Packet(
        packed(A), packed(B), protocol, 0, 0, 0, transport=20, payload=payload
    )


@pytest.mark.parametrize("protocol", [50, 58, 59])
def test_another_header_ends_the_chain(protocol: int) -> None:
    payload = ipv6(A6, B6, protocol, bytes(8), chain=(DESTINATION,))
    assert decode(payload) == Packet(
        packed(A6), packed(B6), protocol, 0, 0, 0, transport=48, payload=payload
    )


@pytest.mark.parametrize(
    ("whole", "headers"),
    [
        (ipv4(A, B, 6, tcp(443) + bytes(1400)), 40),
        (ipv6(A6, B6, 17, udp(443) + bytes(1400)), 48),
        (ipv4(A, B, 132, sctp(443, 1) + bytes(1400)), 36),
        (ipv4(A, B, 1, icmp(8) + bytes(1400)), 28),
    ],
    ids=["tcp", "udp", "sctp", "icmp"],
)
def test_the_queue_may_cut_the_payload_off(whole: bytes, headers: int) -> None:
    found, copied = decode(whole), decode(whole[:headers])
    assert isinstance(found, Packet)
    assert copied == replace(found, payload=whole[:headers])


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


# --- malformed packets

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
        pytest.param(ipv4(A, B, 132, sctp(53, 1)[:15]), SHORT_SCTP, id="sctp-cut"),
        pytest.param(ipv4(A, B, 1, icmp(8)[:7]), SHORT_ICMP, id="icmp-cut"),
        pytest.param(ipv6(A6, B6, 58, icmp(128)[:7]), SHORT_ICMP, id="icmpv6-cut"),
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
def test_a_packet_that_contradicts_itself_is_malformed(payload: bytes, fault: Malformed) -> None:
    assert decode(payload) == fault


# --- any bytes


def _check_claims(payload: bytes) -> None:
    """Check that the fields lie within the given bytes."""
    found = decode(payload)
    if isinstance(found, Malformed):
        assert found.reason
        return
    size = {4: 4, 6: 16}[payload[0] >> 4]
    start = 12 if size == 4 else 8
    assert found.source == payload[start : start + size]
    assert found.target == payload[start + size : start + 2 * size]
    assert found.payload is payload
    header = {6: 20, 17: 8, 132: 16, 1: 8, 58: 8, 33: 12, 136: 8}.get(found.protocol)
    assert header is None or found.transport + header <= len(payload)
    if found.protocol in (6, 17, 33, 132, 136):
        ports = struct.unpack_from("!HH", payload, found.transport)
        assert (found.sport, found.dport) == ports
    else:
        assert (found.sport, found.dport) == (0, 0)
    if found.protocol == 33:
        assert found.flags == payload[found.transport + 8] >> 1 & 15
        return
    flags = {6: 13, 132: 12, 1: 0, 58: 0}.get(found.protocol)
    assert found.flags == (0 if flags is None else payload[found.transport + flags])


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
    ipv4(A, B, 132, sctp(22, 1)),
    ipv6(A6, B6, 58, icmp(128)),
]
SEED_NAMES: Final = ["tcp4", "udp4", "tcp6", "udp6-chain", "long-chain", "sctp4", "icmpv6"]
BITS = st.tuples(st.integers(0, 120), st.integers(0, 255))


@given(st.sampled_from(SEEDS), st.lists(BITS, max_size=6), st.integers(0, 200))
def test_any_mutation_of_a_valid_packet_gives_a_value(
    seed: bytes, flips: list[tuple[int, int]], size: int
) -> None:
    payload = bytearray(seed)
    for offset, value in flips:
        payload[offset % len(payload)] ^= value
    _check_claims(bytes(payload[:size]))


@pytest.mark.parametrize("seed", SEEDS, ids=SEED_NAMES)
def test_every_truncation_gives_a_value(seed: bytes) -> None:
    for size in range(len(seed) + 1):
        _check_claims(seed[:size])


@pytest.mark.parametrize("seed", SEEDS, ids=SEED_NAMES)
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
    """Dissect the bytes again: the fields on the wire, not the requested ones."""
    header = dissect(payload)
    protocol = 6 if inet.TCP in header else 17
    layer = header[inet.TCP if protocol == 6 else inet.UDP]
    flags = int(layer.flags) & 0xFF if protocol == 6 else 0
    transport = len(payload) - len(layer.original)
    here, there = packed(header.src), packed(header.dst)
    assert decode(payload) == Packet(
        here,
        there,
        protocol,
        layer.sport,
        layer.dport,
        flags,
        transport=transport,
        payload=payload,
    )


@given(_ipv4_packets())
def test_ipv4_is_read_as_scapy_reads_it(payload: bytes) -> None:
    _check_against_scapy(payload, inet.IP)


@given(_ipv6_packets())
def test_ipv6_is_read_as_scapy_reads_it(payload: bytes) -> None:
    _check_against_scapy(payload, inet6.IPv6)
