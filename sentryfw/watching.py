"""What `watch` shows of kernel and ledger: the table's counters, and the newest blocks.

Asked once a second, so nothing here costs more where more is blocked: the ledger names the newest
blocks, and the kernel is asked for these one by one.
"""

import heapq
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sentryfw import listing
from sentryfw.engine.model import parse_source
from sentryfw.errors import SentryError
from sentryfw.listing import Item, Warn
from sentryfw.netfilter import divert
from sentryfw.netfilter.table import Blocked, Table
from sentryfw.record.entry import Entry
from sentryfw.record.ledger import Ledger

NEWEST: Final = 100
"""Blocks that are shown."""
LOOKED_AT: Final = 400
"""Blocks in the ledger that are looked at for them: some are over already."""
_QUERY: Final = "SELECT address FROM blocks WHERE unblocked_at IS NULL ORDER BY id DESC LIMIT ?"


def parts(table: Table, ledger: Path, warn: Warn) -> Iterator[Item]:
    """{"head": ...}, then {"block": ...} for each, the newest first. NotInstalled without a
    table."""
    table.require()
    counters = {name: c.packets for name, c in sorted(table.counters().items())}
    yield {"head": {"divert": divert.active(table), "counters": counters}}
    for item in _newest(table, ledger, warn):
        yield {"block": item}


def _newest(table: Table, ledger: Path, warn: Warn) -> list[Item]:
    try:
        found = _out_of_ledger(table, ledger) if ledger.exists() else []
    except (SentryError, sqlite3.Error, ValueError) as error:  # ValueError: a row that is no JSON
        warn(f"the ledger cannot be read, so reasons are missing: {error}")
        return [listing.item(blocked, None) for blocked in _youngest(table)]
    return [listing.item(blocked, entry) for blocked, entry in found]


def _out_of_ledger(table: Table, path: Path) -> list[tuple[Blocked, Entry | None]]:
    networks = {blocked.address: blocked for blocked in table.blocked_networks()}
    with Ledger(path) as ledger:
        rows: list[tuple[Any, ...]] = ledger.read(_QUERY, (LOOKED_AT,))
        alive = {}
        for address in dict.fromkeys(str(row[0]) for row in rows):
            blocked = networks.get(address) or _find(table, address)
            if blocked is not None:
                alive[address] = blocked
            if len(alive) >= NEWEST:
                break
        entries = ledger.latest_blocks(alive)
    return [(blocked, entries.get(address)) for address, blocked in alive.items()]


def _find(table: Table, address: str) -> Blocked | None:
    if "/" in address and not (":" in address and address.endswith("/64")):
        return None  # a network that is blocked no more
    return table.find(parse_source(address))


def _youngest(table: Table) -> list[Blocked]:
    """Without a ledger: those whose time began last."""
    return heapq.nsmallest(NEWEST, table.blocked_sources(), key=lambda b: b.timeout - b.expires)
