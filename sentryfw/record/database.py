"""The ledger's SQLite database: its schema, its transactions, and the access of record/ to it.

The database is in WAL mode, so that readers and one writer do not wait for each other. SQL is
written in the modules of this folder only.
"""

import contextlib
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from sentryfw.errors import LedgerFault
from sentryfw.host.account import acting_as_owner
from sentryfw.host.private_files import make_private, private_directory

MAX_LOG_BYTES: Final = 4 << 20
"""Bytes that the write-ahead log keeps on the disk once its pages are in the database."""
LOCK_TIMEOUT_S: Final = 5.0
"""Seconds to wait for the lock of another program."""
_RETRY_INTERVAL_S: Final = 0.01
_FETCH_BATCH: Final = 250
"""Rows fetched in one call, with Python's lock held most of the time: half a millisecond."""

MIGRATIONS: Final = (
    """
    CREATE TABLE blocks (
        id INTEGER PRIMARY KEY,
        address TEXT NOT NULL, family INTEGER NOT NULL, scan TEXT NOT NULL, kinds TEXT NOT NULL,
        targets INTEGER NOT NULL, probes INTEGER NOT NULL, first_seen REAL NOT NULL,
        blocked_at REAL NOT NULL, timeout_s REAL NOT NULL, offence INTEGER NOT NULL,
        forgeable INTEGER NOT NULL, tool TEXT NOT NULL, reason TEXT NOT NULL,
        sample TEXT NOT NULL, unblocked_at REAL
    ) STRICT;
    CREATE INDEX blocks_by_address ON blocks (address, id);
    CREATE TABLE refusals (
        id INTEGER PRIMARY KEY,
        address TEXT NOT NULL, at REAL NOT NULL, reason TEXT NOT NULL, scan TEXT NOT NULL,
        kinds TEXT NOT NULL, targets INTEGER NOT NULL, probes INTEGER NOT NULL,
        first_seen REAL NOT NULL, sample TEXT NOT NULL
    ) STRICT;
    CREATE INDEX refusals_by_address ON refusals (address, id);
    CREATE TABLE protected (
        network TEXT PRIMARY KEY, why TEXT NOT NULL, since REAL NOT NULL
    ) STRICT;
    """,
    """
    CREATE TABLE probes (
        id INTEGER PRIMARY KEY,
        address TEXT NOT NULL, at REAL NOT NULL, kind TEXT NOT NULL, listed INTEGER NOT NULL,
        target TEXT NOT NULL
    ) STRICT;
    CREATE INDEX probes_by_address ON probes (address, id);
    """,
    """
    CREATE TABLE traces (
        id INTEGER PRIMARY KEY,
        block INTEGER, refusal INTEGER,
        at REAL NOT NULL, kind TEXT NOT NULL, listed INTEGER NOT NULL, target TEXT NOT NULL
    ) STRICT;
    CREATE INDEX traces_by_block ON traces (block, id) WHERE block IS NOT NULL;
    CREATE INDEX traces_by_refusal ON traces (refusal, id) WHERE refusal IS NOT NULL;
    """,
    """
    ALTER TABLE blocks ADD COLUMN ends_at REAL;
    CREATE INDEX blocks_by_end ON blocks (COALESCE(ends_at, blocked_at + timeout_s))
        WHERE unblocked_at IS NULL;
    ALTER TABLE refusals ADD COLUMN tool TEXT NOT NULL DEFAULT ''
    """,
    """
    CREATE TABLE reactions (
        id INTEGER PRIMARY KEY,
        reaction TEXT NOT NULL, address TEXT NOT NULL, ok INTEGER NOT NULL, detail TEXT NOT NULL,
        at REAL NOT NULL, seconds REAL NOT NULL
    ) STRICT;
    CREATE INDEX reactions_by_address ON reactions (address, id);
    CREATE TABLE hosts (
        id INTEGER PRIMARY KEY,
        address TEXT NOT NULL UNIQUE, host TEXT NOT NULL, at REAL NOT NULL
    ) STRICT;
    """,
    """
    CREATE TABLE learnt (
        name TEXT NOT NULL, key BLOB NOT NULL, timeout_s REAL NOT NULL, ends_at REAL NOT NULL,
        PRIMARY KEY (name, key)
    ) STRICT, WITHOUT ROWID;
    ALTER TABLE refusals ADD COLUMN timeout_s REAL NOT NULL DEFAULT 0;
    ALTER TABLE refusals ADD COLUMN offence INTEGER NOT NULL DEFAULT 0
    """,
    """
    ALTER TABLE blocks ADD COLUMN dropped_packets INTEGER
    """,
    """
    CREATE TABLE fleet_outbox (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        op TEXT NOT NULL, address TEXT NOT NULL, duration_s REAL NOT NULL,
        forgeable INTEGER NOT NULL, scan TEXT NOT NULL, reason TEXT NOT NULL, at REAL NOT NULL
    ) STRICT;
    CREATE TABLE fleet_held (
        member TEXT NOT NULL, address TEXT NOT NULL, effect TEXT NOT NULL, evidence TEXT NOT NULL,
        scan TEXT NOT NULL, reason TEXT NOT NULL, seq INTEGER NOT NULL, at REAL NOT NULL,
        ends_at REAL,
        PRIMARY KEY (member, address)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX fleet_held_by_address ON fleet_held (address);
    CREATE TABLE fleet_members (
        member TEXT PRIMARY KEY, last_seq INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    ALTER TABLE blocks ADD COLUMN zone TEXT NOT NULL DEFAULT '';
    ALTER TABLE refusals ADD COLUMN zone TEXT NOT NULL DEFAULT '';
    ALTER TABLE probes ADD COLUMN zone TEXT NOT NULL DEFAULT ''
    """,
    """
    ALTER TABLE fleet_outbox ADD COLUMN elements TEXT NOT NULL DEFAULT '{}';
    CREATE TABLE fleet_mirrored (
        name TEXT NOT NULL, key BLOB NOT NULL, ends_at REAL NOT NULL,
        PRIMARY KEY (name, key)
    ) STRICT, WITHOUT ROWID
    """,
)
"""Scripts; each brings the schema from PRAGMA user_version = its index to the next version."""

