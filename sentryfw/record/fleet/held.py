"""The entries of other members of a fleet that are in effect, and the last number of each member.

The kernel's sets hold the effect; these rows the member and the evidence.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from sentryfw.record.database import Row
from sentryfw.record.resilient_ledger import AnyLedger

_COLUMNS: Final = "member, address, effect, evidence, scan, reason, seq, at, ends_at"


class Held(NamedTuple):
    """A source, as one member reported it."""

    member: str
    address: str
    effect: str
    """block, weigh or show."""
    evidence: str
    """forgeable, proven or hand."""
    scan: str
    reason: str
    seq: int
    at: float
    """Seconds since the epoch at which it came."""
    ends_at: float | None
    """Seconds since the epoch; None: without end."""


def hold(ledger: AnyLedger, held: Iterable[Held]) -> None:
    """Keep entries; a later one of a member about a source replaces its earlier one."""
    ledger.database.insert_all(
        f"INSERT OR REPLACE INTO fleet_held ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?)", held
    )


def lift(ledger: AnyLedger, address: str | None, member: str | None = None) -> None:
    """Forget a source (None: every one), as one member (None: all) reported it."""
    ledger.database.execute(
        "DELETE FROM fleet_held WHERE (?1 IS NULL OR address = ?1) AND (?2 IS NULL OR member = ?2)",
        (address, member),
    )


def lift_by_hand(ledger: AnyLedger, address: str | None) -> None:
    """Forget a source or network (None: all) that was unblocked here. A trigger of the outbox, if
    a member has full trust, sees the end that is set first, and the other half ends the block."""
    ledger.database.execute(
        "UPDATE fleet_held SET ends_at = 0 WHERE ?1 IS NULL OR address = ?1", (address,)
    )
    lift(ledger, address)


def forget_ended(ledger: AnyLedger, now: float) -> None:
    """Forget the entries that have ended."""
    ledger.database.execute("DELETE FROM fleet_held WHERE ends_at <= ?", (now,))


def active(ledger: AnyLedger, now: float, addresses: Iterable[str] | None = None) -> list[Held]:
    """Return the entries that have not ended; with `addresses` those about them alone."""
    query = f"SELECT {_COLUMNS} FROM fleet_held WHERE (ends_at IS NULL OR ends_at > ?)"
    if addresses is None:
        return [_held(row) for row in ledger.database.read(query, (now,))]
    return [
        _held(row)
        for address in addresses
        for row in ledger.database.read(f"{query} AND address = ?", (now, address))
    ]


def numbers(ledger: AnyLedger) -> dict[str, int]:
    """Return the last number of each member."""
    rows = ledger.database.read("SELECT member, last_seq FROM fleet_members")
    return {str(member): int(last) for member, last in rows}


def advance(ledger: AnyLedger, member: str, last: int) -> None:
    """Keep the last number of a member."""
    ledger.database.execute("INSERT OR REPLACE INTO fleet_members VALUES (?,?)", (member, last))


def _held(row: Row) -> Held:
    member, address, effect, evidence, scan, reason, seq, at, ends_at = row
    return Held(
        member=member, address=address, effect=effect, evidence=evidence, scan=scan, reason=reason,
        seq=seq, at=at, ends_at=ends_at,
    )  # fmt: skip
