"""The ledger: what is written is read, and what cannot be used is said."""

import multiprocessing
import resource
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from sentryfw.errors import SentryError
from sentryfw.record import ledger as module
from sentryfw.record import lives
from sentryfw.record.ledger import MIGRATIONS, Ledger
from support.entries import BLOCK, BLOCKED_AT, REFUSAL, SIGHT, SIX

OPEN_AND_CLOSE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
for row in connection.execute("SELECT address FROM blocks ORDER BY id"):
    print(*row)
connection.close()
"""


def _rows(path: Path, query: str) -> list[tuple[object, ...]]:
    """What another program reads out of the file."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


@contextmanager
def _file_size_limit(size: int) -> Iterator[None]:
    """A disk that is full for this process: no file grows beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# --- blocks


def test_the_latest_block_of_an_address_is_read_as_it_was_added(ledger: Ledger) -> None:
    second = BLOCK._replace(offence=2, timeout_s=7200.0, kinds=["null"])
    ledger.add([BLOCK, SIX, second])
    assert ledger.latest_blocks([BLOCK.address, SIX.address, "198.18.0.99"]) == {
        BLOCK.address: second,
        SIX.address: SIX,
    }


def test_a_refusal_is_no_block(ledger: Ledger, path: Path) -> None:
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


def test_entries_outlast_the_connection(path: Path) -> None:
    with Ledger(path) as first:
        first.add([BLOCK])
        first.protect("198.18.0.7/32", "ssh peer", 1.0)
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


def test_a_block_that_ran_out_before_is_not_marked_as_unblocked(ledger: Ledger, path: Path) -> None:
    """It ended by itself; only the one that is alive ends now."""
    alive = BLOCK._replace(blocked_at=BLOCKED_AT + 10_000, offence=2)
    for_ever = BLOCK._replace(timeout_s=0.0, offence=0)
    ledger.add([BLOCK, for_ever, alive])
    ledger.unblocked(BLOCK.address, BLOCKED_AT + 10_060)
    assert _rows(path, "SELECT offence, unblocked_at FROM blocks ORDER BY id") == [
        (1, None),
        (0, BLOCKED_AT + 10_060),
        (2, BLOCKED_AT + 10_060),
    ]


# --- probes below the trigger


def test_a_sight_is_read_as_it_was_added(ledger: Ledger) -> None:
    listed = SIGHT._replace(at=SIGHT.at + 1, kind="syn", listed=True, target="2001:2::1 tcp/22")
    ledger.add([], [SIGHT, listed])
    assert ledger.sights(0) == [SIGHT, listed]


def test_sights_are_of_a_time_on(ledger: Ledger) -> None:
    sights = [SIGHT._replace(at=BLOCKED_AT + n) for n in range(5)]
    ledger.add([], sights)
    assert ledger.sights(BLOCKED_AT + 2) == sights[2:]


def test_what_led_to_a_block_is_no_evidence_any_more(ledger: Ledger) -> None:
    """A block settles what came before it; what comes after it is evidence anew."""
    times = (BLOCKED_AT - 1, BLOCKED_AT, BLOCKED_AT + 1)
    ledger.add([BLOCK], [SIGHT._replace(at=at, address=BLOCK.address) for at in times])
    ledger.add([], [SIGHT._replace(address="198.18.0.77", at=BLOCKED_AT - 1)])
    assert [(s.address, s.at) for s in ledger.sights(0)] == [
        (BLOCK.address, BLOCKED_AT + 1),
        ("198.18.0.77", BLOCKED_AT - 1),
    ]


def test_a_refusal_leaves_evidence_where_it_is(ledger: Ledger) -> None:
    sight = SIGHT._replace(address=REFUSAL.address, at=BLOCKED_AT - 1)
    ledger.add([REFUSAL], [sight])
    assert ledger.sights(0) == [sight]


def test_a_ledger_of_the_schema_before_keeps_its_blocks_and_gets_probes(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        for statement in MIGRATIONS[0].split(";"):
            connection.execute(statement)
        connection.execute("PRAGMA user_version = 1")
    with closing(sqlite3.connect(path)) as connection, connection:
        row = (BLOCK.address, 4, "portscan", "[]", 3, 5, 1.0, 2.0, 3.0, 7, 1, "", "", "[]")
        connection.execute(
            f"INSERT INTO blocks ({module._BLOCK_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            row,
        )
    with Ledger(path) as ledger:
        ledger.add([], [SIGHT])
        assert ledger.sights(0) == [SIGHT]
        assert ledger.offences(100) == {BLOCK.address: 7}


# --- protected


def test_a_protected_network_is_kept_once_with_its_latest_reason(ledger: Ledger) -> None:
    ledger.protect("198.18.0.7/32", "ssh peer", 1.0)
    ledger.protect("2001:2::7/128", "ssh peer", 2.0)
    ledger.protect("198.18.0.7/32", "by hand", 3.0)
    assert sorted(ledger.protected()) == [
        ("198.18.0.7/32", "by hand"),
        ("2001:2::7/128", "ssh peer"),
    ]


# --- trim

OVER = BLOCK._replace(blocked_at=1.0)


def test_trim_keeps_the_newest(ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEEP", {"refusals": 3, "blocks": 5, "probes": 2})
    ledger.add(
        [entry._replace(targets=n) for n in range(1, 11) for entry in (OVER, REFUSAL)],
        [SIGHT._replace(at=BLOCKED_AT + n) for n in range(1, 11)],
    )
    ledger.trim()
    assert [sight.at - BLOCKED_AT for sight in ledger.sights(0)] == [9, 10]
    assert _rows(path, "SELECT targets FROM refusals") == [(8,), (9,), (10,)]
    assert _rows(path, "SELECT targets FROM blocks") == [(6,), (7,), (8,), (9,), (10,)]


def test_trim_keeps_every_block_that_is_alive(
    ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a reboot would lose the oldest of a million."""
    monkeypatch.setattr(module, "_KEEP", {"blocks": 2})
    alive = BLOCK._replace(blocked_at=time.time(), timeout_s=3600.0)
    lasting = BLOCK._replace(timeout_s=0.0)
    unblocked = alive._replace(address="198.51.100.9")
    ledger.add([alive, OVER, lasting, unblocked, OVER, OVER])
    ledger.unblocked(unblocked.address, time.time())
    ledger.trim()
    assert _rows(path, "SELECT id FROM blocks") == [(1,), (3,), (5,), (6,)]


