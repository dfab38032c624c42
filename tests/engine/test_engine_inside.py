"""Sources inside: a zone of their own, whose evidence is not added to that of outside."""

from typing import Final

import pytest

from sentryfw.engine.correlate.zones import ZoneRules
from sentryfw.engine.decide import Policy
from sentryfw.engine.engine import Engine
from sentryfw.engine.model import ACCEPT, DROP, Meta, Outcome, parse_source
from support import forge
from support.forge import networks
from support.transcript import HORIZONS, HOST, POLICY, A

META: Final = Meta(unlisted=True, partner=False)
OUTSIDE: Final = 0
INSIDE: Final = 1
OBSERVED: Final = POLICY._replace(mode="observe", unlisted=ACCEPT)
BLOCKED: Final = POLICY._replace(unlisted=ACCEPT)


def _engine(policy: Policy = OBSERVED) -> Engine:
    engine = Engine(HORIZONS, POLICY)
    horizons = HORIZONS._replace(trigger=8, slow_trigger=8)
    inside = ZoneRules("inside", ("lan*",), horizons, policy, is_inside=True)
    engine.zones.use((ZoneRules("", (), HORIZONS, POLICY), inside))
    return engine


def _syn(engine: Engine, zone: int, port: int) -> Outcome:
    return engine.handle(forge.ip(A, HOST, 6, forge.tcp(port)), META, 1.0, b"", zone)


def _syns(engine: Engine, zone: int, *ports: int) -> list[tuple[int, str]]:
    """Verdict and action for each."""
    outcomes = (_syn(engine, zone, port) for port in ports)
    return [(outcome.verdict, outcome.action) for outcome in outcomes]


def test_inside_has_a_trigger_and_a_mode_of_its_own() -> None:
    engine = _engine()
    assert _syns(engine, INSIDE, *range(1, 8)) == [(ACCEPT, "count")] * 7
    outcome = _syn(engine, INSIDE, 8)
    assert (outcome.verdict, outcome.action) == (ACCEPT, "refuse")
    assert outcome.refusals[0].reason == "observe"
    assert outcome.refusals[0].evidence.inside


def test_outside_is_judged_as_before() -> None:
    engine = _engine()
    assert _syns(engine, OUTSIDE, 1, 2) == [(DROP, "count")] * 2
    outcome = _syn(engine, OUTSIDE, 3)
    assert outcome.action == "block"
    assert not outcome.blocks[0].evidence.inside


def test_evidence_from_both_sides_is_not_added_up() -> None:
    engine = _engine()
    _syns(engine, OUTSIDE, 1, 2)
    assert _syns(engine, INSIDE, 3) == [(ACCEPT, "count")]


def test_offences_and_counters_are_those_of_all() -> None:
    engine = _engine(BLOCKED)
    engine.decider.restore_offences({parse_source(A): 2})
    _syns(engine, INSIDE, *range(1, 8))
    [block] = _syn(engine, INSIDE, 8).blocks
    assert block.offence == 3
    assert engine.counters.probes["syn"] == 8


@pytest.mark.parametrize("how", ["release", "release_all"])
def test_a_source_unblocked_inside_starts_again(how: str) -> None:
    engine = _engine(BLOCKED)
    _syns(engine, INSIDE, *range(1, 9))
    assert _syns(engine, INSIDE, 9) == [(DROP, "pass")]
    engine.release(parse_source(A)) if how == "release" else engine.release_all()
    assert _syns(engine, INSIDE, 10) == [(ACCEPT, "count")]


def test_who_is_protected_later_is_spared_inside_too() -> None:
    engine = _engine(BLOCKED)
    engine.protect(networks(A))
    _syns(engine, INSIDE, *range(1, 8))
    [refusal] = _syn(engine, INSIDE, 8).refusals
    assert refusal.reason == "never_block"
