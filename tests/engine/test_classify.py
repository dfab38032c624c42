"""Packets that are evidence, and their kinds."""

import struct
from itertools import combinations

import pytest

from sentryfw.engine.classify import (
    BACKSCATTER,
    FORGEABLE,
    LATE_KINDS,
    TCP_KINDS,
    UNCERTAIN,
    classify,
)
from sentryfw.engine.model import KINDS, Kind, Malformed, Meta, Packet, Probe, Stray
from sentryfw.engine.packet import (
    DCCP,
    HIDDEN,
    ICMP,
    ICMPV6,
    SCTP,
    TCP,
    UDP,
    UDP_LITE,
    decode,
)
from support import forge

UNLISTED = Meta(unlisted=True, partner=False)

# Every combination that is not badflags, by hand; nmap's scan types and RFC 9293's own flags.
NAMED: dict[Kind, tuple[str, ...]] = {
    "null": ("",),
    "syn": ("S", "SP", "SU", "SPU"),
    "fin": ("F",),
    "synack": ("SA", "SPA", "SAU", "SPAU"),
    "rst": ("R", "RP", "RA", "RPA"),
    "ack": ("A", "PA", "AU", "PAU"),
    "maimon": ("FA", "FPA", "FAU", "FPAU"),
    "xmas": ("FPU", "FSPU"),
    "synfin": ("FS", "FSP", "FSU"),
    "urg": ("U", "PU"),
}
OTHERS: set[Kind] = {"udp", "sctp-init", "sctp-cookie-echo", "protocol", "icmp", "connect"}
BY_FLAGS = {forge.flag_byte(flags): kind for kind, rows in NAMED.items() for flags in rows}
COMBINATIONS = ["".join(some) for size in range(7) for some in combinations("FSRPAU", size)]


def _packet(flags: int = 0x02, *, protocol: int = TCP, source: str = "198.51.100.7") -> Packet:
    rest = {TCP: forge.tcp(23, flags), UDP: forge.udp(23), SCTP: forge.sctp(23, flags)}
    return _read(source, protocol, rest.get(protocol, forge.icmp(flags)))


def _read(source: str, protocol: int, rest: bytes) -> Packet:
    target = "2001:db8::1" if ":" in source else "192.0.2.1"
    packet = decode(forge.ip(source, target, protocol, rest))
    assert isinstance(packet, Packet)
    return packet


@pytest.mark.parametrize("flags", COMBINATIONS, ids=lambda flags: flags or "none")
def test_each_of_the_64_combinations_has_its_kind(flags: str) -> None:
    byte = forge.flag_byte(flags)
    assert TCP_KINDS[byte] == BY_FLAGS.get(byte, "badflags")


def test_the_table_has_a_row_for_every_combination_and_no_other() -> None:
    assert len(TCP_KINDS) == len(COMBINATIONS) == 64
    assert set(TCP_KINDS) == set(KINDS) - OTHERS


@pytest.mark.parametrize("ecn", ["E", "C", "EC"])
@pytest.mark.parametrize("flags", ["", "S", "F", "FPU", "FS", "A", "FA", "SR"])
def test_ecn_bits_change_nothing(flags: str, ecn: str) -> None:
    plain = classify(_packet(forge.flag_byte(flags)), UNLISTED)
    assert isinstance(plain, Probe)
    assert classify(_packet(forge.flag_byte(flags + ecn)), UNLISTED) == plain


@pytest.mark.parametrize("flags", ["SA", "SAE", "R", "RA", "RPA"])
@pytest.mark.parametrize("partner", [True, False], ids=["partner", "stranger"])
def test_backscatter_is_never_a_probe(flags: str, *, partner: bool) -> None:
    found = classify(_packet(forge.flag_byte(flags)), Meta(unlisted=True, partner=partner))
    assert found == Stray("backscatter")


@pytest.mark.parametrize("flags", ["A", "PA", "FA", "FPA"])
def test_a_late_packet_is_a_stray_of_a_partner_and_a_probe_of_a_stranger(flags: str) -> None:
    packet = _packet(forge.flag_byte(flags))
    assert classify(packet, Meta(unlisted=True, partner=True)) == Stray("late packet of a partner")
    assert isinstance(classify(packet, UNLISTED), Probe)


@pytest.mark.parametrize(
    "flags", ["S", "F", "", "FPU", "U"], ids=["syn", "fin", "null", "xmas", "urg"]
)
def test_a_partner_is_judged_for_packets_that_no_connection_sends(flags: str) -> None:
    found = classify(_packet(forge.flag_byte(flags)), Meta(unlisted=True, partner=True))
    assert isinstance(found, Probe)


@pytest.mark.parametrize("protocol", [TCP, UDP, SCTP, ICMP, 47, 253])
def test_a_packet_that_a_listed_port_would_receive_is_not_a_probe(protocol: int) -> None:
    found = classify(_packet(protocol=protocol), Meta(unlisted=False, partner=False))
    assert found == Stray("listed")


@pytest.mark.parametrize("protocol", [2, 47, 50, 59, 253, 255])
def test_a_packet_of_another_protocol_is_a_probe_of_the_protocol(protocol: int) -> None:
    found = classify(_packet(protocol=protocol), UNLISTED)
    assert isinstance(found, Probe)
    assert found.kind == "protocol"
    assert found.target == (forge.packed("192.0.2.1"), protocol, 0)


@pytest.mark.parametrize("port", [1, 23, 65535])
def test_a_packet_of_udp_lite_is_a_probe_of_its_port(port: int) -> None:
    found = classify(_read("198.51.100.7", UDP_LITE, forge.udp(port, 40000)), UNLISTED)
    assert isinstance(found, Probe)
    assert (found.kind, found.target[1:]) == ("protocol", (UDP_LITE, port))


