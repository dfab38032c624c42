"""The questions for decisions: when everything is compared, and what a fault changes."""

import logging
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import pytest

from sentryfw.config.fleet import FleetCrowdsec
from sentryfw.daemon.fleet import decision_polls as module
from sentryfw.daemon.fleet.crowdsec_member import Reach
from sentryfw.daemon.fleet.decision_polls import SHORT_S, TAKE_BATCH, DecisionPolls
from sentryfw.respond.neighbours.decisions import Bounds, Decision
from sentryfw.respond.neighbours.stream import DecisionChanges, Query

BOUNDS = Bounds(max_s=14400.0, room=100, credit=100, renew_s=7200.0, reserve=10)
FAULT = DecisionChanges("Connection refused")


class Member:
    """A member that notes what it is given."""

    compare_s = 1000.0

    def __init__(self, credentials: Path) -> None:
        self.config = FleetCrowdsec.model_validate(
            {"url": "http://127.0.0.1:8080/", "credentials": str(credentials)}
        )
        self.taken: list[tuple[int, int]] = []
        self.counted: dict[str, int] = {}
        self.reach = Reach("", 0.0)

    def query(self, *, compare: bool) -> Query:
        return Query(compare, {}, [], BOUNDS)

    def take(self, gone: list[str], new: list[Decision]) -> None:
        self.taken.append((len(gone), len(new)))

    def count(self, refused: dict[str, int]) -> None:
        self.counted |= refused


class Asked:
    """Polls whose answers are given, at times that are given."""

    def __init__(self, credentials: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 5000.0
        self.answers: list[DecisionChanges | Exception] = []
        self.compared: list[bool] = []
        self.notes: list[dict[str, Any]] = []
        self.member = Member(credentials)
        monkeypatch.setattr(module, "ask", self._ask)
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)
        member: Any = self.member
        recorder: Any = self
        self.polls = DecisionPolls(member, recorder, self.submit, tuple)

    def note(self, kind: str, **fields: Any) -> None:
        assert kind == "fleet-crowdsec"
        self.notes.append(fields)

    def submit(self, work: Callable[[], Any]) -> "Future[Any]":
        done: Future[Any] = Future()
        done.set_result(work())
        return done

    def _ask(self, place: Any, query: Query, _: Any) -> DecisionChanges:
        assert place.key == "abc"
        self.compared.append(query.compare)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer._replace(compared=query.compare)

    def poll(self, answer: DecisionChanges | Exception, after: float = 10.0) -> float:
        self.now += after
        self.answers.append(answer)
        return self.polls.poll()


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    credentials = tmp_path / "key"
    credentials.write_text('key = "abc"')
    credentials.chmod(0o600)
    return Asked(credentials, monkeypatch)


GOOD = DecisionChanges()


def test_everything_is_compared_at_the_start_and_from_time_to_time(asked: Asked) -> None:
    for after in (0, 10, 980, 20, 10):
        assert asked.poll(GOOD, after) == 10.0
    assert asked.compared == [True, False, False, True, False]


def test_after_a_fault_everything_is_compared(asked: Asked) -> None:
    for answer in (GOOD, GOOD, FAULT, GOOD, GOOD):
        asked.poll(answer)
    assert asked.compared == [True, False, False, True, False]


def test_the_pause_after_faults_doubles_and_ends_with_them(asked: Asked) -> None:
    waits = [asked.poll(FAULT) for _ in range(8)]
    assert waits == [10, 20, 40, 80, 160, 320, 600, 600]
    assert asked.poll(GOOD) == 10
    assert asked.poll(FAULT) == 10


def test_a_fault_is_shown_and_reported_once(asked: Asked, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    asked.poll(GOOD)
    assert asked.notes == []
    asked.poll(FAULT)
    asked.poll(FAULT)
    reach = asked.member.reach
    assert reach.fault == "127.0.0.1: Connection refused"
    assert reach.asked_at is not None
    assert asked.notes == [{"reached": False, "error": "127.0.0.1: Connection refused"}]
    assert asked.member.taken == [], "nothing is lifted"
    asked.poll(GOOD)
    assert asked.member.reach.fault == ""
    assert asked.notes[1:] == [{"reached": True, "error": ""}]
    assert len(caplog.messages) == 2


def test_a_fault_of_ours_is_logged_and_the_questions_go_on(
    asked: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    assert asked.poll(KeyError("x")) == 10
    assert "unexpected error" in caplog.text
    assert asked.member.reach.fault == "127.0.0.1: 'x'"
    assert asked.poll(GOOD, 0) == 10
    assert asked.member.reach.fault == ""


def test_a_key_that_cannot_be_read_is_a_fault(asked: Asked) -> None:
    assert asked.member.config.credentials is not None
    asked.member.config.credentials.chmod(0o644)
    asked.poll(GOOD)
    assert "mode 0644" in asked.member.reach.fault
    assert asked.compared == []


def test_a_large_answer_is_taken_in_parts(asked: Asked) -> None:
    many = [Decision(f"192.0.2.{n}", 60.0, True, "cscli", "") for n in range(TAKE_BATCH + 5)]
    gone = [one.address for one in many]
    asked.poll(GOOD._replace(gone=gone, new=many, refused={"echo": 1}, left_out=7))
    assert asked.member.taken == [(TAKE_BATCH, 0), (5, 0), (0, TAKE_BATCH), (0, 5)]
    assert asked.member.counted == {"echo": 1}
    assert asked.member.reach.left_out == 7
    asked.poll(GOOD)
    assert asked.member.reach.left_out == 7, "a part of the decisions says nothing about it"


def test_one_by_hand_without_a_place_is_asked_for_soon(asked: Asked) -> None:
    asked.poll(GOOD._replace(is_short=True), 0)
    asked.poll(GOOD, SHORT_S - 1)
    asked.poll(GOOD, 1)
    assert asked.compared == [True, False, True]


def test_the_questions_end_with_the_thread_that_takes_the_answers(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(_: Callable[[], Any]) -> "Future[Any]":
        raise RuntimeError("cannot schedule new futures after shutdown")

    monkeypatch.setattr(asked.polls, "_submit", ended)
    asked.polls.run()
    assert asked.compared == []

    def cancelled(_: Callable[[], Any]) -> "Future[Any]":
        raise CancelledError

    monkeypatch.setattr(asked.polls, "_submit", cancelled)
    asked.polls.run()
    assert asked.member.reach.fault == ""
