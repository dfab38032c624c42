"""Restore the ledger's blocks into memory and into the kernel: at startup, and after the wall
clock was set back.

Runs under the table lock: at startup in the main thread before packets are judged, later in the
guard's thread (worker.py).

See docs/decisions.md: restore-batches, restart-by-count.
"""

import errno
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from ipaddress import ip_network
from pathlib import Path
from typing import Final, NamedTuple

from sentryfw.config.types import IPNetwork
from sentryfw.errors import KernelError, SentryError
from sentryfw.guard.block_index import BlockIndex, Expiry, KnownBlocks, Ranges, by_set
from sentryfw.guard.ledger_audit import LEDGER_TOLERANCE_S, active_networks, active_sources
from sentryfw.guard.ledger_worker import LedgerWriter, Reconciliation
from sentryfw.guard.moment import Moment
from sentryfw.guard.table_reader import GC_DELAY_S, BlockSetReader, TableReader
from sentryfw.netfilter import block_sets
from sentryfw.netfilter.block_sets import BlockedRange
from sentryfw.netfilter.schema import BLOCK_SETS
from sentryfw.netlink.set_elements import Lifetime, key_after
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.record import active_blocks
from sentryfw.record.active_blocks import ActiveBlock, key_of
from sentryfw.record.ledger import Ledger
from sentryfw.record.resilient_ledger import AnyLedger

log: Final = logging.getLogger("sentryfwd")

LOOKUP_BATCH: Final = 2_000
"""Rows of the ledger between two lookups in the kernel."""
RESTORE_BATCH: Final = 25_000
"""Blocks in one transaction of a start. Until it ends, each takes 0.3 KB beside its entry here."""
MUTE_ABOVE_COUNT: Final = 20_000
"""Elements in one of our transactions above which the monitor is muted: their notifications would
push out those of other programs, and cost as much as adding the elements."""

SourceRow = tuple[bytes, str, Expiry]
"""A row of the ledger about a source: key, address, and when the block ends by the ledger."""
Mute = Callable[[], AbstractContextManager[None]]
"""Keeps the kernel from notifying us of changes within the context (Monitor.muted)."""


class Before(NamedTuple):
    """Rows to restore after a jump back: those that had ended by the previous clock."""

    last_id: int
    """The newest row of the startup: later rows are of this daemon, which knows their ends."""
    wall: float


