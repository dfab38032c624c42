"""The elements that the ruleset's own rules learnt, kept for a restart: partners, what they were
served, servers that answered us.

An element's end is kept in wall time, so a restart does not renew what is left of it. Keys are
those of the kernel's sets, in bytes.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from sentryfw.record.resilient_ledger import AnyLedger

END_TOLERANCE_S: Final = 60.0
"""Difference between two ends below which the row is not written again."""


class LearntElement(NamedTuple):
    """An element of a set."""

    key: bytes
    timeout: float
    """Seconds."""
    end: float
    """Wall clock."""


def save(ledger: AnyLedger, name: str, elements: Iterable[LearntElement]) -> int:
    """Make the rows of a set agree with its elements; return how many rows were written.

    The elements are compared in the database: a set may have a quarter of a million.
    """
    database = ledger.database
    database.execute("PRAGMA temp_store = MEMORY")  # a sandbox may have no place for its file
    database.execute(
        "CREATE TEMP TABLE IF NOT EXISTS now_learnt (key BLOB PRIMARY KEY, timeout_s, ends_at)"
    )
    with database.snapshot():  # one transaction of the temporary table: others need not wait
        database.execute("DELETE FROM now_learnt")
        database.insert_all("INSERT OR REPLACE INTO now_learnt VALUES (?,?,?)", elements)
    with database.transaction():
        gone = database.execute(
            "DELETE FROM learnt WHERE name = ? AND key NOT IN (SELECT key FROM now_learnt)",
            (name,),
        )
        changed = database.execute(
            "INSERT OR REPLACE INTO learnt SELECT ?, now_learnt.* FROM now_learnt"
            " LEFT JOIN learnt ON learnt.name = ? AND learnt.key = now_learnt.key"
            " WHERE learnt.key IS NULL OR ABS(learnt.ends_at - now_learnt.ends_at) > ?",
            (name, name, END_TOLERANCE_S),
        )
    database.execute("DELETE FROM now_learnt")
    return gone + changed


def active(ledger: AnyLedger, name: str, now: float) -> Iterator[LearntElement]:
    """Yield the elements of a set that have not ended; none has more than its timeout left."""
    rows = ledger.database.iterate(
        "SELECT key, timeout_s, ends_at FROM learnt WHERE name = ? AND ends_at > ?", (name, now)
    )
    for key, timeout, end in rows:
        yield LearntElement(key, timeout, min(end, now + timeout))


def forget_ended(ledger: AnyLedger, now: float) -> None:
    """Delete the elements that have ended, of sets that exist no longer, too."""
    ledger.database.execute("DELETE FROM learnt WHERE ends_at <= ?", (now,))


def forget(ledger: AnyLedger, elements: Iterable[tuple[str, bytes]]) -> None:
    """Delete elements, each given by its set and its key."""
    for element in elements:
        ledger.database.execute("DELETE FROM learnt WHERE name = ? AND key = ?", element)


def lift(ledger: AnyLedger, names: Iterable[str], key: bytes | None) -> None:
    """Delete a source (None: every source) from these sets: it was unblocked."""
    for name in names:
        ledger.database.execute(
            "DELETE FROM learnt WHERE name = ?1 AND (?2 IS NULL OR key = ?2)", (name, key)
        )
