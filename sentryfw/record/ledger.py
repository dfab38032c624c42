"""The ledger: why each block was made, and until when.

The kernel's sets are the truth about what is blocked now; the ledger is the truth about why. The
daemon writes through one thread (recorder.py). The command line reads, and records what it did by
hand.

See docs/decisions.md: live-rows, sqlite-descriptors.
"""

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Self

from sentryfw.errors import LedgerFault
from sentryfw.record import rows
from sentryfw.record.database import Database, Row
from sentryfw.record.records import DecisionRecord, Named, ProbeRecord, Reaction

MAX_ROWS: Final = {
    "refusals": 10_000,
    "blocks": 1_000_000,
    "probes": 200_000,
    "reactions": 200_000,
    "hosts": 100_000,
    "traces": 500_000,
}
"""Rows kept in each table; older rows are removed by trim()."""
MAX_BYTES: Final = 64 << 20
"""Bytes of rows above which trim() removes the oldest of each table."""
ACTIVE_BLOCK_BYTES: Final = 400
"""Bytes that the row of a block takes with its indexes (measured)."""
TRIM_SHARE: Final = 20
"""The part of a table that is removed at a time: one row in twenty."""
ADDRESS_BATCH: Final = 10_000
"""Addresses in one query: the more of them, the fewer pages are read for their rows. SQLite
accepts 32,766 parameters since 3.32 (sqlite.org/limits.html, number 9)."""
_ACTIVE: Final = (
    "unblocked_at IS NULL AND (timeout_s = 0 OR COALESCE(ends_at, blocked_at + timeout_s) > ?)"
)

_PROTECTED: Final = "SELECT network, why FROM protected WHERE since > ?"
PROTECTED_S: Final = 30 * 86400.0
"""Seconds for which a recorded network is never blocked; recording it again starts over. An address
that an administrator had three years ago may be a stranger's today."""


