"""Repair the table whenever another program damages it.

The kernel notifies the daemon of each change (netfilter/monitor.py). What a change took is
repaired in one transaction, blocks included, and the program that made it is named. Runs in the
event loop; the repairs run in the guard's thread and under the table lock.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from sentryfw.engine.networks import NO_NETWORKS, NetworkIndex
from sentryfw.errors import NotInstalled, SentryError
from sentryfw.guard.back_off import BackOff, Delay
from sentryfw.guard.block_follower import BlockFollower
from sentryfw.guard.block_index import KnownBlocks
from sentryfw.guard.repair import Repair
from sentryfw.guard.worker import GuardThread, TableChanger
from sentryfw.host.whole6 import Neighbours
from sentryfw.netfilter.lock import Stamp
from sentryfw.netfilter.monitor import Monitor, TableChange
from sentryfw.netfilter.schema import NEVER_BLOCK_SETS, ONLINK_SETS, WHOLE_SET
from sentryfw.netfilter.snapshot import TableSnapshot
from sentryfw.netfilter.table import Table, never_block_elements
from sentryfw.record.recorder import Recorder

log: Final = logging.getLogger("sentryfwd")
clock: Final = time.monotonic

MAX_NAMED_PARTS: Final = 20
"""Missing parts of the table that an event and the log name."""

T = TypeVar("T")


class _NeverBlock:
    """The networks in the never-block sets of a plan; to decode 100,000 takes half a second."""

    def __init__(self) -> None:
        self._elements: list[tuple[bytes, ...]] = []
        self._networks = NO_NETWORKS

    def of(self, plan: TableSnapshot) -> NetworkIndex:
        """Return the networks that the sets hold by the plan."""
        elements = [plan.sets[name].elements for name in NEVER_BLOCK_SETS]
        if elements != self._elements:
            ranges = (plan.sets[name].ranges() for name in NEVER_BLOCK_SETS)
            self._networks = NetworkIndex.of_ranges(*ranges)
            self._elements = elements
        return self._networks

    def put(self, networks: NetworkIndex, plan: TableSnapshot) -> TableSnapshot:
        """Return the plan with these networks in the sets."""
        made = never_block_elements(networks)
        self._elements, self._networks = list(made.values()), networks
        return plan.with_elements(made)


class TableGuard:
    """Reads the notifications and keeps the table as it is planned."""

    def __init__(
        self,
        thread: GuardThread,
        monitor: Monitor,
        memory: KnownBlocks,
        follower: BlockFollower,
        recorder: Recorder,
        repair_failed: Callable[[], None],
    ) -> None:
        self._thread = thread
        self._monitor = monitor
        self._memory = memory
        self._follower = follower
        self._recorder = recorder
        self._repair_failed = repair_failed
        self._back_off = BackOff()
        self._plan = TableSnapshot(b"", {}, {}, {}, ())
        self._never_block = _NeverBlock()
        self._stamp = Stamp("", "")
        self._causes: list[TableChange] = []
        self._repairs: dict[str, Any] = {"count": 0}
        self.is_repairing = False
        self.is_installed = True
        self.switched_off: Callable[[], object] = bool
        """Called when an operator has switched SentryFW off (netfilter/schema.py)."""

    def keep(
        self, plan: TableSnapshot, stamp: Stamp, never_block: NetworkIndex | None = None
    ) -> None:
        """Keep the table as `plan` from now on, until the stamp in the lock file changes.

        `never_block`: the networks with which it was installed, which the plan lacks.
        """
        if never_block is not None:
            plan = self._never_block.put(never_block, plan)
        self._plan = plan
        self._stamp = stamp

    def tick(self) -> None:
        """Called once a second."""
        self._back_off.tick(clock())

    def status(self) -> dict[str, Any]:
        """Return the number of repairs and the last one, as `status --json` shows them."""
        return dict(self._repairs)

    # --- changes that the daemon makes

    async def replace_never_block(
        self, table: Table, networks: NetworkIndex, done: Callable[[NetworkIndex], None]
    ) -> bool:
        """Set the never-block networks, repairs included. Return False after an uninstall.

        `done` is called before another packet is judged.
        """
        async with self._thread.change_table():
            if not self.is_installed:
                return False
            known = await self._thread.run(lambda: self._never_block.of(self._plan))
            self.read_changes()
            table.replace_never_block(networks, None if self._causes else known)
            done(networks)
            plan = self._plan
            self._plan = await self._thread.run(lambda: self._never_block.put(networks, plan))
            return True

    async def replace_neighbours(
        self, table: Table, found: Neighbours, done: Callable[[Neighbours], None]
    ) -> bool:
        """Set the networks of neighbours; as replace_never_block()."""

        async with self._thread.change_table():
            if not self.is_installed:
                return False
            self.read_changes()
            table.replace_neighbours(*found)
            done(found)
            reader = self._thread.reader
            there = await self._thread.run(lambda: reader.elements((*ONLINK_SETS, WHOLE_SET)))
            self._plan = self._plan.with_elements(there)
            return True

    async def reinstall(self, work: Callable[[], T]) -> T:
        """Run `work`, which makes the table by another configuration, and keep that table.

        Raise NotInstalled after an uninstall. If `work` fails, the damage it left is repaired.
        """
        lock = self._thread.lock
        async with self._thread.change_table() as changer:
            if lock.stamp().state == "uninstalled":
                raise NotInstalled(
                    "the table was uninstalled: run `sentryfw install` to install it again"
                )
            made = await self._thread.run(work)
            self._stamp = lock.write("installed")
            self.read_changes()
            await self._keep_made(changer)
            return made

    # --- changes that other programs make

    def read_changes(self) -> None:
        """Read a bounded number of notifications and act on them."""
        for change in self._monitor.read():
            self._changed(change)

    def _changed(self, change: TableChange) -> None:
        if change.overrun:
            self._memory.may_be_incomplete = True
        is_damage = self._may_be_damage(change)
        is_ours = self.is_installed or change.made
        self._follower.follow(change, is_reported=is_ours or not is_damage)
        if is_damage and is_ours:
            self._causes.append(change)
            self._repair_soon()

    def _repair_soon(self) -> None:
        if not self.is_repairing:
            self.is_repairing = True
            self._thread.spawn(self._repair_all())

    def _may_be_damage(self, change: TableChange) -> bool:
        if change.taken or change.made or change.overrun or change.switched_off:
            return True
        planned = self._plan.sets
        return any(item.set in planned and planned[item.set].elements for item in change.items)

    async def _repair_all(self) -> None:
        try:
            has_waited = False
            while self._causes:
                async with self._thread.change_table() as changer:
                    delay = await self._repair(changer, has_waited=has_waited)
                has_waited = delay is not None
                if delay is not None:
                    await self._wait(delay)
        except (SentryError, OSError) as error:
            log.error("cannot repair the table: %s", error)
            self._recorder.note("heal-failed", error=str(error))
            self._repair_failed()
        finally:
            self.is_repairing = False
        if self._causes:  # damaged again while it was read or repaired, which is why that failed
            self._repair_soon()

    async def _repair(self, changer: TableChanger, *, has_waited: bool) -> Delay | None:
        """Repair the table once, or return the delay that the back-off demands before that.

        The lock is held, so the changes of another sentryfw command are complete, and notified in
        full. They are neither damage nor a reason to wait.
        """
        self.read_changes()
        stamp = self._thread.lock.stamp()
        if stamp != self._stamp and stamp.state in ("installed", "uninstalled"):
            await self._follow_command(changer, stamp)
            return None
        if self.is_installed and await self._thread.run(self._thread.reader.is_switched_off):
            self.is_installed = False
            self.switched_off()
        if not self.is_installed:
            self._causes = []
            return None
        if not has_waited and self._back_off.is_active(clock()):
            check = functools.partial(changer.repair.is_damaged, self._plan, self._memory, clock())
            if await self._thread.run(check):
                return self._back_off.next_delay(clock())
        causes, self._causes = self._causes, []
        work = functools.partial(changer.repair.repair, self._plan, self._memory, clock())
        done = await self._thread.run(work)
        if done is None:
            if any(change.items or change.made for change in causes):
                await self._learn()  # an operator's additions, which stay
            return None
        self._plan, repair = done
        self._report(repair, causes)
        return None

    async def _follow_command(self, changer: TableChanger, stamp: Stamp) -> None:
        """Keep what `sentryfw install` or `uninstall` has made of the table."""
        self._stamp = stamp
        self.is_installed = stamp.state == "installed"
        if self.is_installed:
            await self._keep_made(changer)
        else:
            self._causes = []
            log.warning("the table was uninstalled: packets are not judged any more")

    async def _keep_made(self, changer: TableChanger) -> None:
        """Take the table that a command of ours has just made for the plan. It lacks the blocks
        that another program deleted before: restore them."""
        self._causes = []
        await self._learn()
        work = functools.partial(changer.repair.repair, self._plan, self._memory, clock())
        done = await self._thread.run(work)
        if done is not None:
            self._plan, repair = done
            log.info("restored after an install: %s", ", ".join(repair.missing[:MAX_NAMED_PARTS]))

    async def _learn(self) -> None:
        """Take the table as it is for the plan, unless it is missing or empty."""
        plan = await self._thread.run(self._thread.reader.snapshot)
        if plan is not None and plan.rules:
            self._plan = plan

    async def _wait(self, delay: Delay) -> None:
        """Wait as long as the back-off demands, and report it."""
        change = next((c for c in reversed(self._causes) if c.taken), self._causes[-1])
        if delay.is_alarm:
            self._recorder.note(
                "alarm", what="another program keeps changing the table",
                heals=delay.recent_repairs, by=change.process, pid=change.pid,
                next_repair_in_s=delay.seconds,
            )  # fmt: skip
        if delay.is_reported:
            log.error(
                "ALARM: the table was repaired %d times in a minute; last changed by %s; next"
                " repair in %d s", delay.recent_repairs, change.culprit, delay.seconds,
            )  # fmt: skip
        await asyncio.sleep(delay.seconds)

    def _report(self, repair: Repair, causes: list[TableChange]) -> None:
        self._back_off.add_repair(clock())
        change = next((c for c in causes if c.taken), causes[0])
        took = round(repair.seconds * 1000, 1)
        named = repair.missing[:MAX_NAMED_PARTS]
        self._repairs = {
            "count": self._repairs["count"] + 1, "last": time.time(), "by": change.process,
            "pid": change.pid, "took_ms": took, "lacked": named,
        }  # fmt: skip
        self._recorder.note(
            "healed", by=change.process, pid=change.pid, lacked=named, blocks=repair.blocks,
            took_ms=took,
        )  # fmt: skip
        log.warning(
            "table repaired in %s ms: %s; blocks restored: %d; changed by %s",
            took, ", ".join(named), repair.blocks, change.culprit,
        )  # fmt: skip