@pytest.mark.parametrize("kind", range(16))
def test_a_packet_of_dccp_is_a_probe_of_its_port_unless_it_answers(kind: int) -> None:
    header = struct.pack("!HHBBHBBH", 40000, 23, 3, 0, 0, kind << 1, 0, 0)
    found = classify(_read("198.51.100.7", DCCP, header), UNLISTED)
    if kind in (1, 7):  # Response, Reset
        assert found == Stray("backscatter")
    else:
        assert isinstance(found, Probe)
        assert (found.kind, found.target[1:]) == ("protocol", (DCCP, 23))


@pytest.mark.parametrize(("protocol", "size"), [(DCCP, 12), (UDP_LITE, 8)])
def test_a_header_without_its_ports_is_malformed(protocol: int, size: int) -> None:
    whole = forge.ip("198.51.100.7", "192.0.2.1", protocol, bytes(size))
    short = forge.ip("198.51.100.7", "192.0.2.1", protocol, bytes(size - 1))
    assert isinstance(decode(whole), Packet)
    assert isinstance(decode(short), Malformed)


@pytest.mark.parametrize("chunk", range(256))
def test_only_the_beginning_of_an_sctp_association_is_a_probe(chunk: int) -> None:
    """The rest are answers, or shut down what conntrack forgot (RFC 9260, section 3.2)."""
    found = classify(_packet(chunk, protocol=SCTP), UNLISTED)
    kind = {1: "sctp-init", 10: "sctp-cookie-echo"}.get(chunk)
    if kind is None:
        assert found == Stray("backscatter")
    else:
        assert isinstance(found, Probe)
        assert (found.kind, found.target[1:]) == (kind, (SCTP, 23))


@pytest.mark.parametrize(
    ("protocol", "source", "requests"),
    [(ICMP, "198.51.100.7", {8, 13, 15, 17, 42}), (ICMPV6, "2001:db8:a::7", {128, 139, 160})],
    ids=["icmp", "icmpv6"],
)
def test_only_icmp_requests_are_probes(protocol: int, source: str, requests: set[int]) -> None:
    for kind in range(256):
        found = classify(_packet(kind, protocol=protocol, source=source), UNLISTED)
        if kind in requests:
            assert isinstance(found, Probe)
            assert (found.kind, found.target[1:]) == ("icmp", (protocol, kind))
        else:
            assert found == Stray("no request")


def test_a_hidden_transport_is_a_packet_that_no_stack_sends() -> None:
    source, target = forge.packed("2001:db8:a::7"), forge.packed("2001:db8::1")
    found = classify(Packet(source, target, HIDDEN, 0, 0, 0, transport=40, payload=b""), UNLISTED)
    assert isinstance(found, Probe)
    assert (found.kind, found.target) == ("badflags", (target, HIDDEN, 0))


@pytest.mark.parametrize("partner", [True, False], ids=["partner", "stranger"])
def test_a_reset_of_a_half_open_connection_is_a_probe_of_a_listed_port(*, partner: bool) -> None:
    meta = Meta(unlisted=False, partner=partner, half_open=True)
    found = classify(_packet(forge.flag_byte("R")), meta)
    assert isinstance(found, Probe)
    assert (found.kind, found.listed, found.target[1:]) == ("rst", True, (TCP, 23))


@pytest.mark.parametrize("protocol", [TCP, UDP, SCTP, 47], ids=["tcp", "udp", "sctp", "gre"])
def test_an_unlisted_probe_is_not_of_a_listed_port(protocol: int) -> None:
    found = classify(_packet(flags=1 if protocol == SCTP else 2, protocol=protocol), UNLISTED)
    assert isinstance(found, Probe)
    assert not found.listed


@pytest.mark.parametrize(
    "source",
    [
        "0.0.0.0",  # noqa: S104 - a source address
        "0.1.2.3", "127.0.0.1", "224.0.0.1", "239.255.255.250", "255.255.255.255",
        "::", "::1", "ff02::1", "ffff::1",
    ],
)  # fmt: skip
def test_a_source_that_no_host_can_have_is_not_a_probe(source: str) -> None:
    assert classify(_packet(source=source), UNLISTED) == Stray("no unicast source", silent=True)


@pytest.mark.parametrize(
    "source",
    ["1.0.0.1", "10.0.0.1", "126.255.255.255", "128.0.0.1", "169.254.1.1", "223.255.255.255",
     "240.0.0.1", "255.255.255.254", "::1:0:0:0:1", "64:ff9b::1", "2001:db8::1", "fc00::1",
     "fe80::1", "feff::1"],
)  # fmt: skip
def test_a_source_that_a_host_can_have_is_a_probe(source: str) -> None:
    assert isinstance(classify(_packet(source=source), UNLISTED), Probe)


def test_a_probe_names_source_target_and_kind() -> None:
    probe = classify(_packet(source="2001:db8:a:b:1:2:3:4", protocol=UDP), UNLISTED)
    assert isinstance(probe, Probe)
    assert probe.source == forge.packed("2001:db8:a:b::")[:8]
    assert probe.target == (forge.packed("2001:db8::1"), UDP, 23)
    assert probe.kind == "udp"


def test_every_kind_is_backscatter_or_forgeable() -> None:
    assert {"rst"} == BACKSCATTER & FORGEABLE
    assert set(KINDS) == BACKSCATTER | FORGEABLE | {"connect"}
    assert LATE_KINDS < FORGEABLE
    assert UNCERTAIN < FORGEABLE
    assert OTHERS - {"udp", "connect"} == UNCERTAIN