class Ledger:
    """Why sources were blocked: reads and writes, for one thread at a time.

    Opening raises LedgerFault if the database cannot be used. The methods raise sqlite3.Error;
    leaving the `with` block of a ledger turns that into LedgerFault, too.
    """

    def __init__(self, path: Path | None) -> None:
        """Open the ledger at `path`, or an empty one in memory (None)."""
        self._path = path
        self.database = Database(path)
        """For the modules of record/, which hold all SQL."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self.close()
        if isinstance(error, sqlite3.Error):
            raise LedgerFault(f"{self._path}: {error}") from error

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def transaction(self) -> AbstractContextManager[None]:
        """Make the writes in a `with` block one transaction; add() has its own."""
        return self.database.transaction()

    # --- blocks, refusals, probes

    def add(self, records: Iterable[DecisionRecord], probes: Iterable[ProbeRecord] = ()) -> None:
        """Add blocks, refusals and probes below the trigger in one transaction."""
        with self.database.transaction():
            self.database.insert_all(
                f"INSERT INTO probes ({rows.PROBE_COLUMNS}) VALUES (?,?,?,?,?,?)", probes
            )
            for record in records:
                if record.blocked:
                    self._add_trace("block", self._add_block(record), record)
                else:
                    self._add_trace("refusal", self._add_refusal(record), record)

    def _add_block(self, record: DecisionRecord) -> int:
        return self.database.insert(
            f"INSERT INTO blocks ({rows.BLOCK_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            rows.block_row(record),
        )

    def _add_refusal(self, record: DecisionRecord) -> int:
        return self.database.insert(
            f"INSERT INTO refusals ({rows.REFUSAL_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
            rows.refusal_row(record),
        )

    def _add_trace(self, column: str, row: int, record: DecisionRecord) -> None:
        self.database.insert_all(
            f"INSERT INTO traces ({column}, {rows.TRACE_COLUMNS}) VALUES (?,?,?,?,?)",
            ((row, *probe) for probe in record.trace),
        )

    def unblocked(self, address: str | None, now: float) -> None:
        """Record that the block of an address (None: every block) was ended by hand."""
        where = _ACTIVE + ("" if address is None else " AND address = ?")
        self.database.execute(
            f"UPDATE blocks SET unblocked_at = ? WHERE {where}",
            (now, now) if address is None else (now, now, address),
        )

    def newest_rows(self, columns: str, addresses: Iterable[str]) -> Iterator[Row]:
        """Yield these columns of the newest block of each address, in no particular order."""
        asked = tuple(addresses)
        for start in range(0, len(asked), ADDRESS_BATCH):
            batch = asked[start : start + ADDRESS_BATCH]
            yield from self.database.read(
                f"SELECT {columns} FROM blocks WHERE id IN (SELECT MAX(id) FROM blocks"
                f" WHERE address IN ({_marks(batch)}) GROUP BY address)",
                batch,
            )

    def latest_blocks(self, addresses: Iterable[str]) -> dict[str, DecisionRecord]:
        """Return the newest block of each address, without the probes that it rests on."""
        found = map(rows.block_record, self.newest_rows(rows.BLOCK_COLUMNS, addresses))
        return {record.address: record for record in found}

    def probes(self, since: float) -> list[ProbeRecord]:
        """Return the probes below the trigger since a time, oldest first.

        Probes of a source that was blocked after them are left out: the block settled them.
        """
        query = (
            f"SELECT {rows.PROBE_COLUMNS} FROM probes WHERE at >= ? AND NOT EXISTS"
            " (SELECT 1 FROM blocks WHERE blocks.address = probes.address"
            " AND blocks.blocked_at >= probes.at) ORDER BY id"
        )
        return [rows.probe_record(row) for row in self.database.read(query, (since,))]

    def offences(self, newest: int) -> dict[str, int]:
        """Return the offence count of each address in the N newest blocks and confinements, the
        latest first.

        Blocks made by hand do not count.
        """
        # Each table's last N by id: to sort all by their time takes most of a second for a million.
        last = "SELECT * FROM (SELECT address, offence, {at} AS at FROM {table} WHERE offence > 0"
        last += " ORDER BY id DESC LIMIT ?1)"
        blocks = last.format(table="blocks", at="blocked_at")
        refusals = last.format(table="refusals", at="at")
        query = f"SELECT address, offence FROM ({blocks} UNION ALL {refusals})"
        found: dict[str, int] = {}
        for address, offence in self.database.iterate(
            f"{query} ORDER BY at DESC LIMIT ?1", (newest,)
        ):
            found[address] = max(offence, found.get(address, 0))
        return found

    # --- reactions and host names

    def add_reactions(self, reactions: Iterable[Reaction], names: Iterable[Named]) -> None:
        """Add results of reactions and names of hosts in one transaction."""
        with self.database.transaction():
            self.database.insert_all(
                f"INSERT INTO reactions ({rows.REACTION_COLUMNS}) VALUES (?,?,?,?,?,?)", reactions
            )
            self.database.insert_all(
                "INSERT OR REPLACE INTO hosts (address, host, at) VALUES (?,?,?)", names
            )

    def reactions(self, address: str, newest: int = 1000) -> list[Reaction]:
        """Return the results of the newest N reactions to an address, oldest first."""
        query = (
            f"SELECT {rows.REACTION_COLUMNS} FROM reactions WHERE address = ?"
            " ORDER BY id DESC LIMIT ?"
        )
        found = self.database.read(query, (address, newest))
        return [rows.reaction_record(row) for row in reversed(found)]

    def hosts(self, addresses: Iterable[str]) -> dict[str, str]:
        """Return the host names of those addresses that have one."""
        if not self.database.read("SELECT 1 FROM hosts LIMIT 1"):
            return {}
        asked = tuple(addresses)
        found: dict[str, str] = {}
        for start in range(0, len(asked), ADDRESS_BATCH):
            batch = asked[start : start + ADDRESS_BATCH]
            query = f"SELECT address, host FROM hosts WHERE address IN ({_marks(batch)})"
            found.update(self.database.read(query, batch))
        return found

    # --- sources that are never blocked

    def protect(self, network: str, why: str, now: float) -> None:
        """Record a network that is never blocked."""
        self.database.execute(
            "INSERT OR REPLACE INTO protected (network, why, since) VALUES (?,?,?)",
            (network, why, now),
        )

    def protected(self) -> list[tuple[str, str]]:
        """Return (network, reason) of each recorded network that is never blocked still."""
        since = time.time() - PROTECTED_S
        return [(network, why) for network, why in self.database.read(_PROTECTED, (since,))]

    # --- size

    def trim(self, now: float, max_bytes: int = MAX_BYTES) -> int:
        """Remove all but the newest MAX_ROWS of each table, and more while the rows take more than
        `max_bytes` besides the active blocks; return the number of the latter.

        Blocks that are active stay, however old: they have to outlast a reboot.
        """
        database, removed = self.database, 0
        for table, keep in MAX_ROWS.items():
            _remove(database, table, f"id <= (SELECT MAX(id) FROM {table}) - {keep}", now)
        active = f"SELECT count(*) FROM blocks WHERE {_ACTIVE}"
        while (used := database.used_bytes()) > max_bytes:
            [(blocks,)] = database.read(active, (now,))
            if used <= max_bytes + blocks * ACTIVE_BLOCK_BYTES:
                break
            with database.transaction():
                share = sum(_remove_share(database, table, now) for table in MAX_ROWS)
            removed += share
            if not share:
                break
        return removed


def _remove(database: Database, table: str, where: str, now: float) -> int:
    """Remove rows, but no block that is active `now`; return how many."""
    ended, parameters = _removable(table, now)
    return database.execute(f"DELETE FROM {table} WHERE ({where}) AND {ended}", parameters)


def _remove_share(database: Database, table: str, now: float) -> int:
    """Remove the oldest twentieth of a table's rows; return how many."""
    ended, parameters = _removable(table, now)
    [(count,)] = database.read(f"SELECT count(*) FROM {table} WHERE {ended}", parameters)
    share = -(-count // TRIM_SHARE)
    oldest = f"SELECT id FROM {table} WHERE {ended} ORDER BY id LIMIT {share}"
    return database.execute(f"DELETE FROM {table} WHERE id IN ({oldest})", parameters)


def _removable(table: str, now: float) -> tuple[str, tuple[float, ...]]:
    """Return the condition, with its parameters, for rows that may be removed."""
    return (f"NOT ({_ACTIVE})", (now,)) if table == "blocks" else ("TRUE", ())


def _marks(values: Sequence[str]) -> str:
    return ",".join("?" * len(values))
