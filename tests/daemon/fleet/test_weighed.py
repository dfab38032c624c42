"""Sources that others reported with forgeable evidence."""

from typing import Any

import pytest

from sentryfw.daemon.fleet.weighed import Agreement, Weighed
from sentryfw.engine.model import parse_source

ONE, TWO = parse_source("192.0.2.7"), parse_source("2001:db8::/64")


def test_a_report_has_an_end_and_a_longer_one_stays() -> None:
    weighed = Weighed()
    assert not weighed
    weighed.add(ONE, 100)
    weighed.add(ONE, 50)
    weighed.add(TWO, 60)
    assert weighed
    assert weighed.holds(ONE, 99)
    assert not weighed.holds(ONE, 100)
    assert not weighed.holds(parse_source("192.0.2.8"), 0)
    weighed.expire(60)
    assert len(weighed) == 1
    weighed.discard(ONE)
    assert not weighed


def test_an_unblock_ends_it_and_is_kept_for_the_exchange() -> None:
    weighed = Weighed()
    weighed.add(ONE, 100)
    weighed.released(TWO)
    weighed.released(ONE)
    assert not weighed
    assert weighed.take_released() == [TWO, ONE]
    assert weighed.take_released() == []
    weighed.add(ONE, 100)
    weighed.released(None)
    assert not weighed


A, B = ("t", 1), ("t", 2)


def test_two_own_targets_block_where_members_agree() -> None:
    weighed: Any = Weighed(agree=2)
    weighed.add(ONE, 100, "fw1")
    weighed.add(ONE, 60, "fw2")
    assert weighed.try_target(ONE, A, 10) is None, "one own target"
    assert weighed.try_target(ONE, A, 10) is None, "the same one again"
    assert weighed.try_target(ONE, B, 10) == Agreement(["fw1", "fw2"], 50)


@pytest.mark.parametrize(
    ("agree", "reports"),
    [
        (0, [("fw1", 100), ("fw2", 100)]),  # off
        (2, [("fw1", 100), ("fw1", 200)]),  # one member twice
        (2, [("fw1", 100), ("fw2", 5)]),  # one has ended
        (3, [("fw1", 100), ("fw2", 100)]),
    ],
)  # fmt: skip
def test_without_agreement_no_number_of_targets_is_enough(
    agree: int, reports: list[tuple[str, float]]
) -> None:
    weighed: Any = Weighed(agree)
    for member, end in reports:
        weighed.add(ONE, end, member)
    assert [weighed.try_target(ONE, ("t", port), 10) for port in range(5)] == [None] * 5


def test_targets_are_forgotten_with_the_report() -> None:
    weighed: Any = Weighed(agree=2)
    for _ in range(2):
        weighed.add(ONE, 100, "fw1")
        weighed.add(ONE, 100, "fw2")
        assert weighed.try_target(ONE, A, 10) is None
        weighed.discard(ONE)
    weighed.add(ONE, 100, "fw1")
    weighed.add(ONE, 100, "fw2")
    assert weighed.try_target(ONE, B, 10) is None
