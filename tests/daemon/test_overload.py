"""Overload: the losses that are reported, and when."""

from typing import Any

import pytest

from sentryfw.daemon.overload import EVENT_INTERVAL_S, STALL_S, Loss, Overload, QueueLoss

Reported = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def reported() -> Reported:
    return []


@pytest.fixture
def overload(reported: Reported) -> Overload:
    made = Overload(lambda event, **fields: reported.append((event, fields)), 1.0)
    made.update({}, 0.0)
    return made


@pytest.mark.parametrize("loss", Loss)
def test_without_a_loss_there_is_no_event(
    overload: Overload, reported: Reported, loss: Loss
) -> None:
    for second in range(1, 200):
        overload.update({loss: 0}, float(second))
    assert reported == []
    assert overload.totals == dict.fromkeys(Loss, 0)


def test_a_loss_is_reported_at_once_then_once_a_minute_then_its_end(
    overload: Overload, reported: Reported
) -> None:
    for second in range(1, 101):
        overload.update({Loss.QUEUE_FULL: second * 10}, float(second))
    for second in range(101, 300):
        overload.update({Loss.QUEUE_FULL: 1000}, float(second))
    assert reported == [
        ("overload", {"what": "queue full", "lost": 10, "total": 10}),
        ("overload", {"what": "queue full", "lost": 610, "total": 610}),
        ("overload-over", {"what": "queue full", "lost": 1000}),
    ]


def test_a_second_loss_is_counted_from_its_own_beginning(
    overload: Overload, reported: Reported
) -> None:
    overload.update({Loss.QUEUE_FULL: 5}, 1.0)
    for second in range(2, 100):
        overload.update({Loss.QUEUE_FULL: 5}, float(second))
    overload.update({Loss.QUEUE_FULL: 7}, 100.0)
    assert reported[-1] == ("overload", {"what": "queue full", "lost": 2, "total": 7})


def test_two_places_are_two_losses(overload: Overload, reported: Reported) -> None:
    overload.update({Loss.QUEUE_FULL: 1, Loss.BLOCK_SET_FULL: 2}, 1.0)
    assert [fields["what"] for _, fields in reported] == ["queue full", "block set full"]


@pytest.mark.parametrize(("late", "stalls"), [(STALL_S, 0), (STALL_S + 0.1, 1), (3600.0, 1)])
def test_a_stall_is_reported_with_its_length(
    overload: Overload, reported: Reported, late: float, stalls: int
) -> None:
    overload.update({}, 1.0 + late)
    assert overload.totals[Loss.STALLED] == stalls
    assert reported == [("stalled", {"seconds": round(late, 1)})] * stalls


def test_the_end_of_a_stall_is_not_reported(overload: Overload, reported: Reported) -> None:
    overload.update({}, 10.0)
    for second in range(11, 11 + int(EVENT_INTERVAL_S) + 2):
        overload.update({}, float(second))
    assert [event for event, _ in reported] == ["stalled"]


# --- the difference


def test_packets_counted_and_never_numbered_are_lost() -> None:
    loss = QueueLoss()
    loss.update(1000, 0)  # of an earlier daemon
    assert loss.update(1100, 100) == 0
    loss.update(1300, 150)
    assert loss.update(1300, 150) == 150


def test_packets_on_their_way_are_not_lost() -> None:
    """Counted, and a moment later numbered as well."""
    loss = QueueLoss()
    loss.update(0, 0)
    for second in range(1, 10):
        on_its_way = 2 * (second % 2)
        assert loss.update(second * 100, second * 100 - on_its_way) == 0


@pytest.mark.parametrize("gone", [None, 0], ids=["no table", "the counter is reset"])
def test_a_new_table_changes_no_total(gone: int | None) -> None:
    loss = QueueLoss()
    loss.update(0, 0)
    loss.update(100, 50)
    assert loss.update(100, 50) == 50
    assert loss.update(gone, 50) == 50
    loss.update(0, 50)
    loss.update(20, 60)
    assert loss.update(20, 60) == 60


def test_the_total_never_falls() -> None:
    loss = QueueLoss()
    loss.update(0, 0)
    totals = [loss.update(q, n) for q, n in [(10, 5), (10, 5), (10, 10), (20, 15), (20, 15)]]
    assert totals == sorted(totals)
