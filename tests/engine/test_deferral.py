"""Deferred SYNs: dropped until they come again; then their evidence is taken back."""

import pytest

from sentryfw.engine.deferral import (
    AGAIN_AFTER_S,
    FIRST_AGE_S,
    GENERATION_S,
    MAX_DEFERRED,
    Deferrals,
)
from sentryfw.engine.model import ACCEPT, DROP, Packet, parse_source
from sentryfw.engine.packet import decode
from support import forge
from support.transcript import A6, HOST, A, B, scenario

SOURCES = pytest.mark.parametrize("source", [A, A6], ids=["ipv4", "ipv6"])


def _packet(number: int, flags: str = "S") -> Packet:
    packet = decode(forge.ip(A, HOST, forge.TCP, forge.tcp(80, flags, seq=number)))
    assert isinstance(packet, Packet)
    return packet


# --- the table


def test_the_age_counts_from_the_first_time() -> None:
    deferrals = Deferrals()
    assert deferrals.age(_packet(1), 10.0) == FIRST_AGE_S
    assert deferrals.age(_packet(1), 10.5) == pytest.approx(0.5)
    assert deferrals.age(_packet(2), 10.5) == FIRST_AGE_S
    assert deferrals.age(_packet(1, "SEC"), 13.0) == pytest.approx(3.0), "ECN may be left out"


def test_a_syn_is_known_for_a_generation_and_forgotten_after_two() -> None:
    deferrals = Deferrals()
    deferrals.age(_packet(1), 10.0)
    assert deferrals.age(_packet(1), 10.0 + GENERATION_S) == pytest.approx(GENERATION_S)
    deferrals.expire(10.0 + GENERATION_S + 1)
    assert len(deferrals) == 1
    deferrals.expire(10.0 + 3 * GENERATION_S)
    assert len(deferrals) == 0
    assert deferrals.age(_packet(1), 10.0 + 3 * GENERATION_S) == FIRST_AGE_S


def test_a_flood_makes_generations_shorter_and_the_table_no_larger() -> None:
    deferrals = Deferrals(max_deferred=8)
    for number in range(100):
        assert deferrals.age(_packet(number), 1.0) == FIRST_AGE_S
        assert len(deferrals) <= 16
    assert deferrals.age(_packet(99), 2.0) == pytest.approx(1.0)
    assert deferrals.age(_packet(0), 2.0) == FIRST_AGE_S, "forgotten: deferred once more"


def test_at_the_limit_of_the_ruleset_a_syn_outlives_every_first_retransmission() -> None:
    assert MAX_DEFERRED / 10_000 > 3.0


# --- the engine


@SOURCES
def test_a_syn_is_served_when_it_comes_again(source: str) -> None:
    (
        scenario()
        .at(0.0).deferred(source, 22).expect_dropped()
        .at(AGAIN_AFTER_S - 0.1).deferred(source, 22).expect_dropped()
        .at(1.0).deferred(source, 22).expect_accepted()
        .at(3.0).deferred(source, 22).expect_accepted()
    )  # fmt: skip


@pytest.mark.parametrize("other", [{"seq": 8}, {"sport": 41001}])
def test_another_syn_to_the_same_port_is_deferred(other: dict[str, int]) -> None:
    run = scenario().at(0.0).deferred(A, 22)
    run.at(1.0).deferred(A, 22, **other).expect_dropped()
    run.at(1.0).deferred(B, 22).expect_dropped()


@SOURCES
def test_six_deferred_syns_are_three_targets(source: str) -> None:
    run = scenario().at(0.0).deferred(source, 22, 80, 443, 993, 995).expect_dropped()
    run.deferred(source, 8080).expect_block(source, reason="6 distinct targets within the window")


@SOURCES
def test_what_came_again_does_not_count(source: str) -> None:
    run = scenario()
    for port in range(1, 100):
        run.at(2.0 * port).deferred(source, port).expect_dropped()
        run.at(2.0 * port + 1).deferred(source, port).expect_accepted()
    assert run.engine.tracker.get(parse_source(source)) is None
    assert run.engine.counters.came_again == 99


@SOURCES
def test_a_scanner_that_repeats_its_syns_is_still_blocked_by_unlisted_ports(source: str) -> None:
    run = scenario().at(0.0).syn(source, 1001, 1002).deferred(source, 22)
    run.at(1.0).deferred(source, 22).expect_accepted()
    run.syn(source, 1003).expect_block(source)


def test_heavier_evidence_to_that_port_stays() -> None:
    """The port was unlisted a moment ago."""
    run = scenario().at(0.0).syn(A, 22, 23).deferred(A, 22)
    run.at(1.0).deferred(A, 22).expect_accepted()
    run.syn(A, 24).expect_block(A)


def test_a_blocked_source_is_not_served_when_it_comes_again() -> None:
    run = scenario().at(0.0).deferred(A, 22).at(0.5).syn(A, 1, 2, 3).expect_block(A)
    run.at(1.0).deferred(A, 22).expect_dropped()


def test_observe_serves_at_once_and_reports_a_deferral() -> None:
    run = scenario(mode="observe").at(0.0).deferred(A, 22).expect(ACCEPT, "defer")
    assert run.outcomes[-1].probe is not None
    run.at(0.1).deferred(A, 22).expect(ACCEPT, "pass")


def test_a_deferred_syn_is_not_kept_for_a_restart() -> None:
    run = scenario().at(0.0).deferred(A, 22)
    assert (run.outcomes[-1].verdict, run.outcomes[-1].probe) == (DROP, None)
