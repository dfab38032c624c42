"""Reconciliation in the event loop: what follows from a comparison, and when the next one runs."""

import time
from pathlib import Path
from typing import Any

import pytest

from sentryfw.errors import KernelError
from sentryfw.guard import moment
from sentryfw.guard.compare import Comparison
from sentryfw.guard.ledger_worker import Reconciliation
from sentryfw.guard.reconciler import FORGET_BATCH, RECONCILE_INTERVAL_S, Reconciler
from sentryfw.guard.restore import Before
from support.guarding import Guarded

KEY = bytes((198, 51, 100, 1))
HOUR = 3600.0


class FakeTable:
    """The table guard, as the reconciler sees it."""

    def __init__(self) -> None:
        self.is_installed = True
        self.is_repairing = False
        self.reads = 0

    def read_changes(self) -> None:
        self.reads += 1


class Reconciled(Guarded):
    """A reconciler over the fakes."""

    def __init__(self, runtime: Path) -> None:
        super().__init__(runtime)
        self.table = FakeTable()
        recorder: Any = self.recorder
        self.reconciler = Reconciler(self.thread, self.memory, self.table, recorder)

    def apply(self, **found: Any) -> int:
        return self.run(lambda: self.reconciler.apply(Comparison(**found)))


@pytest.fixture
def reconciled(tmp_path: Path) -> Reconciled:
    return Reconciled(tmp_path)


# --- memory


def test_an_unknown_block_becomes_known(reconciled: Reconciled) -> None:
    assert reconciled.apply(unknown={KEY: (HOUR, HOUR)}) == 0
    assert reconciled.memory.ends.get(KEY) == (HOUR, HOUR)


def test_a_block_deleted_since_the_comparison_stays_deleted(reconciled: Reconciled) -> None:
    reconciled.memory.deleted = {KEY}
    reconciled.apply(unknown={KEY: (HOUR, HOUR)})
    assert KEY not in reconciled.memory.ends


@pytest.mark.parametrize(
    ("now", "then"),
    [((HOUR, 50.0), (HOUR, 90.0)), ((2 * HOUR, 70.0), (2 * HOUR, 70.0)), (None, None)],
    ids=["as-compared", "blocked-again", "unblocked"],
)
def test_the_kernels_end_replaces_an_unchanged_one(
    reconciled: Reconciled, now: tuple[float, float] | None, then: tuple[float, float] | None
) -> None:
    if now is not None:
        reconciled.memory.ends[KEY] = now
    reconciled.apply(moved={KEY: ((HOUR, 50.0), (HOUR, 90.0))})
    assert reconciled.memory.ends.get(KEY) == then


def test_ended_blocks_are_forgotten_unless_blocked_again(reconciled: Reconciled) -> None:
    ends, now = reconciled.memory.ends, time.monotonic()
    keys = [number.to_bytes(4) for number in range(2 * FORGET_BATCH)]
    for number, key in enumerate(keys):
        ends[key] = (60.0, now + 60 if number == 7 else now - 1)
    ends[KEY] = (0.0, 0.0)
    reconciled.apply(ended=[*keys, KEY])
    assert {key for key, _ in ends.items()} == {keys[7], KEY}


def test_a_missing_block_is_restored_unless_it_was_unblocked(reconciled: Reconciled) -> None:
    there, unblocked = bytes(4), bytes((1, 1, 1, 1))
    for key in (KEY, there):
        reconciled.memory.ends[key] = (0.0, 0.0)
    reconciled.reader.present[there] = (0.0, 0.0)
    assert reconciled.apply(missing=[KEY, there, unblocked]) == 1
    assert reconciled.changer.restored == [KEY]
    assert reconciled.table.reads == 1


# --- runs


def test_a_run_is_reported_with_what_was_restored(reconciled: Reconciled) -> None:
    reconciled.memory.ends[KEY] = (0.0, 0.0)
    reconciled.ledger.comparison.missing.append(KEY)
    reconciled.run(reconciled.reconciler.reconcile)
    assert reconciled.reconciler.last.items() >= {"runs": 1, "kernel": 1, "restored": 1}.items()
    assert reconciled.recorder.kinds() == ["reconciled"]
    assert reconciled.memory.deleted is None


