"""The ledger: records are read as they were written, and trimmed."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from sentryfw.errors import LedgerFault
from sentryfw.record import ledger as module
from sentryfw.record.ledger import Ledger
from sentryfw.record.records import Named
from support.entries import BLOCK, BLOCKED_AT, PROBE, REFUSAL, SIX


def _rows(path: Path, query: str) -> list[tuple[object, ...]]:
    """Return rows as another program reads them from the file."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


# --- blocks


def test_the_latest_block_of_an_address_is_read_as_it_was_added(ledger: Ledger) -> None:
    second = BLOCK._replace(offence=2, timeout_s=7200.0, kinds=["null"])
    ledger.add([BLOCK, SIX, second])
    assert ledger.latest_blocks([BLOCK.address, SIX.address, "198.18.0.99"]) == {
        BLOCK.address: second,
        SIX.address: SIX,
    }


def test_a_refusal_is_not_a_block(ledger: Ledger, path: Path) -> None:
    ledger.add([REFUSAL])
    assert ledger.latest_blocks([REFUSAL.address]) == {}
    assert ledger.offences(100) == {}
    assert _rows(path, "SELECT address, at, reason, scan, kinds, targets FROM refusals") == [
        ("198.18.0.2", BLOCKED_AT, "partner", "portscan", '["syn", "udp"]', 3)
    ]


def test_offences_are_the_highest_count_and_leave_out_blocks_by_hand(ledger: Ledger) -> None:
    by_hand = SIX._replace(offence=0)
    ledger.add([BLOCK._replace(offence=offence) for offence in (1, 2, 3)])
    ledger.add([by_hand])
    assert ledger.offences(100) == {BLOCK.address: 3}


def test_offences_of_the_newest_blocks_come_first(ledger: Ledger) -> None:
    later = BLOCKED_AT + 1
    ledger.add([BLOCK, BLOCK._replace(offence=2), SIX._replace(blocked_at=later)])
    assert list(ledger.offences(100)) == [SIX.address, BLOCK.address]
    assert list(ledger.offences(1)) == [SIX.address]
    partner = REFUSAL._replace(address="198.18.0.9", timeout_s=600.0, offence=1, confined=True)
    ledger.add([partner._replace(blocked_at=later + 1)])
    assert list(ledger.offences(100)) == [partner.address, SIX.address, BLOCK.address]
    assert list(ledger.offences(1)) == [partner.address]


def test_offences_written_after_the_clock_was_set_back_are_the_newest(ledger: Ledger) -> None:
    ledger.add([SIX, BLOCK._replace(blocked_at=BLOCKED_AT - 3600)])
    assert list(ledger.offences(1)) == [BLOCK.address]


def test_records_outlast_the_connection(path: Path) -> None:
    with Ledger(path) as first:
        first.add([BLOCK])
        first.protect("198.18.0.7/32", "ssh peer", time.time())
    with Ledger(path) as second:
        assert second.latest_blocks([BLOCK.address]) == {BLOCK.address: BLOCK}
        assert second.protected() == [("198.18.0.7/32", "ssh peer")]


def test_a_transaction_that_fails_adds_nothing(ledger: Ledger) -> None:
    wrong = BLOCK._replace(targets="many")  # type: ignore[arg-type]
    with pytest.raises(sqlite3.Error):
        ledger.add([SIX, wrong])
    assert ledger.latest_blocks([SIX.address]) == {}
    ledger.add([SIX])
    assert ledger.latest_blocks([SIX.address]) == {SIX.address: SIX}


# --- unblocked


def test_unblocking_marks_the_address_alone(ledger: Ledger, path: Path) -> None:
    ledger.add([BLOCK, SIX])
    ledger.unblocked(BLOCK.address, BLOCKED_AT + 60)
    assert _rows(path, "SELECT address, unblocked_at FROM blocks") == [
        (BLOCK.address, BLOCKED_AT + 60),
        (SIX.address, None),
    ]


