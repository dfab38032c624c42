"""Lookups in the ledger: the past of one source, the newest blocks of many, would-be blocks."""

import json
import sqlite3
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from sentryfw.errors import SentryError
from sentryfw.record import rows
from sentryfw.record.ledger import Ledger
from sentryfw.record.records import DecisionRecord, ProbeRecord, ProbeTrace, Reaction

MAX_BLOCKS: Final = 100
MAX_REFUSALS: Final = 100
MAX_PROBES: Final = 1000
MAX_REACTIONS: Final = 1000

_BLOCKS: Final = (
    f"SELECT id, unblocked_at, dropped_packets, {rows.BLOCK_COLUMNS} FROM blocks WHERE address = ?"
    " ORDER BY id DESC LIMIT ?"
)
_REFUSALS: Final = (
    f"SELECT id, {rows.REFUSAL_COLUMNS} FROM refusals WHERE address = ? ORDER BY id DESC LIMIT ?"
)
_PROBES: Final = (
    f"SELECT {rows.PROBE_COLUMNS} FROM probes WHERE address = ? ORDER BY id DESC LIMIT ?"
)
_REASON_COLUMNS: Final = (
    "kinds, forgeable, scan, targets, probes, first_seen, blocked_at, offence, tool, reason, zone"
)

PAGE_ROWS: Final = 200
"""Rows of one query while wanted blocks are listed."""
_NEWEST: Final = (
    "NOT EXISTS (SELECT 1 FROM {table} AS newer WHERE newer.address = {table}.address"
    " AND newer.id > {table}.id{more})"
)
_LIVE: Final = {
    "blocks": (
        "unblocked_at IS NULL"
        " AND (timeout_s = 0 OR COALESCE(ends_at, blocked_at + timeout_s) > ?1)"
        f" AND {_NEWEST.format(table='blocks', more='')}"
    ),
    "refusals": (
        "timeout_s > 0 AND at + timeout_s > ?1"
        f" AND {_NEWEST.format(table='refusals', more=' AND newer.timeout_s > 0')}"
    ),
}
"""A condition on a row of a table: it is the newest of its address, and has not ended."""
_BEGAN: Final = {"blocks": "blocked_at", "refusals": "at"}
_SEARCHED: Final = ("address", "scan", "tool", "reason", "kinds")
"""Columns in which a text is searched."""

_Found = TypeVar("_Found")


class Past(NamedTuple):
    """One block of a source."""

    entry: DecisionRecord
    unblocked_at: float | None
    """Seconds since the epoch; None: it was not unblocked by hand."""
    dropped_packets: int | None
    """Packets that it had dropped a minute before its end or later; None: not known."""


class SourceHistory(NamedTuple):
    """The past of one source: the newest entries of each kind, oldest first."""

    blocks: list[Past]
    refusals: list[DecisionRecord]
    probes: list[ProbeRecord]
    """Probes below the trigger, in the order of their arrival."""
    reactions: list[Reaction]


class Reason(NamedTuple):
    """The part of a block's record that explains it."""

    kinds: list[str]
    forgeable: bool
    scan: str
    targets: int
    probes: int
    first_seen: float
    """Seconds since the epoch."""
    blocked_at: float
    """Seconds since the epoch."""
    offence: int
    tool: str
    reason: str
    zone: str = ""
    """The zone that judged it; empty: the default zone."""


class NamedReason(NamedTuple):
    """An active block by the ledger."""

    address: str
    family: int
    """4 or 6."""
    reason: Reason


class Wanted(NamedTuple):
    """Conditions on what is listed; the defaults are met by everything."""

    since: float = 0.0
    """Seconds since the epoch."""
    kind: str = ""
    """A kind of probe, or a scan."""
    text: str = ""
    """A part of the address, scan, tool, reason, kinds or host name."""

    @property
    def is_everything(self) -> bool:
        """Whether no condition is set."""
        return not (self.since or self.kind or self.text)


