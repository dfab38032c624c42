"""Decoys and crowds: who sent the very same probe, and who shares a target's ports."""

from typing import Final

import pytest

from sentryfw.engine.correlate import (
    CROWD_PORTS,
    CROWD_SOURCES,
    CROWD_WINDOW,
    MAX_CROWDS,
    MAX_GROUP,
    MAX_KEYS,
    MAX_PORTS,
    MAX_SOURCES,
    MOMENT,
    Crowd,
    Crowds,
    Twins,
)
from sentryfw.engine.decide import GROUP_TIMEOUT
from sentryfw.engine.model import Packet, Probe, Source, parse_source, source_of
from sentryfw.engine.packet import decode
from support import forge
from support.transcript import A6, B6, HOST, HOST6, A, B, Scenario, scenario

C: Final = "192.0.2.201"


def _packet(source: str = A, port: int = 23, *, sport: int = 50000, seq: int = 7) -> Packet:
    host = HOST6 if ":" in source else HOST
    packet = decode(forge.ip(source, host, forge.TCP, forge.tcp(port, "S", sport, seq=seq)))
    assert isinstance(packet, Packet)
    return packet


def _datagram(source: str, data: bytes = b"") -> Packet:
    packet = decode(forge.ip(source, HOST, forge.UDP, forge.udp(53, 50000, data)))
    assert isinstance(packet, Packet)
    return packet


def _see(twins: Twins, packet: Packet, now: float = 0.0) -> list[Source] | None:
    found = twins.observe(packet, source_of(packet.source), now)
    return None if found is None else list(found)


# --- twins


@pytest.mark.parametrize(("first", "second"), [(A, B), (A6, B6)], ids=["ipv4", "ipv6"])
def test_two_sources_with_one_probe_are_a_group(first: str, second: str) -> None:
    twins = Twins()
    assert _see(twins, _packet(first)) is None
    assert _see(twins, _packet(second)) == [parse_source(first), parse_source(second)]


def test_one_source_is_no_group_however_often_it_repeats() -> None:
    twins = Twins()
    assert [_see(twins, _packet()) for _ in range(5)] == [None] * 5


@pytest.mark.parametrize(
    "other",
    [_packet(B, seq=8), _packet(B, sport=50001), _packet(B, port=24)],
    ids=["sequence", "source-port", "target-port"],
)
def test_a_probe_that_differs_is_of_another_sender(other: Packet) -> None:
    twins = Twins()
    _see(twins, _packet(A))
    assert _see(twins, other) is None


@pytest.mark.parametrize(("data", "is_group"), [(b"", True), (b"x", False)], ids=["same", "longer"])
def test_datagrams_are_told_apart_by_ports_and_length(data: bytes, *, is_group: bool) -> None:
    twins = Twins()
    _see(twins, _datagram(A))
    assert (_see(twins, _datagram(B, data)) is not None) == is_group


def test_what_has_no_ports_is_never_a_group() -> None:
    twins = Twins()
    for source in (A, B):
        packet = decode(forge.ip(source, HOST, forge.ICMP, forge.icmp(8)))
        assert isinstance(packet, Packet)
        assert _see(twins, packet) is None


@pytest.mark.parametrize(
    ("later", "is_group"),
    [(0.0, True), (MOMENT, True), (2 * MOMENT + 0.1, False), (3600.0, False)],
)
def test_a_moment_is_one_generation_to_two(later: float, *, is_group: bool) -> None:
    twins = Twins()
    _see(twins, _packet(A), 100.0)
    _see(twins, _packet(C, 99), 100.0 + later / 2)
    assert (_see(twins, _packet(B), 100.0 + later) is not None) == is_group


def test_a_group_goes_on_over_the_end_of_a_generation() -> None:
    twins = Twins()
    _see(twins, _packet(A), 0.0)
    _see(twins, _packet(B), 0.5)
    assert _see(twins, _packet(C), 1.2) == [parse_source(name) for name in (A, B, C)]


def test_groups_and_generations_are_bounded() -> None:
    twins = Twins()
    for number in range(3 * MAX_KEYS):
        _see(twins, _packet(A, number % 65536, seq=number))
    assert len(twins._now) <= MAX_KEYS
    assert len(twins._before) <= MAX_KEYS
    for number in range(1, 2 * MAX_GROUP):
        group = _see(twins, _packet(f"10.0.0.{number}"))
    assert group is not None
    assert len(group) == MAX_GROUP


