"""The recorder: nothing that happens to the disk reaches the packet path."""

import json
import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sentryfw.record import ledger as ledger_module
from sentryfw.record import recorder as module
from sentryfw.record.entry import probe_of
from sentryfw.record.events import EventFile
from sentryfw.record.ledger import Ledger
from sentryfw.record.recorder import Recorder
from support.entries import BLOCK, REFUSAL, SIGHT, SIX
from support.waiting import wait_for


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    return tmp_path / "log" / "events.json"


@pytest.fixture
def events(log_path: Path) -> Iterator[EventFile]:
    made = EventFile(log_path)
    yield made
    made.close()


@pytest.fixture
def full() -> Iterator[EventFile]:
    """An event file on a full disk."""
    made = EventFile(Path("/dev/full"))
    yield made
    made.close()


@pytest.fixture
def recorder(ledger: Ledger, events: EventFile) -> Iterator[Recorder]:
    made = Recorder(ledger, events)
    made.start()
    yield made
    made.stop(5)


def _written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_entries_reach_ledger_and_event_file(
    recorder: Recorder, ledger: Ledger, log_path: Path
) -> None:
    recorder.append(BLOCK)
    recorder.append(REFUSAL)
    recorder.note("start", version="1")
    recorder.stop(5)
    assert ledger.latest_blocks([BLOCK.address]) == {BLOCK.address: BLOCK}
    assert [event["event_type"] for event in _written(log_path)] == ["alert", "alert", "sentryfw"]
    assert recorder.lost == 0


def test_what_is_written_at_once_stands_in_the_order_in_which_it_happened(
    ledger: Ledger, events: EventFile, log_path: Path
) -> None:
    made = Recorder(ledger, events)
    made.note("flood", on=True)
    made.append(BLOCK)
    made.note("flood", on=False)
    made.append(REFUSAL)
    made.named("192.0.2.7", "scanner.example.org")
    made.start()  # all of it waits: one batch
    made.stop(5)
    told = [line["sentryfw"].get("event") or line["event_type"] for line in _written(log_path)]
    assert told == ["flood", "alert", "flood", "alert", "host"]


def test_sights_reach_the_ledger_and_no_event_file(
    recorder: Recorder, ledger: Ledger, log_path: Path
) -> None:
    recorder.sight(probe_of(SIGHT), SIGHT.at)
    recorder.stop(5)
    assert ledger.sights(0) == [SIGHT]
    assert _written(log_path) == []
    assert recorder.lost == 0


def test_of_a_flood_of_sights_the_first_ones_of_each_second_are_kept(
    recorder: Recorder, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SIGHTS_A_SECOND", 3)
    times = [1000 + number / 10 for number in range(20)]
    for at in times:
        recorder.sight(probe_of(SIGHT), at)
    recorder.stop(5)
    assert [sight.at for sight in ledger.sights(0)] == [*times[:3], *times[10:13]]
    assert (recorder.unkept, recorder.lost) == (14, 0)


def test_a_sight_that_is_not_written_is_counted(
    recorder: Recorder, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("DROP TABLE probes")
    recorder.sight(probe_of(SIGHT), SIGHT.at)
    recorder.stop(5)
    assert recorder.lost == 1
    assert "ledger: no such table: probes" in caplog.text


def test_stopping_writes_everything_that_is_left(
    recorder: Recorder, ledger: Ledger, log_path: Path
) -> None:
    entries = [BLOCK._replace(address=f"198.18.{n >> 8}.{n & 255}") for n in range(1800)]
    for entry in entries:
        recorder.append(entry)
    recorder.stop(10)
    assert len(_written(log_path)) == 1800
    assert len(ledger.latest_blocks(entry.address for entry in entries)) == 1800


def test_stopping_waits_no_longer_than_its_patience(
    recorder: Recorder, ledger: Ledger, path: Path
) -> None:
    """Another program holds the ledger; the daemon ends all the same."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        recorder.append(BLOCK)
        stopper = threading.Thread(target=recorder.stop, args=(0.05,))
        stopper.start()
        stopper.join(2)
        assert not stopper.is_alive()
        other.execute("COMMIT")


def test_a_failing_event_file_costs_no_block_in_the_ledger(
    ledger: Ledger, full: EventFile, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(ledger, full)
    recorder.start()
    recorder.append(BLOCK)
    recorder.note("start")
    recorder.stop(5)
    assert recorder.lost == 2
    assert ledger.latest_blocks([BLOCK.address]) == {BLOCK.address: BLOCK}
    assert "event file: [Errno 28] No space left on device" in caplog.text


def test_a_failing_ledger_costs_no_event(
    recorder: Recorder,
    ledger: Ledger,
    path: Path,
    log_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger._connection.execute("PRAGMA busy_timeout = 10")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        recorder.append(BLOCK)
        recorder.append(REFUSAL)
        wait_for(lambda: recorder.lost == 2, "the loss is counted")
        other.execute("COMMIT")
    assert "ledger: database is locked; " in caplog.text
    assert "blocking goes on" in caplog.text
    recorder.append(SIX)
    recorder.stop(5)
    assert len(_written(log_path)) == 3
    assert set(ledger.latest_blocks([BLOCK.address, SIX.address])) == {SIX.address}


def test_a_ledger_that_lost_its_tables_is_counted_not_raised(
    recorder: Recorder, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("DROP TABLE blocks")
    recorder.append(BLOCK)
    recorder.stop(5)
    assert recorder.lost == 1
    assert "ledger: no such table: blocks" in caplog.text


def test_the_same_complaint_is_said_once_a_minute(
    ledger: Ledger, full: EventFile, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(ledger, full)
    recorder.start()
    for lost in range(1, 6):
        recorder.note("start")
        wait_for(lambda: recorder.lost == lost, "counted")  # noqa: B023
    recorder.stop(5)
    assert caplog.text.count("event file: ") == 1


def test_a_backlog_that_is_full_loses_and_does_not_wait(
    ledger: Ledger, events: EventFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKLOG", 3)
    recorder = Recorder(ledger, events)  # not started: nobody empties it
    for _ in range(5):
        recorder.append(BLOCK)
    assert recorder.lost == 2


def test_the_ledger_is_trimmed_on_the_way(
    recorder: Recorder, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TRIM_EVERY", 10)
    monkeypatch.setattr(ledger_module, "_KEEP", {"blocks": 4})
    for _ in range(50):
        recorder.append(BLOCK._replace(blocked_at=1.0))
    recorder.stop(5)
    with closing(sqlite3.connect(path)) as other:
        [(left,)] = other.execute("SELECT count(*) FROM blocks").fetchall()
    assert left < 50


def test_blocks_and_refusals_are_said_to_the_journal(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "sentryfwd"):
        recorder.append(BLOCK)
        recorder.append(REFUSAL)
        recorder.stop(5)
    assert [record.getMessage() for record in caplog.records] == [
        f"blocked 198.18.0.2 for 3600s: portscan (syn, udp), {BLOCK.reason}, offence 1",
        "not blocked 198.18.0.2: portscan (syn, udp), because: partner",
    ]
