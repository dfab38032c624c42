"""Reactions and host names: in the ledger, in the events, in the log."""

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentryfw.record import ledger as module
from sentryfw.record.event_file import EventFile
from sentryfw.record.ledger import Ledger
from sentryfw.record.recorder import Recorder
from sentryfw.record.records import Named, Reaction
from sentryfw.record.resilient_ledger import ResilientLedger
from support.entries import BLOCK, BLOCKED_AT

DONE = Reaction(
    reaction="command", address=BLOCK.address, ok=True, detail="ended with status 0",
    at=BLOCKED_AT + 1, seconds=0.25,
)  # fmt: skip
FAILED = DONE._replace(ok=False, detail="ended with status 1", at=BLOCKED_AT + 2)


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    return tmp_path / "log" / "events.json"


@pytest.fixture
def recorder(ledger: Ledger, path: Path, log_path: Path) -> Iterator[Recorder]:
    """Return a recorder whose ledger is read by `ledger`."""
    events, sink = EventFile(log_path), ResilientLedger(path)
    made = Recorder(sink, events)
    made.start()
    yield made
    made.stop(5)
    events.close()
    sink.close()


def test_reactions_are_read_as_they_were_added_oldest_first(ledger: Ledger) -> None:
    ledger.add_reactions([DONE, FAILED, DONE._replace(address="other")], [])
    assert ledger.reactions(BLOCK.address) == [DONE, FAILED]
    assert ledger.reactions(BLOCK.address, newest=1) == [FAILED]
    assert ledger.reactions("192.0.2.99") == []


def test_the_last_name_of_an_address_is_kept(ledger: Ledger) -> None:
    ledger.add_reactions([], [Named("a", "old.example", 1.0), Named("b", "b.example", 2.0)])
    ledger.add_reactions([], [Named("a", "new.example", 3.0)])
    assert ledger.hosts(["a", "b", "c"]) == {"a": "new.example", "b": "b.example"}


def test_trim_keeps_the_newest(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.MAX_ROWS, "reactions", 3)
    monkeypatch.setitem(module.MAX_ROWS, "hosts", 2)
    ledger.add_reactions(
        [DONE._replace(seconds=float(n)) for n in range(10)],
        [Named(str(n), "x.example", 1.0) for n in range(10)],
    )
    ledger.trim(time.time())
    assert [r.seconds for r in ledger.reactions(BLOCK.address)] == [7.0, 8.0, 9.0]
    assert set(ledger.hosts(map(str, range(10)))) == {"8", "9"}


def test_a_failed_reaction_has_its_own_event_and_an_error_in_the_log(
    recorder: Recorder, ledger: Ledger, log_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "sentryfwd"):
        recorder.append(BLOCK)
        recorder.reaction(DONE)
        recorder.reaction(FAILED)
        recorder.learnt(Named(BLOCK.address, "scan.example", 1.0))
        recorder.stop(5)
    events = [json.loads(line) for line in log_path.read_text().splitlines()]
    kinds = [event["sentryfw"].get("event", event["event_type"]) for event in events]
    assert kinds == ["alert", "reaction", "reaction-failed", "host"]
    assert events[2]["sentryfw"]["detail"] == "ended with status 1"
    assert events[3]["sentryfw"]["host"] == "scan.example"
    logged = [(record.levelname, record.getMessage()) for record in caplog.records[1:]]
    assert logged == [
        ("INFO", f"command to {BLOCK.address}: ended with status 0"),
        ("ERROR", f"command to {BLOCK.address} failed: ended with status 1"),
    ]
    assert ledger.reactions(BLOCK.address) == [DONE, FAILED]
    assert ledger.hosts([BLOCK.address]) == {BLOCK.address: "scan.example"}