class LedgerRestore:
    """Collects the ledger's rows and adds the blocks that the kernel lacks, in batches."""

    def __init__(
        self,
        netlink: NfnetlinkSocket,
        mute: Mute = nullcontext,
        batch: int = RESTORE_BATCH,
        *,
        by_count: bool = False,
    ) -> None:
        """`batch`: blocks in one transaction. `by_count`: take rows for elements of a large set
        without a lookup; see agrees()."""
        self._netlink = netlink
        self._batch = batch
        self._mute = mute
        self._kernel = BlockSetReader(netlink, bool)
        self.counted = [
            name for name in BLOCK_SETS.values() if by_count and self._kernel.is_large(name)
        ]
        """The sets whose elements are counted instead of looked up."""
        self._found = dict.fromkeys(BLOCK_SETS.values(), 0)
        self._missing: dict[str, dict[bytes, Expiry]] = {name: {} for name in BLOCK_SETS.values()}
        self._thread = ThreadPoolExecutor(1, "restore")
        """Sends transactions, for each of which Python's lock is free for 80 ms."""
        self._sent: Future[None] | None = None
        self._full: set[str] = set()
        self.ends = BlockIndex()
        self.rows = 0
        self.restored = 0
        self.unknown = dict(self._kernel.dump_small())
        """In the kernel, and not in a row yet."""
        self.moved: list[tuple[str, float]] = []
        """Addresses whose end differs, with the kernel's end on the monotonic clock."""

    def add(self, rows: Sequence[SourceRow]) -> None:
        """Add rows: some thousand at once, which the kernel is asked for together."""
        self.rows += len(rows)
        if self.counted:
            rows = self._add_counted(rows)
        there = self._there([key for key, _, _ in rows])
        found: list[tuple[bytes, Expiry]] = []
        for key, address, expiry in rows:
            kept = there.get(key)
            if kept is None:
                self._missing[BLOCK_SETS[len(key)]][key] = expiry
                continue
            found.append((key, kept))
            if kept[0] and abs(kept[1] - expiry[1]) > LEDGER_TOLERANCE_S:
                self.moved.append((address, kept[1]))
        self.ends.update(found)
        for name, missing in self._missing.items():
            if len(missing) >= self._batch:
                self._restore(name)

    def agrees(self, ended: int) -> bool:
        """Return whether each set that is counted holds as many elements as it has rows; `ended` as
        in finish(). If not, nothing but another LedgerRestore is of use."""
        self._wait()
        return all(
            self._kernel.is_as_large(name, self._found[name], ended) for name in self.counted
        )

    def finish(self, ended: int = 0) -> bool:
        """Restore the rest. Return whether a large set holds blocks that have no row.

        `ended`: blocks that ended within GC_DELAY_S, which the kernel may still count.
        """
        for name in self._missing:
            self._restore(name)
        self._wait()
        self._thread.shutdown()
        self.ends.update(self.unknown.items())
        return bool(self._kernel.sets_with_unknown(self._found, ended))

    def _add_counted(self, rows: Sequence[SourceRow]) -> list[SourceRow]:
        """Add the rows of the sets that are counted; return the others."""
        for size, name in BLOCK_SETS.items():
            if name in self.counted:
                blocks = [(key, expiry) for key, _, expiry in rows if len(key) == size]
                self._found[name] += len(blocks)
                self.ends.update(blocks)
        return [row for row in rows if BLOCK_SETS[len(row[0])] not in self.counted]

    def _there(self, keys: list[bytes]) -> dict[bytes, Expiry]:
        """Return those of the keys that are in the kernel."""
        there: dict[bytes, Expiry] = {}
        if self.unknown:  # the dump has answered for small sets
            there = {key: self.unknown.pop(key) for key in keys if key in self.unknown}
            keys = [key for key in keys if key not in there]
        for name, asked in by_set(keys).items():
            if not self._kernel.is_empty(name):
                self._wait()  # both use the socket
                there.update(self._kernel.find(name, asked))
        for name, found in by_set(there).items():
            self._found[name] += len(found)
        return there

    def _restore(self, name: str) -> None:
        """Add the missing blocks of a set, while the caller goes on."""
        wanted, self._missing[name] = self._missing[name], {}
        self._wait()
        if wanted:
            self._sent = self._thread.submit(self._send, name, list(wanted.items()))

    def _wait(self) -> None:
        """Wait for the transaction that was sent last; raise its error."""
        sent, self._sent = self._sent, None
        if sent is not None:
            sent.result()

    def _send(self, name: str, wanted: list[tuple[bytes, Expiry]]) -> None:
        added = self._add_elements(name, wanted)
        self.restored += len(added)
        self.ends.update(added)
        if len(added) < len(wanted):
            lost = len(wanted) - len(added)
            log.error("set %s is full: %d blocks of the ledger are not restored", name, lost)

    def _add_elements(
        self, name: str, wanted: list[tuple[bytes, Expiry]]
    ) -> list[tuple[bytes, Expiry]]:
        """Add elements; return those that the set had room for, found by halving."""
        if name in self._full:
            return []
        now = time.monotonic()
        lives = {key: Lifetime(timeout, end - now) for key, (timeout, end) in wanted}
        try:
            with self._mute() if len(lives) > MUTE_ABOVE_COUNT else nullcontext():
                block_sets.add_elements(self._netlink, name, lives)
        except KernelError as error:
            if error.code != errno.ENFILE:
                raise
        else:
            return wanted
        if len(wanted) == 1:
            self._full.add(name)
            return []
        half = len(wanted) // 2
        return self._add_elements(name, wanted[:half]) + self._add_elements(name, wanted[half:])