def test_a_run_without_differences_records_no_event(reconciled: Reconciled) -> None:
    reconciled.run(reconciled.reconciler.reconcile)
    assert reconciled.reconciler.last["runs"] == 1
    assert reconciled.recorder.events == []


def test_a_fault_is_reported(reconciled: Reconciled) -> None:
    reconciled.ledger.fault = KernelError(2, "set block4")
    reconciled.run(reconciled.reconciler.reconcile)
    assert "set block4" in reconciled.reconciler.last["fault"]
    assert reconciled.recorder.kinds() == ["reconciled"]


def test_a_second_request_waits_for_the_first(reconciled: Reconciled) -> None:
    def twice() -> None:
        reconciled.reconciler.reconcile()
        reconciled.reconciler.reconcile()

    reconciled.run(twice)
    assert reconciled.ledger.runs == 1
    assert reconciled.reconciler._due_at == pytest.approx(time.monotonic(), abs=5)


@pytest.mark.parametrize("state", ["repairing", "uninstalled"])
def test_a_repair_or_an_uninstall_postpones_it(reconciled: Reconciled, state: str) -> None:
    reconciled.table.is_repairing = state == "repairing"
    reconciled.table.is_installed = state != "uninstalled"
    reconciled.run(reconciled.reconciler.reconcile)
    assert reconciled.ledger.runs == 0
    delay = reconciled.reconciler._due_at - time.monotonic()
    assert delay == pytest.approx(0 if state == "repairing" else RECONCILE_INTERVAL_S, abs=5)


def test_it_runs_once_a_minute(reconciled: Reconciled, monkeypatch: pytest.MonkeyPatch) -> None:
    at = time.monotonic()
    monkeypatch.setattr("sentryfw.guard.reconciler.clock", lambda: at + seconds)

    def ticks() -> None:
        nonlocal seconds
        for seconds in range(0, int(RECONCILE_INTERVAL_S) + 2, 10):  # noqa: B007
            reconciled.reconciler.tick(restores=True)

    seconds = 0
    reconciled.run(ticks)
    assert reconciled.ledger.runs == 1


def test_the_result_at_startup_is_the_first_run(reconciled: Reconciled) -> None:
    reconciled.reconciler.begin(5, Reconciliation(restored=2))
    assert reconciled.reconciler.last.items() >= {"runs": 1, "restored": 2}.items()


@pytest.mark.parametrize("is_unverified", [True, False])
def test_what_was_only_counted_at_startup_is_compared_at_once(
    reconciled: Reconciled, *, is_unverified: bool
) -> None:
    reconciled.memory.is_unverified = is_unverified
    reconciled.reconciler.begin(5, Reconciliation())
    reconciled.run(lambda: reconciled.reconciler.tick(restores=True))
    assert reconciled.ledger.runs == is_unverified
    assert not reconciled.memory.is_unverified


# --- the clock


@pytest.mark.parametrize(
    ("jump", "restores", "jumps"),
    [(-HOUR, True, 1), (-HOUR, False, 0), (HOUR, True, 0)],
    ids=["back", "back-observing", "forward"],
)
def test_a_clock_set_back_restores_what_it_had_ended(
    reconciled: Reconciled, monkeypatch: pytest.MonkeyPatch, jump: float, *, restores: bool,
    jumps: int,
) -> None:  # fmt: skip
    start = time.time()
    reconciled.reconciler.begin(5, Reconciliation())
    reconciled.changer.after.ends[KEY] = (HOUR, HOUR)
    real = time.time
    monkeypatch.setattr(moment.time, "time", lambda: real() + jump)
    reconciled.run(lambda: reconciled.reconciler.tick(restores=restores))
    assert reconciled.recorder.kinds()[0] == "clock"
    assert reconciled.changer.jumps == [Before(5, pytest.approx(start, abs=5))] * jumps
    assert (KEY in reconciled.memory.ends) is bool(jumps)
    assert reconciled.reconciler._due_at == pytest.approx(time.monotonic() + 1, abs=5)
