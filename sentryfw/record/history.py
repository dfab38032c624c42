"""What the ledger knows of one source: blocks and refusals with their probes, probes, reactions."""

import json
from typing import Any, Final, NamedTuple

from sentryfw.record.entry import Entry, Reaction, Sight, Trace
from sentryfw.record.ledger import Ledger

MAX_BLOCKS: Final = 100
MAX_REFUSALS: Final = 100
MAX_PROBES: Final = 1000
MAX_REACTIONS: Final = 1000

_BLOCKS: Final = """
    SELECT id, address, family, scan, kinds, targets, probes, first_seen, blocked_at, timeout_s,
        offence, forgeable, tool, reason, sample, unblocked_at
    FROM blocks WHERE address = ? ORDER BY id DESC LIMIT ?
"""
_REFUSALS: Final = """
    SELECT id, address, at, reason, scan, kinds, targets, probes, first_seen, sample
    FROM refusals WHERE address = ? ORDER BY id DESC LIMIT ?
"""
_PROBES: Final = """
    SELECT address, at, kind, listed, target FROM probes WHERE address = ? ORDER BY id DESC LIMIT ?
"""


class Past(NamedTuple):
    """A block, and when it was ended before its time."""

    entry: Entry
    unblocked_at: float | None


class History(NamedTuple):
    """Oldest first, each bounded to the newest."""

    blocks: list[Past]
    refusals: list[Entry]
    probes: list[Sight]
    """Below the trigger, as they came."""
    reactions: list[Reaction]


def of(ledger: Ledger, address: str) -> History:
    """`address` as entries name it: an IPv4 address, an IPv6 /64, a network."""
    blocks = [_past(ledger, row) for row in ledger.read(_BLOCKS, (address, MAX_BLOCKS))]
    refusals = [_refusal(ledger, row) for row in ledger.read(_REFUSALS, (address, MAX_REFUSALS))]
    probes = [
        Sight(row[0], row[1], row[2], bool(row[3]), row[4])
        for row in ledger.read(_PROBES, (address, MAX_PROBES))
    ]
    return History(
        blocks[::-1], refusals[::-1], probes[::-1], ledger.reactions(address, MAX_REACTIONS)
    )


def _past(ledger: Ledger, row: tuple[Any, ...]) -> Past:
    entry = Entry(*row[1:15], True)  # type: ignore[call-arg]
    entry = entry._replace(
        kinds=json.loads(row[4]),
        sample=json.loads(row[14]),
        forgeable=bool(entry.forgeable),
        trace=_trace(ledger, "block", row[0]),
    )
    return Past(entry, row[15])


def _refusal(ledger: Ledger, row: tuple[Any, ...]) -> Entry:
    number, address, at, reason, scan, kinds, targets, probes, first_seen, sample = row
    return Entry(
        address, 4 if ":" not in address else 6, scan, json.loads(kinds), targets, probes,
        first_seen, at, 0.0, 0, True, "", reason, json.loads(sample), False,
        _trace(ledger, "refusal", number),
    )  # fmt: skip


def _trace(ledger: Ledger, column: str, number: int) -> tuple[Trace, ...]:
    query = f"SELECT at, kind, listed, target FROM traces WHERE {column} = ? ORDER BY id"
    return tuple(
        Trace(at, kind, bool(listed), target)
        for at, kind, listed, target in ledger.read(query, (number,))
    )
