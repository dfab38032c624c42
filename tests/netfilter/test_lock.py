"""The table lock and its stamp."""

import logging
import os
import stat
from pathlib import Path

import pytest

from sentryfw.errors import SentryError
from sentryfw.netfilter.lock import NAME, Stamp, TableLock


def test_one_process_at_a_time_holds_the_lock(tmp_path: Path) -> None:
    first, second = TableLock(tmp_path), TableLock(tmp_path)
    assert first.take()
    assert not second.take()
    first.release()
    first.release()  # releasing twice is harmless
    assert second.take()
    second.release()


def test_waiting_ends_with_an_error_that_names_the_lock(tmp_path: Path) -> None:
    with (
        TableLock(tmp_path).held(),
        pytest.raises(SentryError, match=f"for 0.05 s .*{NAME}"),
        TableLock(tmp_path).held(timeout=0.05),
    ):
        pytest.fail("the lock was taken twice")


def test_an_error_releases_the_lock(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), TableLock(tmp_path).held():
        raise ZeroDivisionError
    lock = TableLock(tmp_path)
    assert lock.take()
    lock.release()


def test_the_stamp_is_that_of_the_last_change(tmp_path: Path) -> None:
    lock, other = TableLock(tmp_path), TableLock(tmp_path)
    with lock.held():
        assert lock.stamp() == Stamp("", "")
        installed = lock.write("installed")
        again = lock.write("installed")
    assert installed.state == again.state == "installed"
    assert installed != again
    with other.held():
        assert other.stamp() == again
        assert other.write("uninstalled").state == "uninstalled"
    assert other.stamp() == Stamp("", "")  # the lock is not held


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    """A file of an earlier version is closed to its group."""
    path = tmp_path / NAME
    path.touch()
    path.chmod(0o640)
    with TableLock(tmp_path).held():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("obstacle", ["file", "symlink"])
def test_a_lock_that_cannot_be_made_does_not_stop_a_command(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, obstacle: str
) -> None:
    runtime = tmp_path / "run"
    if obstacle == "file":
        runtime.touch()
    else:
        runtime.mkdir()
        (runtime / NAME).symlink_to(tmp_path / "target")
    lock = TableLock(runtime)
    with caplog.at_level(logging.WARNING, "sentryfw"), lock.held():
        assert lock.write("installed") == Stamp("", "")
    assert "changing the table without its lock" in caplog.text
    assert not os.path.lexists(tmp_path / "target")
