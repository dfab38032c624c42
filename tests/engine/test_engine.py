"""Transcripts: an engine's answers to packets over time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.engine.caps import FLOOD_END_PER_S, FLOOD_START_PER_S
from sentryfw.engine.decided import (
    DRAIN_AFTER_BLOCK_S,
    MAX_DRAINING,
    MAX_REFUSALS,
    REFUSAL_INTERVAL_S,
)
from sentryfw.engine.model import ACCEPT, DROP, Meta, source_text
from support import forge
from support.transcript import (
    A6,
    A6_NEIGHBOUR,
    B6,
    HOST,
    HOST6,
    A,
    B,
    Scenario,
    scenario,
)

HOUR = 3600.0
SINGLE = {"null": "", "fin": "F", "xmas": "FPU", "synfin": "FS", "badflags": "SR", "urg": "U"}
"""Kinds that no stack sends: two targets block."""


# --- a scan ends at its trigger


def test_the_third_distinct_target_within_the_window_blocks() -> None:
    (
        scenario()
        .at(0.0).syn(A, 23).expect_counted()
        .at(0.2).syn(A, 24).expect_counted()
        .at(0.4).syn(A, 25).expect_block(A, timeout=3600.0, offence=1, at=0.4,
                                         reason="3 distinct targets within the window")
    )  # fmt: skip


def test_retransmits_do_not_count() -> None:
    run = scenario().at(0.0).syn(A, 23, 24)
    for second in (1.0, 3.0, 7.0, 15.0, 31.0):
        run.at(second).syn(A, 23).expect_dropped().syn(A, 24).expect_dropped()
    run.at(32.0).syn(A, 25).expect_block(A)
    assert (run.block.evidence.targets, run.block.evidence.probes) == (3, 13)


def test_targets_outside_the_window_do_not_count() -> None:
    (
        scenario()
        .at(0.0).syn(A, 23)
        .at(200.0).syn(A, 24)
        .at(301.0).syn(A, 25).expect_counted()
        .at(302.0).syn(A, 26).expect_block(A)
    )  # fmt: skip


def test_a_scan_of_one_probe_in_three_hours_is_seen() -> None:
    run = scenario().at(1000.0)
    for probe in range(5):
        run.at(1000.0 + probe * 3 * HOUR).syn(A, 100 + probe).expect_counted()
    run.at(1000.0 + 15 * HOUR).syn(A, 105)
    run.expect_block(A, reason="6 distinct targets within the slow window")
    assert run.block.evidence.first_seen == 1000.0


def test_one_probe_in_five_hours_stays_below_the_slow_trigger() -> None:
    run = scenario()
    for probe in range(40):
        run.at(probe * 5 * HOUR).syn(A, 100 + probe).expect_counted()


def test_two_scanners_do_not_add_up() -> None:
    scenario().syn(A, 1, 2).syn(B, 3, 4).expect_no_block().syn(A, 5).expect_block(A)


def test_udp_and_tcp_of_one_source_add_up() -> None:
    run = scenario().syn(A, 53).udp(A, 53).expect_counted().udp(A, 123).expect_block(A)
    assert run.block.evidence.kinds == ("syn", "udp")


@pytest.mark.parametrize("kind", SINGLE)
def test_what_no_stack_sends_blocks_at_its_second_target(kind: str) -> None:
    run = scenario().tcp(A, SINGLE[kind], 23).expect_counted()
    run.tcp(A, SINGLE[kind], 23).expect_dropped()  # a second copy is not a second target
    run.tcp(A, SINGLE[kind], 24).expect_block(A)
    assert run.block.evidence.kinds == (kind,)
    assert run.engine.counters.probes[kind] == 3


def test_kinds_with_triggers_of_their_own_mix_by_weight() -> None:
    (
        scenario(triggers={"udp": 6})
        .syn(A, 1).udp(A, 2, 3, 4).expect_counted()  # 1/3 + 3/6
        .udp(A, 5).expect_block(A)  # 1/3 + 4/6
    )  # fmt: skip


def test_one_port_of_many_hosts_is_a_portsweep() -> None:
    run = scenario()
    for host in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        run.syn(A, 23, to=host)
    run.expect_block(A)
    assert run.block.evidence.scan == "portsweep"


def test_many_ports_of_one_host_are_a_portscan() -> None:
    assert scenario().syn(A, 1, 2, 3).block.evidence.scan == "portscan"


def test_a_block_explains_itself() -> None:
    evidence = scenario().syn(A, 1).udp(A, 2).tcp(A, "A", 3).block.evidence
    host = forge.packed(HOST)
    assert evidence.sample == ((host, 6, 1), (host, 17, 2), (host, 6, 3))
    assert evidence.kinds == ("syn", "udp", "ack")


# --- IPv6


def test_a_64_is_one_source() -> None:
    run = scenario().syn(A6, 1).syn(A6_NEIGHBOUR, 2).syn(A6, 3).expect_block(A6)
    assert source_text(run.block.source) == "2001:db8:a:b::/64"


def test_two_64s_are_two_sources() -> None:
    scenario().syn(A6, 1, 2).syn(B6, 3, 4).expect_no_block()


def test_link_local_neighbours_stand_for_themselves() -> None:
    run = scenario().syn("fe80::1", 1, 2).syn("fe80::2", 3, 4).expect_no_block()
    run.syn("fe80::1", 5).expect_block("fe80::1")
    assert source_text(run.block.source) == "fe80::1"
    run.syn("fe80::2", 5).expect_block("fe80::2")


# --- packets that are not evidence


@pytest.mark.parametrize("flags", ["SA", "R", "RA"])
def test_backscatter_is_accepted_and_never_evidence(flags: str) -> None:
    run = scenario()
    for port in range(1, 100):
        run.tcp(A, flags, port).expect_accepted()
    assert run.engine.counters.strays["backscatter"] == 99
    assert len(run.engine.tracker) == 0


@pytest.mark.parametrize("flags", ["A", "PA", "FA"])
def test_late_packets_of_a_partner_are_accepted_and_never_evidence(flags: str) -> None:
    run = scenario().partner(A)
    for port in range(1, 100):
        run.tcp(A, flags, port).expect_accepted()
    assert run.engine.counters.strays["late packet of a partner"] == 99
    run.tcp(B, flags, 1, 2, 3).expect_block(B)


def test_a_suspects_syn_to_a_listed_port_is_accepted_and_no_evidence() -> None:
    (
        scenario(listed={22, 80})
        .syn(A, 1).syn(A, 2)
        .syn(A, 22, 80).expect_accepted()
        .syn(A, 3).expect_block(A)
    )  # fmt: skip


def test_an_icmp_message_that_asks_nothing_is_accepted_and_no_evidence() -> None:
    run = scenario()
    for kind in (0, 3, 4, 5, 11, 12, 14, 16, 18):
        run.icmp(A, kind).expect_accepted()
    for kind in (1, 2, 3, 4, 129, 133, 134, 135, 136, 143):
        run.icmp(A6, kind).expect_accepted()
    assert run.engine.counters.strays["no request"] == 19
    assert len(run.engine.tracker) == 0


@pytest.mark.parametrize(
    ("unlisted", "verdict"), [(True, DROP), (False, ACCEPT)], ids=["unlisted", "listed"]
)
def test_a_malformed_packet_gets_a_verdict_and_is_counted(*, unlisted: bool, verdict: int) -> None:
    run = scenario().send(b"", unlisted=unlisted).expect(verdict, "pass")
    run.send(b"\x45", unlisted=unlisted).expect(verdict, "pass").expect_no_block()
    counters = run.engine.counters
    assert counters.malformed.total() == 2
    assert counters.malformed["empty"] == 1
    assert counters.malformed["IPv4 header cut short"] == 1


def test_unlisted_accept_lets_everything_but_scans_go_its_way() -> None:
    (
        scenario(unlisted=ACCEPT)
        .at(0.0).syn(A, 1).expect(ACCEPT, "count")
        .syn(A, 2).expect(ACCEPT, "count")
        .send(b"").expect(ACCEPT, "pass")
        .syn(A, 3).expect_block(A)
        .at(0.1).syn(A, 4).expect_dropped()
    )  # fmt: skip


# --- the hold: what stood in the queue behind the probe that decided


def _blocked(**settings: object) -> Scenario:
    return scenario(**settings).at(0.0).syn(A, 1, 2, 3).expect_block(A)


@pytest.mark.parametrize(
    ("now", "held"), [(0.0, True), (0.9, True), (1.99, True), (2.0, False), (2.5, False)]
)
def test_packets_of_a_blocked_source_are_dropped_for_two_seconds(now: float, *, held: bool) -> None:
    late = _blocked().at(now).syn(A, 4)
    late.expect_dropped() if held else late.expect_counted()


def test_the_hold_ends_without_a_tick() -> None:
    _blocked().at(0.9).at(1.8).syn(A, 4).expect_dropped().at(2.0).syn(A, 4).expect_counted()


def test_the_hold_drops_what_else_would_be_accepted() -> None:
    (
        _blocked(listed={22})
        .at(1.5)
        .syn(A, 22).expect_dropped()
        .tcp(A, "SA", 4).expect_dropped()
        .tcp(A, "R", 4).expect_dropped()
        .protocol(A, 1).expect_dropped()
        .syn(B, 22).expect_accepted()
        .at(2.5)
        .syn(A, 22).expect_accepted()
        .protocol(A, 1).expect_accepted()
    )  # fmt: skip


def test_the_hold_drops_late_packets_of_one_who_was_a_partner() -> None:
    _blocked(partners=False).partner(A).at(1.5).tcp(A, "A", 4).expect_dropped()


def test_the_hold_is_of_the_whole_64() -> None:
    (
        scenario(listed={22}).syn(A6, 1, 2, 3).expect_block(A6)
        .at(0.5).syn(A6_NEIGHBOUR, 22).expect_dropped()
        .syn(B6, 22).expect_accepted()
    )  # fmt: skip


def test_the_hold_drops_a_listed_syn_behind_any_chain_of_headers() -> None:
    """Linux reads chains that decode() gives up on, so the SYN would open the port."""
    chain = ((60, bytes([0, 1, 4, 0, 0, 0, 0])),) * 12
    syn = forge.ipv6(A6, HOST6, forge.TCP, forge.tcp(22), chain=chain)
    run = scenario().syn(A6, 1, 2, 3).expect_block(A6)
    run.at(0.1).send(syn, unlisted=False, text="12 headers, listed SYN").expect_dropped()


def test_drained_packets_are_not_evidence_later() -> None:
    (
        _blocked()
        .at(1.0).syn(A, 4, 5, 6, 7).expect_dropped()
        .at(3.0).syn(A, 8).expect_counted()
        .syn(A, 9).expect_counted()
        .syn(A, 10).expect_block(A, offence=2)
    )  # fmt: skip


PACKETS = st.tuples(
    st.floats(0, DRAIN_AFTER_BLOCK_S, exclude_max=True),
    st.sampled_from([forge.TCP, forge.UDP, 1, 132]),
    st.integers(0, 255),
    st.integers(0, 65535),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(PACKETS, max_size=30).map(sorted))
def test_no_packet_of_a_blocked_source_passes_while_it_drains(
    packets: list[tuple[float, int, int, int, bool, bool]],
) -> None:
    run = _blocked()
    for now, protocol, flags, port, unlisted, partner in packets:
        rest = forge.udp(port) if protocol == forge.UDP else forge.tcp(port, flags)
        payload = forge.ipv4(A, HOST, protocol, rest)
        run.at(now).send(payload, unlisted=unlisted, partner=partner).expect_dropped()


@pytest.mark.slow
def test_held_sources_are_bounded() -> None:
    """More sources in two seconds than that are a flood, in which it takes three probes."""
    run = scenario(per_minute=1 << 20, max_elements=1 << 20)
    for first in range(0, MAX_DRAINING + 4000, 4000):
        for port in (1, 2, 3):
            run.crowd(4000, first, flags="", port=port)
        assert sum(len(outcome.blocks) for outcome in run.outcomes) == 4000
        run.outcomes.clear()
    assert len(run.engine.draining) == len(run.engine.draining._blocks) == MAX_DRAINING


# --- unblocking


def test_a_released_source_starts_again() -> None:
    (
        _blocked()
        .at(0.5).unblock(A)
        .syn(A, 4, 5).expect_counted()
        .syn(A, 6).expect_block(A, offence=2)
    )  # fmt: skip


def test_release_forgets_evidence_below_the_trigger() -> None:
    scenario().syn(A, 1, 2).unblock(A).syn(A, 3).expect_counted().syn(A, 4, 5).expect_block(A)


def test_release_is_of_one_source() -> None:
    scenario().syn(A, 1, 2).syn(B, 1, 2).unblock(B).syn(A, 3).expect_block(A)


def test_release_all_ends_every_hold() -> None:
    run = _blocked(listed={22}).syn(B, 1, 2, 3).expect_block(B)
    run.engine.release_all()
    run.at(0.1).syn(A, 22).expect_accepted().syn(B, 22).expect_accepted()
    run.syn(A, 1).expect_counted()


# --- refusals


def test_a_refusal_is_repeated_after_a_minute_only() -> None:
    (
        scenario(confine=False).partner(A)
        .at(10.0).syn(A, 1, 2, 3).expect_refusal(A, "partner")
        .at(11.0).syn(A, 4).expect_dropped()
        .at(10.0 + REFUSAL_INTERVAL_S - 0.1).syn(A, 5).expect_dropped()
        .at(10.0 + REFUSAL_INTERVAL_S).syn(A, 6).expect_refusal(A, "partner")
    )  # fmt: skip


def test_every_refusal_is_counted_also_in_the_pause() -> None:
    run = scenario(confine=False).partner(A).syn(A, 1, 2, 3, 4, 5)
    assert run.engine.counters.refusals["partner"] == 3


def test_another_reason_or_another_source_is_reported_at_once() -> None:
    run = (
        scenario(per_minute=1, confine=False)
        .at(10.0)
        .partner(A)
        .partner(B)
        .syn("203.0.113.77", 1, 2, 3)
    )
    run.at(11.0).syn(A, 1, 2, 3).expect_refusal(A, "partner")
    run.syn(B, 1, 2, 3).expect_refusal(B, "partner")
    run.tcp("192.0.2.77", "", 1, 2).expect_refusal("192.0.2.77", "block.per_minute")


def test_a_refused_source_is_blocked_when_nothing_stands_against_it_any_more() -> None:
    run = scenario(confine=False).partner(A).at(0.0).syn(A, 1, 2, 3).expect_refusal(A, "partner")
    payload = forge.ipv4(A, HOST, forge.TCP, forge.tcp(4))
    run.at(1.0).send(payload, partner=False).expect_block(A)


@pytest.mark.slow
def test_remembered_refusals_are_bounded() -> None:
    run = scenario(mode="observe", trigger=1)
    for first in range(0, MAX_REFUSALS + 4000, 4000):
        run.crowd(4000, first).crowd(4000, first)
    assert run.engine.counters.refusals["observe"] > MAX_REFUSALS
    assert len(run.engine.zones.all[0].refusals) <= MAX_REFUSALS


# --- flood mode


def _flooded() -> Scenario:
    return scenario().at(10.0).crowd(FLOOD_START_PER_S + 1).at(11.0)


@pytest.mark.parametrize(("more", "flood"), [(0, False), (1, True)], ids=["at-the-rate", "above"])
def test_flood_mode_begins_above_its_rate(more: int, *, flood: bool) -> None:
    run = scenario().at(10.0).crowd(FLOOD_START_PER_S + more).at(11.0)
    assert run.engine.flood is flood
    assert run.engine.counters.floods == flood


def test_flood_mode_needs_no_tick_and_begins_within_the_second() -> None:
    run = scenario().at(10.0).crowd(1).at(10.1).crowd(FLOOD_START_PER_S)
    assert not run.engine.flood
    run.crowd(2, 5000)
    assert run.engine.flood


def test_flood_mode_outlasts_its_first_second() -> None:
    run = scenario().at(10.0)
    for tenth in range(1, 20):
        run.at(10.0 + tenth / 10).crowd(FLOOD_START_PER_S // 5, tenth * 1000)
        assert run.engine.flood == (tenth > 5), tenth


def test_known_sources_are_not_a_flood() -> None:
    run = scenario().at(10.0).crowd(500)
    for second in range(11, 15):
        run.at(float(second))
        for _ in range(5):
            run.crowd(500)
        assert not run.engine.flood


@pytest.mark.parametrize(
    ("new_sources", "flood"),
    [(FLOOD_END_PER_S, False), (FLOOD_END_PER_S + 1, True)],
    ids=["over", "goes-on"],
)
def test_flood_mode_ends_well_below_its_rate(new_sources: int, *, flood: bool) -> None:
    run = _flooded().crowd(new_sources, 10_000).at(12.0)
    assert run.engine.flood is flood


def test_a_second_flood_is_counted() -> None:
    run = _flooded().at(12.0).crowd(FLOOD_START_PER_S + 1, 10_000).at(13.0)
    assert run.engine.flood
    assert run.engine.counters.floods == 2


@pytest.mark.parametrize("kind", SINGLE)
def test_in_flood_mode_what_no_stack_sends_takes_as_many_targets_as_the_rest(kind: str) -> None:
    run = _flooded().tcp(A, SINGLE[kind], 23, 24).expect_dropped().expect_no_block()
    run.tcp(A, SINGLE[kind], 25).expect_block(A)


def test_in_flood_mode_a_single_forgeable_packet_never_blocks() -> None:
    run = scenario(trigger=1).at(10.0).crowd(FLOOD_START_PER_S + 1).at(11.0)
    run.syn(A, 23).expect_refusal(A, "flood").syn(A, 24).expect_block(A)


def test_in_flood_mode_a_scan_is_blocked_as_ever() -> None:
    _flooded().syn(A, 1).expect_dropped().syn(A, 2).expect_dropped().syn(A, 3).expect_block(A)


def test_in_flood_mode_no_probe_is_to_be_remembered() -> None:
    """The ledger is for evidence, not for a million forged addresses."""
    run = _flooded().syn(A, 1)
    assert run.outcomes[-1].probe is None
    run.at(12.0).syn(A, 2)
    assert run.outcomes[-1].probe is not None


def test_after_a_flood_two_targets_block_again() -> None:
    _flooded().at(12.0).tcp(A, "", 23).expect_counted().tcp(A, "", 24).expect_block(A)


# --- floods and the table


def test_a_half_seen_source_survives_a_flood() -> None:
    run = scenario(max_sources=500).at(0.0).syn(A, 1, 2)
    run.at(1.0).crowd(20_000).at(2.0).crowd(20_000, 20_000)
    run.syn(A, 3).expect_block(A)


def test_a_scanner_in_the_middle_of_a_flood_loses_no_probe() -> None:
    # In all 6,000 sources with one target, less than half of those that are kept packed.
    run = scenario(max_sources=1000).at(0.0).crowd(2000).syn(A, 1)
    run.at(1.0).crowd(2000, 20_000).syn(A, 2).expect_dropped()
    run.at(2.0).crowd(2000, 30_000).syn(A, 3).expect_block(A)
    evidence = run.block.evidence
    assert (evidence.probes, evidence.first_seen, len(evidence.trace)) == (3, 0.0, 3)


# --- any packets

METAS = st.builds(Meta, unlisted=st.booleans(), partner=st.booleans(), half_open=st.booleans())
SOURCES = st.sampled_from([A, B, A6, A6_NEIGHBOUR, B6, "fe80::1", "127.0.0.1", "ff02::1"])


@st.composite
def _packets(draw: st.DrawFn) -> bytes:
    source, port = draw(SOURCES), draw(st.integers(1, 6))
    protocol = draw(st.sampled_from([1, 6, 17, 47, 58, 132]))
    if protocol == forge.TCP:
        rest = forge.tcp(port, draw(st.integers(0, 255)))
    elif protocol == forge.UDP:
        rest = forge.udp(port)
    else:
        rest = forge.sctp(port, draw(st.sampled_from([1, 2, 10])), draw(st.sampled_from([2048, 1])))
    payload = forge.ip(source, HOST6 if ":" in source else HOST, protocol, rest)
    return payload[: draw(st.integers(0, 80))] if draw(st.integers(0, 9)) == 0 else payload


STEPS = st.tuples(
    st.floats(0, 100_000, allow_nan=False), st.one_of(_packets(), st.binary(max_size=80)), METAS
)


@given(
    st.lists(STEPS, max_size=60),
    st.sampled_from(["block", "observe"]),
    st.sampled_from([ACCEPT, DROP]),
    st.integers(1, 5),
)
def test_every_packet_gets_a_verdict_that_fits_its_action(
    steps: list[tuple[float, bytes, Meta]], mode: str, unlisted: int, cap: int
) -> None:
    run = scenario(mode=mode, unlisted=unlisted, per_minute=cap, max_elements=cap, max_sources=4)
    now = 0.0
    for pause, payload, meta in steps:
        now += pause
        outcome = run.engine.handle(payload, meta, now)
        assert outcome.verdict in (ACCEPT, DROP)
        assert (outcome.action == "block") == bool(outcome.blocks)
        assert (outcome.action == "refuse") == bool(outcome.refusals)
        if outcome.blocks:
            assert outcome.verdict == DROP
            assert mode == "block"
        if mode == "observe":
            assert outcome.verdict == ACCEPT


@given(st.lists(STEPS, max_size=40))
def test_the_same_packets_get_the_same_answers(steps: list[tuple[float, bytes, Meta]]) -> None:
    first, second = scenario(max_sources=4), scenario(max_sources=4)
    now = 0.0
    for pause, payload, meta in steps:
        now += pause
        answer = first.engine.handle(payload, meta, now)
        assert second.engine.handle(payload, meta, now) == answer
