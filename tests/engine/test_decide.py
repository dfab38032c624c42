"""Decisions: blocks, their timeouts, and the reasons of refusals."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.engine.decide import MAX_OFFENDERS, Decider
from sentryfw.engine.model import (
    ACCEPT,
    Block,
    Evidence,
    Meta,
    Refusal,
    Source,
    parse_source,
    source_of,
)
from sentryfw.engine.networks import NetworkIndex
from support.forge import networks
from support.transcript import A6, A6_NEIGHBOUR, POLICY, STRANGER, A, B, scenario


def _evidence(source: Source, *, score: float = 1.0, slow: float = 0.5) -> Evidence:
    return Evidence(
        source, 3, 3, ("syn",), first_seen=0.0, last_seen=0.0, score=score, slow_score=slow,
        scan="portscan", sample=(),
    )  # fmt: skip


# --- blocked sources


@pytest.mark.parametrize(
    ("score", "slow", "horizon"),
    [(1.0, 0.5, "window"), (0.9, 1.0, "slow window"), (2.0, 2.0, "window")],
    ids=["window", "slow-window", "both"],
)
def test_the_reason_names_the_window_that_decided(score: float, slow: float, horizon: str) -> None:
    evidence = _evidence(parse_source(A), score=score, slow=slow)
    decision = Decider(POLICY).judge(evidence, STRANGER, 5.0, flood=False)
    assert isinstance(decision, Block)
    assert decision.reason == f"3 distinct targets within the {horizon}"
    assert (decision.at, decision.forgeable, decision.offence) == (5.0, True, 1)


def test_a_partner_that_scans_is_confined_longer_each_time() -> None:
    run = scenario().partner(A).at(0.0).syn(A, 1, 2).expect_counted()
    run.syn(A, 3).expect_confinement(A, offence=1, timeout=POLICY.timeouts[0]).expect_no_block()
    run.at(1.0).syn(A, 4).expect_dropped()
    run.at(900.0).syn(A, 5, 6, 7).expect_confinement(A, offence=2, timeout=POLICY.timeouts[1])
    assert run.engine.counters.confined == 2


def test_a_stranger_with_the_same_evidence_is_blocked() -> None:
    scenario().at(0.0).syn(A, 1, 2, 3).expect_block(A)


def test_confinement_is_not_limited_by_the_caps_of_blocks() -> None:
    run = scenario(per_minute=1).partner(A).at(0.0).syn(B, 1, 2, 3).expect_block(B)
    run.syn(A, 1, 2, 3).expect_confinement(A)


def test_a_partner_is_refused_while_partners_are_not_confined() -> None:
    (
        scenario(confine=False)
        .partner(A).at(0.0).syn(A, 1, 2).expect_counted()
        .syn(A, 3).expect_refusal(A, "partner").expect_no_block()
    )  # fmt: skip


def test_a_partner_is_blocked_if_the_operator_wants_it() -> None:
    scenario(partners=False).partner(A).syn(A, 1, 2, 3).expect_block(A)


@pytest.mark.parametrize(
    ("network", "source"),
    [
        ("198.51.100.7/32", A),
        ("198.51.100.0/24", A),
        ("0.0.0.0/0", A),
        ("2001:db8:a:b::/64", A6),
        ("2001:db8::/32", A6),
        ("::/0", A6),
        ("fe80::1/128", "fe80::1"),
        ("fe80::/10", "fe80::1"),
    ],
)
def test_never_blocked_networks_are_refused_with_that_reason(network: str, source: str) -> None:
    (
        scenario(never_block=networks(network))
        .syn(source, 1, 2, 3).expect_refusal(source, "never_block").expect_no_block()
    )  # fmt: skip


@pytest.mark.parametrize(
    ("network", "source"),
    [
        ("198.51.100.8/32", A),
        ("198.51.101.0/24", A),
        ("::/0", A),
        ("0.0.0.0/0", A6),
        ("2001:db8:a:c::/64", A6),
        ("2001:db8:a:b::9/128", A6),
        ("2001:db8:a:b::/128", A6),
        ("2001:db8:a:b:1::/96", A6),
        ("fe80::2/128", "fe80::1"),
    ],
)
def test_a_never_blocked_network_protects_only_its_own_sources(network: str, source: str) -> None:
    """A /64 with one never-blocked address in it is blocked: nft accepts that address before."""
    scenario(never_block=networks(network)).syn(source, 1, 2, 3).expect_block(source)


def test_observe_mode_accepts_everything_and_reports_would_be_blocks() -> None:
    (
        scenario(mode="observe")
        .at(0.0).syn(A, 1).expect(ACCEPT, "count")
        .syn(A, 2).expect(ACCEPT, "count")
        .syn(A, 3).expect(ACCEPT, "refuse").expect_refusal(A, "observe")
        .at(1.0).syn(A, 4).expect(ACCEPT, "pass")
        .send(b"").expect(ACCEPT, "pass")
        .expect_no_block()
    )  # fmt: skip


def test_observe_mode_reports_the_obstacle_to_a_block() -> None:
    observing = scenario(mode="observe", never_block=networks("203.0.113.0/24")).partner(A)
    observing.syn(A, 1, 2, 3).expect_refusal(A, "observe")
    observing.syn(B, 1, 2, 3).expect_refusal(B, "never_block")


def test_a_refusal_carries_the_evidence_a_block_would_have() -> None:
    refused = scenario(mode="observe").syn(A, 1, 2, 3).refusal.evidence
    assert refused == scenario().syn(A, 1, 2, 3).block.evidence
    assert [port for _, _, port in refused.sample] == [1, 2, 3]


# --- caps


def test_blocks_a_minute_are_capped() -> None:
    (
        scenario(per_minute=2)
        .at(0.0).syn(A, 1, 2, 3).expect_block(A)
        .at(30.0).syn(B, 1, 2, 3).expect_block(B)
        .at(59.9).syn("192.0.2.3", 1, 2, 3).expect_refusal("192.0.2.3", "block.per_minute")
        .at(60.0).syn(A6, 1, 2, 3).expect_block(A6)  # of the other family
        .at(60.1).syn("192.0.2.4", 1, 2, 3).expect_block("192.0.2.4")
    )  # fmt: skip


def test_live_blocks_are_capped() -> None:
    (
        scenario(max_elements=1, timeouts=(100.0,))
        .at(0.0).syn(A, 1, 2, 3).expect_block(A)
        .at(97.0).syn(B, 1, 2, 3).expect_refusal(B, "block.max_elements")
        .at(99.0).syn(A6, 1, 2, 3).expect_block(A6)
        .at(100.0).syn(B, 4).expect_block(B)
    )  # fmt: skip


def test_a_source_refused_by_a_cap_is_drained_like_a_blocked_one() -> None:
    (
        scenario(per_minute=1, listed={22})
        .at(0.0).syn(A, 1, 2, 3).expect_block(A)
        .at(1.0).syn(B, 1, 2, 3).expect_refusal(B, "block.per_minute")
        .at(1.1).syn(B, 22).expect_dropped()
        .at(3.1).syn(B, 22).expect_accepted()
    )  # fmt: skip


# --- offences


def test_the_timeout_grows_with_each_offence_and_stays_at_the_last() -> None:
    run = scenario(timeouts=(10.0, 20.0, 40.0))
    for offence, timeout in enumerate((10.0, 20.0, 40.0, 40.0), start=1):
        run.at(offence * 100.0).syn(A, 1, 2, 3).expect_block(A, offence=offence, timeout=timeout)
    run.syn(B, 1, 2, 3).expect_block(B, offence=1, timeout=10.0)


def test_neighbours_in_a_64_share_their_offences() -> None:
    (
        scenario(timeouts=(10.0, 20.0))
        .at(0.0).syn(A6, 1, 2, 3).expect_block(A6, offence=1)
        .at(20.0).syn(A6_NEIGHBOUR, 1, 2, 3).expect_block(A6, offence=2, timeout=20.0)
    )  # fmt: skip


def test_restored_offences_count() -> None:
    decider = Decider(POLICY._replace(timeouts=(10.0, 20.0, 40.0)))
    decider.restore_offences({parse_source(A): 2})
    decision = decider.judge(_evidence(parse_source(A)), STRANGER, 0.0, flood=False)
    assert isinstance(decision, Block)
    assert (decision.offence, decision.timeout) == (3, 40.0)


def test_a_refusal_is_not_an_offence() -> None:
    decider = Decider(POLICY._replace(confine=False))
    evidence = _evidence(parse_source(A))
    refusal = decider.judge(evidence, Meta(unlisted=True, partner=True), 0.0, flood=False)
    assert isinstance(refusal, Refusal)
    block = decider.judge(evidence, STRANGER, 0.0, flood=False)
    assert isinstance(block, Block)
    assert block.offence == 1


def test_remembered_offences_are_bounded_and_the_oldest_goes_first() -> None:
    decider = Decider(POLICY._replace(per_minute=1 << 20, max_elements=1 << 20))
    for number in range(MAX_OFFENDERS + 1):
        decider.judge(_evidence(Source(number.to_bytes(4))), STRANGER, 0.0, flood=False)

    def offence(number: int) -> int:
        evidence = _evidence(Source(number.to_bytes(4)))
        decision = decider.judge(evidence, STRANGER, 0.0, flood=False)
        assert isinstance(decision, Block)
        return decision.offence

    assert offence(MAX_OFFENDERS) == 2
    assert offence(0) == 1


# --- any packets

NETWORKS = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.integers(0, 32)),
    st.tuples(st.ip_addresses(v=6), st.integers(0, 64)),
).map(lambda pair: ip_network(pair, strict=False))


@given(NETWORKS, st.data())
def test_an_allowlisted_source_is_never_blocked_for_any_packets(
    network: IPv4Network | IPv6Network, data: st.DataObject
) -> None:
    run = scenario(trigger=1, triggers={}, never_block=NetworkIndex((network,)))
    hosts = st.integers(0, network.num_addresses - 1).map(lambda n: str(network[n]))
    sends = st.tuples(hosts, st.integers(0, 255), st.integers(0, 65535), st.booleans())
    for source, flags, port, is_udp in data.draw(st.lists(sends, min_size=1, max_size=30)):
        run.udp(source, port) if is_udp else run.tcp(source, flags, port)
        run.expect_no_block()


@given(st.ip_addresses(), st.integers(0, 3))
def test_a_never_blocked_address_does_not_protect_its_neighbours(
    spared: IPv4Address | IPv6Address, distance: int
) -> None:
    neighbour = type(spared)(int(spared) ^ distance)
    policy = POLICY._replace(never_block=networks(spared))
    source = source_of(neighbour.packed)
    decision = Decider(policy).judge(_evidence(source), STRANGER, 0.0, flood=False)
    is_spared = source == spared.packed  # never of a /64, which is more than the address
    assert isinstance(decision, Refusal if is_spared else Block)
