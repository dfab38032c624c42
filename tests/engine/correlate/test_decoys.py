"""Decoys: sources of equal probes, and the one that sends behind them."""

from typing import Final

import pytest

from sentryfw.engine.correlate.decoys import (
    MAX_GROUP,
    MAX_KEYS,
    MAX_MEMBERS,
    MEMBERSHIP_S,
    MIN_SENDER_GROUPS,
    MOMENT_S,
    DecoyDetector,
    Senders,
)
from sentryfw.engine.decide import GROUP_TIMEOUT_S
from sentryfw.engine.model import Packet, Source, parse_source, source_of, source_text
from sentryfw.engine.networks import LINK_LOCAL_ONLY
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


def _see(twins: DecoyDetector, packet: Packet, now: float = 0.0) -> list[Source] | None:
    found = twins.observe(packet, source_of(packet.source), now)
    return None if found is None else list(found)


# --- twins


@pytest.mark.parametrize(("first", "second"), [(A, B), (A6, B6)], ids=["ipv4", "ipv6"])
def test_two_sources_with_one_probe_are_a_group(first: str, second: str) -> None:
    twins = DecoyDetector()
    assert _see(twins, _packet(first)) is None
    assert _see(twins, _packet(second)) == [
        parse_source(name, LINK_LOCAL_ONLY) for name in (first, second)
    ]


def test_a_source_that_repeats_is_not_a_group() -> None:
    twins = DecoyDetector()
    assert [_see(twins, _packet()) for _ in range(5)] == [None] * 5


@pytest.mark.parametrize(
    "other",
    [_packet(B, seq=8), _packet(B, sport=50001), _packet(B, port=24)],
    ids=["sequence", "source-port", "target-port"],
)
def test_a_different_probe_has_another_sender(other: Packet) -> None:
    twins = DecoyDetector()
    _see(twins, _packet(A))
    assert _see(twins, other) is None


@pytest.mark.parametrize(("data", "is_group"), [(b"", True), (b"x", False)], ids=["same", "longer"])
def test_datagrams_are_distinguished_by_ports_and_length(data: bytes, *, is_group: bool) -> None:
    twins = DecoyDetector()
    _see(twins, _datagram(A))
    assert (_see(twins, _datagram(B, data)) is not None) == is_group


def test_packets_without_ports_are_not_a_group() -> None:
    twins = DecoyDetector()
    for source in (A, B):
        packet = decode(forge.ip(source, HOST, forge.ICMP, forge.icmp(8)))
        assert isinstance(packet, Packet)
        assert _see(twins, packet) is None


@pytest.mark.parametrize(
    ("later", "is_group"),
    [(0.0, True), (MOMENT_S, True), (2 * MOMENT_S + 0.1, False), (3600.0, False)],
)
def test_a_moment_is_one_or_two_generations(later: float, *, is_group: bool) -> None:
    twins = DecoyDetector()
    _see(twins, _packet(A), 100.0)
    _see(twins, _packet(C, 99), 100.0 + later / 2)
    assert (_see(twins, _packet(B), 100.0 + later) is not None) == is_group


def test_a_group_survives_the_end_of_a_generation() -> None:
    twins = DecoyDetector()
    _see(twins, _packet(A), 0.0)
    _see(twins, _packet(B), 0.5)
    assert _see(twins, _packet(C), 1.2) == [parse_source(name) for name in (A, B, C)]


def test_groups_and_generations_are_bounded() -> None:
    twins = DecoyDetector()
    for number in range(3 * MAX_KEYS):
        _see(twins, _packet(A, number % 65536, seq=number))
    assert len(twins._now) <= MAX_KEYS
    assert len(twins._before) <= MAX_KEYS
    for number in range(1, 2 * MAX_GROUP):
        group = _see(twins, _packet(f"10.0.0.{number}"))
    assert group is not None
    assert len(group) == MAX_GROUP


# --- decoys


def test_a_scan_with_decoys_blocks_all_sources_briefly() -> None:
    run = scenario().at(0.0).decoys((A, B, C), 1, 2).expect_counted()
    run.decoys((A, B, C), 3)
    final = {block.source: block for outcome in run.outcomes for block in outcome.blocks}
    assert set(final) == {parse_source(name) for name in (A, B, C)}
    for block in final.values():
        assert (block.timeout, block.offence, block.forgeable) == (GROUP_TIMEOUT_S, 0, True)
        assert block.evidence.scan == "decoy-scan"
        others = {parse_source(name) for name in (A, B, C)} - {block.source}
        assert set(block.evidence.companions) <= others
        assert block.reason.startswith("the true source is unknown: ")
    assert len(final[parse_source(C)].evidence.companions) == 2


