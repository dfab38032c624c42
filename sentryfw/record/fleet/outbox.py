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
_TRIGGERS: Final = ("fleet_block", "fleet_unblock")
_SHARED: Final = (
    "(NEW.scan <> '' OR NEW.reason LIKE 'blocked by hand%')"
    " AND (NEW.address NOT LIKE '%/%' OR NEW.address LIKE '%:%/64')"
)
"""Decisions of this host about one source; not what the kernel had without a reason."""
_COLUMNS: Final = "op, address, duration_s, forgeable, scan, reason, at"


class Outgoing(NamedTuple):
    """A block, or its end."""

    seq: int
    op: Literal["block", "withdraw"]
    address: str
    duration_s: float
    """Seconds; 0: without end."""
    forgeable: bool
    scan: str
    """Empty for a block by hand."""
    reason: str
    at: float
    """Seconds since the epoch."""


def enable(ledger: AnyLedger, now: float) -> None:
    """Fill the table from now on. Numbers of a new ledger begin where no earlier one can have
    come to, by the clock, so that other members do not take them for repeated ones."""
    database = ledger.database
    with database.transaction():
        database.execute(
            "INSERT INTO sqlite_sequence (name, seq) SELECT 'fleet_outbox', ?"
            " WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'fleet_outbox')",
            (int(now) * 1000,),
        )
        database.execute(
            "CREATE TRIGGER IF NOT EXISTS fleet_block AFTER INSERT ON blocks"
            f" WHEN NEW.unblocked_at IS NULL AND {_SHARED} BEGIN"
            f" INSERT INTO fleet_outbox ({_COLUMNS}) VALUES ('block', NEW.address, NEW.timeout_s,"
            " NEW.forgeable, NEW.scan, NEW.reason, NEW.blocked_at); END"
        )
        database.execute(
            "CREATE TRIGGER IF NOT EXISTS fleet_unblock AFTER UPDATE OF unblocked_at ON blocks"
            f" WHEN OLD.unblocked_at IS NULL AND NEW.unblocked_at IS NOT NULL AND {_SHARED} BEGIN"
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
    database.execute(
        "DELETE FROM fleet_outbox WHERE seq <= (SELECT MAX(seq) FROM fleet_outbox) - ?",
        (MAX_ROWS,),
    )
    rows = database.read(
        f"SELECT seq, {_COLUMNS} FROM fleet_outbox WHERE seq > ? ORDER BY seq LIMIT ?",
        (after, limit),
    )
    return [
        Outgoing(
            seq=seq, op=op, address=address, duration_s=duration_s, forgeable=bool(forgeable),
            scan=scan, reason=reason, at=at,
        )
        for seq, op, address, duration_s, forgeable, scan, reason, at in rows
    ]  # fmt: skip


def last_number(ledger: AnyLedger) -> int:
    """Return the number of the last entry; 0 if there is none."""
    return int(ledger.database.read("SELECT COALESCE(MAX(seq), 0) FROM fleet_outbox")[0][0])
