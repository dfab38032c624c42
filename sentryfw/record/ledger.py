"""The ledger: why each block was made, and until when. SQLite in WAL mode.

The kernel's sets are the truth about what is blocked now; this is the truth about why. The
daemon writes through one thread (recorder.py); the CLI reads, and writes what it did by hand.
"""

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Self

from sentryfw.account import acting_as_owner
from sentryfw.errors import SentryError
from sentryfw.record.entry import Entry, Named, Reaction, Sight
from sentryfw.record.files import make_private, private_directory

KEEP_REFUSALS: Final = 10_000
KEEP_BLOCKS: Final = 1_000_000
KEEP_PROBES: Final = 200_000
KEEP_REACTIONS: Final = 200_000
KEEP_HOSTS: Final = 100_000
KEEP_TRACES: Final = 500_000
"""Probes that blocks and refusals rest on."""
BUSY_SECONDS: Final = 5.0

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
)
"""Each brings the schema from PRAGMA user_version = its index to the next."""

_KEEP: Final = {
    "refusals": KEEP_REFUSALS, "blocks": KEEP_BLOCKS, "probes": KEEP_PROBES,
    "reactions": KEEP_REACTIONS, "hosts": KEEP_HOSTS, "traces": KEEP_TRACES,
}  # fmt: skip
_BLOCK_COLUMNS: Final = (
    "address, family, scan, kinds, targets, probes, first_seen, blocked_at, timeout_s, offence,"
    " forgeable, tool, reason, sample"
)
_ALIVE: Final = (
    "unblocked_at IS NULL AND (timeout_s = 0 OR COALESCE(ends_at, blocked_at + timeout_s) > ?)"
)


class LedgerFault(SentryError):
    """The database cannot be used: it is damaged, locked, of a newer schema, its disk is full."""


