"""Why blocks were made: what lists show of the ledger, for many addresses at once."""

import json
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from sentryfw.record.ledger import Ledger

MOST: Final = 10_000
"""Addresses in one query: more of them find their rows in fewer pages. SQLite takes 32,766 since
3.32 (sqlite.org/limits.html, number 9)."""
_NEWEST: Final = (
    "SELECT address, kinds, forgeable, scan, targets, probes, first_seen, blocked_at, offence,"
    " tool, reason FROM blocks WHERE id IN"
    " (SELECT MAX(id) FROM blocks WHERE address IN ({}) GROUP BY address)"
)
_HOSTS: Final = "SELECT address, host FROM hosts WHERE address IN ({})"


class Reason(NamedTuple):
    """The part of an Entry that says why."""

    kinds: list[str]
    forgeable: bool
    scan: str
    targets: int
    probes: int
    first_seen: float
    """Seconds since the epoch."""
    blocked_at: float
    offence: int
    tool: str
    reason: str


def newest(ledger: Ledger, addresses: Sequence[str]) -> dict[str, Reason]:
    """That of the newest block of each address. sqlite3.Error where the ledger cannot be read,
    ValueError where a row is no JSON."""
    known: dict[str, list[str]] = {}
    """Hundreds of rows have a handful of them."""
    found = {}
    for part in _parts(addresses):
        for address, kinds, forgeable, *rest in ledger.read(*_query(_NEWEST, part)):
            if kinds not in known:
                known[kinds] = json.loads(kinds)
            found[address] = Reason(known[kinds], bool(forgeable), *rest)
    return found


def hosts(ledger: Ledger, addresses: Sequence[str]) -> dict[str, str]:
    """The names that are known."""
    if not ledger.read("SELECT 1 FROM hosts LIMIT 1", ()):
        return {}
    return {
        address: host
        for part in _parts(addresses)
        for address, host in ledger.read(*_query(_HOSTS, part))
    }


def _parts(addresses: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(addresses), MOST):
        yield addresses[start : start + MOST]


def _query(text: str, addresses: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    return text.format(",".join("?" * len(addresses))), tuple(addresses)
