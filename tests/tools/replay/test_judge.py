"""The clock of the second pass; its findings are tested by test_run.py."""

from sentryfw.tools.replay.judge import Clock


def test_packets_slightly_out_of_order_hold_the_clock() -> None:
    clock = Clock()
    assert [clock.read(t) for t in (10.0, 9.5, 10.2)] == [10.0, 10.0, 10.2]


def test_a_clock_that_was_set_back_goes_on() -> None:
    clock = Clock()
    assert [clock.read(t) for t in (4e9, 1000.0, 1002.0)] == [4e9, 4e9, 4e9 + 2]