def test_a_shorter_configured_timeout_is_kept() -> None:
    run = scenario(timeouts=(60.0, 3600.0)).decoys((A, B), 1, 2, 3)
    assert {block.timeout for outcome in run.outcomes for block in outcome.blocks} == {60.0}


def test_a_decoy_has_no_offence() -> None:
    run = scenario().at(0.0).decoys((A, B), 1, 2, 3)
    run.at(1000.0).syn(A, 1, 2, 3).expect_block(A, offence=1, timeout=3600.0)


def test_the_first_block_of_a_group_is_downgraded_when_the_others_appear() -> None:
    """With a trigger of 1 the first source is blocked before the others are seen."""
    run = scenario(trigger=1).at(0.0).decoys((A, B), 1)
    first, second = run.outcomes
    [early] = first.blocks
    assert (early.source, early.offence, early.timeout) == (parse_source(A), 1, 3600.0)
    late, amended = second.blocks
    assert late.source == parse_source(B)
    assert amended.source == parse_source(A)
    for block in (late, amended):
        assert (block.evidence.scan, block.timeout, block.offence) == (
            "decoy-scan", GROUP_TIMEOUT_S, 0,
        )  # fmt: skip
    run.at(1000.0).syn(A, 1).expect_block(A, offence=1)


def test_a_block_is_downgraded_once() -> None:
    run = scenario(trigger=1).at(0.0).decoys((A, B, C), 1)
    sources = [block.source for outcome in run.outcomes for block in outcome.blocks]
    assert sources.count(parse_source(A)) == 2


def test_a_scanner_of_an_hour_ago_is_not_a_decoy() -> None:
    run = scenario(trigger=1).at(0.0).decoys((A,), 1).expect_block(A)
    run.at(3600.0).decoys((B,), 1).expect_block(B, offence=1)
    assert run.block.evidence.scan == "portscan"


@pytest.mark.parametrize("name", [A, B], ids=["first-of-its-group", "second"])
def test_the_group_is_remembered_when_the_other_probes_are_lost(name: str) -> None:
    """Only one packet of the last round arrives."""
    run = scenario().at(0.0).decoys((A, B), 1, 2)
    run.at(100.0).syn(name, 3).expect_block(name, offence=0)
    assert run.block.evidence.scan == "decoy-scan"


def test_a_partner_among_the_decoys_is_confined_and_not_blocked() -> None:
    run = scenario().partner(B).decoys((A, B), 1, 2, 3)
    blocks = [block.source for outcome in run.outcomes for block in outcome.blocks]
    assert blocks == [parse_source(A)]
    run.expect_confinement(B)


# --- senders


def _decoy_round(run: Scenario, sources: tuple[str, ...], number: int) -> None:
    """Send a scan behind decoys, and wait until their blocks are over."""
    start = run.now
    for step in range(3):
        run.at(start + step * 3.0).decoys(sources, 10 * number + step + 1)
    run.at(start + 700.0)


SENDER = pytest.mark.parametrize(
    ("sender", "decoy", "victim"),
    [(A, "198.51.100.{}", B), (A6, "2001:db8:b:{}::1", B6)],
    ids=["ipv4", "ipv6"],
)


def _last_blocks(run: Scenario) -> dict[str, tuple[float, int]]:
    blocks = [block for outcome in run.outcomes for block in outcome.blocks]
    return {source_text(block.source): (block.timeout, block.offence) for block in blocks}


def _name(address: str) -> str:
    return source_text(parse_source(address, LINK_LOCAL_ONLY))


@SENDER
def test_who_is_alone_in_all_of_several_groups_is_the_sender(
    sender: str, decoy: str, victim: str
) -> None:
    run = scenario().at(0.0)
    for number in range(MIN_SENDER_GROUPS - 1):
        _decoy_round(run, (sender, decoy.format(number)), number)
        assert _last_blocks(run)[_name(sender)] == (GROUP_TIMEOUT_S, 0)
    _decoy_round(run, (sender, decoy.format(99)), 99)
    blocks = _last_blocks(run)
    assert blocks[_name(sender)] == (3600.0, 1)
    assert blocks[_name(decoy.format(99))] == (GROUP_TIMEOUT_S, 0)
    assert _name(victim) not in blocks


