"""The database of the ledger: its file, its schema, and several connections to it."""

import multiprocessing
import resource
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from sentryfw.errors import SentryError
from sentryfw.record.database import MIGRATIONS, Database
from sentryfw.record.ledger import Ledger
from sentryfw.record.rows import BLOCK_COLUMNS
from support.entries import BLOCK, BLOCKED_AT, PROBE, SIX

OPEN_AND_CLOSE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
for row in connection.execute("SELECT address FROM blocks ORDER BY id"):
    print(*row)
connection.close()
"""


def _rows(path: Path, query: str) -> list[tuple[object, ...]]:
    """Return rows as another program reads them from the file."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


@contextmanager
def _file_size_limit(size: int) -> Iterator[None]:
    """Limit the size of files in bytes: the disk is full for this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_ledger_of_the_first_schema_keeps_its_blocks_and_gets_probes(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        for statement in MIGRATIONS[0].split(";"):
            connection.execute(statement)
        connection.execute("PRAGMA user_version = 1")
    with closing(sqlite3.connect(path)) as connection, connection:
        row = (BLOCK.address, 4, "portscan", "[]", 3, 5, 1.0, 2.0, 3.0, 7, 1, "", "", "[]")
        connection.execute(
            f"INSERT INTO blocks ({BLOCK_COLUMNS.removesuffix(', zone')})"
            " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            row,
        )
    with Ledger(path) as ledger:
        ledger.add([], [PROBE])
        assert ledger.probes(0) == [PROBE]
        assert ledger.offences(100) == {BLOCK.address: 7}


def test_a_ledger_of_a_newer_schema_is_refused_and_unchanged(path: Path) -> None:
    Ledger(path).close()
    newer = len(MIGRATIONS) + 1
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {newer}")
    with pytest.raises(SentryError, match=f"schema {newer} belongs to a newer SentryFW"):
        Ledger(path)
    assert _rows(path, "PRAGMA user_version") == [(newer,)]


@pytest.mark.parametrize("opened", [1, 2], ids=["fresh", "again"])
def test_the_schema_is_the_newest_after_opening(path: Path, opened: int) -> None:
    for _ in range(opened):
        Ledger(path).close()
    assert _rows(path, "PRAGMA user_version") == [(len(MIGRATIONS),)]
    assert _rows(path, "PRAGMA journal_mode") == [("wal",)]


def test_a_file_that_is_not_a_database_is_reported_with_its_path(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database, but longer than its header" * 100)
    with pytest.raises(SentryError, match=f"{path}: file is not a database"):
        Ledger(path)
    assert path.read_bytes().startswith(b"no database")


def test_a_file_with_damaged_pages_is_reported_with_its_path(path: Path) -> None:
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


def test_a_reader_does_not_wait_for_a_writer(path: Path) -> None:
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
def test_many_programs_can_open_a_new_ledger_at_once(path: Path, attempt: int) -> None:
    """The daemon and the command line do so right after installation; five attempts at a race."""
    context = multiprocessing.get_context("fork")  # not by name, as Python 3.14 does
    start = context.Barrier(8)

    def open_it() -> None:
        start.wait(10)
        Ledger(path).close()

    programs = [context.Process(target=open_it) for _ in range(8)]
    for program in programs:
        program.start()
    for program in programs:
        program.join(30)
    assert [program.exitcode for program in programs] == [0] * 8


# --- a full disk


def test_the_ledger_accepts_records_after_the_disk_was_full(ledger: Ledger, path: Path) -> None:
    ledger.add([BLOCK])
    journal = path.with_name("ledger.db-wal")
    with _file_size_limit(journal.stat().st_size + 100), pytest.raises(sqlite3.Error):
        ledger.add([SIX])
    assert ledger.latest_blocks([SIX.address]) == {}
    ledger.add([SIX])
    assert ledger.latest_blocks([SIX.address]) == {SIX.address: SIX}


# --- several connections


def test_writes_reach_the_disk_after_other_connections_closed(path: Path) -> None:
    """A second connection in the same process, then another program. That program must not believe
    that it is the last one: it would delete the log that the first one still writes to."""
    with Ledger(path) as ours:
        ours.add([BLOCK])
        Ledger(path).close()
        subprocess.run([sys.executable, "-I", "-c", OPEN_AND_CLOSE, path], check=True)
        ours.add([SIX])
        found = subprocess.run(
            [sys.executable, "-I", "-c", OPEN_AND_CLOSE, path],
            check=True,
            capture_output=True,
            text=True,
        )
    assert found.stdout.split() == [BLOCK.address, SIX.address]


# --- access


def test_a_transaction_that_raises_is_rolled_back() -> None:
    database = Database(None)
    insert = "INSERT INTO hosts (address, host, at) VALUES (?, 'x.example', 1.0)"
    with pytest.raises(sqlite3.IntegrityError), database.transaction():
        database.insert_all(insert, [("a",), ("b",), ("a",)])
    assert database.read("SELECT * FROM hosts") == []
    database.close()


def test_rows_come_one_by_one_with_ids_and_counts() -> None:
    database = Database(None)
    insert = "INSERT INTO hosts (address, host, at) VALUES (?, 'x.example', 1.0)"
    assert database.insert(insert, ("a",)) == 1
    database.insert_all(insert, [(str(number),) for number in range(999)])
    assert len(list(database.iterate("SELECT address FROM hosts"))) == 1000
    assert database.execute("DELETE FROM hosts WHERE id > ?", (10,)) == 990
    assert database.is_in_memory
    database.close()


def test_a_snapshot_sees_one_state(path: Path) -> None:
    with Ledger(path) as reader, Ledger(path) as writer:
        with reader.database.snapshot():
            assert reader.database.read("SELECT COUNT(*) FROM blocks") == [(0,)]
            writer.add([BLOCK])
            assert reader.database.read("SELECT COUNT(*) FROM blocks") == [(0,)]
        assert reader.database.read("SELECT COUNT(*) FROM blocks") == [(1,)]