# --- decoys


def test_a_scan_in_several_names_blocks_all_of_them_briefly() -> None:
    run = scenario().at(0.0).decoys((A, B, C), 1, 2).expect_counted()
    run.decoys((A, B, C), 3)
    final = {block.source: block for outcome in run.outcomes for block in outcome.blocks}
    assert set(final) == {parse_source(name) for name in (A, B, C)}
    for block in final.values():
        assert (block.timeout, block.offence, block.forgeable) == (GROUP_TIMEOUT, 0, True)
        assert block.evidence.scan == "decoy-scan"
        others = {parse_source(name) for name in (A, B, C)} - {block.source}
        assert set(block.evidence.companions) <= others
        assert block.reason.startswith("the true source is unknown: ")
    assert len(final[parse_source(C)].evidence.companions) == 2


def test_a_shorter_timeout_of_the_operator_is_kept() -> None:
    run = scenario(timeouts=(60.0, 3600.0)).decoys((A, B), 1, 2, 3)
    assert {block.timeout for outcome in run.outcomes for block in outcome.blocks} == {60.0}


def test_a_decoy_is_no_offender() -> None:
    run = scenario().at(0.0).decoys((A, B), 1, 2, 3)
    run.at(1000.0).syn(A, 1, 2, 3).expect_block(A, offence=1, timeout=3600.0)


def test_the_first_of_a_group_is_amended_when_the_others_show() -> None:
    """With a trigger of 1 the first name is blocked before its twins are seen."""
    run = scenario(trigger=1).at(0.0).decoys((A, B), 1)
    first, second = run.outcomes
    [early] = first.blocks
    assert (early.source, early.offence, early.timeout) == (parse_source(A), 1, 3600.0)
    late, amended = second.blocks
    assert late.source == parse_source(B)
    assert amended.source == parse_source(A)
    for block in (late, amended):
        assert (block.evidence.scan, block.timeout, block.offence) == (
            "decoy-scan", GROUP_TIMEOUT, 0,
        )  # fmt: skip
    run.at(1000.0).syn(A, 1).expect_block(A, offence=1)


def test_a_block_is_amended_once() -> None:
    run = scenario(trigger=1).at(0.0).decoys((A, B, C), 1)
    sources = [block.source for outcome in run.outcomes for block in outcome.blocks]
    assert sources.count(parse_source(A)) == 2


def test_a_scanner_of_an_hour_ago_is_no_decoy() -> None:
    run = scenario(trigger=1).at(0.0).decoys((A,), 1).expect_block(A)
    run.at(3600.0).decoys((B,), 1).expect_block(B, offence=1)
    assert run.block.evidence.scan == "portscan"


@pytest.mark.parametrize("name", [A, B], ids=["first-of-its-group", "second"])
def test_the_group_is_remembered_when_the_others_are_lost(name: str) -> None:
    """Of the last round one packet arrives."""
    run = scenario().at(0.0).decoys((A, B), 1, 2)
    run.at(100.0).syn(name, 3).expect_block(name, offence=0)
    assert run.block.evidence.scan == "decoy-scan"


def test_a_partner_among_the_decoys_is_not_blocked() -> None:
    run = scenario().partner(B).decoys((A, B), 1, 2, 3)
    blocks = [block.source for outcome in run.outcomes for block in outcome.blocks]
    assert blocks == [parse_source(A)]
    run.expect_refusal(B, "partner")


# --- crowds


def _shared_out(run: Scenario, sources: int, ports: int) -> None:
    """Each port once, source by source in turn."""
    for port in range(ports):
        run.syn(f"10.1.{port % sources >> 8}.{port % sources & 255}", 100 + port)


def _crowd_blocks(run: Scenario) -> list[Source]:
    blocks = [block for outcome in run.outcomes for block in outcome.blocks]
    return [block.source for block in blocks if block.evidence.scan == "distributed-scan"]


def test_a_scan_that_is_shared_out_is_found_below_every_trigger() -> None:
    run = scenario().at(0.0)
    _shared_out(run, CROWD_SOURCES, 3 * CROWD_PORTS)
    assert len(_crowd_blocks(run)) == CROWD_SOURCES
    assert run.engine.counters["distributed scans"] == 1
    block = next(block for outcome in run.outcomes for block in outcome.blocks)
    assert (block.timeout, block.offence) == (GROUP_TIMEOUT, 0)
    assert "share the ports of one target" in block.reason
    assert block.evidence.targets == 2


