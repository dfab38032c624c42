"""Blocked sources that are drained, and refused ones that are not decided about again."""

from sentryfw.engine.decided import DRAIN_AFTER_BLOCK_S, REFUSAL_INTERVAL_S, Draining, Refusals
from sentryfw.engine.model import Evidence, Kind, Refusal, Source
from sentryfw.engine.networks import NO_NETWORKS
from support.forge import networks, packed
from support.transcript import HOST, scenario

SOURCE = Source(packed("198.51.100.7"))
NOISY = "203.0.113.9"


def _refusal(reason: str, now: float, kinds: tuple[Kind, ...] = ("syn",)) -> Refusal:
    evidence = Evidence(
        SOURCE, 3, 3, kinds, first_seen=now, last_seen=now, score=1.0, slow_score=0.0,
        scan="portscan", sample=(),
    )  # fmt: skip
    return Refusal(SOURCE, reason, evidence, now)


def test_a_source_is_drained_for_two_seconds() -> None:
    draining = Draining()
    draining.begin(SOURCE, None, 10.0)
    assert draining.holds(SOURCE, 10.0 + DRAIN_AFTER_BLOCK_S - 0.1)
    assert not draining.holds(SOURCE, 10.0 + DRAIN_AFTER_BLOCK_S)
    draining.expire(10.0 + DRAIN_AFTER_BLOCK_S)
    assert not len(draining)


def test_a_refusal_is_known_until_it_is_reported_again() -> None:
    refusals = Refusals()
    assert refusals.add(_refusal("never_block", 10.0), partner=False)
    end = 10.0 + REFUSAL_INTERVAL_S
    assert refusals.known(SOURCE, ("syn",), end - 0.1, partner=False) == "never_block"
    assert refusals.known(SOURCE, ("syn",), end, partner=False) is None
    assert refusals.add(_refusal("never_block", end), partner=False)


def test_what_the_decision_depends_on_makes_it_again() -> None:
    refusals = Refusals()
    refusals.add(_refusal("partner", 10.0), partner=True)
    assert refusals.known(SOURCE, ("syn",), 11.0, partner=True) == "partner"
    assert refusals.known(SOURCE, ("syn",), 11.0, partner=False) is None
    assert refusals.known(SOURCE, ("syn", "connect"), 11.0, partner=True) is None
    assert not refusals.add(_refusal("partner", 12.0, ("syn", "ack")), partner=True)
    assert refusals.known(SOURCE, ("syn", "ack"), 13.0, partner=True) == "partner"
    refusals.decide_again()
    assert refusals.known(SOURCE, ("syn", "ack"), 13.0, partner=True) is None


def test_a_refusal_by_a_cap_or_a_flood_does_not_last() -> None:
    refusals = Refusals()
    for reason in ("flood", "block.per_minute"):
        refusals.add(_refusal(reason, 10.0), partner=False)
        assert refusals.known(SOURCE, ("syn",), 10.1, partner=False) is None


def test_a_refused_scanner_stays_refused_and_counted() -> None:
    run = scenario(confine=False).partner(NOISY).at(0.0).syn(NOISY, *range(1, 200))
    assert run.engine.counters.refusals["partner"] == 197
    assert sum(len(outcome.refusals) for outcome in run.outcomes) == 1


def test_a_refused_partner_that_proves_its_scan_is_blocked() -> None:
    run = scenario(confine=False).partner(NOISY).at(0.0).syn(NOISY, 1, 2, 3, 4).expect_dropped()
    outcome = run.engine.handle_connect(packed(NOISY), packed(HOST), 22, 0.1)
    assert [block.forgeable for block in outcome.blocks] == [False]


def test_a_refused_source_is_blocked_as_soon_as_the_policy_lets_it() -> None:
    run = scenario(never_block=networks("203.0.113.0/24")).at(0.0).syn(NOISY, 1, 2, 3, 4)
    run.engine.protect(NO_NETWORKS)
    run.syn(NOISY, 5).expect_block(NOISY)
