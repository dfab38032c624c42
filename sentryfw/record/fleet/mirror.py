"""Entries of what the rules have learnt, for a member with full trust.

The kernel fills partners, served services and peers without notifications, and the guard writes
them into the ledger once a minute (learnt.py). A sweep puts those that are new, or that end
later than the other half knows, into the outbox, in one transaction with the note that it did.

See docs/decisions.md: fleet-pair.
"""

import itertools
import json
from collections.abc import Iterable
from typing import Final

from sentryfw.record.resilient_ledger import AnyLedger

MIN_CHANGE_S: Final = 3600.0
"""Seconds by which an end moves before it is sent again."""
MIN_LEFT_S: Final = 60.0
MAX_SWEEP: Final = 10_000
"""Elements of one sweep: half a second of the receiver's time."""
MAX_KEY_CHARACTERS: Final = 720
"""Characters of the keys in one entry: with its other fields it stays below MAX_ENTRY_BYTES."""
MAX_REST_CHARACTERS: Final = 10
"""Characters of an element besides its key: its time and punctuation."""


def sweep(ledger: AnyLedger, names: Iterable[str], now: float, limit: int = MAX_SWEEP) -> int:
    """Add the changed elements of these learnt sets to the outbox; return how many."""
    database = ledger.database
    count = 0
    with database.transaction():
        database.execute("DELETE FROM fleet_mirrored WHERE ends_at <= ?", (now,))
        for name in names:
            rows = database.read(
                "SELECT learnt.key, learnt.ends_at FROM learnt LEFT JOIN fleet_mirrored AS sent"
                " ON sent.name = learnt.name AND sent.key = learnt.key WHERE learnt.name = ?"
                " AND learnt.ends_at > ?"
                " AND (sent.key IS NULL OR learnt.ends_at > sent.ends_at + ?) LIMIT ?",
                (name, now + MIN_LEFT_S, MIN_CHANGE_S, limit - count),
            )
            found = [(bytes(key), float(end)) for key, end in rows]
            _add(ledger, name, found, now)
            count += len(found)
    return count


def note(ledger: AnyLedger, name: str, elements: Iterable[tuple[bytes, float]]) -> None:
    """Note elements (key, end in wall time) that came from another member: they are not sent on."""
    ledger.database.insert_all(
        "INSERT INTO fleet_mirrored VALUES (?,?,?) ON CONFLICT DO UPDATE"
        " SET ends_at = MAX(ends_at, excluded.ends_at)",
        ((name, key, end) for key, end in elements),
    )


def _add(ledger: AnyLedger, name: str, found: list[tuple[bytes, float]], now: float) -> None:
    if not found:
        return
    size = 2 * len(found[0][0]) + MAX_REST_CHARACTERS
    items = iter(found)
    while part := list(itertools.islice(items, MAX_KEY_CHARACTERS // size)):
        seconds = {key.hex(): int(end - now) for key, end in part}
        ledger.database.execute(
            "INSERT INTO fleet_outbox (op, address, duration_s, forgeable, scan, reason, at,"
            " elements) VALUES ('elements', ?, 0, 0, '', '', ?, ?)",
            (name, now, json.dumps(seconds)),
        )
    note(ledger, name, found)
