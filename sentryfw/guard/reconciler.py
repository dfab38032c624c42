"""Compare kernel, memory and ledger once a minute, and after the wall clock was set.

Notifications can be lost, and programs can change the ledger; the comparison finds what they
missed. Runs in the event loop; the comparison itself runs in the guard's thread.

See docs/decisions.md: memory-decides.
"""

import asyncio
import functools
import logging
import time
from typing import Any, Final, Protocol

from sentryfw.errors import SentryError
from sentryfw.guard.block_index import KnownBlocks
from sentryfw.guard.compare import Comparison
from sentryfw.guard.ledger_worker import Reconciliation
from sentryfw.guard.moment import ClockWatch, Moment
from sentryfw.guard.restore import Before
from sentryfw.guard.worker import GuardThread
from sentryfw.record.recorder import Recorder

log: Final = logging.getLogger("sentryfwd")
clock: Final = time.monotonic

RECONCILE_INTERVAL_S: Final = 60.0
RECONCILE_DUTY: Final = 20.0
"""The next reconciliation waits this many times the duration of the last: 5 % of a core at most."""
FORGET_BATCH: Final = 1_000
"""Ended blocks that are removed from memory before the event loop runs other work."""


class GuardedTable(Protocol):
    """The table guard, as the reconciler sees it."""

    is_installed: bool
    is_repairing: bool

    def read_changes(self) -> None:
        """Read the notifications that have arrived."""


class Reconciler:
    """Makes memory and kernel agree; the thread corrects the ledger."""

    def __init__(
        self, thread: GuardThread, memory: KnownBlocks, table: GuardedTable, recorder: Recorder
    ) -> None:
        self._thread = thread
        self._memory = memory
        self._table = table
        self._recorder = recorder
        self._clock_watch = ClockWatch(Moment.now())
        self._newest_row = 0
        self._is_running = False
        self._due_at = clock() + RECONCILE_INTERVAL_S
        self.last: dict[str, Any] = {"runs": 0}
        """The last result, as `status --json` shows it."""

    def begin(self, newest_row: int, restored: Reconciliation) -> None:
        """Start from what the restore at startup found."""
        self._newest_row = newest_row
        self.report(restored)
        if self._memory.is_unverified:
            self._memory.is_unverified = False
            self._due_at = clock()

    def tick(self, *, restores: bool) -> None:
        """Reconcile if it is due; called once a second.

        `restores`: whether the ledger's blocks belong into the kernel (mode "block").
        """
        self._check_clock(restores=restores)
        if clock() >= self._due_at:
            self.reconcile()

    def reconcile(self) -> None:
        """Reconcile now, or as soon as the repair or reconciliation that runs is done."""
        if self._is_running or self._table.is_repairing:
            self._due_at = clock()
            return
        self._due_at = clock() + RECONCILE_INTERVAL_S
        if self._table.is_installed:
            self._is_running = True
            self._thread.spawn(self._reconcile())

    def reconcile_soon(self) -> None:
        """Reconcile within RECONCILE_INTERVAL_S, however long the last one took."""
        self._due_at = min(self._due_at, clock() + RECONCILE_INTERVAL_S)

    async def _reconcile(self) -> None:
        self._memory.deleted = set()
        due = self._due_at
        start = Moment.now()
        work = functools.partial(self._thread.ledger.reconcile, self._memory, start)
        try:
            comparison, found = await self._thread.run(work)
            restored = await self.apply(comparison)
            self.report(found._replace(restored=restored))
        except (SentryError, OSError) as error:
            self.report(Reconciliation(fault=str(error)))
        finally:
            self._is_running = False
            self._memory.deleted = None
            if self._due_at == due:  # reconcile() was not called since
                self._due_at = max(due, clock() + RECONCILE_DUTY * (clock() - start.monotonic))

    async def apply(self, comparison: Comparison) -> int:
        """Correct memory and kernel by a comparison; return the number of blocks restored.

        Memory may have changed since the comparison began, and is right where it has.
        """
        ends = self._memory.ends
        for key, (ours, theirs) in comparison.moved.items():
            if ends.get(key) == ours:
                ends[key] = theirs
        for key, expiry in comparison.unknown.items():
            if key not in ends and key not in (self._memory.deleted or ()):
                ends[key] = expiry
        await self._forget(comparison.ended)
        return await self._restore(comparison.missing) if comparison.missing else 0

    async def _restore(self, missing: list[bytes]) -> int:
        """Restore blocks that are missing and were not unblocked. Both are checked again under
        the lock, after all notifications are read."""
        async with self._thread.change_table() as changer:
            there = await self._thread.run(functools.partial(self._thread.reader.find, missing))
            self._table.read_changes()
            absent = [key for key in missing if key not in there and key in self._memory.ends]
            work = functools.partial(changer.repair.restore_missing, self._memory, absent)
            return await self._thread.run(work)

    async def _forget(self, ended: list[bytes]) -> None:
        """Remove ended blocks from memory, unless they were blocked again."""
        for number, key in enumerate(ended, 1):
            timeout, end = self._memory.ends.get(key) or (0.0, 0.0)
            if timeout and end <= clock():
                self._memory.ends.pop(key)
            if number % FORGET_BATCH == 0:
                await asyncio.sleep(0)

    def report(self, found: Reconciliation) -> None:
        """Show a result in `status`; log it and record an event if anything differed."""
        fields = found._asdict()
        fields["seconds"] = round(found.seconds, 3)
        self.last = {"runs": self.last["runs"] + 1, "at": time.time(), **fields}
        if found.restored or found.adopted or found.fault:
            self._recorder.note("reconciled", **fields)
            log.info("reconciled: %s", ", ".join(f"{k} {v}" for k, v in fields.items()))

    def _check_clock(self, *, restores: bool) -> None:
        now = Moment.now()
        jump = self._clock_watch.check(now)
        if jump is None:
            return
        self._recorder.note("clock", jumped_s=round(jump.seconds, 3))
        log.warning(
            "the wall clock jumped by %.0f s; the blocks end as they would have", jump.seconds
        )
        if jump.seconds < 0 and restores:
            self._thread.spawn(self._restore_ended(Before(self._newest_row, jump.read_at)))
        self._due_at = now.monotonic + 1

    async def _restore_ended(self, before: Before) -> None:
        """Restore the blocks that a clock of the future had ended before the daemon started."""
        async with self._thread.change_table() as changer:
            work = functools.partial(changer.restore.after_jump, Moment.now(), before)
            try:
                memory, found = await self._thread.run(work)
            except SentryError as error:
                log.error("cannot restore blocks from the ledger: %s", error)
                return
            for key, expiry in memory.ends.items():
                if key not in self._memory.ends:
                    self._memory.ends[key] = expiry
            self._memory.ranges.update(memory.ranges)
            self.report(found)
