"""Copies between ledgers: out of a damaged one, and out of memory to the disk."""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from sentryfw.record.database import Database

MAX_PROTECTED: Final = 20_000
"""Never-block networks that are read out of a damaged ledger."""
MAX_BLOCKS: Final = 1_000_000
"""Blocks that are read out of a damaged ledger."""
COPIED: Final = ("blocks", "refusals", "probes", "reactions", "hosts")
"""Tables with `id` as their key, in the order in which they are copied."""
DECISIONS: Final = ("blocks", "refusals")
"""Tables whose rows have traces."""


def salvage(path: Path, into: Database) -> dict[str, int]:
    """Copy what can be read of a ledger that cannot be used; return the last id of each table.

    That is the never-block networks, and the blocks up to the first damaged row.
    """
    for mode in ("mode=ro", "immutable=1"):  # the second without locks and log
        try:
            with closing(sqlite3.connect(f"{path.as_uri()}?{mode}", uri=True)) as broken:
                broken.execute("SELECT count(*) FROM sqlite_master").fetchone()
                for table, count in (("protected", MAX_PROTECTED), ("blocks", MAX_BLOCKS)):
                    with suppress(sqlite3.Error):
                        _salvage_table(broken, into, table, count)
                break
        except sqlite3.Error:
            continue
    [(last,)] = into.read("SELECT COALESCE(MAX(id), 0) FROM blocks")
    return {"blocks": last}


def _salvage_table(broken: sqlite3.Connection, into: Database, table: str, count: int) -> None:
    """Copy the newest rows, in the columns that both tables have."""
    known = set(_columns(into, table))
    names = [row[1] for row in broken.execute(f"PRAGMA table_info({table})") if row[1] in known]
    if not names:
        return
    columns, marks = ", ".join(names), ", ".join("?" for _ in names)
    rows = broken.execute(f"SELECT {columns} FROM {table} ORDER BY rowid DESC LIMIT {count}")
    # An error is suppressed inside the transaction: rows read before the damaged one stay.
    with into.transaction(), suppress(sqlite3.Error):
        into.insert_all(f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})", rows)


def copy(memory: Database, disk: Database, after: dict[str, int]) -> None:
    """Copy rows from memory to the disk in one transaction, with new ids.

    `after`: the last id of each table that is on the disk already.
    """
    with disk.transaction():
        for table in COPIED:
            names = [name for name in _columns(memory, table) if name != "id"]
            columns, marks = ", ".join(names), ", ".join("?" for _ in names)
            query = f"SELECT id, {columns} FROM {table} WHERE id > ? ORDER BY id"
            for old, *row in memory.iterate(query, (after.get(table, 0),)):
                new = disk.insert(
                    f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({marks})", row
                )
                if table in DECISIONS:
                    _copy_traces(memory, disk, table[:-1], old, new)


def _columns(database: Database, table: str) -> list[str]:
    return [row[1] for row in database.read(f"PRAGMA table_info({table})")]


def _copy_traces(memory: Database, disk: Database, column: str, old: int, new: int) -> None:
    """Copy the traces of one decision; they refer to its new id."""
    rows = memory.read(
        f"SELECT at, kind, listed, target FROM traces WHERE {column} = ? ORDER BY id", (old,)
    )
    disk.insert_all(
        f"INSERT INTO traces ({column}, at, kind, listed, target) VALUES (?,?,?,?,?)",
        ((new, *row) for row in rows),
    )
