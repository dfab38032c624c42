"""Records on a disk that may fail: the daemon starts and runs without it.

A corrupt ledger is moved aside and a new one created. While the disk accepts nothing, a bounded
ledger in memory replaces it, and is written out when the disk works again. Events are not kept in
memory: they are counted as lost.
"""

import errno
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from sentryfw.errors import SentryError
from sentryfw.record import ledger as ledger_module
from sentryfw.record.database import Database
from sentryfw.record.event_file import EventFile, EventLimits
from sentryfw.record.ledger import Ledger
from sentryfw.record.records import DecisionRecord, Named, ProbeRecord, Reaction
from sentryfw.record.salvage import COPIED, DECISIONS, copy, salvage

RETRY_INTERVAL_S: Final = 3.0
"""Seconds before a ledger that failed is tried again."""
MAX_ROWS_IN_MEMORY: Final = 20_000
"""Rows of each table that are kept in memory while the disk accepts none."""
MAX_CHECKED_BYTES: Final = 256 << 20
"""A ledger up to this size is checked in whole before it is used, which takes a second."""
LOCK_TIMEOUT_MS: Final = 2000
"""Milliseconds to wait for the lock of another program, once the ledger is open."""
_CORRUPT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

log: Final = logging.getLogger("sentryfwd")


class ResilientEventFile:
    """An event file that is opened again with every write while it cannot be opened."""

    def __init__(self, path: Path, limits: EventLimits | None = None) -> None:
        self._path = path
        self._limits = limits or EventLimits()
        self._file: EventFile | None = None
        self.fault = ""
        """Why events are being lost; empty while they are not."""
        with suppress(OSError):
            self._open()

    def write(self, events: list[dict[str, Any]]) -> None:
        """Append events. Raise OSError if the disk does not accept them."""
        try:
            (self._file or self._open()).write(events)
        except (OSError, SentryError) as error:
            self.fault = str(error)
            raise _as_os_error(error) from error
        self.fault = ""

    def _open(self) -> EventFile:
        try:
            self._file = EventFile(self._path, self._limits)
        except SentryError as error:
            self.fault = str(error)
            log.error("event file: %s; events are lost, blocking continues", error)
            raise _as_os_error(error) from error
        return self._file

    def use_limits(self, limits: EventLimits) -> None:
        """Use other bounds from the next write on."""
        self._limits = limits
        if self._file is not None:
            self._file.limits = limits

    def close(self) -> None:
        """Close the file, if it is open."""
        if self._file is not None:
            self._file.close()


def _as_os_error(error: OSError | SentryError) -> OSError:
    if isinstance(error, OSError):
        return error
    cause = error.__cause__
    code = cause.errno if isinstance(cause, OSError) else None
    return OSError(code or errno.EIO, str(error))