Row = tuple[Any, ...]


class Database:
    """One connection, for one thread at a time.

    Opening raises LedgerFault if the database cannot be used; the methods raise sqlite3.Error.
    """

    def __init__(self, path: Path | None) -> None:
        """Open the database at `path`, or an empty one in memory (None)."""
        self._path = path
        if path is None:
            self._open(":memory:")
            return
        with acting_as_owner(path.parent):  # also while SQLite makes -wal and -shm
            private_directory(path.parent)
            make_private(path)  # with our mode, not SQLite's
            try:
                self._open(path)
            except sqlite3.Error as error:
                raise LedgerFault(f"{path}: {error}") from error

    def _open(self, path: Path | str) -> None:
        self._connection = sqlite3.connect(
            path, timeout=LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        """Switch to WAL mode and bring the schema up to date.

        Two programs may open a new ledger at the same time. The switch to WAL does not wait for
        the other program (sqlite.org/wal.html, section 2.1), so it is tried again.
        """
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute(f"PRAGMA journal_size_limit = {MAX_LOG_BYTES}")
        end = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                if self._version() != len(MIGRATIONS):
                    self._migrate()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
                time.sleep(_RETRY_INTERVAL_S)
            else:
                return

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    def _migrate(self) -> None:
        with self.transaction():
            version = self._version()  # another program may have been faster
            if version > len(MIGRATIONS):
                raise LedgerFault(
                    f"{self._path}: schema {version} belongs to a newer SentryFW; this version"
                    f" supports schema {len(MIGRATIONS)}"
                )
            for script in MIGRATIONS[version:]:
                for statement in script.split(";"):
                    self._connection.execute(statement)
            self._connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def close(self) -> None:
        """Close the connection. Closing again does nothing."""
        self._connection.close()

    @property
    def is_in_memory(self) -> bool:
        """Whether nothing is written to a disk."""
        return self._path is None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit at the end of the `with` block, or roll back if it raises."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:  # a full disk has ended it already
                self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let all reads in the `with` block see one state; writers do not wait for it."""
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("COMMIT")

    def read(self, query: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Return all rows of a query."""
        return self._connection.execute(query, parameters).fetchall()

    def iterate(self, query: str, parameters: Sequence[object] = ()) -> Iterator[Row]:
        """Yield the rows of a query, without holding all of them in memory."""
        rows = self._connection.execute(query, parameters)
        while batch := rows.fetchmany(_FETCH_BATCH):
            yield from batch

    def used_bytes(self) -> int:
        """Return the size of the pages that hold rows; the file keeps free pages for later."""
        [(pages, free, size)] = self.read(
            "SELECT * FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
        )
        return int((pages - free) * size)

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> int:
        """Run a statement; return the number of rows that it changed."""
        return self._connection.execute(statement, parameters).rowcount

    def insert(self, statement: str, parameters: Sequence[object]) -> int:
        """Insert one row; return its id."""
        return self._connection.execute(statement, parameters).lastrowid or 0

    def insert_all(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        """Insert many rows. Rows before one that fails stay in the transaction."""
        self._connection.executemany(statement, rows)
