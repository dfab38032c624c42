"""Events and log lines are bounded by rate; what is left out is counted."""

import logging
from typing import Any

import pytest

from sentryfw.record.events import render_entry, render_note
from sentryfw.record.records import DecisionRecord, Named, Reaction
from sentryfw.record.throttle import (
    LOG_BURST,
    LOG_INTERVAL_S,
    LOG_LINES_PER_S,
    MAX_SAMPLE,
    EventThrottle,
    LogThrottle,
)
from support.entries import BLOCK, PROBE, REFUSAL

WALL = 1_800_000_000.0


def _refusals(count: int, reason: str = "flood") -> list[DecisionRecord]:
    return [
        REFUSAL._replace(address=f"198.18.{n >> 8}.{n & 255}", reason=reason) for n in range(count)
    ]


def _summary(events: list[dict[str, Any]]) -> dict[str, Any]:
    [found] = [e["sentryfw"] for e in events if e["sentryfw"].get("event") == "summary"]
    return dict(found)


# --- events


def test_a_quiet_hour_is_written_event_by_event() -> None:
    """The counterpart: without a flood nothing is lost."""
    throttle = EventThrottle(100)
    for second in range(3600):
        assert throttle.take([BLOCK, REFUSAL], float(second), WALL) == [
            render_entry(BLOCK), render_entry(REFUSAL),
        ]  # fmt: skip
    assert not throttle.is_pending


def test_the_entries_of_members_that_are_left_out_are_counted_by_member() -> None:
    throttle = EventThrottle(1)
    notes = [
        render_note("fleet", WALL, member=member, effect=effect, address=f"192.0.2.{n}")
        for n, (member, effect) in enumerate([("fw1", "block")] * 3 + [("fw2", "weigh")] * 2)
    ]
    assert throttle.take(notes, 100.0, WALL) == notes[:1]
    summary = _summary(throttle.take([], 101.0, WALL))
    assert summary["left_out"] == {"fleet": 4}
    assert summary["reasons"] == {"fw1 block": 2, "fw2 weigh": 2}
    assert summary["sample"] == ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"]


def test_events_beyond_the_number_are_counted_in_one_summary() -> None:
    throttle = EventThrottle(10)
    first = throttle.take(_refusals(25), 100.0, WALL)
    assert first == [render_entry(entry) for entry in _refusals(10)]
    assert throttle.take(_refusals(5, "partner"), 100.9, WALL) == []
    assert throttle.is_pending
    events = throttle.take([REFUSAL], 101.0, WALL)
    summary = _summary(events)
    assert summary == {
        "event": "summary",
        "seconds": 1.0,
        "left_out": {"refused": 20},
        "reasons": {"flood": 15, "partner": 5},
        "sample": [entry.address for entry in _refusals(15)[10:]],
    }
    assert len(summary["sample"]) == MAX_SAMPLE
    assert events[1:] == [render_entry(REFUSAL)]
    assert not throttle.is_pending


def test_a_flood_of_refusals_leaves_no_block_out() -> None:
    """Nor the reports about the daemon itself."""
    throttle = EventThrottle(10)
    throttle.take(_refusals(1000), 100.0, WALL)
    alarm = render_note("alarm", WALL, what="another program keeps changing the table")
    assert throttle.take([BLOCK, alarm], 100.1, WALL) == [render_entry(BLOCK), alarm]


def test_reactions_names_and_notes_are_bounded_each_by_themselves() -> None:
    throttle = EventThrottle(2)
    reaction = Reaction("command", BLOCK.address, ok=True, detail="", at=WALL, seconds=0.1)
    named = Named("192.0.2.7", "scanner.example.org", WALL)
    visit = render_note("payload", WALL)
    events = throttle.take([*[reaction] * 3, *[named] * 3, *[visit] * 3], 0.0, WALL)
    assert [event["sentryfw"]["event"] for event in events] == [
        "reaction", "reaction", "host", "host", "payload", "payload",
    ]  # fmt: skip
    assert _summary(throttle.flush(1.0, WALL))["left_out"] == {
        "reaction": 1, "host": 1, "payload": 1,
    }  # fmt: skip


def test_what_has_no_event_is_passed_over() -> None:
    throttle = EventThrottle(1)
    assert throttle.take([PROBE, PROBE, object()], 0.0, WALL) == []
    assert not throttle.is_pending
    assert throttle.flush(5.0, WALL) == []


# --- the log


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "sentryfwd")
    return caplog


def test_lines_beyond_the_budget_are_counted(lines: pytest.LogCaptureFixture) -> None:
    throttle = LogThrottle()
    throttle.log(_refusals(LOG_BURST + 50), 1000.0)
    assert len(lines.messages) == LOG_BURST + 1
    assert lines.messages[-1] == "too many to log one by one: 50 refused"
    assert not throttle.is_pending
    throttle.log(_refusals(7), 1001.0)
    assert throttle.is_pending
    throttle.log([], 1000.0 + LOG_INTERVAL_S)
    assert lines.messages[-1] == "too many to log one by one: 7 refused"


def test_a_block_is_logged_beside_a_flood_of_refusals(lines: pytest.LogCaptureFixture) -> None:
    throttle = LogThrottle()
    throttle.log(_refusals(10 * LOG_BURST), 1000.0)
    throttle.log([BLOCK], 1000.1)
    assert lines.messages[-1].startswith(f"blocked {BLOCK.address} for 3600s")


def test_the_budget_fills_again_and_a_day_stays_small(lines: pytest.LogCaptureFixture) -> None:
    throttle = LogThrottle()
    for second in range(86400):
        throttle.log([REFUSAL] * 3, 1000.0 + second)
    limit = LOG_BURST + 86400 * LOG_LINES_PER_S + 86400 / LOG_INTERVAL_S + 1
    assert limit * 0.9 < len(lines.messages) <= limit