class ResilientLedger:
    """The daemon's ledger: a Ledger on the disk, or one in memory while the disk fails."""

    def __init__(self, path: Path) -> None:
        self.fault = ""
        """Why the ledger is in memory; empty while it is on the disk."""
        self.moved_aside: list[str] = []
        """Corrupt ledgers that were moved, by their new path."""
        self.max_bytes = ledger_module.MAX_BYTES
        self.lost = 0
        """Blocks and refusals for which memory had no room."""
        self.trimmed = 0
        """Rows that were removed because the ledger had reached its size."""
        self._path = path
        self._retry_at = 0.0
        self._on_disk: dict[str, int] = {}
        """The last id of each table in memory that is on the disk already."""
        try:
            self._ledger = self._open()
        except (SentryError, sqlite3.Error) as error:
            self._ledger = self._replacement(error)
            if self.fault and not _is_corrupt(error):
                self._on_disk = salvage(self._path, self._ledger.database)

    # --- reads

    @property
    def database(self) -> Database:
        """The database in use, for the modules of record/."""
        return self._ledger.database

    def protected(self) -> list[tuple[str, str]]:
        """Return (network, reason) of each recorded network that is never blocked."""
        return self._ledger.protected()

    def probes(self, since: float) -> list[ProbeRecord]:
        """Return the probes below the trigger since a time; see Ledger.probes()."""
        return self._ledger.probes(since)

    def offences(self, newest: int) -> dict[str, int]:
        """Return the offence count of each address; see Ledger.offences()."""
        return self._ledger.offences(newest)

    # --- writes

    def add(self, records: Iterable[DecisionRecord], probes: Iterable[ProbeRecord] = ()) -> None:
        """Add blocks, refusals and probes. Never raises for a fault of the disk."""
        kept, seen = list(records), list(probes)
        self._write(lambda ledger: ledger.add(kept, seen), len(kept) + len(seen))

    def add_reactions(self, reactions: Iterable[Reaction], names: Iterable[Named] = ()) -> None:
        """Add results of reactions and host names. Never raises for a fault of the disk."""
        kept, seen = list(reactions), list(names)
        self._write(lambda ledger: ledger.add_reactions(kept, seen), len(kept) + len(seen))

    def trim(self, now: float) -> None:
        """Remove the oldest rows, if the disk allows it."""
        with suppress(sqlite3.Error):
            self.trimmed += self._ledger.trim(now, self.max_bytes)

    def close(self) -> None:
        """Close the ledger in use."""
        self._ledger.close()

    def retry(self) -> None:
        """Write the records in memory to the disk, if it is time and the disk works again."""
        if not self.fault or time.monotonic() < self._retry_at:
            return
        self._retry_at = time.monotonic() + RETRY_INTERVAL_S
        try:
            disk = self._open()
            try:
                copy(self._ledger.database, disk.database, self._on_disk)
            except BaseException:
                disk.close()
                raise
        except (SentryError, sqlite3.Error) as error:
            self.fault = str(error)
            if _is_corrupt(error):
                self._move_aside(str(error))  # the next attempt begins with an empty ledger
            return
        self._ledger.close()
        self._ledger = disk
        log.warning("ledger: %s works again; the records in memory are written to it", self._path)
        self.fault = ""

    def _write(self, write: Callable[[Ledger], None], count: int) -> None:
        self.retry()
        try:
            write(self._ledger)
        except sqlite3.Error as error:
            self._ledger = self._replacement(error, self._ledger)
            try:
                write(self._ledger)
            except sqlite3.Error as again:
                self.lost += count
                log.error("ledger: %s; %d entries lost", again, self.lost)
        if self.fault:
            self._bound()

    # --- faults

    def _open(self) -> Ledger:
        """Open the ledger on the disk and check it."""
        ledger = Ledger(self._path)
        try:
            ledger.database.execute(f"PRAGMA busy_timeout = {LOCK_TIMEOUT_MS}")
            self._check(ledger)
        except BaseException:
            ledger.close()
            raise
        return ledger

    def _check(self, ledger: Ledger) -> None:
        """Check every page, if that takes only a moment. Raise SentryError if one is damaged."""
        if self._path.stat().st_size <= MAX_CHECKED_BYTES:
            [(result,), *_] = ledger.database.read("PRAGMA quick_check(1)")
            if result != "ok":
                raise SentryError(f"{self._path}: {result}") from _DamagedPages(result)

    def _replacement(self, error: Exception, failed: Ledger | None = None) -> Ledger:
        """Return the ledger to use instead: a new one after a corrupt one, else one in memory."""
        is_corrupt = _is_corrupt(error)
        if failed is not None and failed.database.is_in_memory and not is_corrupt:
            return failed
        if failed is not None:
            failed.close()
        if is_corrupt:
            fresh = self._begin_again(str(error))
            if fresh is not None:
                return fresh
        if not self.fault:
            log.error("ledger: %s; records are kept in memory, blocking continues", error)
        self.fault = str(error)
        self._retry_at = time.monotonic() + RETRY_INTERVAL_S
        self._on_disk = {}
        return Ledger(None)

    def _begin_again(self, why: str) -> Ledger | None:
        """Move a corrupt ledger aside and create a new one with what can be read of it."""
        aside = self._move_aside(why)
        if aside is None:
            return None
        try:
            fresh = Ledger(self._path)
        except SentryError as error:
            log.error("ledger: %s", error)
            return None
        fresh.database.execute(f"PRAGMA busy_timeout = {LOCK_TIMEOUT_MS}")
        salvage(aside, fresh.database)
        return fresh

    def _move_aside(self, why: str) -> Path | None:
        """Rename a corrupt ledger; return its new path, or None if it cannot be moved."""
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        aside = self._path.with_name(f"{self._path.name}.corrupt-{stamp}")
        try:
            for end in ("", "-wal", "-shm"):
                file = Path(f"{self._path}{end}")
                if file.exists():
                    file.rename(f"{aside}{end}")
        except OSError as error:
            log.error("ledger: %s; it cannot be moved aside: %s", why, error)
            return None
        self.moved_aside.append(str(aside))
        log.error("ledger: %s; moved aside to %s, a new one was created", why, aside)
        return aside

    def _bound(self) -> None:
        """Remove all but the newest rows from memory."""
        for table in COPIED:
            removed = self.database.execute(
                f"DELETE FROM {table} WHERE id <= (SELECT MAX(id) FROM {table}) - ?",
                (MAX_ROWS_IN_MEMORY,),
            )
            self.lost += removed if table in DECISIONS else 0


AnyLedger = Ledger | ResilientLedger


class _DamagedPages(sqlite3.DatabaseError):
    """The finding of PRAGMA quick_check."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


def _is_corrupt(error: Exception) -> bool:
    cause = error if isinstance(error, sqlite3.Error) else error.__cause__
    if not isinstance(cause, sqlite3.DatabaseError):
        return False
    return getattr(cause, "sqlite_errorcode", 0) & 0xFF in _CORRUPT
