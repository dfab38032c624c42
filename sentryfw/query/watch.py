"""The data of `watch`: the table's counters, and the newest blocks.

Asked once a second, so that nothing here costs more where more is blocked: the ledger names the
newest blocks, and the kernel is asked for these one by one.

See docs/decisions.md: watch-cost.
"""

import heapq
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, TypedDict

from sentryfw.engine.model import parse_source
from sentryfw.errors import SentryError
from sentryfw.netfilter import queue_rule
from sentryfw.netfilter.block_sets import Blocked, blocked_of
from sentryfw.netfilter.table import Table
from sentryfw.query import blocks
from sentryfw.query.blocks import BlockItem, Warn
from sentryfw.record.ledger import Ledger
from sentryfw.record.lookup import newest_addresses, newest_confined, newest_confinements
from sentryfw.record.records import DecisionRecord

MAX_BLOCKS: Final = 100
"""Blocks that are shown."""
MAX_ROWS: Final = 400
"""Newest rows of the ledger that are checked for active blocks."""


class WatchHead(TypedDict):
    """The state of the table."""

    divert: str | None
    counters: dict[str, int]
    """Packets, by named counter."""
    confined: int
    """Partners that are confined to what they use."""


class WatchPart(TypedDict, total=False):
    """One answer of the stream: the head, or one block."""

    head: WatchHead
    block: BlockItem


def parts(table: Table, ledger: Path, warn: Warn) -> Iterator[WatchPart]:
    """Yield the head, then the newest blocks. Raise NotInstalled without a table."""
    table.require()
    counters = {name: c.packets for name, c in sorted(table.counters().items())}
    confined = sum(table.decisions.count_confined().values())
    yield {"head": {"divert": queue_rule.active(table), "counters": counters, "confined": confined}}
    items = [*_newest(table, ledger, warn), *_confined(table, ledger)]
    items.sort(key=lambda item: item["blocked_at"] or "", reverse=True)
    for item in items:
        yield {"block": item}


def _newest(table: Table, ledger: Path, warn: Warn) -> list[BlockItem]:
    try:
        found = _from_ledger(table, ledger) if ledger.exists() else []
    except (SentryError, sqlite3.Error, ValueError) as error:  # ValueError: a row is not JSON
        warn(f"the ledger cannot be read, so reasons are missing: {error}")
        return [blocks.item(blocked, None) for blocked in _youngest(table)]
    return [blocks.item(blocked, entry) for blocked, entry in found]


def _confined(table: Table, path: Path) -> list[BlockItem]:
    """Return the newest confinements; none without a ledger, as _newest() reports."""
    if not path.exists():
        return []
    with suppress(SentryError, sqlite3.Error, ValueError), Ledger(path) as ledger:
        live = {}
        for address in newest_confined(ledger, MAX_BLOCKS):
            found = table.decisions.find(parse_source(address))
            if found is not None:
                live[address] = blocked_of(found)
        entries = newest_confinements(ledger, live)
        return [
            {**blocks.item(blocked, entries.get(address)), "decision": "confine"}
            for address, blocked in live.items()
        ]
    return []


def _from_ledger(table: Table, path: Path) -> list[tuple[Blocked, DecisionRecord | None]]:
    networks = {blocked.address: blocked for blocked in table.sets.blocked_networks()}
    with Ledger(path) as ledger:
        live = {}
        for address in newest_addresses(ledger, MAX_ROWS):
            blocked = networks.get(address) or _find(table, address)
            if blocked is not None:
                live[address] = blocked
            if len(live) >= MAX_BLOCKS:
                break
        entries = ledger.latest_blocks(live)
    return [(blocked, entries.get(address)) for address, blocked in live.items()]


def _find(table: Table, address: str) -> Blocked | None:
    if "/" in address and not (":" in address and address.endswith("/64")):
        return None  # a network whose block has ended
    return table.sets.find(parse_source(address))


def _youngest(table: Table) -> list[Blocked]:
    """Return the blocks whose time began last; used without a ledger."""
    return heapq.nsmallest(
        MAX_BLOCKS, table.sets.blocked_sources(), key=lambda b: b.timeout - b.expires
    )