class OptionalLedger:
    """A ledger that need not exist, nor be readable. A fault is reported once, as a warning."""

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._ledger: Ledger | None = None
        if path.exists():
            try:
                self._ledger = Ledger(path)
            except SentryError as error:
                self._give_up(error)

    def ask(self, question: Callable[[Ledger], _Found], otherwise: _Found) -> _Found:
        """Return the answer of the ledger, or `otherwise` where it has none to give."""
        if self._ledger is not None:
            try:
                return question(self._ledger)
            except (SentryError, sqlite3.Error, ValueError) as error:  # ValueError: not JSON
                self._give_up(error)
        return otherwise

    def close(self) -> None:
        """Close the ledger. Later questions get their `otherwise`."""
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    def _give_up(self, error: Exception) -> None:
        self._warn(f"the ledger cannot be read, so reasons are missing: {error}")
        self.close()


def history(ledger: Ledger, address: str) -> SourceHistory:
    """Return the past of a source or network, named as in DecisionRecord.address.

    Raise ValueError if a row is damaged.
    """
    database = ledger.database
    blocks = [
        Past(rows.block_record(row, trace(ledger, "block", number)), unblocked_at, dropped)
        for number, unblocked_at, dropped, *row in database.read(_BLOCKS, (address, MAX_BLOCKS))
    ]
    refusals = [
        rows.refusal_record(row, trace(ledger, "refusal", number))
        for number, *row in database.read(_REFUSALS, (address, MAX_REFUSALS))
    ]
    probes = [rows.probe_record(row) for row in database.read(_PROBES, (address, MAX_PROBES))]
    return SourceHistory(
        blocks[::-1], refusals[::-1], probes[::-1], ledger.reactions(address, MAX_REACTIONS)
    )


def trace(ledger: Ledger, column: str, number: int) -> tuple[ProbeTrace, ...]:
    """Return the probes that a decision rests on; `column`: "block" or "refusal"."""
    query = f"SELECT {rows.TRACE_COLUMNS} FROM traces WHERE {column} = ? ORDER BY id"
    return tuple(rows.probe_trace(row) for row in ledger.database.read(query, (number,)))


def newest_block(ledger: Ledger, address: str) -> DecisionRecord | None:
    """Return the newest block of an address, with the probes that it rests on."""
    for number, *row in ledger.newest_rows(f"id, {rows.BLOCK_COLUMNS}", [address]):
        return rows.block_record(row, trace(ledger, "block", number), rows.words)
    return None


def newest_reasons(ledger: Ledger, addresses: Sequence[str]) -> dict[str, Reason]:
    """Return the reason of the newest block of each address.

    Raise sqlite3.Error if the ledger cannot be read, ValueError if a row is damaged.
    """
    parsed: dict[str, list[str]] = {}
    rows = ledger.newest_rows(f"address, {_REASON_COLUMNS}", addresses)
    return {address: _reason(row, parsed) for address, *row in rows}


def active_ids(ledger: Ledger, now: float) -> "array[int]":
    """Return the ids of the active blocks, the newest first."""
    ids, times = array("q"), array("d")
    query = f"SELECT id, blocked_at FROM blocks WHERE {_LIVE['blocks']} ORDER BY id DESC"
    for number, blocked_at in ledger.database.iterate(query, (now,)):
        ids.append(number)
        times.append(blocked_at)
    # Sorted here: SQLite would write a temporary file. Only a clock that was set changes anything.
    order = sorted(range(len(ids)), key=times.__getitem__, reverse=True)
    return array("q", map(ids.__getitem__, order))


def reasons_by_id(ledger: Ledger, ids: Sequence[int]) -> list[NamedReason]:
    """Return the blocks of these ids, in their order, without those that are no longer there.

    Raise sqlite3.Error if the ledger cannot be read, ValueError if a row is damaged.
    """
    marks = ",".join("?" * len(ids))
    query = f"SELECT id, address, family, {_REASON_COLUMNS} FROM blocks WHERE id IN ({marks})"
    parsed: dict[str, list[str]] = {}
    found = {
        number: NamedReason(address, family, _reason(row, parsed))
        for number, address, family, *row in ledger.database.read(query, ids)
    }
    return [found[number] for number in ids if number in found]


