"""The guard's one thread, and the lock under which it changes the table.

| where                         | may                                                       |
|-------------------------------|-----------------------------------------------------------|
| event loop                    | read notifications; read and write KnownBlocks            |
| run()                         | read the table and KnownBlocks; read and write the ledger |
|                               | and the learnt elements in KnownBlocks                    |
| run(), within change_table()  | also change the table, through a TableChanger             |

All of it shares one netlink socket, which the thread alone uses once the event loop runs.
"""

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple, Self, TypeVar

from sentryfw.errors import SentryError
from sentryfw.guard.ledger_worker import LedgerWorker
from sentryfw.guard.repair import RepairWorker, flush_blocks
from sentryfw.guard.restore import RestoreWorker
from sentryfw.guard.table_reader import TableReader
from sentryfw.netfilter.lock import TableLock
from sentryfw.netlink.socket import NfnetlinkSocket

log: Final = logging.getLogger("sentryfwd")

LOCK_POLL_S: Final = 0.01
LOCK_PATIENCE_S: Final = 10.0
"""Seconds after which a repair goes on without the lock, unless an install is announced: no process
may keep the table from being repaired. Commands give up after the same time."""

T = TypeVar("T")


class TableChanger(NamedTuple):
    """The objects that change the table; change_table() hands them out."""

    repair: RepairWorker
    restore: RestoreWorker


class GuardThread:
    """Runs work that takes time, one piece after another, outside the event loop."""

    def __init__(
        self,
        lock: TableLock,
        reader: TableReader,
        ledger: LedgerWorker,
        changer: TableChanger,
        flush: Callable[[], None],
    ) -> None:
        """`flush` empties the block sets in one transaction."""
        self.lock = lock
        self.reader = reader
        self.ledger = ledger
        self._changer = changer
        self._flush = flush
        self._executor = ThreadPoolExecutor(1, "guard")
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    def using(cls, netlink: NfnetlinkSocket, lock: TableLock, ledger: Path) -> Self:
        """Return a thread that uses this netlink socket and this ledger."""
        return cls(
            lock,
            TableReader(netlink),
            LedgerWorker(netlink, ledger),
            TableChanger(RepairWorker(netlink), RestoreWorker(netlink, ledger)),
            functools.partial(flush_blocks, netlink),
        )

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in the thread and return its result."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    @contextlib.asynccontextmanager
    async def change_table(self) -> AsyncIterator[TableChanger]:
        """Wait for the table lock, and hold it in the context.

        A process that holds it without announcing an install is waited for LOCK_PATIENCE_S.
        """
        async with self._changing:
            await self._take_lock()
            try:
                yield self._changer
            finally:
                self.lock.release()

    async def _take_lock(self) -> None:
        end = time.monotonic() + LOCK_PATIENCE_S
        while not self.lock.take():  # another process unlocks, without an event
            if time.monotonic() > end and not self.lock.is_installing():
                self.lock.warn_of_holder(LOCK_PATIENCE_S)
                return
            await asyncio.sleep(LOCK_POLL_S)

    def changer_at_startup(self) -> TableChanger:
        """Return the TableChanger to the daemon's main thread, which holds the table lock."""
        return self._changer

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in the event loop; close() cancels it."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("a task of the guard failed, because of a bug in sentryfwd", exc_info=error)

    def attempt(self, work: Callable[[], object], purpose: str) -> None:
        """Run `work` in the thread, later. A failure is logged; the next reconciliation makes up
        for it."""
        self.spawn(self._attempt(work, purpose))

    async def _attempt(self, work: Callable[[], object], purpose: str) -> None:
        try:
            await self.run(work)
        except (SentryError, OSError) as error:
            log.warning("cannot %s: %s", purpose, error)
        except Exception:
            log.exception("cannot %s, because of a bug in sentryfwd", purpose)

    def record_unblocked(self, addresses: Iterable[str]) -> None:
        """Record in the ledger, later, that these addresses were unblocked just now."""
        work = functools.partial(self.ledger.record_unblocked, list(addresses), time.time())
        self.attempt(work, "record unblocked addresses in the ledger")

    async def flush_blocks(self) -> None:
        """Empty the block sets. One transaction, so the table lock is not needed."""
        await self._attempt(self._flush, "empty the block sets")

    def close(self) -> None:
        """Cancel what waits, and wait for the work that runs: one transaction at most."""
        for task in self._tasks:
            task.cancel()
        self._executor.shutdown(wait=True, cancel_futures=True)
        self.lock.release()
