"""Every active block as an item, the newest first.

A set of many blocks is not dumped, which costs the square of its size: the ledger names the blocks,
and the kernel is asked for each by key. What only the kernel knows is found by a dump, where the
kernel counts more elements than were found.

See docs/decisions.md: key-lookups.
"""

import itertools
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from sentryfw.netfilter.block_sets import Blocked
from sentryfw.netfilter.schema import BLOCK_SETS
from sentryfw.netfilter.table import Table
from sentryfw.query import blocks
from sentryfw.query.blocks import BlockItem, Warn
from sentryfw.record import active_blocks, lookup
from sentryfw.record.ledger import ADDRESS_BATCH, Ledger
from sentryfw.record.lookup import NamedReason, OptionalLedger

MAX_DUMP: Final = 20_000
"""Blocks of a set that is dumped: 20 ms. Where the kernel does not count (Linux 6.1), any set."""
GC_DELAY_S: Final = 60.0
"""Seconds for which the kernel may count an element that has ended: twice the sets' gc-interval."""
FAMILIES: Final = (4, 6)


def active(table: Table, path: Path, warn: Warn) -> Iterator[BlockItem]:
    """Return the active blocks and confinements, each with its reason, the newest first; those
    that the ledger does not know come last. Raise NotInstalled now if there is no table."""
    table.require()
    return _active(table, path, warn)


def _active(table: Table, path: Path, warn: Warn) -> Iterator[BlockItem]:
    with closing(OptionalLedger(path, warn)) as book:
        large = LargeSets(table, book, warn)
        others = sorted(_others(table, path, large, ADDRESS_BATCH), key=_began, reverse=True)
        others.reverse()  # the newest is the next to pop
        for item in large.named(ADDRESS_BATCH):
            while others and _began(others[-1]) > _began(item):
                yield others.pop()
            yield item
        yield from reversed(others)
        yield from large.unnamed()


def unordered(table: Table, path: Path, warn: Warn) -> Iterator[BlockItem]:
    """Yield what active() does in no particular order, a few at a time: for the daemon, where other
    requests wait for it."""
    table.require()
    with closing(OptionalLedger(path, warn)) as book:
        large = LargeSets(table, book, warn)
        yield from _others(table, path, large, blocks.LOOKUP_BATCH)
        yield from large.named(blocks.LOOKUP_BATCH)
        yield from large.unnamed()


def _others(table: Table, path: Path, large: "LargeSets", batch: int) -> Iterator[BlockItem]:
    """Yield the blocks that are in none of the large sets, and the confinements."""
    families = set(FAMILIES) - large.counts.keys()
    found = itertools.chain(
        table.sets.blocked_sources(families, large.warn), table.sets.blocked_networks()
    )
    batches = iter(lambda: list(itertools.islice(found, batch)), [])
    yield from blocks.with_reasons(large.book, batches)
    yield from blocks.confined(table, path, large.warn)
    yield from blocks.of_fleet(table, path, large.warn)


class LargeSets:
    """block4 and block6, those of them that have too many blocks for a dump."""

    def __init__(self, table: Table, book: OptionalLedger, warn: Warn) -> None:
        self._sets = table.sets
        self.book = book
        self.warn = warn
        counts = (
            (family, table.decisions.count(BLOCK_SETS[4 if family == 4 else 16]) or 0)
            for family in FAMILIES
        )
        self.counts = {family: count for family, count in counts if count > MAX_DUMP}
        """The number of elements by family, which counts some that have ended."""
        self._found = {family: bytearray() for family in self.counts}
        """The keys that were found, one after another: as a set they take ten times the room."""

    def named(self, batch: int) -> Iterator[BlockItem]:
        """Yield the blocks that the ledger names, the newest first."""
        if not self.counts:
            return
        now, nothing = time.time(), list[NamedReason]()
        ids = self.book.ask(lambda ledger: lookup.active_ids(ledger, now), array("q"))
        for low in range(0, len(ids), batch):
            read = _reader(ids[low : low + batch])
            named: dict[bytes, NamedReason] = {}
            for row in self.book.ask(read, nothing):
                key = active_blocks.key_of(row.address, row.family)
                if key is not None and row.family in self.counts:
                    named[key] = row
            yield from self._present(named)

    def _present(self, named: dict[bytes, NamedReason]) -> Iterator[BlockItem]:
        """Yield those that the kernel has."""
        addresses, nothing = [row.address for row in named.values()], dict[str, str]()
        hosts = self.book.ask(lambda ledger: ledger.hosts(addresses), nothing)
        there: dict[bytes, Blocked] = {}
        for family, keys in self._found.items():
            asked = [key for key, row in named.items() if row.family == family]
            there |= self._sets.find_all(family, asked)
            keys.extend(b"".join(key for key in asked if key in there))
        for key, row in named.items():
            if key in there:
                listed = blocks.item(there[key], row.reason)
                listed["host"] = hosts.get(row.address, "")
                yield listed

    def unnamed(self) -> Iterator[BlockItem]:
        """Yield the other blocks of each set that has more elements than were found, less those
        that may have ended."""
        for family, keys in self._found.items():
            size = 4 if family == 4 else 16
            if self.counts[family] > len(keys) // size + self._count_ended():
                known = {bytes(keys[low : low + size]) for low in range(0, len(keys), size)}
                there = self._sets.blocked_sources([family], self.warn)
                rest = [
                    one for one in there if active_blocks.key_of(one.address, family) not in known
                ]
                yield from blocks.with_reasons(self.book, [rest])

    def _count_ended(self) -> int:
        now = time.time()
        return self.book.ask(
            lambda ledger: active_blocks.count_ended(ledger, now - GC_DELAY_S, now), 0
        )


def _reader(ids: Sequence[int]) -> Callable[[Ledger], list[NamedReason]]:
    return lambda ledger: lookup.reasons_by_id(ledger, ids)


def _began(item: BlockItem) -> str:
    return item["blocked_at"] or ""