class RestoreWorker:
    """Restores blocks from the ledger, through one netlink socket."""

    def __init__(self, netlink: NfnetlinkSocket, ledger: Path) -> None:
        self._netlink = netlink
        self._ledger = ledger
        self._reader = TableReader(netlink)

    def at_startup(
        self, ledger: AnyLedger, start: Moment, mute: Mute
    ) -> tuple[KnownBlocks, Reconciliation]:
        """Restore from the daemon's own ledger, which may be in memory, before packets are
        judged; and record what only the kernel knows."""
        ended = active_blocks.count_ended(ledger, start.wall - GC_DELAY_S, start.wall)
        for by_count in (True, False):
            restore = LedgerRestore(self._netlink, mute, by_count=by_count)
            rows = active_blocks.active_blocks(ledger, start.wall)
            networks = _add_rows(restore, rows, start)
            if restore.agrees(ended):
                break
        may_be_incomplete = restore.finish(ended)
        before = self._reader.ranges(start.monotonic)
        memory, found = self._result(restore, before, networks, start)
        memory.is_unverified = bool(restore.counted)
        memory.may_be_incomplete = may_be_incomplete or memory.is_unverified
        writer = LedgerWriter(ledger, start)
        blocks = [
            *active_sources(restore.unknown, start.monotonic),
            *active_networks(before, start.monotonic),
        ]
        lifetimes = {str(network): life for network, life in networks}
        added, corrected = writer.record(blocks, lifetimes)
        corrected += writer.set_moved(restore.moved)
        return memory, _timed(found._replace(adopted=added, corrected=corrected), start)

    def after_jump(self, start: Moment, before: Before) -> tuple[KnownBlocks, Reconciliation]:
        """Restore the blocks that only the old wall clock had ended, while packets are judged."""
        try:
            with Ledger(self._ledger) as ledger:
                restore = LedgerRestore(self._netlink, batch=block_sets.LIVE_BATCH)
                rows = active_blocks.active_blocks(ledger, start.wall, before)
                networks = _add_rows(restore, rows, start)
                restore.finish()
                ranges = self._reader.ranges(start.monotonic)
                memory, found = self._result(restore, ranges, networks, start)
                return memory, _timed(found, start)
        except SentryError as error:
            log.error("cannot restore blocks from the ledger: %s", error)
            memory = self._reader.blocks(start.monotonic)
            return memory, Reconciliation(len(memory.ends), fault=str(error))

    def _result(
        self,
        restore: LedgerRestore,
        before: Ranges,
        networks: list[tuple[IPNetwork, Lifetime]],
        start: Moment,
    ) -> tuple[KnownBlocks, Reconciliation]:
        """Restore the networks that are not in `before`; return all that is blocked then."""
        restored = restore.restored + self._restore_networks(before, networks)
        memory = KnownBlocks(restore.ends, self._reader.ranges(start.monotonic))
        rows = restore.rows + len(networks)
        return memory, Reconciliation(len(memory.ends), rows, restored)

    def _restore_networks(self, before: Ranges, networks: list[tuple[IPNetwork, Lifetime]]) -> int:
        restored = 0
        there = {item.first for ranges in before.values() for item in ranges}
        for network, life in networks:
            item = _range(network, life)
            if item.first in there:
                continue
            name = f"block_net{network.version}"
            try:
                self._netlink.transact(block_sets.range_requests(name, [item]), f"{network}")
            except KernelError as error:  # it overlaps a range of the kernel
                log.warning("cannot restore the block of %s: %s", network, error)
            else:
                restored += 1
        return restored


def _add_rows(
    restore: LedgerRestore, rows: Iterable[ActiveBlock], start: Moment
) -> list[tuple[IPNetwork, Lifetime]]:
    """Add the rows of sources to the restore; return those of networks."""
    networks: list[tuple[IPNetwork, Lifetime]] = []
    rest = iter(rows)
    while batch := list(itertools.islice(rest, LOOKUP_BATCH)):
        sources: list[SourceRow] = []
        for address, family, timeout, left in batch:
            key = key_of(address, family)
            if key is not None:
                sources.append((key, address, (timeout, start.monotonic + left)))
                continue
            try:
                networks.append((ip_network(address), Lifetime(timeout, left)))
            except ValueError:
                log.warning("ledger: ignoring a block of %r, which is not an address", address)
        restore.add(sources)
    return networks


def _range(network: IPNetwork, life: Lifetime) -> BlockedRange:
    end = key_after(int(network.broadcast_address), network.max_prefixlen // 8)
    return BlockedRange(network.network_address.packed, end, life)


def _timed(found: Reconciliation, start: Moment) -> Reconciliation:
    return found._replace(seconds=time.monotonic() - start.monotonic)
