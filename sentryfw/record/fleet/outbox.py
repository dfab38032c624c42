"""Our own blocks and their ends, in order, for other members of a fleet.

Triggers of the database fill the table in the transaction that writes the block: whichever program
makes or ends a block, and whenever it is killed, no entry is lost or doubled. The triggers
exist with [fleet] alone. Blocks that others made are in a table of their own, so none is sent on.

See docs/decisions.md: fleet-outbox.
"""

from typing import Final, Literal, NamedTuple

from sentryfw.record.resilient_ledger import AnyLedger

MAX_ROWS: Final = 200_000
"""Entries that are kept for members that were away."""
_TRIGGERS: Final = ("fleet_block", "fleet_unblock", "fleet_lift")
_SHARED: Final = "(NEW.scan <> '' OR NEW.reason LIKE 'blocked by hand%')"
"""Decisions of this host; not what the kernel had without a reason."""
_ONE_SOURCE: Final = "(NEW.address NOT LIKE '%/%' OR NEW.address LIKE '%:%/64')"
_COLUMNS: Final = "op, address, duration_s, forgeable, scan, reason, at"


class Outgoing(NamedTuple):
    """A block, or its end."""

    seq: int
    op: Literal["block", "withdraw", "unblock", "elements"]
    address: str
    """A source or a network; of elements the name of their set."""
    duration_s: float
    """Seconds; 0: without end."""
    forgeable: bool
    scan: str
    """Empty for a block by hand."""
    reason: str
    at: float
    """Seconds since the epoch."""
    elements: str = "{}"
    """Seconds left of each element by its key in hexadecimal, as JSON."""


def enable(ledger: AnyLedger, now: float, *, mirrors: bool = False) -> None:
    """Fill the table from now on. Numbers of a new ledger begin where no earlier one can have
    come to, by the clock, so that other members do not take them for repeated ones.

    `mirrors`: a member has full trust, and gets networks, and what is unblocked of its own, too.
    """
    shared = _SHARED if mirrors else f"{_SHARED} AND {_ONE_SOURCE}"
    database = ledger.database
    with database.transaction():
        disable(ledger)
        if mirrors:
            database.execute(
                "CREATE TRIGGER fleet_lift AFTER UPDATE OF ends_at ON fleet_held"
                " WHEN OLD.effect = 'block' AND NEW.ends_at = 0 BEGIN"
                f" INSERT INTO fleet_outbox ({_COLUMNS}) VALUES ('unblock', NEW.address, 0, 0, '',"
                " '', (julianday('now') - 2440587.5) * 86400); END"
            )
        database.execute(
            "INSERT INTO sqlite_sequence (name, seq) SELECT 'fleet_outbox', ?"
            " WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'fleet_outbox')",
            (int(now) * 1000,),
        )
        database.execute(
            "CREATE TRIGGER fleet_block AFTER INSERT ON blocks"
            f" WHEN NEW.unblocked_at IS NULL AND {shared} BEGIN"
            f" INSERT INTO fleet_outbox ({_COLUMNS}) VALUES ('block', NEW.address, NEW.timeout_s,"
            " NEW.forgeable, NEW.scan, NEW.reason, NEW.blocked_at); END"
        )
        database.execute(
            "CREATE TRIGGER fleet_unblock AFTER UPDATE OF unblocked_at ON blocks"
            f" WHEN OLD.unblocked_at IS NULL AND NEW.unblocked_at IS NOT NULL AND {shared} BEGIN"
            f" INSERT INTO fleet_outbox ({_COLUMNS}) VALUES ('withdraw', NEW.address, 0,"
            " NEW.forgeable, NEW.scan, '', NEW.unblocked_at); END"
        )


def is_enabled(ledger: AnyLedger) -> bool:
    """Return whether the table is filled."""
    query = "SELECT 1 FROM sqlite_master WHERE type = 'trigger' AND name = ?"
    return bool(ledger.database.read(query, _TRIGGERS[:1]))


def disable(ledger: AnyLedger) -> None:
    """Fill the table no longer."""
    for name in _TRIGGERS:
        ledger.database.execute(f"DROP TRIGGER IF EXISTS {name}")


def outgoing(ledger: AnyLedger, after: int, limit: int) -> list[Outgoing]:
    """Return the entries behind a number, in order, and forget those beyond MAX_ROWS."""
    database = ledger.database
    [(first, last)] = database.read("SELECT MIN(seq), MAX(seq) FROM fleet_outbox")
    if first is not None and last - first >= MAX_ROWS:  # a write waits for other writers
        database.execute("DELETE FROM fleet_outbox WHERE seq <= ?", (last - MAX_ROWS,))
    rows = database.read(
        f"SELECT seq, {_COLUMNS}, elements FROM fleet_outbox WHERE seq > ? ORDER BY seq LIMIT ?",
        (after, limit),
    )
    return [
        Outgoing(
            seq=seq, op=op, address=address, duration_s=duration_s, forgeable=bool(forgeable),
            scan=scan, reason=reason, at=at, elements=elements,
        )
        for seq, op, address, duration_s, forgeable, scan, reason, at, elements in rows
    ]  # fmt: skip


def last_number(ledger: AnyLedger) -> int:
    """Return the last number that was given, also to an entry that is no longer kept; 0 if there
    was no fleet yet."""
    query = "SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = 'fleet_outbox'"
    return int(ledger.database.read(query)[0][0])
