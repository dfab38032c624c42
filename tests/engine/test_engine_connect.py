"""Connections that a decoy took, and probes that count though their target was seen before."""

from ipaddress import ip_address
from typing import Any

import pytest

from sentryfw.engine.decided import DRAIN_AFTER_BLOCK_S
from sentryfw.engine.engine import Engine
from sentryfw.engine.model import ACCEPT, DROP, Meta, Outcome, parse_source
from sentryfw.engine.networks import LINK_LOCAL_ONLY
from support import forge
from support.forge import networks
from support.transcript import A6, A6_NEIGHBOUR, HORIZONS, HOST, POLICY, A, B, scenario

CONNECT_1 = {**HORIZONS.triggers, "connect": 1}


def _engine(**settings: Any) -> Engine:
    horizons = {key: settings.pop(key) for key in HORIZONS._fields if key in settings}
    return Engine(HORIZONS._replace(**horizons), POLICY._replace(**settings))


def _connect(
    engine: Engine, port: int, now: float, source: str = A, *, is_request: bool = False
) -> Outcome:
    host = "2001:db8:ffff::1" if ":" in source else HOST
    target = ip_address(host).packed
    return engine.handle_connect(
        ip_address(source).packed, target, port, now, is_request=is_request
    )


@pytest.mark.parametrize("source", [A, A6], ids=["ipv4", "ipv6"])
def test_the_first_connection_blocks_and_is_proven(source: str) -> None:
    outcome = _connect(_engine(triggers=CONNECT_1), 23, 0.0, source)
    (block,) = outcome.blocks
    assert block.source == parse_source(source, LINK_LOCAL_ONLY)
    assert not block.forgeable
    assert block.evidence.kinds == ("connect",)
    assert block.evidence.last is not None
    assert block.evidence.last.target[1:] == (6, 23)
    assert block.reason == "1 distinct target within the window, with the decoy at tcp/23"
    assert block.evidence.address == ip_address(source).packed


def test_a_connection_makes_the_evidence_of_a_partner_unforgeable() -> None:
    engine = _engine(trigger=2)
    partner = Meta(unlisted=True, partner=True)
    engine.handle(forge.ipv4(A, HOST, forge.TCP, forge.tcp(7)), partner, 0.0)
    (block,) = _connect(engine, 23, 1.0).blocks
    assert block.evidence.kinds == ("syn", "connect")
    assert not block.forgeable


def test_below_the_trigger_it_is_kept_and_counts() -> None:
    engine = _engine()
    outcomes = [_connect(engine, port, 0.1) for port in (23, 23, 24, 25)]
    assert [outcome.action for outcome in outcomes] == ["count", "pass", "count", "block"]
    assert outcomes[0].probe is not None
    assert engine.counters.probes["connect"] == 4


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"mode": "observe"}, "observe"),
        ({"tcp": "observe"}, "observe"),
        ({"tcp": "command"}, "command"),
        ({"max_elements": 0}, "block.max_elements"),
    ],
)
def test_obstacles_to_a_block_apply_to_connections(settings: dict[str, Any], reason: str) -> None:
    engine = _engine(triggers=CONNECT_1, **settings)
    (refusal,) = _connect(engine, 23, 0.0).refusals
    assert refusal.reason == reason
    assert _connect(engine, 24, 1.0).refusals == ()  # reported once


@pytest.mark.parametrize(
    ("source", "spared"),
    [(A, A), (A, "198.51.100.0/24"), (A6, A6), (A6, "2001:db8:a::/48"), (A6, "2001:db8:a:b::/64")],
)
def test_a_connection_of_a_never_blocked_address_is_not_evidence(source: str, spared: str) -> None:
    engine = _engine(triggers=CONNECT_1, never_block=networks(spared))
    assert _connect(engine, 23, 0.0, source).action == "pass"
    assert len(engine.tracker) == 0
    assert engine.counters.strays["connect, never blocked"] == 1


def test_the_neighbour_of_an_address_that_is_never_blocked_is_blocked() -> None:
    engine = _engine(triggers=CONNECT_1, never_block=networks(A6))
    assert _connect(engine, 23, 0.0, A6_NEIGHBOUR).blocks


def test_in_a_flood_it_blocks_all_the_same() -> None:
    run = scenario(triggers=CONNECT_1).crowd(1500)
    assert run.engine.flood
    assert _connect(run.engine, 23, 0.5).blocks


def test_visits_of_a_source_just_blocked_say_nothing_more() -> None:
    engine = _engine(triggers=CONNECT_1)
    assert _connect(engine, 23, 0.0).blocks
    assert _connect(engine, 24, DRAIN_AFTER_BLOCK_S / 2).action == "pass"
    assert _connect(engine, 24, DRAIN_AFTER_BLOCK_S + 1).blocks