@SENDER
@pytest.mark.parametrize("order", [1, -1])
def test_a_victim_that_is_put_into_every_group_is_not_the_sender(
    sender: str, decoy: str, victim: str, order: int
) -> None:
    run = scenario().at(0.0)
    for number in range(3 * MIN_SENDER_GROUPS):
        _decoy_round(run, (sender, victim, decoy.format(number))[::order], number)
    blocks = _last_blocks(run)
    assert blocks[_name(victim)] == blocks[_name(sender)] == (GROUP_TIMEOUT_S, 0)


@SENDER
def test_the_same_decoys_again_show_no_sender(sender: str, decoy: str, victim: str) -> None:
    run = scenario().at(0.0)
    for number in range(3 * MIN_SENDER_GROUPS):
        _decoy_round(run, (sender, decoy.format(1), victim), number)
    assert {offence for _, offence in _last_blocks(run).values()} == {0}


def test_groups_that_are_not_complete_yet_show_no_sender() -> None:
    """The probes of a round come in any order, and apart."""
    run = scenario(trigger=100, slow_trigger=100).at(0.0)
    for number in range(20):
        names = [A, B, C]
        for place, name in enumerate(names[number % 3 :] + names[: number % 3]):
            run.at(number * 3.0 + place * 0.4).decoys((name,), number + 1)
    senders = run.engine.zones.outside.decoys.senders
    assert len(senders) == 3
    assert not any(senders.is_sender(parse_source(name), run.now) for name in (A, B, C))


@pytest.mark.parametrize("names", [(A, B, C), (A6, B6, "2001:db8:c::1")], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("trigger", [3, 100])
def test_groups_without_members_that_were_just_blocked_show_no_sender(
    names: tuple[str, str, str], trigger: int
) -> None:
    """Two of three probes of a round come from who is not blocked yet."""
    run = scenario(trigger=trigger, slow_trigger=100).at(0.0)
    for number in range(4):
        start = number * 700.0
        first, second, third = names
        run.at(start).decoys(names, 10 * number + 1, 10 * number + 2)
        run.at(start + 0.9).decoys((first, second), 10 * number + 3)
        run.at(start + 1.3).decoys((second, third), 10 * number + 4)
        run.at(start + 2.6).decoys((first, third), 10 * number + 5)
        run.at(start + 600.0).decoys((names[0],), 10 * number + 9)
    senders = run.engine.zones.outside.decoys.senders
    assert not any(senders.is_sender(parse_source(name), run.now) for name in names)
    assert {offence for _, offence in _last_blocks(run).values()} <= {0}


@SENDER
def test_a_large_group_does_not_hide_who_is_alone_in_the_ones_that_follow(
    sender: str, decoy: str, victim: str
) -> None:
    decoys = [decoy.format(number) for number in range(1, 6)]
    run = scenario().at(0.0)
    _decoy_round(run, (sender, victim, *decoys), 0)
    for number, name in enumerate(decoys[:3], 1):
        _decoy_round(run, (sender, name), number)
    blocks = _last_blocks(run)
    assert blocks[_name(sender)][1] >= 1
    assert {blocks[_name(name)] for name in (victim, *decoys)} == {(GROUP_TIMEOUT_S, 0)}


def test_datagrams_that_agree_by_chance_show_no_sender() -> None:
    """Clients of NTP all send from port 123 to port 123."""
    run = scenario(trigger=100, slow_trigger=100).at(0.0)
    for number in range(20):
        for name in (A, f"198.51.100.{number}"):
            run.at(number * 3.0).send(forge.ip(name, HOST, forge.UDP, forge.udp(123, 123)))
    assert len(run.engine.zones.outside.decoys.senders) == 0


def test_senders_are_remembered_for_a_day_and_bounded() -> None:
    senders = Senders()
    sender = parse_source(A)
    for number in range(MIN_SENDER_GROUPS):
        senders.learn({sender: None, Source(number.to_bytes(4)): None}, 0.0)
    assert senders.is_sender(sender, MEMBERSHIP_S - 1)
    assert not senders.is_sender(sender, MEMBERSHIP_S)
    for number in range(3 * MAX_MEMBERS):
        senders.learn({Source(number.to_bytes(4)): None, parse_source(B): None}, 0.0)
    assert senders.is_sender(sender, 1.0), "sources of one group do not push it out"
    assert len(senders) <= 2 * MAX_MEMBERS