def test_trim_of_a_young_ledger_removes_nothing(ledger: Ledger, path: Path) -> None:
    ledger.trim()
    ledger.add([BLOCK, REFUSAL])
    ledger.trim()
    assert _rows(path, "SELECT count(*) FROM blocks") == [(1,)]
    assert _rows(path, "SELECT count(*) FROM refusals") == [(1,)]


# --- the file


def test_a_ledger_of_a_newer_schema_is_refused_and_unchanged(path: Path) -> None:
    Ledger(path).close()
    newer = len(MIGRATIONS) + 1
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {newer}")
    with pytest.raises(SentryError, match=f"schema {newer} is of a newer SentryFW"):
        Ledger(path)
    assert _rows(path, "PRAGMA user_version") == [(newer,)]


@pytest.mark.parametrize("opened", [1, 2], ids=["fresh", "again"])
def test_the_schema_is_the_newest_after_opening(path: Path, opened: int) -> None:
    for _ in range(opened):
        Ledger(path).close()
    assert _rows(path, "PRAGMA user_version") == [(len(MIGRATIONS),)]
    assert _rows(path, "PRAGMA journal_mode") == [("wal",)]


def test_a_file_that_is_no_database_is_said_with_its_path(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database, but longer than its header" * 100)
    with pytest.raises(SentryError, match=f"{path}: file is not a database"):
        Ledger(path)
    assert path.read_bytes().startswith(b"no database")


def test_a_file_that_lost_its_pages_is_said_with_its_path(path: Path) -> None:
    with Ledger(path) as made:
        made.add([BLOCK])
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 4000)
    with pytest.raises(SentryError, match=f"{path}: .*malformed"):
        Ledger(path)