def test_unblocking_all_marks_every_block_that_is_not_marked(ledger: Ledger, path: Path) -> None:
    ledger.add([BLOCK, SIX])
    ledger.unblocked(BLOCK.address, BLOCKED_AT + 60)
    ledger.unblocked(None, BLOCKED_AT + 90)
    assert _rows(path, "SELECT unblocked_at FROM blocks") == [
        (BLOCKED_AT + 60,),
        (BLOCKED_AT + 90,),
    ]


def test_an_expired_block_is_not_marked_as_unblocked(ledger: Ledger, path: Path) -> None:
    """It ended by itself; only the active one ends now."""
    alive = BLOCK._replace(blocked_at=BLOCKED_AT + 10_000, offence=2)
    permanent = BLOCK._replace(timeout_s=0.0, offence=0)
    ledger.add([BLOCK, permanent, alive])
    ledger.unblocked(BLOCK.address, BLOCKED_AT + 10_060)
    assert _rows(path, "SELECT offence, unblocked_at FROM blocks ORDER BY id") == [
        (1, None),
        (0, BLOCKED_AT + 10_060),
        (2, BLOCKED_AT + 10_060),
    ]


# --- probes below the trigger


def test_a_probe_is_read_as_it_was_added(ledger: Ledger) -> None:
    listed = PROBE._replace(at=PROBE.at + 1, kind="syn", listed=True, target="2001:2::1 tcp/22")
    ledger.add([], [PROBE, listed])
    assert ledger.probes(0) == [PROBE, listed]


def test_probes_since_a_time_are_read(ledger: Ledger) -> None:
    probes = [PROBE._replace(at=BLOCKED_AT + n) for n in range(5)]
    ledger.add([], probes)
    assert ledger.probes(BLOCKED_AT + 2) == probes[2:]


def test_probes_before_a_block_are_not_evidence_after_it(ledger: Ledger) -> None:
    """A block settles the probes before it; probes after it are evidence again."""
    times = (BLOCKED_AT - 1, BLOCKED_AT, BLOCKED_AT + 1)
    ledger.add([BLOCK], [PROBE._replace(at=at, address=BLOCK.address) for at in times])
    ledger.add([], [PROBE._replace(address="198.18.0.77", at=BLOCKED_AT - 1)])
    assert [(s.address, s.at) for s in ledger.probes(0)] == [
        (BLOCK.address, BLOCKED_AT + 1),
        ("198.18.0.77", BLOCKED_AT - 1),
    ]


def test_probes_before_a_refusal_stay_evidence(ledger: Ledger) -> None:
    probe = PROBE._replace(address=REFUSAL.address, at=BLOCKED_AT - 1)
    ledger.add([REFUSAL], [probe])
    assert ledger.probes(0) == [probe]


# --- protected


def test_a_protected_network_is_forgotten_after_a_month(ledger: Ledger) -> None:
    now = time.time()
    ledger.protect("198.18.0.7/32", "ssh peer", now - module.PROTECTED_S - 1)
    ledger.protect("198.18.0.8/32", "ssh peer", now - module.PROTECTED_S + 60)
    assert ledger.protected() == [("198.18.0.8/32", "ssh peer")]
    ledger.protect("198.18.0.7/32", "ssh peer", now)  # it ran install again
    assert len(ledger.protected()) == 2


def test_a_protected_network_is_kept_once_with_its_latest_reason(ledger: Ledger) -> None:
    ledger.protect("198.18.0.7/32", "ssh peer", time.time())
    ledger.protect("2001:2::7/128", "ssh peer", time.time() + 2.0)
    ledger.protect("198.18.0.7/32", "by hand", time.time() + 3.0)
    assert sorted(ledger.protected()) == [
        ("198.18.0.7/32", "by hand"),
        ("2001:2::7/128", "ssh peer"),
    ]


# --- trim

OVER = BLOCK._replace(blocked_at=1.0)


