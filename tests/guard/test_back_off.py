"""Delays between repairs, and the alarm."""

from sentryfw.guard.back_off import (
    ALARM_REPAIRS_COUNT,
    ALARM_WINDOW_S,
    BACK_OFF_RESET_S,
    DELAYS_S,
    BackOff,
    Delay,
)


def _after_repairs(count: int, at: float = 0.0) -> BackOff:
    made = BackOff()
    for _ in range(count):
        made.add_repair(at)
    return made


def test_the_first_repairs_are_not_delayed() -> None:
    for count in range(ALARM_REPAIRS_COUNT):
        assert _after_repairs(count).next_delay(1.0) is None


def test_too_many_repairs_raise_the_alarm_once() -> None:
    back_off = _after_repairs(ALARM_REPAIRS_COUNT)
    assert back_off.next_delay(1.0) == Delay(
        1.0, ALARM_REPAIRS_COUNT, is_alarm=True, is_reported=True
    )
    assert back_off.next_delay(2.0) == Delay(
        2.0, ALARM_REPAIRS_COUNT, is_alarm=False, is_reported=False
    )


def test_repairs_outside_the_window_do_not_count() -> None:
    assert _after_repairs(ALARM_REPAIRS_COUNT).next_delay(ALARM_WINDOW_S) is None


def test_the_delay_grows_to_its_limit() -> None:
    back_off = _after_repairs(ALARM_REPAIRS_COUNT)
    delays = [back_off.next_delay(1.0) for _ in range(len(DELAYS_S) + 2)]
    assert [delay.seconds for delay in delays if delay] == [*DELAYS_S, DELAYS_S[-1], DELAYS_S[-1]]


def test_a_delayed_repair_is_followed_by_a_longer_delay() -> None:
    back_off = _after_repairs(ALARM_REPAIRS_COUNT)
    assert back_off.next_delay(1.0)
    back_off.add_repair(ALARM_WINDOW_S + 1)
    assert back_off.next_delay(ALARM_WINDOW_S + 2) == Delay(
        2.0, 1, is_alarm=False, is_reported=True
    )


def test_quiet_time_ends_the_back_off_and_arms_the_alarm() -> None:
    back_off = _after_repairs(ALARM_REPAIRS_COUNT)
    assert back_off.next_delay(1.0)
    back_off.tick(BACK_OFF_RESET_S)
    assert back_off.next_delay(BACK_OFF_RESET_S) == Delay(2.0, 0, is_alarm=False, is_reported=True)
    back_off.tick(BACK_OFF_RESET_S + 1)
    assert back_off.next_delay(BACK_OFF_RESET_S + 1) is None
    for _ in range(ALARM_REPAIRS_COUNT):
        back_off.add_repair(400.0)
    assert back_off.next_delay(401.0) == Delay(
        1.0, ALARM_REPAIRS_COUNT, is_alarm=True, is_reported=True
    )


def test_delays_are_logged_once_a_minute() -> None:
    back_off = _after_repairs(ALARM_REPAIRS_COUNT)
    times = [float(number) for number in range(0, 121, 5)]
    reported = [at for at in times if (delay := back_off.next_delay(at)) and delay.is_reported]
    assert reported == [0.0, 60.0, 120.0]


def test_asking_whether_a_repair_would_wait_changes_nothing() -> None:
    back_off = _after_repairs(ALARM_REPAIRS_COUNT)
    assert [back_off.is_active(1.0) for _ in range(3)] == [True] * 3
    delay = back_off.next_delay(1.0)
    assert delay is not None
    assert delay.seconds == DELAYS_S[0]
    assert not _after_repairs(ALARM_REPAIRS_COUNT - 1).is_active(1.0)
