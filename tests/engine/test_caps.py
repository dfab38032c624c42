"""Flood mode by the rate of new sources, and caps on blocks that forged floods do not use up."""

import math
from ipaddress import IPv4Address, IPv6Address
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.engine.caps import FLOOD_END_PER_S, FLOOD_START_PER_S, SLOT_S, Caps, FloodMeter
from sentryfw.engine.model import Source, parse_source
from sentryfw.engine.networks import LINK_LOCAL_ONLY
from sentryfw.engine.table import MAX_SOURCES
from support.transcript import A6, A, scenario


def test_it_begins_above_one_rate_and_ends_below_another() -> None:
    meter = FloodMeter()
    assert not meter.update(FLOOD_START_PER_S, 1.0)
    assert meter.update(2 * FLOOD_START_PER_S + 1, 2.0)
    assert not meter.update(2 * FLOOD_START_PER_S + FLOOD_END_PER_S + 2, 3.0)  # goes on
    assert meter.is_flood
    meter.update(2 * FLOOD_START_PER_S + 2 * FLOOD_END_PER_S + 2, 4.0)
    assert not meter.is_flood


def test_it_is_due_each_second_and_after_many_sources() -> None:
    meter = FloodMeter()
    meter.update(10, 1.0)
    assert not meter.is_due(10 + FLOOD_START_PER_S, 1.9)
    assert meter.is_due(11 + FLOOD_START_PER_S, 1.1)
    assert meter.is_due(10, 2.0)


# --- caps

ONE, TWO, THREE, FOUR, SIX = (
    parse_source(text, LINK_LOCAL_ONLY)
    for text in ("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "2001:db8::1")
)


def _block(caps: Caps, source: Source, now: float, *, forgeable: bool = True) -> Any:
    """Block a source for 100 s unless a cap is reached; return the cap, or who gave way."""
    reached = caps.exceeded(source, now, forgeable=forgeable)
    if reached is not None:
        return reached
    return caps.count(source, now, 100.0, forgeable=forgeable, offence=1)


@pytest.mark.parametrize("limits", [(1, 100), (100, 1)], ids=["a-minute", "active"])
def test_a_family_and_proofs_have_caps_of_their_own(limits: tuple[int, int]) -> None:
    caps = Caps(*limits)
    assert _block(caps, ONE, 0.0) is None
    key = "block.per_minute" if limits[0] == 1 else "block.max_elements"
    assert _block(caps, TWO, 1.0) == key
    assert _block(caps, SIX, 1.0) is None
    assert _block(caps, THREE, 1.0, forgeable=False) is None
    assert _block(caps, FOUR, 2.0, forgeable=False) == key


def test_who_comes_again_has_a_budget_that_a_flood_does_not_use() -> None:
    caps = Caps(per_minute=5, max_elements=1000)
    flood = [Source(bytes((10, 0, 0, n))) for n in range(50)]
    assert [_block(caps, source, 0.0) for source in flood].count("block.per_minute") == 45
    assert _block(caps, ONE, 1.0) == "block.per_minute"
    assert _block(caps, ONE, 3.5) is None  # its drain is over, and it goes on
    again = [_block(caps, source, 4.0) for source in flood[5:]]
    assert again.count(None) == 4  # the second budget is as large as the first
    assert _block(caps, TWO, 60.0) is None


def test_an_idle_first_block_gives_way_and_no_other() -> None:
    caps = Caps(per_minute=1000, max_elements=2)
    caps.count(ONE, 0.0, 100.0, forgeable=True, offence=2)
    caps.count(TWO, 1.0, 100.0, forgeable=True, offence=1)
    caps.count(SIX, 1.0, 100.0, forgeable=True, offence=1)
    assert caps.pressed(2.0) == [TWO]  # not a second offence; the other family has room
    assert _block(caps, THREE, 2.0) == "block.max_elements"
    caps.give_way([TWO])
    assert _block(caps, THREE, 3.0) == TWO
    assert _block(caps, ONE, 4.0) == "block.max_elements"
    assert caps.pressed(5.0) == [THREE]
    assert _block(caps, TWO, 100.0) is None  # the first has ended


def test_an_unblocked_source_makes_room() -> None:
    caps = Caps(per_minute=1000, max_elements=1)
    assert _block(caps, ONE, 0.0) is None
    caps.release(TWO)
    assert _block(caps, TWO, 1.0) == "block.max_elements"
    caps.release(ONE)
    caps.release(ONE)
    assert _block(caps, TWO, 2.0) is None
    assert _block(caps, ONE, 3.0) == "block.max_elements"
    caps.release_all()
    assert _block(caps, ONE, 4.0) is None


def test_an_idle_block_that_has_ended_is_not_one_that_gives_way() -> None:
    caps = Caps(per_minute=1000, max_elements=1)
    assert _block(caps, ONE, 0.0) is None
    caps.give_way([ONE])
    assert _block(caps, TWO, 100.5) is None
    assert _block(caps, THREE, 101.0) == "block.max_elements"


def test_restored_blocks_count_against_the_cap_and_stay() -> None:
    caps = Caps(per_minute=10, max_elements=2)
    caps.restore([(4, 50.0), (4, 20.0), (16, 50.0)])
    assert _block(caps, ONE, 10.0) == "block.max_elements"
    assert _block(caps, SIX, 10.0) is None
    assert caps.pressed(10.0) == [SIX]
    assert _block(caps, ONE, 20.0 + SLOT_S) is None


def test_restored_blocks_without_an_end_stay() -> None:
    caps = Caps(per_minute=10, max_elements=2)
    caps.restore([(4, math.inf), (4, -5.0)])
    assert _block(caps, ONE, 1e9) is None
    assert _block(caps, TWO, 1e9) == "block.max_elements"


@given(
    st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.integers(0, 60)), max_size=80),
    st.integers(1, 4),
)
def test_no_more_are_active_than_allowed(
    steps: list[tuple[int, bool, int]], max_elements: int
) -> None:
    caps, now = Caps(per_minute=1000, max_elements=max_elements), 0.0
    active: dict[Source, float] = {}
    for number, gives_way, pause in steps:
        now += pause
        source = Source(bytes((10, 0, 0, number)))
        active = {s: end for s, end in active.items() if end > now}
        if source in active:
            del active[source]
            caps.release(source)
            continue
        caps.give_way(list(active) if gives_way else [])
        found = _block(caps, source, now)
        if found is None or isinstance(found, bytes):
            active.pop(found, None)
            active[source] = now + 100.0
        else:
            assert len(active) == max_elements
            assert not gives_way
        assert len(active) <= max_elements