def test_trim_keeps_the_newest(ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", {"refusals": 3, "blocks": 5, "probes": 2})
    ledger.add(
        [entry._replace(targets=n) for n in range(1, 11) for entry in (OVER, REFUSAL)],
        [PROBE._replace(at=BLOCKED_AT + n) for n in range(1, 11)],
    )
    ledger.trim(time.time())
    assert [probe.at - BLOCKED_AT for probe in ledger.probes(0)] == [9, 10]
    assert _rows(path, "SELECT targets FROM refusals") == [(8,), (9,), (10,)]
    assert _rows(path, "SELECT targets FROM blocks") == [(6,), (7,), (8,), (9,), (10,)]


def test_trim_keeps_every_active_block(
    ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a reboot would lose the oldest of a million blocks."""
    monkeypatch.setattr(module, "MAX_ROWS", {"blocks": 2})
    alive = BLOCK._replace(blocked_at=time.time(), timeout_s=3600.0)
    lasting = BLOCK._replace(timeout_s=0.0)
    unblocked = alive._replace(address="198.51.100.9")
    ledger.add([alive, OVER, lasting, unblocked, OVER, OVER])
    ledger.unblocked(unblocked.address, time.time())
    ledger.trim(time.time())
    assert _rows(path, "SELECT id FROM blocks") == [(1,), (3,), (5,), (6,)]


def test_trim_of_a_young_ledger_removes_nothing(ledger: Ledger, path: Path) -> None:
    ledger.trim(time.time())
    ledger.add([BLOCK, REFUSAL])
    ledger.trim(time.time())
    assert _rows(path, "SELECT count(*) FROM blocks") == [(1,)]
    assert _rows(path, "SELECT count(*) FROM refusals") == [(1,)]


def test_trim_keeps_the_ledger_below_its_size(ledger: Ledger) -> None:
    """The newest rows stay, and every active block, whose rows do not count."""
    alive = BLOCK._replace(blocked_at=BLOCKED_AT, reason="x" * 200)
    for number in range(20):
        ledger.add(
            [alive._replace(address=f"198.18.{number}.{n}") for n in range(50)],
            [PROBE._replace(at=BLOCKED_AT + 1000 * number + n) for n in range(500)],
        )
        ledger.trim(BLOCKED_AT, 500_000)
    used = ledger.database.used_bytes()
    assert used <= 500_000 + 1000 * module.ACTIVE_BLOCK_BYTES
    [(blocks,)] = ledger.database.read("SELECT count(*) FROM blocks")
    assert blocks == 1000
    probes = ledger.probes(0)
    assert 0 < len(probes) < 10_000
    assert probes[-1].at == BLOCKED_AT + 19_499
    ledger.trim(BLOCKED_AT + 7200, 100_000)
    [(blocks,)] = ledger.database.read("SELECT count(*) FROM blocks")
    assert blocks < 1000, "those that have ended go"
    assert ledger.database.used_bytes() <= 100_000 or blocks == 0


def test_trim_of_active_blocks_alone_ends(ledger: Ledger) -> None:
    ledger.add([BLOCK._replace(address=f"198.18.0.{n}", sample=["x" * 5000]) for n in range(50)])
    ledger.trim(BLOCKED_AT, 0)
    assert ledger.database.read("SELECT count(*) FROM blocks") == [(50,)]


def test_names_are_read_in_batches(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ADDRESS_BATCH", 2)
    ledger.add_reactions([], [Named(name, f"{name}.example", BLOCKED_AT) for name in "ace"])
    assert ledger.hosts(list("abcde")) == {name: f"{name}.example" for name in "ace"}
    assert ledger.hosts([]) == {}


def test_a_batch_of_addresses_fits_into_one_query() -> None:
    connection = sqlite3.connect(":memory:")
    limit = connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
    connection.close()
    assert limit >= module.ADDRESS_BATCH


def test_an_error_of_sqlite_leaves_the_with_block_as_a_ledger_fault(path: Path) -> None:
    with pytest.raises(LedgerFault, match=f"{path}: no such table"), Ledger(path) as ledger:
        ledger.database.read("SELECT * FROM missing")


def test_a_ledger_in_memory_starts_empty_and_keeps_records() -> None:
    with Ledger(None) as ledger:
        ledger.add([BLOCK])
        assert ledger.latest_blocks([BLOCK.address]) == {BLOCK.address: BLOCK}
    with Ledger(None) as ledger:
        assert ledger.latest_blocks([BLOCK.address]) == {}
