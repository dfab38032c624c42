"""The guard's thread: what it logs of failures, and when it holds the lock."""

import asyncio
import logging
import threading
from pathlib import Path

import pytest

from sentryfw.errors import KernelError
from sentryfw.guard import worker
from sentryfw.netfilter.lock import TableLock
from support.guarding import Guarded


@pytest.fixture
def guarded(tmp_path: Path) -> Guarded:
    return Guarded(tmp_path)


def test_work_runs_beside_the_loop_in_one_thread(guarded: Guarded) -> None:
    async def both() -> set[str]:
        names = [await guarded.thread.run(lambda: threading.current_thread().name) for _ in "ab"]
        return set(names)

    [name] = guarded.run(both)
    assert name != threading.current_thread().name


@pytest.mark.parametrize("fault", [KernelError(1, "flush"), OSError(28, "disk full")])
def test_an_expected_failure_is_logged_with_its_message(
    guarded: Guarded, caplog: pytest.LogCaptureFixture, fault: Exception
) -> None:
    guarded.ledger.fault = fault
    with caplog.at_level(logging.WARNING, "sentryfwd"):
        guarded.run(lambda: guarded.thread.record_unblocked(["198.51.100.1"]))
    [record] = caplog.records
    assert record.getMessage() == f"cannot record unblocked addresses in the ledger: {fault}"
    assert record.levelno == logging.WARNING
    assert record.exc_info is None


def test_a_bug_is_logged_with_its_traceback(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    guarded.ledger.fault = KeyError("a bug")
    with caplog.at_level(logging.WARNING, "sentryfwd"):
        guarded.run(lambda: guarded.thread.record_unblocked(["198.51.100.1"]))
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[1] is guarded.ledger.fault
    assert "in record_unblocked" in caplog.text


def test_a_task_that_fails_is_logged_with_its_traceback(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR, "sentryfwd"):
        guarded.run(lambda: guarded.thread.spawn(fail()))
    assert "ZeroDivisionError" in caplog.text


def test_unblocked_addresses_are_recorded_and_sets_flushed(guarded: Guarded) -> None:
    async def work() -> None:
        guarded.thread.record_unblocked(["198.51.100.1"])
        await guarded.thread.flush_blocks()

    guarded.run(work)
    assert guarded.ledger.unblocked == ["198.51.100.1"]
    assert guarded.flushes == 1


def test_the_table_changes_under_the_lock_alone(guarded: Guarded, tmp_path: Path) -> None:
    other = TableLock(tmp_path)

    async def work() -> list[bool]:
        async with guarded.thread.change_table() as changer:
            assert changer.repair is not None
            held = other.take()
        return [held, other.take()]

    assert guarded.run(work) == [False, True]
    other.release()


def test_a_change_waits_for_the_lock(guarded: Guarded, tmp_path: Path) -> None:
    other = TableLock(tmp_path)
    assert other.take()
    order: list[str] = []

    async def change() -> None:
        async with guarded.thread.change_table():
            order.append("changed")

    async def release() -> None:
        order.append("released")
        other.release()

    def work() -> None:
        guarded.thread.spawn(change())
        guarded.thread.spawn(release())

    guarded.run(work)
    assert order == ["released", "changed"]


@pytest.mark.parametrize("is_announced", [False, True], ids=["hung", "install"])
def test_a_repair_goes_on_beside_a_process_that_keeps_the_lock(
    guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_announced: bool
) -> None:
    """An install that is announced is waited for."""
    monkeypatch.setattr(worker, "LOCK_PATIENCE_S", 0.05)
    other = TableLock(tmp_path)
    assert other.take()
    if is_announced:
        other.write("installing")
    order: list[str] = []

    async def change() -> None:
        async with guarded.thread.change_table() as changer:
            assert changer.repair is not None
            order.append("changed")

    async def release() -> None:
        await asyncio.sleep(0.5)
        order.append("released")
        other.release()

    async def work() -> None:
        await asyncio.gather(change(), release())

    guarded.run(work)
    assert order == (["released", "changed"] if is_announced else ["changed", "released"])


def test_two_changes_of_the_daemon_wait_for_each_other(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LOCK_PATIENCE_S", 0.0)
    running: list[str] = []

    async def change(name: str) -> None:
        async with guarded.thread.change_table():
            assert not running
            running.append(name)
            await asyncio.sleep(0.1)
            running.clear()

    async def work() -> None:
        await asyncio.gather(change("one"), change("two"))

    guarded.run(work)