def _reason(row: list[Any], parsed: dict[str, list[str]]) -> Reason:
    """Return the reason in _REASON_COLUMNS; `parsed`: hundreds of rows share a handful of lists."""
    kinds, forgeable, *rest = row
    words = parsed.get(kinds)
    if words is None:
        words = parsed[kinds] = json.loads(kinds)
    return Reason._make((words, bool(forgeable), *rest))


def newest_confinements(ledger: Ledger, addresses: Iterable[str]) -> dict[str, DecisionRecord]:
    """Return the newest confinement of each address, without the probes that it rests on.

    Raise sqlite3.Error if the ledger cannot be read, ValueError if a row is damaged.
    """
    query = (
        f"SELECT {rows.REFUSAL_COLUMNS} FROM refusals WHERE address = ? AND timeout_s > 0"
        " ORDER BY id DESC LIMIT 1"
    )
    found = (ledger.database.read(query, (address,)) for address in addresses)
    return {row[0]: rows.refusal_record(row) for answer in found for row in answer}


def newest_refusal(ledger: Ledger, address: str) -> str:
    """Return the reason why the last scan of an address was not blocked; empty if none was."""
    query = "SELECT reason FROM refusals WHERE address = ? ORDER BY id DESC LIMIT 1"
    return next((str(reason) for (reason,) in ledger.database.read(query, (address,))), "")


def newest_addresses(ledger: Ledger, count: int) -> list[str]:
    """Return the addresses of the newest N blocks that were not unblocked, the newest first."""
    query = "SELECT address FROM blocks WHERE unblocked_at IS NULL ORDER BY id DESC LIMIT ?"
    return list(dict.fromkeys(row[0] for row in ledger.database.read(query, (count,))))


def newest_confined(ledger: Ledger, count: int) -> list[str]:
    """Return the addresses of the newest N confinements, the newest first."""
    query = "SELECT address FROM refusals WHERE timeout_s > 0 ORDER BY id DESC LIMIT ?"
    return list(dict.fromkeys(row[0] for row in ledger.database.read(query, (count,))))


def refusals_for(ledger: Ledger, reason: str) -> list[DecisionRecord]:
    """Return every scan that was not blocked for this reason, oldest first."""
    query = f"SELECT {rows.REFUSAL_COLUMNS} FROM refusals WHERE reason = ? ORDER BY id"
    return [rows.refusal_record(row) for row in ledger.database.read(query, (reason,))]


# --- active blocks and confinements that meet conditions, the newest first


def wanted_addresses(ledger: Ledger, table: str, wanted: Wanted, now: float) -> Iterator[str]:
    """Yield the address of each active row of `table` that is wanted, the newest first.

    `table`: "blocks", or "refusals" for the confinements.
    """
    query = (
        f"SELECT id, address FROM {table} WHERE id < ?6 AND {_wanted_rows(table)}"
        f" ORDER BY id DESC LIMIT {PAGE_ROWS}"
    )
    values = _wanted_values(wanted, now)
    before = 1 << 62
    while page := ledger.database.read(query, (*values, before)):
        before = page[-1][0]
        yield from (address for _, address in page)


def count_wanted(ledger: Ledger, table: str, wanted: Wanted, now: float) -> int:
    """Count the active rows of a table that are wanted; see wanted_addresses()."""
    query = f"SELECT COUNT(*) FROM {table} WHERE {_wanted_rows(table)}"
    [(number,)] = ledger.database.read(query, _wanted_values(wanted, now))
    return int(number)


def _wanted_values(wanted: Wanted, now: float) -> tuple[object, ...]:
    """Return the parameters ?1 to ?5 of _wanted_rows()."""
    return (now, wanted.since, wanted.kind, f'"{wanted.kind}"', wanted.text.lower())


def _wanted_rows(table: str) -> str:
    found = " OR ".join(f"instr(lower({column}), ?5) > 0" for column in _SEARCHED)
    named = (
        f"EXISTS (SELECT 1 FROM hosts WHERE hosts.address = {table}.address"
        " AND instr(lower(host), ?5) > 0)"
    )
    return (
        f"{_BEGAN[table]} >= ?2 AND (?3 = '' OR scan = ?3 OR instr(kinds, ?4) > 0)"
        f" AND (?5 = '' OR {found} OR {named}) AND {_LIVE[table]}"
    )