class Ledger:
    """One connection, one thread. LedgerFault where the database cannot be used; from the methods
    of one that stays open a sqlite3.Error, which leaving its `with` makes a LedgerFault too."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with acting_as_owner(path.parent):  # also while SQLite makes -wal and -shm
            private_directory(path.parent)
            make_private(path)  # with our mode, not SQLite's
            self._open()

    def _open(self) -> None:
        try:
            self._connection = sqlite3.connect(
                self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise
        except sqlite3.Error as error:
            raise LedgerFault(f"{self._path}: {error}") from error

    fault: str = ""
    """What is wrong with the disk, where that is lived with (lasting.py)."""

    def retry(self) -> None:
        """Try the disk again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self.close()
        if isinstance(error, sqlite3.Error):
            raise LedgerFault(f"{self._path}: {error}") from error

    def close(self) -> None:
        self._connection.close()

    def _prepare(self) -> None:
        """WAL and the schema. Two programs may open a new ledger at once: the switch to WAL does
        not wait for the other (sqlite.org/wal.html, section 2.1), so it is tried again."""
        self._connection.execute("PRAGMA synchronous = NORMAL")
        end = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                if self._version() != len(MIGRATIONS):
                    self._migrate()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
                time.sleep(0.01)
            else:
                return

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    def _migrate(self) -> None:
        with self.transaction():
            version = self._version()  # another program may have been faster
            if version > len(MIGRATIONS):
                raise LedgerFault(
                    f"{self._path}: schema {version} is of a newer SentryFW; this one knows"
                    f" {len(MIGRATIONS)}"
                )
            for script in MIGRATIONS[version:]:
                for statement in script.split(";"):
                    self._connection.execute(statement)
            self._connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:  # a full disk has ended it already
                self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def add(self, entries: Iterable[Entry], sights: Iterable[Sight] = ()) -> None:
        """All of it in one transaction. sqlite3.Error if it cannot be written."""
        with self.transaction():
            self._connection.executemany(
                "INSERT INTO probes (address, at, kind, listed, target) VALUES (?,?,?,?,?)", sights
            )
            for entry in entries:
                if entry.blocked:
                    self._add_trace("block", self._add_block(entry), entry)
                else:
                    self._add_trace("refusal", self._add_refusal(entry), entry)

    def _add_trace(self, column: str, row: int | None, entry: Entry) -> None:
        self._connection.executemany(
            f"INSERT INTO traces ({column}, at, kind, listed, target) VALUES (?,?,?,?,?)",
            ((row, *seen) for seen in entry.trace),
        )

    def _add_block(self, entry: Entry) -> int | None:
        row = entry._replace(kinds=json.dumps(entry.kinds), sample=json.dumps(entry.sample))  # type: ignore[arg-type]
        return self._connection.execute(
            f"INSERT INTO blocks ({_BLOCK_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)", row[:14]
        ).lastrowid

    def _add_refusal(self, entry: Entry) -> int | None:
        return self._connection.execute(
            "INSERT INTO refusals (address, at, reason, scan, kinds, targets, probes, first_seen,"
            " sample, tool) VALUES (?,?,?,?,?,?,?,?,?,?)",
            (
                entry.address, entry.blocked_at, entry.reason, entry.scan,
                json.dumps(entry.kinds), entry.targets, entry.probes, entry.first_seen,
                json.dumps(entry.sample), entry.tool,
            ),
        ).lastrowid  # fmt: skip

    def trim(self) -> None:
        """Keep the newest rows only, and every block that is alive: it is to outlast a reboot."""
        for table, keep in _KEEP.items():
            over = f" AND NOT ({_ALIVE})" if table == "blocks" else ""
            self._connection.execute(
                f"DELETE FROM {table} WHERE id <= (SELECT MAX(id) FROM {table}) - ?{over}",
                (keep, time.time()) if over else (keep,),
            )

    def unblocked(self, address: str | None, now: float) -> None:
        """The block of an address (None: all) ended before its time."""
        where = _ALIVE + ("" if address is None else " AND address = ?")
        self._connection.execute(
            f"UPDATE blocks SET unblocked_at = ? WHERE {where}",
            (now, now) if address is None else (now, now, address),
        )

    def latest_blocks(self, addresses: Iterable[str]) -> dict[str, Entry]:
        """The newest block of each address."""
        found = {}
        query = f"SELECT {_BLOCK_COLUMNS} FROM blocks WHERE address = ? ORDER BY id DESC LIMIT 1"
        for address in addresses:
            row = self._connection.execute(query, (address,)).fetchone()
            if row is not None:
                found[address] = _entry(row)
        return found

    def sights(self, since: float) -> list[Sight]:
        """Probes below the trigger since then, oldest first, of sources not blocked after."""
        query = (
            "SELECT address, at, kind, listed, target FROM probes WHERE at >= ? AND NOT EXISTS"
            " (SELECT 1 FROM blocks WHERE blocks.address = probes.address"
            " AND blocks.blocked_at >= probes.at) ORDER BY id"
        )
        rows = self._connection.execute(query, (since,)).fetchall()
        return [Sight(row[0], row[1], row[2], bool(row[3]), row[4]) for row in rows]

    def cursor(self, query: str, parameters: tuple[object, ...]) -> sqlite3.Cursor:
        """For lives.py."""
        return self._connection.execute(query, parameters)

    def read(self, query: str, parameters: tuple[object, ...]) -> list[tuple[Any, ...]]:
        """For history.py."""
        return self._connection.execute(query, parameters).fetchall()

    def offences(self, newest: int) -> dict[str, int]:
        """How often each address was blocked by the engine, by so many of the newest blocks; the
        newest one comes last."""
        query = "SELECT address, offence FROM blocks WHERE offence > 0 ORDER BY id DESC LIMIT ?"
        found: dict[str, int] = {}
        for address, offence in self._connection.execute(query, (newest,)):
            found[address] = max(offence, found.get(address, 0))
        return dict(reversed(found.items()))

    def add_reactions(self, reactions: Iterable[Reaction], names: Iterable[Named]) -> None:
        """All of it in one transaction. sqlite3.Error if it cannot be written."""
        with self.transaction():
            self._connection.executemany(
                "INSERT INTO reactions (reaction, address, ok, detail, at, seconds)"
                " VALUES (?,?,?,?,?,?)", reactions,
            )  # fmt: skip
            self._connection.executemany(
                "INSERT OR REPLACE INTO hosts (address, host, at) VALUES (?,?,?)", names
            )

    def reactions(self, address: str, newest: int = 1000) -> list[Reaction]:
        """What became of the reactions to an address, oldest first."""
        query = (
            "SELECT reaction, address, ok, detail, at, seconds FROM reactions WHERE address = ?"
            " ORDER BY id DESC LIMIT ?"
        )
        rows = self._connection.execute(query, (address, newest)).fetchall()
        return [Reaction(*row)._replace(ok=bool(row[2])) for row in reversed(rows)]

    def hosts(self, addresses: Iterable[str]) -> dict[str, str]:
        """The names that are known."""
        found = {}
        for address in addresses:
            query = "SELECT host FROM hosts WHERE address = ?"
            row = self._connection.execute(query, (address,)).fetchone()
            if row is not None:
                found[address] = str(row[0])
        return found

    def protect(self, network: str, why: str, now: float) -> None:
        """Remember a network that is never to be blocked."""
        self._connection.execute(
            "INSERT OR REPLACE INTO protected (network, why, since) VALUES (?,?,?)",
            (network, why, now),
        )

    def protected(self) -> list[tuple[str, str]]:
        return self._connection.execute("SELECT network, why FROM protected").fetchall()


def _entry(row: tuple[object, ...]) -> Entry:
    entry = Entry(*row, True)  # type: ignore[arg-type,call-arg]
    return entry._replace(
        kinds=json.loads(str(entry.kinds)),
        sample=json.loads(str(entry.sample)),
        forgeable=bool(entry.forgeable),
    )
