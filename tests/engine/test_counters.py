"""The engine's counters."""

from sentryfw.engine.counters import Counters


def test_a_copy_has_every_number_and_does_not_follow() -> None:
    counters = Counters()
    counters.probes["syn"] = 1
    counters.strays["listed"] = 2
    counters.malformed["empty"] = 3
    counters.refusals["flood"] = 4
    counters.floods, counters.confined, counters.deferred, counters.came_again = 5, 6, 7, 8
    counters.distributed_scans, counters.blocks_failed, counters.block_set_full = 9, 10, 11
    copy = counters.copy()
    assert copy.as_dict() == counters.as_dict() == {
        "floods": 5, "syn": 1, "listed": 2, "malformed": 3, "malformed: empty": 3,
        "refused flood": 4, "confined": 6, "deferred": 7, "came again": 8,
        "distributed scans": 9, "blocks failed": 10, "block set full": 11,
    }  # fmt: skip
    counters.deferred += 1
    counters.probes["syn"] += 1
    assert (copy.deferred, copy.probes["syn"]) == (7, 1)


def test_only_floods_are_shown_at_zero() -> None:
    assert Counters().as_dict() == {"floods": 0}
