"""The recorder: a fault of the disk does not reach the packet path."""

import errno
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
from sentryfw.record import resilient_ledger
from sentryfw.record.captures import Capture
from sentryfw.record.event_file import EventFile
from sentryfw.record.ledger import Ledger
from sentryfw.record.recorder import Recorder, RecordLimits
from sentryfw.record.records import DecisionRecord, Named, ProbeRecord, Reaction, probe_of
from sentryfw.record.resilient_ledger import ResilientLedger
from support.entries import BLOCK, PROBE, REFUSAL, SIX
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
    """Return an event file on a full disk."""
    made = EventFile(Path("/dev/full"))
    yield made
    made.close()


@pytest.fixture
def sink(ledger: Ledger, path: Path) -> Iterator[ResilientLedger]:
    """Return the daemon's ledger; `ledger` reads the same file."""
    made = ResilientLedger(path)
    yield made
    made.close()


class FailingLedger:
    """A ledger whose disk fails every write."""

    fault = ""

    def add(self, *_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    def add_reactions(self, *_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    def trim(self, *_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    def retry(self) -> None:
        raise sqlite3.OperationalError("disk I/O error")


@pytest.fixture
def recorder(sink: ResilientLedger, events: EventFile) -> Iterator[Recorder]:
    made = Recorder(sink, events)
    made.start()
    yield made
    made.stop(5)


@pytest.fixture
def failing(events: EventFile) -> Iterator[Recorder]:
    made = Recorder(FailingLedger(), events)
    made.start()
    yield made
    made.stop(5)


def _written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_records_reach_ledger_and_event_file(
    recorder: Recorder, ledger: Ledger, log_path: Path
) -> None:
    recorder.append(BLOCK)
    recorder.append(REFUSAL)
    recorder.note("start", version="1")
    recorder.stop(5)
    assert ledger.latest_blocks([BLOCK.address]) == {BLOCK.address: BLOCK}
    assert [event["event_type"] for event in _written(log_path)] == ["alert", "alert", "sentryfw"]
    assert recorder.lost == 0


def test_records_that_arrive_together_are_written_in_one_transaction(
    sink: ResilientLedger, events: EventFile, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GATHER_S", 0.5)
    sizes: list[int] = []
    add = sink.add

    def counted(records: list[DecisionRecord], probes: list[ProbeRecord]) -> None:
        add(records, probes)
        sizes.append(len(records))

    monkeypatch.setattr(sink, "add", counted)
    made = Recorder(sink, events)
    made.start()
    for _ in range(10):
        made.append(BLOCK)
    wait_for(lambda: sizes, "the records are written")
    made.stop(5)
    assert sizes == [10]
    assert ledger.latest_blocks([BLOCK.address])


def test_a_batch_of_events_keeps_the_order_of_arrival(
    sink: ResilientLedger, events: EventFile, log_path: Path
) -> None:
    made = Recorder(sink, events)
    made.note("flood", on=True)
    made.append(BLOCK)
    made.note("flood", on=False)
    made.append(REFUSAL)
    made.learnt(Named("192.0.2.7", "scanner.example.org", 1.0))
    made.start()  # all of it waits: one batch
    made.stop(5)
    written = [line["sentryfw"].get("event") or line["event_type"] for line in _written(log_path)]
    assert written == ["flood", "alert", "flood", "alert", "host"]


def test_probes_reach_the_ledger_but_not_the_event_file(
    recorder: Recorder, ledger: Ledger, log_path: Path
) -> None:
    recorder.probe(probe_of(PROBE), PROBE.at)
    recorder.stop(5)
    assert ledger.probes(0) == [PROBE]
    assert _written(log_path) == []
    assert recorder.lost == 0


def test_the_first_probes_of_each_second_of_a_flood_are_kept(
    recorder: Recorder, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PROBES_PER_S", 3)
    times = [1000 + number / 10 for number in range(20)]
    for at in times:
        recorder.probe(probe_of(PROBE), at)
    recorder.stop(5)
    assert [probe.at for probe in ledger.probes(0)] == [*times[:3], *times[10:13]]
    assert (recorder.unkept, recorder.lost) == (14, 0)


def test_a_probe_that_is_not_written_is_counted(
    failing: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    failing.probe(probe_of(PROBE), PROBE.at)
    failing.stop(5)
    assert failing.lost == 1
    assert "ledger: disk I/O error" in caplog.text


def test_stopping_writes_the_records_that_wait(
    recorder: Recorder, ledger: Ledger, log_path: Path
) -> None:
    recorder.use_limits(RecordLimits(events_per_second=1800))
    entries = [BLOCK._replace(address=f"198.18.{n >> 8}.{n & 255}") for n in range(1800)]
    for entry in entries:
        recorder.append(entry)
    recorder.stop(10)
    assert len(_written(log_path)) == 1800
    assert len(ledger.latest_blocks(entry.address for entry in entries)) == 1800


def test_stopping_waits_no_longer_than_its_timeout(
    recorder: Recorder, ledger: Ledger, path: Path
) -> None:
    """Another program holds the ledger's lock."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        recorder.append(BLOCK)
        stopper = threading.Thread(target=recorder.stop, args=(0.05,))
        stopper.start()
        stopper.join(2)
        assert not stopper.is_alive()
        other.execute("COMMIT")


@pytest.mark.root
def test_a_failing_event_file_costs_no_block_in_the_ledger(
    sink: ResilientLedger, ledger: Ledger, full: EventFile, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(sink, full)
    recorder.start()
    recorder.append(BLOCK)
    recorder.note("start")
    recorder.stop(5)
    assert recorder.lost == 2
    assert ledger.latest_blocks([BLOCK.address]) == {BLOCK.address: BLOCK}
    assert "event file: [Errno 28] No space left on device" in caplog.text


def test_a_failing_ledger_costs_no_event(
    failing: Recorder, log_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    failing.append(BLOCK)
    failing.append(REFUSAL)
    wait_for(lambda: failing.lost == 2, "the loss is counted")
    failing.append(SIX)
    failing.stop(5)
    assert failing.lost == 3
    assert "ledger: disk I/O error; " in caplog.text
    assert "blocking continues" in caplog.text
    assert len(_written(log_path)) == 3


def test_a_reaction_that_is_not_written_costs_no_event(failing: Recorder, log_path: Path) -> None:
    failing.reaction(Reaction("command", BLOCK.address, ok=True, detail="", at=1.0, seconds=0.1))
    failing.stop(5)
    assert failing.lost == 1
    assert len(_written(log_path)) == 1


def test_records_that_memory_kept_are_written_while_nothing_new_arrives(
    recorder: Recorder, sink: ResilientLedger, ledger: Ledger, path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "RETRY_INTERVAL_S", 0.05)
    monkeypatch.setattr(resilient_ledger, "RETRY_INTERVAL_S", 0.0)
    sink.database.execute("PRAGMA busy_timeout = 10")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        recorder.append(BLOCK)
        wait_for(lambda: bool(sink.fault), "a ledger in memory")
        other.execute("COMMIT")
    wait_for(lambda: not sink.fault, "written to the disk")
    assert set(ledger.latest_blocks([BLOCK.address])) == {BLOCK.address}


@pytest.mark.root
def test_one_fault_is_reported_once_a_minute(
    sink: ResilientLedger, full: EventFile, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(sink, full)
    recorder.start()
    for lost in range(1, 6):
        recorder.note("start")
        wait_for(lambda: recorder.lost == lost, "counted")  # noqa: B023
    recorder.stop(5)
    assert caplog.text.count("event file: ") == 1


def test_a_full_backlog_loses_records_and_does_not_wait(
    sink: ResilientLedger, events: EventFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BACKLOG", 3)
    recorder = Recorder(sink, events)  # not started, so the queue is not emptied
    for _ in range(5):
        recorder.append(BLOCK)
    assert recorder.lost == 2


def test_the_ledger_is_trimmed_while_it_is_written(
    recorder: Recorder, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TRIM_BATCH", 10)
    monkeypatch.setattr(ledger_module, "MAX_ROWS", {"blocks": 4})
    for _ in range(50):
        recorder.append(BLOCK._replace(blocked_at=1.0))
    recorder.stop(5)
    with closing(sqlite3.connect(path)) as other:
        [(left,)] = other.execute("SELECT count(*) FROM blocks").fetchall()
    assert left < 50


def test_blocks_and_refusals_are_logged(
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


def test_a_flood_of_events_ends_in_a_summary_while_nothing_new_arrives(
    recorder: Recorder, log_path: Path
) -> None:
    recorder.use_limits(RecordLimits(events_per_second=5))
    for _ in range(20):
        recorder.append(REFUSAL)
    wait_for(lambda: "summary" in log_path.read_text(), "the summary")
    summaries = [event["sentryfw"] for event in _written(log_path)][5:]
    assert sum(event["left_out"]["refused"] for event in summaries) == 15


def test_what_was_left_out_is_counted_when_the_daemon_stops(
    recorder: Recorder, log_path: Path
) -> None:
    recorder.use_limits(RecordLimits(events_per_second=5))
    for _ in range(8):
        recorder.append(BLOCK)
    recorder.stop(5)
    assert _written(log_path)[-1]["sentryfw"]["left_out"] == {"blocked": 3}


def test_below_the_floor_blocks_alone_are_written(
    recorder: Recorder, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "is_low", lambda *_: True)
    recorder.use_limits(RecordLimits(place=tmp_path))
    recorder.append(REFUSAL)
    recorder.append(BLOCK)
    recorder.probe(probe_of(PROBE), PROBE.at)
    recorder.stop(5)
    assert set(ledger.latest_blocks([BLOCK.address])) == {BLOCK.address}
    assert ledger.probes(0) == []
    assert recorder.lost == 2
    assert "too little free space is left" in caplog.text


def test_a_listener_gets_events_and_losses(sink: ResilientLedger, full: EventFile) -> None:
    recorder = Recorder(sink, full)
    found: list[str] = []
    recorder.listener = lambda kind, fields: found.append(f"{kind} {fields}")
    recorder.note("alarm", by="ufw")
    assert found == ["alarm {'by': 'ufw'}"]
    recorder.start()
    wait_for(lambda: len(found) == 2, "the loss")
    recorder.stop()
    assert found[1].startswith("records-lost {'where': 'event file', 'error': OSError(28")


class RefusingCaptures:
    """A store whose disk is full."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def write(self, captures: list[Capture]) -> None:
        self.asked.append(len(captures))
        raise OSError(errno.ENOSPC, "No space left on device")


def test_the_captures_of_a_batch_are_written_and_lost_together(
    sink: ResilientLedger, events: EventFile
) -> None:
    captures: Any = RefusingCaptures()
    recorder = Recorder(sink, events, captures)
    recorder.write([BLOCK, *[Capture(BLOCK, []) for _ in range(3)]], 0.0, 0.0)
    recorder.write([BLOCK], 0.0, 0.0)
    assert captures.asked == [3]
    assert recorder.lost == 3
