"""Make the ledger agree with the kernel. Runs in the guard's thread; needs no table lock."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from sentryfw.errors import SentryError
from sentryfw.guard import learnt_sets
from sentryfw.guard.block_index import KnownBlocks, Ranges
from sentryfw.guard.compare import Comparison, compare
from sentryfw.guard.ledger_audit import (
    LEDGER_DELAY_S,
    LEDGER_TOLERANCE_S,
    LedgerAudit,
    active_networks,
)
from sentryfw.guard.moment import Moment, Pauses
from sentryfw.guard.table_reader import GC_DELAY_S, BlockSetReader, TableReader
from sentryfw.netfilter.block_sets import find_packets
from sentryfw.netfilter.schema import BLOCK_SETS
from sentryfw.netlink.set_elements import Lifetime
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.record import active_blocks, learnt
from sentryfw.record.active_blocks import ActiveBlock
from sentryfw.record.ledger import Ledger
from sentryfw.record.resilient_ledger import AnyLedger

WRITE_BATCH: Final = 2_000
"""Rows of the ledger that one transaction changes; the recorder waits for it."""


class Reconciliation(NamedTuple):
    """The counts of one reconciliation; `status` and the event `reconciled` show them."""

    kernel: int = 0
    ledger: int = 0
    restored: int = 0
    """Known or in the ledger, missing in the kernel, and restored there."""
    adopted: int = 0
    """In the kernel, missing in the ledger, and added there."""
    corrected: int = 0
    """In both, with ends that differ; the ledger has the kernel's now."""
    ended: int = 0
    """Active by the ledger, ended by the kernel."""
    seconds: float = 0.0
    fault: str = ""


class Written(NamedTuple):
    """Rows that the ledger took."""

    added: int
    corrected: int


class LedgerWriter:
    """Writes the kernel's blocks and their ends into an open ledger."""

    def __init__(
        self, ledger: AnyLedger, moment: Moment, pause: Callable[[], object] = bool
    ) -> None:
        self._ledger = ledger
        self._moment = moment
        self._pause = pause

    def record(
        self, blocks: Iterable[ActiveBlock], rows: Mapping[str, Lifetime], min_age_s: float = 0.0
    ) -> Written:
        """Record blocks of the kernel, given the ledger's active rows by address.

        A block without a row is added once it is `min_age_s` old; its program may yet add one.
        """
        new: list[ActiveBlock] = []
        ends: list[tuple[str, float]] = []
        wall = self._moment.wall
        for item in blocks:
            row = rows.get(item.address)
            if row is not None:
                if item.timeout and abs(row.left - item.left) > LEDGER_TOLERANCE_S:
                    ends.append((item.address, wall + item.left))
            elif item.timeout and active_blocks.is_active(self._ledger, item.address):
                ends.append((item.address, wall + item.left))
            elif not item.timeout or item.timeout - item.left >= min_age_s:
                new.append(item)
        added = active_blocks.add_found(self._ledger, new, wall)
        return Written(added, self.set_ends(ends))

    def set_ends(self, ends: Iterable[tuple[str, float]]) -> int:
        """Set the ends of blocks, in wall time and in batches; return how many rows changed."""
        items, done = iter(ends), 0
        while batch := list(itertools.islice(items, WRITE_BATCH)):
            done += active_blocks.set_ends(self._ledger, batch)
            self._pause()
        return done

    def set_moved(self, moved: Iterable[tuple[str, float]]) -> int:
        """Set ends that are given on the monotonic clock; return how many rows changed."""
        return self.set_ends((address, self._moment.to_wall(end)) for address, end in moved)

    def end(self, addresses: Iterable[str]) -> None:
        """Record that blocks have ended by now."""
        self.set_ends((address, self._moment.wall) for address in addresses)


