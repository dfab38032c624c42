"""Records that last: whatever happens to the disk, the daemon starts, and goes on.

A corrupt ledger is moved aside; where the disk takes nothing, memory stands in, bounded, and is
written out when the disk is well again. Events have no memory: they are counted as lost.
"""

import errno
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from sentryfw.errors import SentryError
from sentryfw.record.entry import Entry, Named, Reaction, Sight
from sentryfw.record.events import EventFile
from sentryfw.record.ledger import Ledger

RETRY: Final = 3.0
"""Seconds before a ledger that failed is tried again."""
STANDING_IN: Final = 20_000
"""Blocks and refusals kept in memory while the disk takes none."""
SALVAGED: Final = 1_000_000
CHECKED: Final = 256 << 20
"""Bytes of a ledger that are looked at in whole before it is trusted: a second's work."""
KEPT: Final = ("blocks", "refusals", "probes", "reactions", "hosts")
"""Tables that memory keeps, with `id` for their key."""
TRACED: Final = ("blocks", "refusals")
BUSY_MILLISECONDS: Final = 2000
_CORRUPT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

log: Final = logging.getLogger("sentryfwd")


class LastingEventFile(EventFile):
    """An event file that may not open yet: tried again with every write."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: EventFile | None = None
        self.fault = ""
        with suppress(OSError):
            self._open()

    def write(self, events: list[dict[str, Any]]) -> None:
        """OSError when the disk does not take them."""
        try:
            (self._file or self._open()).write(events)
        except OSError as error:
            self.fault = str(error)
            raise
        self.fault = ""

    def _open(self) -> EventFile:
        try:
            self._file = EventFile(self._path)
        except SentryError as error:
            self.fault = str(error)
            cause = error.__cause__
            code = cause.errno if isinstance(cause, OSError) else None
            log.error("event file: %s; events are lost, blocking goes on", error)
            raise OSError(code or errno.EIO, str(error)) from error
        return self._file

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class LastingLedger(Ledger):
    """The daemon's ledger: whatever happens to the disk, the daemon starts and goes on.

    A corrupt database is moved aside; where the disk takes nothing, memory stands in, bounded,
    and is written out when the disk is well again.
    """

    def __init__(self, path: Path) -> None:
        self.fault = ""
        self.moved_aside: list[str] = []
        self.lost = 0
        """Blocks and refusals that memory had no room for."""
        self._real = path
        self._retry_at = 0.0
        self._salvaged: dict[str, int] = {}
        """The last number of each table that stands on the disk already."""
        self._starting = True
        try:
            self._reopen(path)
            self._check()
        except (SentryError, sqlite3.Error) as error:
            self._recover(error)
        self._starting = False

    def _check(self) -> None:
        """Look at every page, where that takes a moment and no more."""
        if self._real.stat().st_size <= CHECKED:
            [(said,), *_] = self._connection.execute("PRAGMA quick_check(1)").fetchall()
            if said != "ok":
                raise SentryError(f"{self._real}: {said}") from _Spoilt(said)

    def add(self, entries: Iterable[Entry], sights: Iterable[Sight] = ()) -> None:
        """Never raises for what is wrong with the disk."""
        kept, seen = list(entries), list(sights)
        self._lasting(lambda: super(LastingLedger, self).add(kept, seen), len(kept) + len(seen))

    def add_reactions(self, reactions: Iterable[Reaction], names: Iterable[Named] = ()) -> None:
        kept, seen = list(reactions), list(names)
        self._lasting(
            lambda: super(LastingLedger, self).add_reactions(kept, seen), len(kept) + len(seen)
        )

    def _lasting(self, write: Callable[[], None], count: int) -> None:
        self.retry()
        try:
            write()
        except sqlite3.Error as error:
            self._recover(error)
            try:
                write()
            except sqlite3.Error as again:
                self.lost += count
                log.error("ledger: %s; %d entries lost", again, self.lost)
        if self.fault:
            self._bound()

    def trim(self) -> None:
        with suppress(sqlite3.Error):
            super().trim()

    def retry(self) -> None:
        """Write out what memory kept, where the disk takes it again."""
        if not self.fault or time.monotonic() < self._retry_at:
            return
        self._retry_at = time.monotonic() + RETRY
        memory = self._connection
        try:
            self._reopen(self._real)
            self._check()
            _copy(memory, self._connection, self._salvaged)
        except (SentryError, sqlite3.Error) as error:
            if self._connection is not memory:
                self._connection.close()
            self._connection = memory
            self.fault = str(error)
            if _is_corrupt(error):
                self._rename(str(error))  # the next try begins anew
            return
        memory.close()
        log.warning("ledger: %s works again; what memory kept is written", self._real)
        self.fault = ""

    def _recover(self, error: Exception) -> None:
        """Move a corrupt database aside; else let memory stand in."""
        if _is_corrupt(error) and self._move_aside(str(error)):
            return
        if not self.fault:
            log.error("ledger: %s; memory stands in, blocking goes on", error)
        self.fault = str(error)
        self._retry_at = time.monotonic() + RETRY
        if not self._in_memory():
            self._to_memory()
            self._salvaged = _salvage(self._real, self._connection) if self._starting else {}

    def _move_aside(self, why: str) -> bool:
        with suppress(AttributeError, sqlite3.Error):
            self._connection.close()
        aside = self._rename(why)
        try:
            if aside is not None:
                self._reopen(self._real)
                _salvage(aside, self._connection)
                return True
        except SentryError as error:
            log.error("ledger: %s", error)
        self._to_memory()
        return False

    def _rename(self, why: str) -> Path | None:
        """Where a corrupt ledger is now; None if it cannot be moved."""
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        aside = self._real.with_name(f"{self._real.name}.corrupt-{stamp}")
        try:
            for end in ("", "-wal", "-shm"):
                file = Path(f"{self._real}{end}")
                if file.exists():
                    file.rename(f"{aside}{end}")
        except OSError as error:
            log.error("ledger: %s; it cannot be moved aside: %s", why, error)
            return None
        self.moved_aside.append(str(aside))
        log.error("ledger: %s; moved aside to %s, begun anew", why, aside)
        return aside

    def _reopen(self, path: Path) -> None:
        Ledger.__init__(self, path)
        self._connection.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")

    def _to_memory(self) -> None:
        with suppress(AttributeError, sqlite3.Error):
            self._connection.close()
        self._connection = sqlite3.connect(
            ":memory:", isolation_level=None, check_same_thread=False
        )
        self._prepare()

    def _in_memory(self) -> bool:
        try:
            [(_, _, file)] = self._connection.execute("PRAGMA database_list").fetchall()
        except (AttributeError, sqlite3.Error, ValueError):
            return False
        return not file

    def _bound(self) -> None:
        """The newest stay."""
        for table in KEPT:
            gone = self._connection.execute(
                f"DELETE FROM {table} WHERE id <= (SELECT MAX(id) FROM {table}) - ?",
                (STANDING_IN,),
            ).rowcount
            self.lost += gone if table in TRACED else 0


class _Spoilt(sqlite3.DatabaseError):
    """What PRAGMA quick_check found."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


