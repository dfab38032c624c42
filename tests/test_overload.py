"""Overload: when something is said, and what."""

from typing import Any

import pytest

from sentryfw.overload import KINDS, PAUSE, STALL, Overload, QueueLoss

Said = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def said() -> Said:
    return []


@pytest.fixture
def overload(said: Said) -> Overload:
    made = Overload(lambda event, **fields: said.append((event, fields)), 1.0)
    made.look({}, 0.0)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_said_while_nothing_is_lost(overload: Overload, said: Said, kind: str) -> None:
    for second in range(1, 200):
        overload.look({kind: 0}, float(second))
    assert said == []
    assert overload.totals == dict.fromkeys(KINDS, 0)


def test_a_loss_is_said_at_once_then_once_a_minute_then_its_end(
    overload: Overload, said: Said
) -> None:
    for second in range(1, 101):
        overload.look({"queue full": second * 10}, float(second))
    for second in range(101, 300):
        overload.look({"queue full": 1000}, float(second))
    assert said == [
        ("overload", {"what": "queue full", "lost": 10, "total": 10}),
        ("overload", {"what": "queue full", "lost": 610, "total": 610}),
        ("overload-over", {"what": "queue full", "lost": 1000}),
    ]


def test_a_second_loss_is_counted_from_its_own_beginning(overload: Overload, said: Said) -> None:
    overload.look({"queue full": 5}, 1.0)
    for second in range(2, 100):
        overload.look({"queue full": 5}, float(second))
    overload.look({"queue full": 7}, 100.0)
    assert said[-1] == ("overload", {"what": "queue full", "lost": 2, "total": 7})


def test_two_kinds_are_two_losses(overload: Overload, said: Said) -> None:
    overload.look({"queue full": 1, "block set full": 2}, 1.0)
    assert [fields["what"] for _, fields in said] == ["queue full", "block set full"]


@pytest.mark.parametrize(("late", "stalls"), [(STALL, 0), (STALL + 0.1, 1), (3600.0, 1)])
def test_a_loop_that_stood_still_is_said_with_how_long(
    overload: Overload, said: Said, late: float, stalls: int
) -> None:
    overload.look({}, 1.0 + late)
    assert overload.totals["stalled"] == stalls
    assert said == [("stalled", {"seconds": round(late, 1)})] * stalls


def test_a_stall_is_over_after_a_quiet_minute_without_more_words(
    overload: Overload, said: Said
) -> None:
    overload.look({}, 10.0)
    for second in range(11, 11 + int(PAUSE) + 2):
        overload.look({}, float(second))
    assert [event for event, _ in said] == ["stalled"]


# --- the difference


def test_what_was_counted_and_never_numbered_is_lost() -> None:
    loss = QueueLoss()
    loss.look(1000, 0)  # of an earlier daemon
    assert loss.look(1100, 100) == 0
    loss.look(1300, 150)
    assert loss.look(1300, 150) == 150


def test_what_is_on_its_way_is_not_lost() -> None:
    """Counted, and a moment later numbered as well."""
    loss = QueueLoss()
    loss.look(0, 0)
    for second in range(1, 10):
        on_its_way = 2 * (second % 2)
        assert loss.look(second * 100, second * 100 - on_its_way) == 0


@pytest.mark.parametrize("gone", [None, 0], ids=["the table is away", "the counter is reset"])
def test_a_new_table_takes_nothing_back_and_loses_nothing(gone: int | None) -> None:
    loss = QueueLoss()
    loss.look(0, 0)
    loss.look(100, 50)
    assert loss.look(100, 50) == 50
    assert loss.look(gone, 50) == 50
    loss.look(0, 50)
    loss.look(20, 60)
    assert loss.look(20, 60) == 60


def test_the_total_never_falls() -> None:
    loss = QueueLoss()
    loss.look(0, 0)
    totals = [loss.look(q, n) for q, n in [(10, 5), (10, 5), (10, 10), (20, 15), (20, 15)]]
    assert totals == sorted(totals)
