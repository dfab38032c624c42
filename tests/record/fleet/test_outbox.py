"""The outbox: every block and every end once, in order, whichever program writes them."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentryfw.record.fleet import outbox
from sentryfw.record.ledger import Ledger
from sentryfw.record.records import manual_entry
from support.entries import BLOCK, REFUSAL, SIX

NOW = 1_800_000_000.0
START = 1_800_000_000_000


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db") as opened:
        outbox.enable(opened, NOW)
        yield opened


def listed(ledger: Ledger, after: int = 0) -> list[tuple[int, str, str]]:
    return [(row.seq - START, row.op, row.address) for row in outbox.outgoing(ledger, after, 100)]


def test_blocks_and_their_ends_are_numbered_in_order(ledger: Ledger) -> None:
    ledger.add([BLOCK, REFUSAL, SIX])
    ledger.unblocked(BLOCK.address, BLOCK.blocked_at + 1)
    assert listed(ledger) == [
        (1, "block", BLOCK.address), (2, "block", SIX.address), (3, "withdraw", BLOCK.address),
    ]  # fmt: skip
    assert listed(ledger, START + 2) == [(3, "withdraw", BLOCK.address)]
    assert outbox.last_number(ledger) == START + 3


def test_another_program_fills_it_as_well(ledger: Ledger, tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as other:
        other.add([manual_entry("198.51.100.9", 4, 3600.0, NOW, "ticket 12")])
    [row] = outbox.outgoing(ledger, 0, 100)
    assert (row.scan, row.reason) == ("", "blocked by hand: ticket 12")


def test_networks_and_blocks_without_a_reason_of_ours_are_left_out(ledger: Ledger) -> None:
    unknown = BLOCK._replace(scan="", reason="found in the kernel")
    ledger.add([manual_entry("198.51.100.0/24", 4, 3600.0, NOW), unknown])
    assert listed(ledger) == []


def test_a_transaction_that_fails_leaves_no_entry(ledger: Ledger) -> None:
    damaged = SIX._replace(family="six")
    with pytest.raises(sqlite3.Error):
        ledger.add([SIX, damaged])
    ledger.add([BLOCK])
    assert listed(ledger) == [(1, "block", BLOCK.address)]


def test_numbers_go_on_after_all_rows_were_removed(ledger: Ledger) -> None:
    ledger.add([BLOCK])
    ledger.database.execute("DELETE FROM fleet_outbox")
    assert outbox.last_number(ledger) == START + 1
    outbox.enable(ledger, NOW - 1000)
    ledger.add([SIX])
    assert listed(ledger) == [(2, "block", SIX.address)]


def test_without_a_fleet_nothing_is_kept(ledger: Ledger) -> None:
    assert outbox.is_enabled(ledger)
    outbox.disable(ledger)
    assert not outbox.is_enabled(ledger)
    ledger.add([BLOCK])
    assert listed(ledger) == []
    assert outbox.last_number(ledger) == START, "the number that was given before stays"


def test_old_entries_are_forgotten(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MAX_ROWS", 1)
    ledger.add([BLOCK, SIX])
    assert listed(ledger) == [(2, "block", SIX.address)]
