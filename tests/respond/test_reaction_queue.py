"""A reaction queue: adding never waits, and reactions that fail are reported."""

import threading
import time

import pytest

from sentryfw.errors import ReactionFailed
from sentryfw.respond.incident import Incident
from sentryfw.respond.reaction_queue import ReactionQueue, ResultReporter
from support.reactions import INCIDENT, Results
from support.waiting import wait_for


def _numbered(number: int) -> Incident:
    return INCIDENT._replace(address=f"198.18.1.{number}")


def test_a_result_has_reaction_address_and_duration(results: Results) -> None:
    def work(incident: Incident) -> str:
        time.sleep(0.05)
        if incident.address.endswith(".2"):
            raise ReactionFailed("no luck")
        return "done"

    lane = ReactionQueue("test", work, results)
    lane.start()
    lane.put(_numbered(1))
    lane.put(_numbered(2))
    lane.stop(time.monotonic() + 5)
    assert [(r.reaction, r.address, r.ok, r.detail) for r in results] == [
        ("test", "198.18.1.1", True, "done"),
        ("test", "198.18.1.2", False, "no luck"),
    ]
    assert all(0.04 < result.seconds < 2 for result in results)
    assert (lane.reporter.done, lane.reporter.failed) == (1, 1)


def test_at_most_the_configured_number_runs_at_once(results: Results) -> None:
    running: list[int] = []
    most: list[int] = []
    go = threading.Event()

    def work(_: Incident) -> str:
        running.append(1)
        most.append(len(running))
        go.wait(10)
        running.pop()
        return ""

    lane = ReactionQueue("test", work, results, workers=3)
    lane.start()
    for number in range(10):
        lane.put(_numbered(number))
    wait_for(lambda: len(running) == 3, "three at work")
    assert lane.waiting == 7
    go.set()
    wait_for(lambda: len(results) == 10, "all done")
    assert max(most) == 3
    lane.stop(time.monotonic() + 5)


def test_a_full_queue_refuses_at_once_and_counts(results: Results) -> None:
    go = threading.Event()
    lane = ReactionQueue("test", lambda _: str(go.wait(10)), results, limit=5)
    lane.start()
    begin = time.monotonic()
    taken = [lane.put(_numbered(number)) for number in range(100)]
    assert time.monotonic() - begin < 1
    assert 5 <= sum(taken) <= 6
    assert lane.reporter.failed == 100 - sum(taken)
    assert [r.detail for r in results.failures()] == ["queue full: 5 wait"]  # once a minute
    go.set()
    lane.stop(time.monotonic() + 5)


def test_incidents_left_at_the_end_are_reported(results: Results) -> None:
    go = threading.Event()
    lane = ReactionQueue("test", lambda _: str(go.wait(10)), results)
    lane.start()
    for number in range(4):
        lane.put(_numbered(number))
    wait_for(lambda: lane.waiting == 3, "one is at work")
    begin = time.monotonic()
    lane.stop(begin + 0.1)
    assert time.monotonic() - begin < 1
    assert [r.detail for r in results.failures()] == ["3 not done: the daemon ended"]
    go.set()


def test_an_unexpected_error_does_not_end_the_thread(results: Results) -> None:
    def work(incident: Incident) -> str:
        return str(1 / (int(incident.address[-1]) - 1))

    lane = ReactionQueue("test", work, results)
    lane.start()
    for number in (1, 2):
        lane.put(_numbered(number))
    lane.stop(time.monotonic() + 5)
    assert [result.ok for result in results] == [False, True]


def test_a_quiet_reporter_reports_the_first_failure_and_the_recovery(results: Results) -> None:
    reporter = ResultReporter("test", results, quiet=True)
    reporter.success("a", "fine")
    for _ in range(5):
        reporter.failure("a", "broken")
    reporter.success("a", "fine again")
    reporter.success("a", "fine still")
    assert [(r.ok, r.detail) for r in results] == [(False, "broken"), (True, "fine again")]
    assert (reporter.done, reporter.failed) == (3, 5)


@pytest.mark.parametrize("text", ["two\nlines", "\x1b[31mred\x1b[0m", "x" * 5000])
def test_a_reason_is_one_short_printable_line(results: Results, text: str) -> None:
    def work(_: Incident) -> str:
        raise ReactionFailed(text)

    ReactionQueue("test", work, results).perform(INCIDENT)
    assert results[0].detail.isprintable()
    assert len(results[0].detail) <= 300
