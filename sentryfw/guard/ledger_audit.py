"""Compare the ledger's rows with the blocks that a Comparison found. Pure.

The kernel decides what is blocked and until when; the audit lists what to correct in the ledger.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from sentryfw.guard.block_index import PART_COUNT, BlockIndex, Expiry, Ranges, key_text
from sentryfw.guard.compare import Comparison
from sentryfw.netlink.set_elements import Lifetime
from sentryfw.record.active_blocks import ActiveBlock, key_of

LEDGER_TOLERANCE_S: Final = 5.0
"""Seconds by which the ends of the kernel and the ledger may differ."""
ENDING_S: Final = 90.0
"""Seconds before its end in which a block counts as ending: more than between two audits."""
LEDGER_DELAY_S: Final = 10.0
"""Seconds that a program has to add a row to the ledger after it has added an element."""
ROWS_PER_PAUSE_COUNT: Final = 64


class LedgerAudit:
    """The ledger's rows of active blocks, compared with what the daemon knows."""

    def __init__(
        self, ends: BlockIndex, found: Comparison, now: float, pause: Callable[[], object]
    ) -> None:
        self._ends = ends
        self._found = found
        self._ended_keys = frozenset(found.ended)
        self._now = now
        self._pause = pause
        self._settled = 0
        self.rows = 0
        self.ended: list[str] = []
        """Active by the ledger alone."""
        self.moved: list[tuple[str, float]] = []
        """Addresses whose end differs, with the kernel's end on the monotonic clock."""
        self.ending: list[tuple[str, bytes]] = []
        """Addresses and keys of the sources whose block ends within ENDING_S."""
        self.networks: dict[str, Lifetime] = {}
        self.unknown: dict[str, Lifetime] = {}
        """The rows of blocks that the daemon did not know."""

    def read(self, rows: Iterable[ActiveBlock]) -> None:
        """Compare each row of an active block."""
        for row in self._paused(rows):
            self.rows += 1
            if row.is_network:
                self.networks[row.address] = Lifetime(row.timeout, row.left)
            elif (key := key_of(row.address, row.family)) is not None:
                self._read(row, key)

    def _read(self, row: ActiveBlock, key: bytes) -> None:
        ours = self._ends.get(key)
        if ours is None or key in self._ended_keys:
            if key in self._found.unknown:
                self.unknown[row.address] = Lifetime(row.timeout, row.left)
            else:
                self.ended.append(row.address)
            return
        timeout, end = self._found.moved[key][1] if key in self._found.moved else ours
        if timeout and end - self._now < ENDING_S:
            self.ending.append((row.address, key))
        self._settled += self._is_settled(ours)
        if timeout and abs(min(end - self._now, timeout) - row.left) > LEDGER_TOLERANCE_S:
            self.moved.append((row.address, end))

    def _is_settled(self, expiry: Expiry) -> bool:
        """Return whether the block is old enough for the ledger to have its row."""
        return not expiry[0] or LEDGER_DELAY_S <= expiry[0] - (expiry[1] - self._now) < expiry[0]

    def unknown_blocks(self) -> Iterator[ActiveBlock]:
        """Yield the active blocks that only the kernel knew."""
        return active_sources(self._found.unknown, self._now)

    def lacks_rows(self) -> bool:
        """Return whether a known block has no row; then unrecorded() has to find which."""
        count = 0
        for part in self._ends.parts():
            count += sum(map(self._is_settled, part.values()))
            self._pause()
        return count > self._settled

    def unrecorded(self, rows: Iterable[ActiveBlock]) -> Iterator[ActiveBlock]:
        """Yield the known blocks without a row. Takes a second pass over the rows."""
        seen: list[set[bytes]] = [set() for _ in range(PART_COUNT)]
        for row in self._paused(rows):
            if not row.is_network and (key := key_of(row.address, row.family)) is not None:
                seen[hash(key) % PART_COUNT].add(key)
        missing = frozenset(self._found.missing)
        for part in self._ends.parts():
            for key, expiry in part.items():
                if key not in seen[hash(key) % PART_COUNT] and key not in missing:
                    yield from active_sources({key: expiry}, self._now)
            self._pause()

    def _paused(self, rows: Iterable[ActiveBlock]) -> Iterator[ActiveBlock]:
        for number, row in enumerate(rows):
            if number % ROWS_PER_PAUSE_COUNT == 0:
                self._pause()
            yield row


def active_sources(ends: Mapping[bytes, Expiry], now: float) -> Iterator[ActiveBlock]:
    """Yield the blocks of sources that have not ended."""
    for key, (timeout, end) in ends.items():
        if not timeout or end > now:
            left = end - now if timeout else 0.0
            yield ActiveBlock(key_text(key), 4 if len(key) == 4 else 6, timeout, left)


def active_networks(ranges: Ranges, now: float) -> Iterator[ActiveBlock]:
    """Yield the blocks of networks that have not ended."""
    for items in ranges.values():
        for item in items:
            if item.is_active(now):
                for network in item.networks():
                    yield ActiveBlock(str(network), network.version, item.timeout, item.left(now))