def test_a_member_is_blocked_at_its_second_target() -> None:
    run = scenario().at(0.0)
    _shared_out(run, CROWD_SOURCES, 2 * CROWD_PORTS)
    run.syn("10.1.9.9", 5000).expect_counted()
    run.syn("10.1.9.9", 5001).expect_block("10.1.9.9", offence=0)


@pytest.mark.parametrize(
    ("sources", "ports", "each", "is_scan"),
    [
        (CROWD_SOURCES, CROWD_PORTS, 2, True),
        (CROWD_SOURCES - 1, CROWD_PORTS, 3, False),
        (CROWD_SOURCES, CROWD_PORTS - 1, 2, False),
        (100, CROWD_PORTS, 1, False),
    ],
    ids=["just-enough", "few-sources", "few-ports", "one-probe-each"],
)
def test_what_makes_a_crowd(sources: int, ports: int, each: int, *, is_scan: bool) -> None:
    crowd = Crowd(0.0)
    crowd.sources = {Source(number.to_bytes(4)) for number in range(sources)}
    crowd.ports = set(range(ports))
    crowd.probes = min(sources * each, ports) if is_scan else sources * each
    assert crowd.is_scan() == is_scan


def test_background_noise_repeats_its_ports_and_is_no_crowd() -> None:
    """A botnet: many sources, one fingerprint, but everybody tries the same few ports."""
    run = scenario(trigger=10)
    noisy = [22, 23, 80, 443, 445, 2323, 3389, 5555, 7547, 8080, *range(9000, 9030)]
    for number in range(400):
        run.at(number / 10).syn(f"10.2.{number >> 8}.{number & 255}", noisy[number * 7 % 10])
        run.syn(f"10.2.{number >> 8}.{number & 255}", noisy[number * 3 % 40])
    assert _crowd_blocks(run) == []
    run.expect_no_block()


def test_a_crowd_that_is_spread_over_minutes_is_no_crowd() -> None:
    run = scenario(slow_trigger=64)
    for port in range(4 * CROWD_PORTS):
        run.at(port * CROWD_WINDOW / (CROWD_PORTS - 1) * 1.1)
        run.syn(f"10.1.0.{port % CROWD_SOURCES}", 100 + port)
    assert _crowd_blocks(run) == []


def test_different_fingerprints_are_different_crowds() -> None:
    run = scenario().at(0.0)
    for port in range(2 * CROWD_PORTS):
        source = f"10.1.0.{port % CROWD_SOURCES}"
        packet = bytearray(forge.ipv4(source, HOST, forge.TCP, forge.tcp(100 + port, seq=port)))
        packet[34:36] = (1024 + port % CROWD_SOURCES).to_bytes(2)  # a window of its own
        run.send(bytes(packet))
    assert _crowd_blocks(run) == []


def test_datagrams_make_no_crowd() -> None:
    crowds = Crowds()
    probe = Probe(parse_source(A), (forge.packed(HOST), 17, 53), "udp")
    assert crowds.observe(_datagram(A), probe, 0.0) is None
    assert not crowds._crowds


def test_crowds_are_bounded_and_the_least_recent_goes_first() -> None:
    crowds = Crowds()
    for number in range(MAX_CROWDS + 10):
        host = f"10.9.{number >> 8}.{number & 255}"
        packet = decode(forge.ipv4(A, host, forge.TCP, forge.tcp(23)))
        assert isinstance(packet, Packet)
        crowds.observe(packet, Probe(parse_source(A), (packet.target, 6, 23), "syn"), 0.0)
    assert len(crowds._crowds) == MAX_CROWDS
    assert not any(forge.packed("10.9.0.9") in key for key in crowds._crowds)
    assert any(forge.packed("10.9.0.10") in key for key in crowds._crowds)


def test_what_is_remembered_of_a_crowd_is_bounded() -> None:
    crowds = Crowds()
    for number in range(3 * MAX_PORTS):
        packet = _packet(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", number)
        probe = Probe(source_of(packet.source), (packet.target, 6, number), "syn")
        crowds.observe(packet, probe, 0.0)
    [crowd] = crowds._crowds.values()
    assert len(crowd.sources) <= MAX_SOURCES
    assert len(crowd.ports) <= MAX_PORTS
    assert crowd.probes == 3 * MAX_PORTS