def test_the_file_and_its_journal_are_for_the_owner_and_group(ledger: Ledger, path: Path) -> None:
    ledger.add([BLOCK])
    modes = {file.name: f"{file.stat().st_mode & 0o777:o}" for file in path.parent.iterdir()}
    assert modes == {"ledger.db": "640", "ledger.db-wal": "640", "ledger.db-shm": "640"}
    assert path.parent.stat().st_mode & 0o777 == 0o750


# --- two connections


def test_two_connections_write_and_read_one_ledger(path: Path) -> None:
    with Ledger(path) as daemon, Ledger(path) as cli:
        daemon.add([BLOCK])
        assert cli.latest_blocks([BLOCK.address]) == {BLOCK.address: BLOCK}
        cli.add([SIX])
        cli.unblocked(BLOCK.address, BLOCKED_AT + 1)
        daemon.add([BLOCK._replace(offence=2)])
        assert cli.offences(100) == {BLOCK.address: 2, SIX.address: 1}


def test_a_reader_is_not_kept_waiting_by_a_writer(path: Path) -> None:
    with Ledger(path) as daemon, Ledger(path) as cli:
        daemon.add([BLOCK])
        with daemon.transaction():
            daemon._add_block(SIX)
            assert set(cli.latest_blocks([BLOCK.address, SIX.address])) == {BLOCK.address}


def test_a_writer_waits_for_another(path: Path) -> None:
    with Ledger(path) as daemon, Ledger(path) as cli:
        begun = threading.Event()

        def write() -> None:
            begun.set()
            cli.add([SIX])

        thread = threading.Thread(target=write)
        with daemon.transaction():
            thread.start()
            begun.wait(5)
            daemon._add_block(BLOCK)
        thread.join(10)
        assert set(daemon.latest_blocks([BLOCK.address, SIX.address])) == {
            BLOCK.address,
            SIX.address,
        }


@pytest.mark.parametrize("attempt", range(5))
def test_a_fresh_ledger_may_be_opened_by_many_programs_at_once(path: Path, attempt: int) -> None:
    """As by the daemon and the CLI right after installation; several attempts at a race."""
    start = multiprocessing.Barrier(8)

    def open_it() -> None:
        start.wait(10)
        Ledger(path).close()

    programs = [multiprocessing.Process(target=open_it) for _ in range(8)]
    for program in programs:
        program.start()
    for program in programs:
        program.join(30)
    assert [program.exitcode for program in programs] == [0] * 8


# --- a full disk


def test_the_ledger_takes_entries_again_after_the_disk_was_full(ledger: Ledger, path: Path) -> None:
    ledger.add([BLOCK])
    journal = path.with_name("ledger.db-wal")
    with _file_size_limit(journal.stat().st_size + 100), pytest.raises(sqlite3.Error):
        ledger.add([SIX])
    assert ledger.latest_blocks([SIX.address]) == {}
    ledger.add([SIX])
    assert ledger.latest_blocks([SIX.address]) == {SIX.address: SIX}


# --- several connections


def test_what_is_written_after_others_came_and_went_is_on_the_disk(path: Path) -> None:
    """A second connection in the same process, then another program, which must not believe it
    is the last one: it would take the log away that the first one still writes to."""
    with Ledger(path) as ours:
        ours.add([BLOCK])
        Ledger(path).close()
        subprocess.run([sys.executable, "-c", OPEN_AND_CLOSE, path], check=True)
        ours.add([SIX])
        found = subprocess.run(
            [sys.executable, "-c", OPEN_AND_CLOSE, path], check=True, capture_output=True, text=True
        )
    assert found.stdout.split() == [BLOCK.address, SIX.address]


def test_blocks_that_ended_by_themselves_are_counted(ledger: Ledger) -> None:
    ended = [BLOCK._replace(blocked_at=at, timeout_s=10.0) for at in (85.0, 95.0, 105.0)]
    unblocked = BLOCK._replace(address="198.51.100.9", blocked_at=95.0, timeout_s=10.0)
    ledger.add([*ended, unblocked, BLOCK._replace(blocked_at=95.0, timeout_s=0.0)])
    ledger.unblocked(unblocked.address, 97.0)
    assert lives.ended(ledger, 100.0, 110.0) == 1
    assert lives.ended(ledger, 90.0, 110.0) == 2