# --- forged floods


FORGED_PER_S = 900
"""Below flood mode, as an attacker would choose it."""


def _address(random: Random, *, is_four: bool) -> str:
    if is_four:
        return str(IPv4Address(random.randrange(0x0B000000, 0xDF000000)))
    return str(IPv6Address((0x2A000000 << 96) | random.getrandbits(96)))


@pytest.mark.slow
@pytest.mark.parametrize("is_four", [True, False], ids=["ipv4", "ipv6"])
def test_half_an_hour_of_forged_probes_hides_no_slow_scanner(*, is_four: bool) -> None:
    """900 forged SYNs a second from everywhere, in a hundredth of the tables and caps, and so in a
    hundredth of the time: a scanner at one probe a minute is stopped by its slow trigger."""
    random = Random(is_four)
    run = scenario(
        max_sources=MAX_SOURCES // 100, per_minute=60, max_elements=655, window=60.0,
        slow_trigger=6, slow_window=86400.0,
    )  # fmt: skip
    scanner = "198.51.100.77" if is_four else "2001:db8:77::1"
    source = parse_source(scanner, LINK_LOCAL_ONLY)
    blocked = False
    for second in range(30 * 60):
        run.at(float(second))
        for _ in range(FORGED_PER_S // 100):
            run.syn(_address(random, is_four=is_four), random.randrange(1, 65536))
        if second % 60 == 30 and not blocked:
            run.syn(scanner, 1000 + second // 60)
            blocked = any(b.source == source for b in run.outcomes[-1].blocks)
            if blocked:
                assert second // 60 + 1 <= 6
        run.outcomes.clear()
    assert blocked


def test_forged_blocks_at_the_cap_do_not_let_a_scanner_go_on() -> None:
    """R7: 900 forged sources a second of 4 SYNs each, past per_minute; a scanner at 2.2 s a probe
    comes again after it was drained, and is blocked. So is one of the other family at once."""
    run = scenario(per_minute=6000)
    for number in range(7200):
        source = str(IPv4Address(0x0B000000 + number))
        run.at(number / 900).syn(source, 1, 2, 3, 4)
        run.outcomes.clear()
    for probe in range(8):
        run.at(8 + probe * 2.2).syn(A, 100 + probe)
        run.syn(A6, 100 + probe)
    made = [block for outcome in run.outcomes for block in outcome.blocks]
    blocks = {block.source: block.at for block in reversed(made)}  # the first of each
    assert blocks[parse_source(A6, LINK_LOCAL_ONLY)] == 8 + 2 * 2.2
    assert blocks[parse_source(A, LINK_LOCAL_ONLY)] <= 8 + 3 * 2.2


def test_a_full_cap_of_forged_blocks_gives_way_to_a_scanner() -> None:
    run = scenario(per_minute=1000, max_elements=500, timeouts=(3600.0,))
    for number in range(500):
        run.syn(str(IPv4Address(0x0B000000 + number)), 1, 2, 3)
    run.at(60.0).syn(A, 1, 2, 3).expect_refusal(A, "block.max_elements")
    caps = run.engine.decider.caps
    caps.give_way(caps.pressed(61.0))
    run.at(63.0).syn(A, 4).expect_block(A)
    assert run.outcomes[-1].blocks[0].displaces == bytes((11, 0, 0, 0))
    assert run.engine.decider.caps.pressed(64.0)[-1] == parse_source(A)
