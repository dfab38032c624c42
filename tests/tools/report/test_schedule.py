"""Times of reports: intervals, restarts, wrong clocks, failures."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sentryfw.config.model import Config
from sentryfw.tools.report import schedule as module
from sentryfw.tools.report.schedule import NAME, ReportSchedule
from support.guarding import FakeRecorder

DAY_S = 86400.0


class Scheduled:
    """A schedule over a state directory; the process is a function, the clock is set by hand."""

    def __init__(self, home: Path) -> None:
        self.recorder = FakeRecorder()
        self.now = 1_800_000_000.0
        self.requests: list[dict[str, Any]] = []
        self.answer: dict[str, Any] = {"done": "/reports/x.html"}
        report = {"every": "1d", "directory": str(home / "reports")}
        self.config = Config.model_validate({"paths": {"state": str(home)}, "report": report})
        self.place = home / NAME
        self.restart()

    def restart(self) -> None:
        recorder: Any = self.recorder
        self.schedule = ReportSchedule(recorder)

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        self.requests.append(request)
        return self.answer

    def tick(self, seconds: float = 0.0) -> int:
        """Let time pass and return the number of reports."""
        self.now += seconds
        self.schedule.tick(self.config)
        if self.schedule._thread is not None:
            self.schedule._thread.join(10)
        return len(self.requests)


@pytest.fixture
def scheduled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scheduled:
    made = Scheduled(tmp_path)
    monkeypatch.setattr(module, "_run", made.run)
    monkeypatch.setattr(time, "time", lambda: made.now)
    return made


def test_the_first_report_comes_after_an_interval(scheduled: Scheduled) -> None:
    assert scheduled.tick() == 0
    assert scheduled.tick(DAY_S - 1) == 0
    assert scheduled.tick(1) == 1
    assert scheduled.tick(DAY_S - 1) == 1
    assert scheduled.tick(1) == 2
    assert [request["seconds"] for request in scheduled.requests] == [DAY_S, DAY_S]
    assert scheduled.requests[1]["at"] - scheduled.requests[0]["at"] == DAY_S
    assert scheduled.recorder.kinds() == ["report", "report"]


def test_a_restart_changes_no_time(scheduled: Scheduled) -> None:
    scheduled.tick()
    scheduled.tick(DAY_S / 2)
    scheduled.restart()
    assert scheduled.tick(DAY_S / 2 - 1) == 0
    assert scheduled.tick(1) == 1


def test_one_report_for_weeks_without_a_daemon(scheduled: Scheduled) -> None:
    scheduled.tick()
    scheduled.restart()
    assert scheduled.tick(21 * DAY_S) == 1
    assert scheduled.tick(1) == 2  # of the interval that is over since
    assert scheduled.tick(3600) == 2


def test_a_failure_is_reported_and_tried_again_within_an_hour(scheduled: Scheduled) -> None:
    scheduled.tick()
    scheduled.answer = {"error": "mx.example.org:25: refused"}
    assert scheduled.tick(DAY_S) == 1
    assert scheduled.recorder.events == [("report-failed", {"error": "mx.example.org:25: refused"})]
    assert scheduled.tick(3599) == 1
    scheduled.answer = {"done": "mailed"}
    assert scheduled.tick(1) == 2
    assert scheduled.requests[0]["at"] != 0
    assert scheduled.recorder.kinds()[-1] == "report"


@pytest.mark.parametrize("text", ["", "soon", "nan", "99999999999", "-1"])
def test_a_damaged_time_delays_by_an_interval_at_most(scheduled: Scheduled, text: str) -> None:
    scheduled.place.write_text(text)
    scheduled.tick()
    scheduled.tick(DAY_S)
    assert len(scheduled.requests) >= 1


def test_a_clock_that_is_set_back_delays_by_an_interval_at_most(scheduled: Scheduled) -> None:
    scheduled.tick()
    scheduled.tick(-400 * DAY_S)
    assert scheduled.tick(DAY_S) == 1


def test_without_an_interval_there_is_none(scheduled: Scheduled) -> None:
    scheduled.config = Config()
    assert scheduled.tick(10 * DAY_S) == 0
    assert not scheduled.place.exists()


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (["/nonexistent"], "No such file"), (["/bin/false"], "ended: status 1"),
        ([sys.executable, "-I", "-c", "print('[]')"], "ended: status 0"),
        (["/bin/sh", "-c", "echo why >&2; exit 3"], "ended: why"),
        (["/bin/sleep", "60"], "timed out"),
    ],
)  # fmt: skip
def test_a_process_that_fails_is_named(
    monkeypatch: pytest.MonkeyPatch, command: list[str], error: str
) -> None:
    monkeypatch.setattr(module, "COMMAND", command)
    monkeypatch.setattr(module, "TIMEOUT_S", 0.5 if command[0] == "/bin/sleep" else 20.0)
    run: Callable[[dict[str, Any]], dict[str, Any]] = module._run
    assert error in run({"x": "y" * 100})["error"]
