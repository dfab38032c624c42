"""Read the table: its shape, its networks and its blocks. Runs in the guard's thread.

Asking for blocks by key costs the same for each, however many there are. A dump also finds
unknown blocks, but costs the square of the set's size; a large set is dumped only where the
kernel counts more elements than were found by key.

See docs/decisions.md: key-lookups.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

from sentryfw.guard.block_index import BlockIndex, Expiry, KnownBlocks, KnownRange, Ranges, by_set
from sentryfw.netfilter import block_sets, snapshot
from sentryfw.netfilter.schema import BLOCK_SETS, NETWORK_SETS, OFF_TABLE
from sentryfw.netfilter.sets.counts import reported_count
from sentryfw.netfilter.sets.decisions import DecisionSets
from sentryfw.netfilter.sets.elements import ask_each
from sentryfw.netfilter.snapshot import TableSnapshot
from sentryfw.netfilter.table import is_table
from sentryfw.netlink.socket import NfnetlinkSocket

MAX_PERIODIC_DUMP: Final = 20_000
"""Elements of a set that is dumped at every comparison: 20 ms."""
MAX_UNCOUNTED_DUMP: Final = 200_000
"""The limit where the kernel does not count elements (Linux 6.1): in a larger set, blocks that
only the kernel knows are not found."""
GC_DELAY_S: Final = 60.0
"""Seconds for which the kernel may count an element that has ended: twice the sets' gc-interval."""

Pause = Callable[[], object]
"""Called between two messages, for other threads to run."""


class BlockSetReader:
    """The sets block4 and block6, with the element counts of the time of its construction."""

    def __init__(
        self, netlink: NfnetlinkSocket, pause: Pause, missing: frozenset[str] = frozenset()
    ) -> None:
        """`missing`: sets that do not exist, which read as empty."""
        self._netlink = netlink
        self._pause = pause
        self._counts = {
            name: 0 if name in missing else reported_count(netlink, name)
            for name in BLOCK_SETS.values()
        }

    def find(self, name: str, keys: list[bytes]) -> dict[bytes, Expiry]:
        """Return those of the keys that are in the set, with the kernel's Expiry."""
        if self.is_empty(name):
            return {}
        now = time.monotonic()
        return {
            key: (timeout / 1000, now + left / 1000)
            for key, timeout, left, _, _ in ask_each(self._netlink, name, keys, self._pause)
        }

    def dump_small(self) -> Iterator[tuple[bytes, Expiry]]:
        """Yield the elements of each set that is small enough for a dump."""
        for name, count in self._counts.items():
            if count is None:
                yield from self._dump_uncounted(name)
            elif 0 < count <= MAX_PERIODIC_DUMP:
                yield from self.dump(name)

    def dump(self, name: str) -> Iterator[tuple[bytes, Expiry]]:
        """Yield all elements of a set, however large it is."""
        yield from _dump(self._netlink, name, self._pause)

    def _dump_uncounted(self, name: str) -> list[tuple[bytes, Expiry]]:
        """Return the elements of a set of unknown size; none if it turns out too large."""
        found = []
        with NfnetlinkSocket() as own:  # closing the socket ends the dump
            for item in _dump(own, name, self._pause):
                found.append(item)
                if len(found) > MAX_UNCOUNTED_DUMP:
                    return []
        return found

    def is_empty(self, name: str) -> bool:
        """Return whether the set is counted, and had no element."""
        return self._counts[name] == 0

    def is_large(self, name: str) -> bool:
        """Return whether the set is counted, and too large for dump_small()."""
        return (self._counts[name] or 0) > MAX_PERIODIC_DUMP

    def is_as_large(self, name: str, known: int, ended: int) -> bool:
        """Return whether the set holds as many elements as are known; `ended` as below."""
        return known <= (self._counts[name] or 0) <= known + ended

    def sets_with_unknown(self, known: Mapping[str, int], ended: int) -> list[str]:
        """Return the sets too large for dump_small() that hold more elements than are known.

        `ended`: blocks that ended within GC_DELAY_S, which the kernel may still count.
        """
        return [
            name
            for name, count in self._counts.items()
            if count is not None and count > max(MAX_PERIODIC_DUMP, known[name] + ended)
        ]


def _dump(netlink: NfnetlinkSocket, name: str, pause: Pause) -> Iterator[tuple[bytes, Expiry]]:
    for part in block_sets.dump_lifetimes(netlink, name):
        now = time.monotonic()
        yield from ((key, (life.timeout, now + life.left)) for key, life in part.items())
        pause()


class TableReader:
    """Reads the kernel's table through one netlink socket; changes nothing."""

    def __init__(self, netlink: NfnetlinkSocket) -> None:
        self._netlink = netlink

    def snapshot(self, without: Collection[str] = ()) -> TableSnapshot | None:
        """Return the table as it is now, without the elements of these sets; None where it does not
        exist."""
        return snapshot.read(self._netlink, without)

    def is_switched_off(self) -> bool:
        """Return whether the table exists by which an operator switches SentryFW off."""
        return is_table(self._netlink, OFF_TABLE)

    def elements(self, names: Iterable[str]) -> dict[str, tuple[bytes, ...]]:
        """Return the elements of each set, as the kernel reports and accepts them."""
        return {name: snapshot.element_lists(self._netlink, name) for name in names}

    def ranges(self, now: float) -> Ranges:
        """Return the blocked networks; `now` is the time on the monotonic clock."""
        return {
            name: [
                KnownRange.from_kernel(item, now)
                for item in block_sets.read_ranges(self._netlink, name)
            ]
            for name in NETWORK_SETS
        }

    def confined(self) -> list[bytes]:
        """Return the keys of the sources that are confined."""
        return [element.key for element in DecisionSets(self._netlink).confined()]

    def find(self, keys: Iterable[bytes]) -> dict[bytes, Expiry]:
        """Return those of the keys that are blocked now."""
        reader = BlockSetReader(self._netlink, bool)
        return {
            key: expiry
            for name, part in by_set(keys).items()
            for key, expiry in reader.find(name, part).items()
        }

    def blocks(self, now: float) -> KnownBlocks:
        """Return the blocks of the kernel, without those of a set that is too large to dump."""
        ends = BlockIndex()
        for key, expiry in BlockSetReader(self._netlink, bool).dump_small():
            ends[key] = expiry
        return KnownBlocks(ends, self.ranges(now))