# --- [detect] count = "probes"


@pytest.mark.parametrize("trigger", [1, 2, 3, 5])
def test_hits_on_one_port_add_up_as_in_portsentry(trigger: int) -> None:
    """SCAN_TRIGGER N fires on hit max(1, N)."""
    run = scenario(repeats=True, trigger=trigger, slow_trigger=trigger)
    for hit in range(1, trigger):
        run.at(hit * 0.1).syn(A, 7).expect_counted()
    run.at(1.0).syn(A, 7).expect_block(A)
    assert run.block.evidence.targets == 1
    assert run.block.evidence.probes == trigger


def test_targets_and_repeats_mix() -> None:
    run = scenario(repeats=True, trigger=3, slow_trigger=3)
    run.syn(A, 7, 7).expect_counted().syn(B, 8).expect_counted().udp(A, 9).expect_block(A)
    assert (run.block.evidence.targets, run.block.evidence.probes) == (2, 3)


def test_the_reason_shows_the_counted_unit() -> None:
    run = scenario(repeats=True, trigger=2, slow_trigger=2)
    run.engine.decider.policy = POLICY._replace(repeats=True)
    assert run.syn(A, 7, 7).block.reason == "2 probes to 1 distinct target within the window"


def test_hits_beyond_the_window_do_not_add_up() -> None:
    run = scenario(repeats=True, trigger=2, slow_trigger=2, window=60.0, slow_window=60.0)
    run.syn(A, 7).at(61.0).syn(A, 8).expect_counted()


def test_targets_count_once_where_probes_do_not_count() -> None:
    scenario(trigger=2, slow_trigger=2).syn(A, 7, 7, 7, 7).expect_no_block()


# --- UDP decoys


@pytest.mark.parametrize("trigger", [1, 3], ids=["block", "count"])
def test_what_is_sent_to_a_port_that_answers_is_judged_and_accepted(trigger: int) -> None:
    run = scenario(answered=frozenset({7}), trigger=trigger)
    run.udp(A, 7)
    outcome = run.outcomes[-1]
    assert outcome.verdict == ACCEPT
    assert outcome.action == ("block" if trigger == 1 else "count")
    assert run.udp(B, 9).outcomes[-1].verdict == DROP
    assert run.syn(B, 7).outcomes[-1].verdict == DROP


# --- requests of browsers


@pytest.mark.parametrize("source", [A, A6], ids=["ipv4", "ipv6"])
def test_one_request_that_a_web_page_can_cause_makes_no_block(source: str) -> None:
    """Sent many times, too: a page that is loaded again asks for its images again."""
    engine = _engine(triggers=CONNECT_1)
    outcomes = [_connect(engine, 8080, float(at), source, is_request=True) for at in range(20)]
    assert [outcome.action for outcome in outcomes] == ["count"] + ["pass"] * 19
    late = _connect(engine, 8081, 20 + engine.tracker.horizons.window, source, is_request=True)
    assert late.action == "count"


def test_requests_to_two_decoys_are_proven() -> None:
    """A scanner that asks every decoy for a page hides behind the browsers."""
    engine = _engine(triggers=CONNECT_1)
    assert not _connect(engine, 8080, 0.0, is_request=True).blocks
    (block,) = _connect(engine, 8081, 1.0, is_request=True).blocks
    assert not block.forgeable
    assert block.evidence.targets == 2


def test_a_request_counts_as_a_forgeable_probe() -> None:
    engine = _engine(triggers=CONNECT_1)
    unlisted = Meta(unlisted=True, partner=False)
    packets = [forge.ipv4(A, HOST, forge.TCP, forge.tcp(port)) for port in (7, 9)]
    assert not engine.handle(packets[0], unlisted, 0.0).blocks
    assert not _connect(engine, 8080, 0.5, is_request=True).blocks
    (block,) = engine.handle(packets[1], unlisted, 1.0).blocks
    assert block.forgeable
    assert block.evidence.targets == 3


def test_a_visit_that_sends_nothing_after_a_request_is_proven() -> None:
    engine = _engine(triggers=CONNECT_1)
    assert not _connect(engine, 8080, 0.0, is_request=True).blocks
    (block,) = _connect(engine, 8080, 1.0).blocks
    assert not block.forgeable


def test_requests_count_as_connections_where_probes_count_as_in_portsentry() -> None:
    engine = _engine(triggers=CONNECT_1, repeats=True)
    assert _connect(engine, 8080, 0.0, is_request=True).blocks