def _is_corrupt(error: Exception) -> bool:
    cause = error if isinstance(error, sqlite3.Error) else error.__cause__
    if not isinstance(cause, sqlite3.DatabaseError):
        return False
    return getattr(cause, "sqlite_errorcode", 0) & 0xFF in _CORRUPT


def _salvage(path: Path, into: sqlite3.Connection) -> dict[str, int]:
    """What can still be read of a ledger that cannot be used: whom not to block, and the blocks
    until the first row that is broken; the last number of each table afterwards."""
    for mode in ("mode=ro", "immutable=1"):  # the second without locks and log
        try:
            with closing(sqlite3.connect(f"{path.as_uri()}?{mode}", uri=True)) as broken:
                broken.execute("SELECT count(*) FROM sqlite_master").fetchone()
                for table, keep in (("protected", STANDING_IN), ("blocks", SALVAGED)):
                    with suppress(sqlite3.Error):
                        _salvage_table(broken, into, table, keep)
                break
        except sqlite3.Error:
            continue
    [(last,)] = into.execute("SELECT COALESCE(MAX(id), 0) FROM blocks").fetchall()
    return {"blocks": last}


def _salvage_table(
    broken: sqlite3.Connection, into: sqlite3.Connection, table: str, keep: int
) -> None:
    there = [row[1] for row in broken.execute(f"PRAGMA table_info({table})")]
    ours = {row[1] for row in into.execute(f"PRAGMA table_info({table})")}
    names = [name for name in there if name in ours]
    if not names:
        return
    columns, marks = ", ".join(names), ", ".join("?" for _ in names)
    rows = broken.execute(f"SELECT {columns} FROM {table} ORDER BY rowid DESC LIMIT {keep}")
    into.execute("BEGIN IMMEDIATE")
    try:
        into.executemany(f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})", rows)
    finally:  # what was read before the broken row stays
        into.execute("COMMIT")


def _copy(memory: sqlite3.Connection, disk: sqlite3.Connection, after: dict[str, int]) -> None:
    """Blocks, refusals and probes; traces follow their rows' new numbers."""
    disk.execute("BEGIN IMMEDIATE")
    try:
        for table in KEPT:
            names = [row[1] for row in memory.execute(f"PRAGMA table_info({table})")]
            columns = ", ".join(name for name in names if name != "id")
            marks = ", ".join("?" for name in names if name != "id")
            rows = memory.execute(
                f"SELECT id, {columns} FROM {table} WHERE id > ? ORDER BY id",
                (after.get(table, 0),),
            )
            for row in rows:
                new = disk.execute(
                    f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({marks})", row[1:]
                ).lastrowid
                if table in TRACED:
                    _copy_traces(memory, disk, table[:-1], row[0], new)
    except BaseException:
        if disk.in_transaction:
            disk.execute("ROLLBACK")
        raise
    disk.execute("COMMIT")


def _copy_traces(
    memory: sqlite3.Connection, disk: sqlite3.Connection, column: str, old: int, new: int | None
) -> None:
    rows = memory.execute(
        f"SELECT at, kind, listed, target FROM traces WHERE {column} = ? ORDER BY id", (old,)
    )
    disk.executemany(
        f"INSERT INTO traces ({column}, at, kind, listed, target) VALUES (?,?,?,?,?)",
        ((new, *row) for row in rows),
    )
