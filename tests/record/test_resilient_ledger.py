"""The daemon's ledger and event file on a disk that fails."""

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from sentryfw.record import resilient_ledger as module
from sentryfw.record.database import MIGRATIONS
from sentryfw.record.ledger import Ledger
from sentryfw.record.records import Named
from sentryfw.record.resilient_ledger import ResilientEventFile, ResilientLedger
from support.entries import BLOCK, PROBE, REFUSAL, SIX


@pytest.fixture
def made(path: Path) -> Iterator[ResilientLedger]:
    ledger = ResilientLedger(path)
    yield ledger
    ledger.close()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the write lock of the ledger, as another program."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def _retry_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_INTERVAL_S", 0.0)


def _damage(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))


def test_a_sound_disk_is_written_at_once(made: ResilientLedger, path: Path) -> None:
    made.add([BLOCK], [PROBE])
    made.add_reactions([], [Named("a", "a.example", 1.0)])
    made.trim(time.time())
    assert (made.fault, made.lost, made.moved_aside) == ("", 0, [])
    assert made.probes(0) == [PROBE]
    assert made.offences(10) == {BLOCK.address: 1}
    with Ledger(path) as disk:
        assert disk.latest_blocks([BLOCK.address]) == {BLOCK.address: BLOCK}
        assert disk.hosts(["a"]) == {"a": "a.example"}
        disk.protect("192.0.2.1", "ssh peer", time.time())
    assert made.protected() == [("192.0.2.1", "ssh peer")]


def test_memory_stands_in_for_a_locked_ledger_until_it_works(
    made: ResilientLedger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _retry_now(monkeypatch)
    made.database.execute("PRAGMA busy_timeout = 10")
    monkeypatch.setattr("sentryfw.record.database.LOCK_TIMEOUT_S", 0.05)
    monkeypatch.setattr(module, "LOCK_TIMEOUT_MS", 10)
    with _locked(path):
        made.add([BLOCK])
        assert "locked" in made.fault
        assert made.database.is_in_memory
        made.add([SIX, REFUSAL])
        assert "locked" in made.fault
    made.retry()
    assert (made.fault, made.lost) == ("", 0)
    with Ledger(path) as disk:
        assert set(disk.latest_blocks([BLOCK.address, SIX.address])) == {BLOCK.address, SIX.address}


def test_a_retry_waits_for_its_time(made: ResilientLedger, path: Path) -> None:
    made.database.execute("PRAGMA busy_timeout = 10")
    with _locked(path):
        made.add([BLOCK])
    made.retry()
    assert made.fault


def test_a_ledger_that_cannot_be_opened_is_read_as_far_as_possible(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _retry_now(monkeypatch)
    with Ledger(path) as before:
        before.add([BLOCK])
        before.protect("192.0.2.1", "ssh peer", time.time())
        before.database.execute("PRAGMA user_version = 99")  # of a newer version
    made = ResilientLedger(path)
    assert "newer SentryFW" in made.fault
    assert made.protected() == [("192.0.2.1", "ssh peer")]
    made.add([SIX])
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    made.retry()
    assert made.fault == ""
    assert made.database.read("SELECT COUNT(*) FROM blocks") == [(2,)]  # not copied twice
    made.close()


def test_a_corrupt_ledger_is_moved_aside_at_start(path: Path) -> None:
    with Ledger(path) as before:
        before.add([BLOCK])
    _damage(path)
    damaged = path.read_bytes()
    made = ResilientLedger(path)
    [aside] = made.moved_aside
    assert Path(aside).read_bytes() == damaged
    made.add([SIX])
    assert made.fault == ""
    with Ledger(path) as disk:
        assert set(disk.latest_blocks([SIX.address])) == {SIX.address}
    made.close()


def test_a_ledger_that_becomes_corrupt_is_moved_aside(made: ResilientLedger, path: Path) -> None:
    made.add([BLOCK])
    _damage(path)
    made.add([SIX])
    assert (len(made.moved_aside), made.fault, made.lost) == (1, "", 0)
    with Ledger(path) as disk:
        assert set(disk.latest_blocks([SIX.address])) == {SIX.address}


def test_a_corrupt_ledger_that_cannot_be_moved_is_replaced_by_memory(
    made: ResilientLedger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.add([BLOCK])
    _damage(path)

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "rename", refuse)
    made.add([SIX])
    assert made.moved_aside == []
    assert "malformed" in made.fault
    assert set(Ledger.latest_blocks(made._ledger, [SIX.address])) == {SIX.address}


def test_memory_is_bounded_and_its_loss_counted(
    made: ResilientLedger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ROWS_IN_MEMORY", 3)
    made.database.execute("PRAGMA busy_timeout = 10")
    with _locked(path):
        made.add([BLOCK] * 5)
    assert made.database.read("SELECT COUNT(*) FROM blocks") == [(3,)]
    assert made.lost == 2


# --- the event file


def test_an_event_file_is_opened_again_with_each_write(tmp_path: Path) -> None:
    place = tmp_path / "log"
    place.write_text("not a directory")
    events = ResilientEventFile(place / "events.json")
    assert "File exists" in events.fault
    with pytest.raises(OSError, match="File exists"):
        events.write([{"event": 1}])
    place.unlink()
    events.write([{"event": 2}])
    assert events.fault == ""
    events.close()
    assert json.loads((place / "events.json").read_text()) == {"event": 2}


def test_a_full_disk_is_a_fault_until_a_write_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = ResilientEventFile(tmp_path / "events.json")
    whole = os.write
    with monkeypatch.context() as patch:
        patch.setattr("os.write", lambda fd, data: whole(fd, data[:1]))
        with pytest.raises(OSError, match="No space left"):
            events.write([{"event": 1}])
    assert "No space left" in events.fault
    events.write([{"event": 2}])
    assert events.fault == ""
    events.close()
