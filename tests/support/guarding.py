"""Parts of the guard without a kernel: a table, a ledger, a monitor, a recorder."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from sentryfw.guard.block_index import Expiry, KnownBlocks, KnownRange
from sentryfw.guard.compare import Comparison
from sentryfw.guard.ledger_worker import Reconciliation
from sentryfw.guard.moment import Moment
from sentryfw.guard.repair import Repair
from sentryfw.guard.restore import Before
from sentryfw.guard.worker import GuardThread, TableChanger
from sentryfw.netfilter.lock import TableLock
from sentryfw.netfilter.monitor import ElementChange, TableChange
from sentryfw.netfilter.snapshot import RulePlan, SetPlan, TableSnapshot
from sentryfw.netlink.set_elements import Element
from sentryfw.record.records import DecisionRecord

T = TypeVar("T")

RULES = (RulePlan("judge", b"", b"", b""),)
PLAN = TableSnapshot(
    b"", {}, {}, {"listed_tcp": SetPlan("listed_tcp", b"", False, (b"22",))}, RULES
)


class FakeRecorder:
    """Collects events and decisions."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.records: list[DecisionRecord] = []

    def append(self, record: DecisionRecord) -> None:
        self.records.append(record)

    def note(self, kind: str, **fields: object) -> None:
        self.events.append((kind, fields))

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]


class FakeMonitor:
    """Reports the changes that a test puts into it."""

    def __init__(self) -> None:
        self.changes: list[TableChange] = []

    def read(self) -> list[TableChange]:
        changes, self.changes = self.changes, []
        return changes


class FakeReader:
    """The kernel's side, as a test wants it."""

    def __init__(self) -> None:
        self.plan: TableSnapshot | None = PLAN
        self.present: dict[bytes, Expiry] = {}
        self.networks: dict[str, list[KnownRange]] = {}
        self.fault: Exception | None = None
        self.switched_off = False

    def snapshot(self) -> TableSnapshot | None:
        return self.plan

    def is_switched_off(self) -> bool:
        return self.switched_off

    def elements(self, names: Iterable[str]) -> dict[str, tuple[bytes, ...]]:
        return dict.fromkeys(names, (b"new",))

    def ranges(self, _now: float) -> dict[str, list[KnownRange]]:
        if self.fault:
            raise self.fault
        return self.networks

    def find(self, keys: Iterable[bytes]) -> dict[bytes, Expiry]:
        return {key: self.present[key] for key in keys if key in self.present}


class FakeLedger:
    """Remembers what was recorded; reconciles with what a test wants."""

    def __init__(self) -> None:
        self.unblocked: list[str] = []
        self.comparison = Comparison()
        self.result = Reconciliation(kernel=1)
        self.fault: Exception | None = None
        self.runs = 0

    def record_unblocked(self, addresses: Iterable[str], _wall: float) -> None:
        if self.fault:
            raise self.fault
        self.unblocked += addresses

    def reconcile(self, _memory: KnownBlocks, _start: Moment) -> tuple[Comparison, Reconciliation]:
        self.runs += 1
        if self.fault:
            raise self.fault
        return self.comparison, self.result


class FakeChanger:
    """Repairs and restores nothing, and remembers that it was asked to."""

    def __init__(self, lock: TableLock) -> None:
        self._lock = lock
        self.done: tuple[TableSnapshot, Repair] | None = (PLAN, Repair(["table"], 3, 0.01))
        self.fault: Exception | None = None
        self.repairs = 0
        self.restored: list[bytes] = []
        self.jumps: list[Before] = []
        self.after = KnownBlocks()

    def _check(self) -> None:
        assert self._lock.stamp().state, "the table lock is not held"
        if self.fault:
            raise self.fault

    def repair(
        self, _plan: TableSnapshot, _memory: KnownBlocks, _now: float
    ) -> tuple[TableSnapshot, Repair] | None:
        self.repairs += 1
        self._check()
        return self.done

    def is_damaged(self, _plan: TableSnapshot, _memory: KnownBlocks, _now: float) -> bool:
        self._check()
        return self.done is not None

    def restore_missing(self, _memory: KnownBlocks, keys: Iterable[bytes]) -> int:
        self._check()
        self.restored += keys
        return len(self.restored)

    def after_jump(self, _start: Moment, before: Before) -> tuple[KnownBlocks, Reconciliation]:
        self.jumps.append(before)
        self._check()
        return self.after, Reconciliation(restored=1)


class Guarded:
    """A real GuardThread with the fakes behind it, and its own lock file."""

    def __init__(self, runtime: Path) -> None:
        self.lock = TableLock(runtime)
        with self.lock.held():
            self.stamp = self.lock.write("installed")
        self.reader = FakeReader()
        self.ledger = FakeLedger()
        self.changer = FakeChanger(self.lock)
        self.flushes = 0
        self.recorder = FakeRecorder()
        self.memory = KnownBlocks()
        changer: Any = TableChanger(*[self.changer] * 2)  # type: ignore[arg-type]
        parts: Any = self.reader, self.ledger, changer
        self.thread = GuardThread(self.lock, *parts, self._flush)

    def _flush(self) -> None:
        self.flushes += 1

    def run(self, work: Callable[[], Awaitable[T] | T]) -> T:
        """Run `work` in an event loop, and all that it spawned, then close the thread."""

        async def run() -> Any:
            made = work()
            result = await made if isinstance(made, Awaitable) else made
            while self.thread._tasks:
                await asyncio.wait(self.thread._tasks)
            return result

        try:
            return asyncio.run(run())
        finally:
            self.thread.close()


def change(
    *items: ElementChange, taken: Iterable[str] = (), made: bool = False, overrun: bool = False
) -> TableChange:
    """Return a change by the process nft."""
    return TableChange(7, "nft", frozenset(taken), made, items, overrun=overrun)


def element(name: str, key: bytes, *, present: bool, timeout: float = 60.0) -> ElementChange:
    """Return an element that was added to a set, or deleted."""
    return ElementChange(name, Element(key, timeout, 0.0, 0, 0, False), present)
