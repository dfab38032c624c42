"""Jumps of the wall clock, and pauses of long loops."""

import time

import pytest

from sentryfw.guard.moment import CLOCK_JUMP_S, ClockJump, ClockWatch, Moment, Pauses

START = Moment(100.0, 1_000_000.0)


def _later(seconds: float, jump: float = 0.0) -> Moment:
    return Moment(START.monotonic + seconds, START.wall + seconds + jump)


def test_a_time_is_converted_to_the_wall_clock() -> None:
    assert START.to_wall(160.0) == 1_000_060.0


@pytest.mark.parametrize("drift", [CLOCK_JUMP_S, -CLOCK_JUMP_S, 0.0])
def test_drift_is_not_a_jump(drift: float) -> None:
    assert ClockWatch(START).check(_later(60, drift)) is None


@pytest.mark.parametrize("jump", [CLOCK_JUMP_S + 1, -3600.0])
def test_a_jump_is_reported_once(jump: float) -> None:
    watch = ClockWatch(START)
    assert watch.check(_later(60, jump)) == ClockJump(jump, START.wall)
    assert watch.check(_later(61, jump)) is None


def test_the_time_of_the_last_jump_is_reported_with_the_next() -> None:
    watch = ClockWatch(START)
    assert watch.check(_later(60, 3600.0))
    assert watch.check(_later(120)) == ClockJump(-3600.0, START.wall + 3660.0)


def test_a_slow_drift_back_is_not_ahead_of_the_old_clock() -> None:
    """The clock lost four seconds before it jumped: it never showed the time of the start."""
    watch = ClockWatch(Moment(100.0, 1_000.0))
    assert watch.check(Moment(100.0, 990.0)) == ClockJump(-10.0, 1_000.0)


def test_a_loop_pauses_once_in_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    slept: list[float] = []
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "sleep", slept.append)
    pauses = Pauses(every=0.5, length=0.25)
    pauses()
    assert slept == []
    now = 100.5
    pauses()
    pauses()
    assert slept == [0.25]