class LedgerWorker:
    """Compares kernel, memory and ledger, and corrects the ledger."""

    def __init__(self, netlink: NfnetlinkSocket, ledger: Path) -> None:
        self._netlink = netlink
        self._ledger = ledger

    def record_unblocked(self, addresses: Iterable[str], wall: float) -> None:
        """Record that addresses were unblocked. Raise LedgerFault if the ledger fails."""
        with Ledger(self._ledger) as ledger, ledger.transaction():
            for address in addresses:
                learnt_sets.record_unblock(ledger, address, wall)

    def end_all(self, wall: float) -> None:
        """Record that every block was unblocked. Raise LedgerFault if the ledger fails."""
        with Ledger(self._ledger) as ledger:
            learnt_sets.record_unblock(ledger, None, wall)

    def save_learnt(self) -> None:
        """Write what the rules have learnt into the ledger. Raise SentryError or OSError."""
        with Ledger(self._ledger) as ledger:
            learnt_sets.save(self._netlink, ledger, Moment.now())

    def reconcile(self, memory: KnownBlocks, start: Moment) -> tuple[Comparison, Reconciliation]:
        """Compare all three and correct the ledger.

        The Comparison is for the caller: memory changes in the event loop alone, and the kernel
        under the table lock alone.
        """
        started = time.monotonic()
        pause = Pauses()
        kernel = BlockSetReader(self._netlink, pause)
        found = compare(memory.ends, kernel, pause)
        reader = TableReader(self._netlink)
        self._find_unknown(memory, kernel, found, start)
        ranges = reader.ranges(start.monotonic)
        counts = Reconciliation(sum(found.found.values()) + len(found.unknown))
        try:
            with Ledger(self._ledger) as ledger:
                memory.learnt = learnt_sets.save(self._netlink, ledger, start, pause)
                memory.forget_lifted(start.monotonic)
                learnt.forget(ledger, list(memory.lifted))
                audit = LedgerAudit(memory.ends, found, start.monotonic, pause)
                writer = LedgerWriter(ledger, start, pause)
                counts = _correct(ledger, audit, writer, ranges, start)._replace(
                    kernel=counts.kernel
                )
                active_blocks.set_dropped(ledger, self._dropped(audit.ending))
        except SentryError as error:
            counts = counts._replace(fault=str(error))
            memory.learnt = learnt_sets.read(self._netlink, pause)
            memory.forget_lifted(start.monotonic)
        return found, counts._replace(seconds=time.monotonic() - started)

    def _find_unknown(
        self, memory: KnownBlocks, kernel: BlockSetReader, found: Comparison, start: Moment
    ) -> None:
        """Add the blocks that only the kernel knows to the comparison."""
        dumps = [kernel.dump_small()]
        if memory.may_be_incomplete:
            memory.may_be_incomplete = False
            names = kernel.sets_with_unknown(found.found, self._count_ended(start.wall))
            dumps += map(kernel.dump, names)
        for key, expiry in itertools.chain.from_iterable(dumps):
            if key not in memory.ends:
                found.unknown[key] = expiry

    def _dropped(self, ending: list[tuple[str, bytes]]) -> Iterator[tuple[str, int]]:
        """Yield the addresses of blocks, with the packets that they have dropped."""
        for size, name in BLOCK_SETS.items():
            addresses = {key: address for address, key in ending if len(key) == size}
            found = find_packets(self._netlink, name, list(addresses))
            yield from ((addresses[key], packets) for key, packets in found.items())

    def _count_ended(self, wall: float) -> int:
        try:
            with Ledger(self._ledger) as ledger:
                return active_blocks.count_ended(ledger, wall - GC_DELAY_S, time.time())
        except SentryError:
            return 0  # reconcile() opens the ledger next and reports the fault


def _correct(
    ledger: AnyLedger, audit: LedgerAudit, writer: LedgerWriter, ranges: Ranges, start: Moment
) -> Reconciliation:
    """Correct the ledger by what the kernel holds."""
    audit.read(active_blocks.active_blocks(ledger, start.wall))
    networks = {item.address: item for item in active_networks(ranges, start.monotonic)}
    ended = [*audit.ended, *(name for name in audit.networks if name not in networks)]
    writer.end(ended)
    blocks = [*audit.unknown_blocks(), *networks.values()]
    if audit.lacks_rows():
        blocks += audit.unrecorded(active_blocks.active_blocks(ledger, start.wall))
    added, corrected = writer.record(blocks, audit.networks | audit.unknown, LEDGER_DELAY_S)
    corrected += writer.set_moved(audit.moved)
    return Reconciliation(ledger=audit.rows, adopted=added, corrected=corrected, ended=len(ended))
