"""The guard, as the daemon uses it: it builds the parts and passes the daemon's calls on.

prepare() runs before the event loop, in the main thread and under the table lock; start() and
all calls after it run in the event loop.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from sentryfw.config.model import Config
from sentryfw.engine.model import Source, parse_source
from sentryfw.engine.networks import NetworkIndex
from sentryfw.errors import SentryError
from sentryfw.guard import learnt_sets
from sentryfw.guard.block_follower import BlockFollower, Released
from sentryfw.guard.block_index import KnownBlocks, element_key
from sentryfw.guard.moment import Moment
from sentryfw.guard.reconciler import Reconciler
from sentryfw.guard.table_guard import TableGuard
from sentryfw.guard.worker import GuardThread
from sentryfw.host.whole6 import Neighbours
from sentryfw.netfilter.lock import TableLock
from sentryfw.netfilter.monitor import Monitor
from sentryfw.netfilter.schema import NEVER_BLOCK_SETS
from sentryfw.netfilter.table import Table
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.record import active_blocks
from sentryfw.record.recorder import Recorder
from sentryfw.record.resilient_ledger import ResilientLedger

log: Final = logging.getLogger("sentryfwd")

T = TypeVar("T")


class Guard:
    """Keeps table, memory and ledger in agreement while the daemon runs."""

    def __init__(
        self, config: Config, table: Table, recorder: Recorder, released: Released
    ) -> None:
        self._mode = config.detect.mode
        self._table = table
        self._netlink = NfnetlinkSocket()
        self._monitor = Monitor(
            lambda: self.memory.own_ports | {table.port, self._netlink.port}  # in one go: a copy
        )
        self.lock = TableLock(config.paths.runtime)
        self.memory = KnownBlocks()
        self._thread = GuardThread.using(self._netlink, self.lock, config.paths.ledger)
        self._follower = BlockFollower(self.memory, self._thread, recorder, released)
        self._table_guard = TableGuard(
            self._thread, self._monitor, self.memory, self._follower, recorder,
            self._repair_failed,
        )  # fmt: skip
        self._reconciler = Reconciler(self._thread, self.memory, self._table_guard, recorder)

    def prepare(self, ledger: ResilientLedger, never_block: NetworkIndex) -> None:
        """Learn the table that was just installed, and restore the ledger's blocks.

        `never_block`: the networks with which it was installed.

        The caller holds the table lock. Raise SentryError if the table was deleted since.
        """
        self._monitor.drain()  # the notifications of the install
        stamp = self.lock.write("installed")
        plan = self._thread.reader.snapshot(without=NEVER_BLOCK_SETS)
        if plan is None:
            raise SentryError(
                "the table was deleted right after its installation: find the program that does so"
            )
        self._table_guard.keep(plan, stamp, never_block)
        start = Moment.now()
        count = learnt_sets.restore(self._netlink, ledger, start)
        self.memory.learnt = learnt_sets.read(self._netlink)
        if count:
            log.info("partners, their services and servers restored: %d", count)
        if self._mode != "block":
            self._remember(self._thread.reader.blocks(start.monotonic))
            return
        restore = self._thread.changer_at_startup().restore
        memory, found = restore.at_startup(ledger, start, self._monitor.muted)
        self._remember(memory)
        self._reconciler.begin(active_blocks.newest_id(ledger), found)
        if found.restored or found.adopted:
            log.info("blocks restored: %d; found in the kernel: %d", found.restored, found.adopted)

    def _remember(self, found: KnownBlocks) -> None:
        self.memory.ends = found.ends
        self.memory.ranges = found.ranges
        self.memory.may_be_incomplete = found.may_be_incomplete
        self.memory.is_unverified = found.is_unverified

    def start(self) -> None:
        """Read notifications in the running event loop."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._monitor.fileno(), self._table_guard.read_changes)

    def close(self) -> None:
        """Stop, after the transaction that runs, and keep what the rules have learnt."""
        asyncio.get_running_loop().remove_reader(self._monitor.fileno())
        self._thread.close()
        try:
            self._thread.ledger.save_learnt()
        except (SentryError, OSError) as error:
            log.warning("partners since the last reconciliation are not kept: %s", error)
        self._monitor.close()
        self._netlink.close()

    def tick(self) -> None:
        """Run the periodic work of every part; called once a second."""
        self._table_guard.tick()
        self._reconciler.tick(restores=self._mode == "block")

    def status(self) -> dict[str, Any]:
        """Return the guard's part of `status --json`."""
        return {
            "reconciled": self._reconciler.last,
            "healed": self._table_guard.status(),
            "blocked": len(self.memory),
            "unblocked_by_others": self._follower.unblocked,
            "overruns": self._monitor.overruns,
        }

    def _repair_failed(self) -> None:
        self._reconciler.reconcile_soon()

    # --- blocks that the daemon makes and removes

    def blocked(self, source: Source, timeout: float, now: float) -> None:
        """Add a block that the kernel acknowledged at `now`."""
        self.memory.add(source, timeout, now)

    async def forget_all(self) -> None:
        """Remove all blocks from memory and kernel, after `sentryfw unblock --all`.

        When it returns, the sets have been flushed: a block that is made afterwards stays.
        """
        parts = self.memory.ends.clear()
        self._thread.attempt(functools.partial(_free, parts), "free the memory of all blocks")
        self.memory.ranges.clear()
        self.memory.lift_all()
        await self._thread.flush_blocks()
        self._reconciler.reconcile()  # blocks that the daemon made before the flush

    def on_switched_off(self, action: Callable[[], object]) -> None:
        """Call `action` when an operator has switched SentryFW off; nothing is repaired then."""
        self._table_guard.switched_off = action

    async def end_all(self) -> None:
        """End every block in the ledger, after the table was deleted for good."""
        await self._thread.run(lambda: self._thread.ledger.end_all(time.time()))

    def record_unblocked(self, addresses: list[str]) -> None:
        """Record that the daemon itself has deleted these blocks from the kernel."""
        for address in addresses:
            key = element_key(parse_source(address))
            self.memory.ends.pop(key)
            self.memory.lift(key)
        self._thread.record_unblocked(addresses)

    async def confined(self) -> list[bytes]:
        """Return the keys of the sources that are confined."""
        return await self._thread.run(self._thread.reader.confined)

    # --- another configuration

    def reconfigure(self, config: Config) -> None:
        """Use another configuration, by which the table was made already."""
        self._mode = config.detect.mode

    async def replace_never_block(
        self, networks: NetworkIndex, done: Callable[[NetworkIndex], None]
    ) -> bool:
        """See TableGuard.replace_never_block()."""
        return await self._table_guard.replace_never_block(self._table, networks, done)

    async def replace_neighbours(
        self, found: Neighbours, done: Callable[[Neighbours], None]
    ) -> bool:
        """See TableGuard.replace_neighbours()."""
        return await self._table_guard.replace_neighbours(self._table, found, done)

    async def reinstall(self, work: Callable[[], T]) -> T:
        """See TableGuard.reinstall()."""
        return await self._table_guard.reinstall(work)

    def reconcile(self) -> None:
        """Reconcile now; see Reconciler.reconcile()."""
        self._reconciler.reconcile()


def _free(parts: list[dict[bytes, complex]]) -> None:
    """Free a million blocks in steps: other threads run in between."""
    while parts:
        parts.pop()
        time.sleep(0)
