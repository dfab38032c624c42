"""The keeper: the table stays whole and its blocks stay known, whatever others do to them.

It hears of every change (netfilter/monitor.py) and remembers what is blocked until when; what
takes time, repair and comparison, goes through one worker thread (repair.py). Whoever deletes a
block has unblocked it; whoever deletes more is put right, in one transaction, and named.
"""

import functools
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from sentryfw.compare import Look, networks_of
from sentryfw.config import Config
from sentryfw.engine.model import Source, parse_source
from sentryfw.errors import KernelError, NotInstalled, SentryError
from sentryfw.lean import asyncio
from sentryfw.memory import SETS, End, Ends, Memory, text
from sentryfw.netfilter import blueprint
from sentryfw.netfilter.host import ALWAYS
from sentryfw.netfilter.monitor import Change, Monitor
from sentryfw.netfilter.table import NEVER_BLOCK_SETS, IPNetwork, Table
from sentryfw.netfilter.tablelock import TableLock
from sentryfw.record import lives
from sentryfw.record.lasting import LastingLedger
from sentryfw.record.recorder import Recorder
from sentryfw.repair import NETWORK_SETS, Compared, Healed, Workshop

log: Final = logging.getLogger("sentryfwd")
clock: Final = time.monotonic

RECONCILE_EVERY: Final = 60.0
JUMP: Final = 5.0
"""Seconds by which the wall clock may stray from the monotonic one before it has jumped."""
ALARM_HEALS: Final = 3
ALARM_WINDOW: Final = 60.0
BACK_OFF: Final = (10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
"""Seconds to wait before the next repair, while somebody keeps at it."""
CALM: Final = 300.0
"""Seconds without a repair after which the back-off starts anew."""
RARELY: Final = 20.0
"""Times what the last reconciliation took, until the next one: a twentieth of a core at most."""
FORGOTTEN: Final = 1_000
"""Blocks that are forgotten before the event loop gets its turn."""
LOCK_POLL: Final = 0.01
NAMED: Final = 20
"""Unblocked addresses that an event names; more are counted."""

T = TypeVar("T")
Released = Callable[[Source], None]
"""Told of every block that somebody else deleted."""


class Keeper:
    """Lives in the daemon's loop. prepare() before threads are made, start() with the loop."""

    def __init__(
        self, settings: Config, table: Table, recorder: Recorder, released: Released
    ) -> None:
        self._config = settings
        self._table = table
        self._recorder = recorder
        self._released = released
        self._workshop = Workshop(settings.paths.ledger)
        self.lock = TableLock(settings.paths.runtime)
        self._monitor = Monitor(lambda: (table.port, self._workshop.netlink.port))
        self.memory = Memory(Ends(), {})
        self._worker = ThreadPoolExecutor(1, "keeper")
        self._tasks: set[asyncio.Task[None]] = set()
        self._causes: list[Change] = []
        self._healing = False
        self._heals: deque[float] = deque(maxlen=64)
        self._pressure = 0
        self._alarmed = False
        self._healed = 0
        self._last_heal: dict[str, Any] = {}
        self._installed = True
        self._reconciling = False
        self._reconciled: dict[str, Any] = {"runs": 0}
        self._reconcile_at = clock() + RECONCILE_EVERY
        self._epoch = time.time() - clock()
        self._seemed = time.time()
        self._newest = 0
        self._unblocks = 0
        self._gone: set[bytes] = set()
        """Deleted by others since a look began, which may have seen them still."""

    # --- at start

    def prepare(self, ledger: LastingLedger) -> None:
        """After install, under the lock: learn the table, bring back the ledger's blocks."""
        self._monitor.drain()  # install's own doing
        self._stamp = self.lock.write("installed")
        plan = blueprint.take(self._workshop.netlink)
        if plan is None:
            raise SentryError("installed, but the table is gone: somebody deletes it")
        self._plan = plan
        now, wall = clock(), time.time()
        if self._config.detect.mode == "block":
            self.memory, found = self._workshop.restore_from(
                ledger, now, wall, quietly=self._monitor.deaf
            )
            self._newest = lives.newest_id(ledger)
            self._report(found)
            if found.restored or found.adopted:
                log.info(
                    "%d blocks restored, %d found in the kernel", found.restored, found.adopted
                )
        else:
            self.memory = self._workshop.learn(now)

    def start(self) -> None:
        asyncio.get_running_loop().add_reader(self._monitor.fileno(), self.readable)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._monitor.fileno())
        for task in self._tasks:
            task.cancel()
        self._worker.shutdown(wait=True, cancel_futures=True)  # a transaction, at most
        self._monitor.close()
        self._workshop.close()
        self.lock.release()

    # --- told by the daemon

    def blocked(self, source: Source, timeout: float, now: float) -> None:
        """The kernel has acknowledged a block."""
        key = bytes(source) if len(source) == 4 else bytes(source).ljust(16, b"\0")
        self.memory.ends[key] = (timeout, now + timeout)

    def forget_all(self) -> None:
        """Everything was unblocked by hand."""
        self._spawn(self._quietly(functools.partial(_let_go, self.memory.ends.clear())))
        self.memory.ranges.clear()
        self._spawn(self._quietly(self._workshop.flush_blocks))

    def spared(self, addresses: list[str]) -> None:
        """The daemon itself has unblocked these: they are never blocked from now on."""
        for address in addresses:
            source = parse_source(address)
            self.memory.ends.pop(bytes(source).ljust(4 if len(source) == 4 else 16, b"\0"))
        self._spawn(
            self._quietly(functools.partial(self._workshop.unblocked, addresses, time.time()))
        )

    async def replace_never_block(
        self, networks: list[IPNetwork], done: Callable[[list[IPNetwork]], None]
    ) -> bool:
        """What the never-block sets hold from now on, repairs included; `done` is called before
        another packet is judged. False: uninstalled."""
        await self._lock()
        try:
            if not self._installed:
                return False
            self._table.replace_never_block([*networks, *ALWAYS])
            done(networks)
            sets = dict(self._plan.sets)
            for name in NEVER_BLOCK_SETS:
                look = functools.partial(blueprint.element_lists, self._workshop.netlink, name)
                sets[name] = sets[name]._replace(elements=await self._run(look))
            self._plan = self._plan._replace(sets=sets)
            return True
        finally:
            self.lock.release()

    def adopt(self, settings: Config) -> None:
        """Another configuration; the table is as it wants it."""
        self._config = settings

    async def reinstall(self, work: Callable[[], T]) -> T:
        """Have `work` make the table as another configuration wants it, and keep that from now on.
        NotInstalled after an uninstall; if `work` fails, what it left is repaired."""
        await self._lock()
        try:
            if self.lock.stamp().state == "uninstalled":
                raise NotInstalled("the table was uninstalled: `sentryfw install` makes it")
            made = await self._run(work)
            self._stamp = self.lock.write("installed")
            await self._learn()
            return made
        finally:
            self.lock.release()

    def tick(self) -> None:
        """Once a second."""
        now = clock()
        self._watch_clock(now)
        if self._heals and now - self._heals[-1] > CALM:
            self._pressure, self._alarmed = 0, False
        if now >= self._reconcile_at:
            self.reconcile()

    def status(self) -> dict[str, Any]:
        return {
            "reconciled": self._reconciled,
            "healed": {"count": self._healed, **self._last_heal},
            "blocked": len(self.memory.ends) + sum(map(len, self.memory.ranges.values())),
            "unblocked_by_others": self._unblocks,
            "overruns": self._monitor.overruns,
        }

    # --- told by the kernel

    def readable(self) -> None:
        """Notifications are there: a bounded number of them is read."""
        for change in self._monitor.read():
            self._changed(change)

    def _changed(self, change: Change) -> None:
        gone, networks, damaged = self._follow(change)
        if change.overrun:
            self._workshop.look_closer = True
        if change.taken or change.made or change.overrun or damaged:
            if not self._installed and not change.made:
                return
            self._causes.append(change)
            if not self._healing:
                self._healing = True
                self._spawn(self._heal())
        if gone:
            self._unblocked(gone, change)
        if networks and not change.taken:
            self._spawn(self._follow_networks(change))

    def _follow(self, change: Change) -> tuple[list[bytes], bool, bool]:
        """Keys unblocked; whether networks changed; whether the configuration's elements did."""
        state: dict[tuple[str, bytes], Any] = {
            (item.set, item.element.key): item for item in change.items
        }
        now = clock()
        gone: list[bytes] = []
        networks = damaged = False
        for (name, key), item in state.items():
            if name in NETWORK_SETS:
                networks = True
            elif SETS.get(len(key)) == name:
                if item.present:
                    element = item.element
                    self.memory.ends[key] = (
                        element.timeout, now + (element.expires or element.timeout),
                    )  # fmt: skip
                else:
                    if self._reconciling:
                        self._gone.add(key)
                    if self.memory.ends.pop(key) is not None:
                        gone.append(key)
            elif name in self._plan.sets and self._plan.sets[name].elements:
                damaged = True  # came or went: the repair looks at what is there
        return gone, networks, damaged

    def _unblocked(self, keys: list[bytes], change: Change) -> None:
        """Somebody deleted blocks: they are unblocked, and not put back."""
        addresses = [text(key) for key in keys]
        for address in addresses:
            self._released(parse_source(address))
        self._tell_unblocked(addresses, change)

    def _tell_unblocked(self, addresses: list[str], change: Change) -> None:
        self._unblocks += len(addresses)
        self._recorder.note(
            "unblocked", count=len(addresses), addresses=addresses[:NAMED],
            by=change.process, pid=change.pid,
        )  # fmt: skip
        log.info("%d unblocked by %s", len(addresses), change.culprit)
        self._spawn(
            self._quietly(functools.partial(self._workshop.unblocked, addresses, time.time()))
        )

    async def _follow_networks(self, change: Change) -> None:
        before = _networks(self.memory)
        try:
            ranges = await self._run(lambda: self._workshop.look_at_ranges(clock()))
        except SentryError:
            return  # the table went meanwhile: that is told by another change
        self.memory.ranges.clear()
        self.memory.ranges.update(ranges)
        gone = before - _networks(self.memory)
        if gone:
            self._tell_unblocked(sorted(gone), change)

    # --- repair

    async def _heal(self) -> None:
        try:
            while self._causes:
                await self._hold_back()
                await self._lock()
                try:
                    await self._heal_once()
                finally:
                    self.lock.release()
        except (SentryError, OSError) as error:
            log.error("the table could not be repaired: %s", error)
            self._recorder.note("heal-failed", error=str(error))
            self._reconcile_at = min(self._reconcile_at, clock() + RECONCILE_EVERY)
        finally:
            self._healing = False

    async def _heal_once(self) -> None:
        """Under the lock: so whatever another sentryfw did is done, and told in full."""
        self.readable()
        causes, self._causes = self._causes, []
        stamp = self.lock.stamp()
        if stamp != self._stamp and stamp.state:
            self._stamp = stamp
            self._installed = stamp.state == "installed"
            if not self._installed:
                log.warning("the table was uninstalled: nothing is judged any more")
                return
            await self._learn()
            return
        if not self._installed:
            return
        now = clock()
        work = functools.partial(self._workshop.repair, self._plan, self.memory, now)
        done = await self._run(work)
        if done is None:
            if any(change.items or change.made for change in causes):
                await self._learn()  # an operator's own additions
            return
        self._plan, healed = done
        self._say(healed, causes)

    async def _learn(self) -> None:
        """The table as it is now is how it is meant."""
        plan = await self._run(lambda: blueprint.take(self._workshop.netlink))
        if plan is not None and plan.rules:
            self._plan = plan

    async def _hold_back(self) -> None:
        """While somebody keeps changing the table, wait longer and longer; say so."""
        now = clock()
        recent = sum(now - at < ALARM_WINDOW for at in self._heals)
        if recent < ALARM_HEALS and not self._pressure:
            return
        wait = BACK_OFF[min(self._pressure, len(BACK_OFF) - 1)]
        self._pressure += 1
        change = self._causes[-1]
        if not self._alarmed:
            self._alarmed = True
            self._recorder.note(
                "alarm", what="the table is changed again and again", heals=recent,
                by=change.process, pid=change.pid, next_repair_in_s=wait,
            )  # fmt: skip
        log.error(
            "ALARM: the table was repaired %d times in a minute; last changed by %s; next repair"
            " in %d s", recent, change.culprit, wait,
        )  # fmt: skip
        await asyncio.sleep(wait)

    def _say(self, healed: Healed, causes: list[Change]) -> None:
        self._healed += 1
        self._heals.append(clock())
        change = next((c for c in causes if c.taken), causes[0])
        took = round(healed.seconds * 1000, 1)
        self._last_heal = {
            "last": time.time(), "by": change.process, "pid": change.pid, "took_ms": took,
            "lacked": healed.lacked[:NAMED],
        }  # fmt: skip
        self._recorder.note(
            "healed", by=change.process, pid=change.pid, lacked=healed.lacked[:NAMED],
            blocks=healed.blocks, took_ms=took,
        )  # fmt: skip
        log.warning(
            "table repaired in %s ms (%s), %d blocks put back; it was changed by %s",
            took, ", ".join(healed.lacked[:NAMED]), healed.blocks, change.culprit,
        )  # fmt: skip

    # --- reconciliation

    def reconcile(self) -> None:
        """Now, or as soon as repairs are done."""
        if self._reconciling or self._healing:
            self._reconcile_at = clock()
            return
        self._reconcile_at = clock() + RECONCILE_EVERY
        if self._installed:
            self._reconciling = True
            self._spawn(self._reconcile())

    async def _reconcile(self) -> None:
        self._gone.clear()
        due = self._reconcile_at
        now, wall = clock(), time.time()
        try:
            look, found = await self._run(
                functools.partial(self._workshop.reconcile, self.memory, now, wall)
            )
            restored = await self._follow_look(look)
            self._report(found._replace(restored=restored))
        except (SentryError, OSError) as error:
            self._report(Compared(fault=str(error)))
        finally:
            self._reconciling = False
            if self._reconcile_at == due:  # nobody has asked for one meanwhile
                self._reconcile_at = max(due, clock() + RARELY * (clock() - now))

    async def _follow_look(self, look: Look) -> int:
        """Make memory and kernel what a look has shown; how many blocks were put back."""
        ends = self.memory.ends
        for key, (ours, theirs) in look.moved.items():
            if ends.get(key) == ours:  # not made anew meanwhile
                ends[key] = theirs
        for key, end in look.strangers.items():
            if key not in ends and key not in self._gone:
                ends[key] = end
        await self._forget(look.over)
        return await self._put_back(look.missing) if look.missing else 0

    async def _put_back(self, missing: list[bytes]) -> int:
        """What is gone and was not unblocked; confirmed under the lock, when all is told."""
        await self._lock()
        try:
            there = await self._run(functools.partial(self._workshop.find, missing))
            self.readable()
            absent = [key for key in missing if key not in there and key in self.memory.ends]
            put_back = functools.partial(self._workshop.put_back, self.memory, absent)
            return await self._run(put_back)
        finally:
            self.lock.release()

    async def _forget(self, over: list[bytes]) -> None:
        """Blocks that have ended; other work has its turn in between."""
        for number, key in enumerate(over):
            timeout, end = self.memory.ends.get(key) or (0.0, 0.0)
            if timeout and end <= clock():
                self.memory.ends.pop(key)
            if number % FORGOTTEN == FORGOTTEN - 1:
                await asyncio.sleep(0)

    def _report(self, found: Compared) -> None:
        fields = found._asdict()
        fields["seconds"] = round(found.seconds, 3)
        self._reconciled = {"runs": self._reconciled["runs"] + 1, "at": time.time(), **fields}
        if found.restored or found.adopted or found.fault:
            self._recorder.note("reconciled", **fields)
            log.info("reconciled: %s", ", ".join(f"{k} {v}" for k, v in fields.items()))

    # --- the clock

    def _watch_clock(self, now: float) -> None:
        epoch = time.time() - now
        jumped = epoch - self._epoch
        if abs(jumped) <= JUMP:
            return
        seemed = now + self._epoch
        self._epoch = epoch
        self._recorder.note("clock", jumped_s=round(jumped, 3))
        log.warning("the wall clock jumped by %.0f s; ends of blocks are kept", jumped)
        if jumped < 0 and self._config.detect.mode == "block":
            self._spawn(self._bring_back(min(seemed, self._seemed)))
        self._seemed = time.time()
        self._reconcile_at = now + 1

    async def _bring_back(self, seemed: float) -> None:
        """Blocks of before our start that a clock of the future took for over."""
        await self._lock()
        try:
            work = functools.partial(
                self._workshop.restore, clock(), time.time(), upto=(self._newest, seemed)
            )
            memory, found = await self._run(work)
            for key, end in memory.ends.items():
                if key not in self.memory.ends:
                    self.memory.ends[key] = end
            self.memory.ranges.update(memory.ranges)
            self._report(found)
        except SentryError as error:
            log.error("blocks are not restored: %s", error)
        finally:
            self.lock.release()

    # --- how work is done

    async def _lock(self) -> None:
        while not self.lock.take():
            await asyncio.sleep(LOCK_POLL)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    async def _quietly(self, work: Callable[[], object]) -> None:
        """What may fail: the next reconciliation makes good for it."""
        try:
            await self._run(work)
        except (KernelError, SentryError, OSError) as error:
            log.warning("%s", error)
        except Exception as error:  # noqa: BLE001 - sqlite3's, among others
            log.warning("ledger: %s", error)

    def _spawn(self, coroutine: Any) -> None:  # noqa: ANN401 - a coroutine of ours
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _let_go(parts: list[dict[bytes, End]]) -> None:
    """Free a million blocks without holding Python's lock all the time."""
    while parts:
        parts.pop()
        time.sleep(0)


def _networks(memory: Memory) -> set[str]:
    return {
        str(network)
        for ranges in memory.ranges.values()
        for item in ranges
        if not item.life.timeout or item.life.left > clock()
        for network in networks_of(item)
    }
