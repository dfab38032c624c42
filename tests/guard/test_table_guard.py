"""Repairs that follow from changes, without a kernel."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from sentryfw.engine.networks import NetworkIndex
from sentryfw.errors import KernelError, NotInstalled
from sentryfw.guard import back_off
from sentryfw.guard.block_follower import BlockFollower
from sentryfw.guard.table_guard import TableGuard
from sentryfw.host.whole6 import Neighbours
from sentryfw.netfilter.lock import TableLock
from sentryfw.netfilter.monitor import TableChange
from sentryfw.netfilter.snapshot import TableSnapshot
from sentryfw.netlink.set_elements import packed_range
from support.forge import networks
from support.guarding import PLAN, FakeMonitor, Guarded, change, element

FLUSH = change(taken=["rule"])


class GuardedTable(Guarded):
    """A table guard over the fakes."""

    def __init__(self, runtime: Path) -> None:
        super().__init__(runtime)
        self.failures = 0
        self.monitor = FakeMonitor()
        recorder: Any = self.recorder
        monitor: Any = self.monitor
        follower = BlockFollower(self.memory, self.thread, recorder, print)
        self.guard = TableGuard(
            self.thread, monitor, self.memory, follower, recorder, self._repair_failed
        )
        self.guard.keep(PLAN, self.stamp)

    def _repair_failed(self) -> None:
        self.failures += 1

    def notify(self, *changes: TableChange) -> None:
        """Let the guard read these changes, and finish what follows."""
        self.monitor.changes += changes
        self.run(self.guard.read_changes)


@pytest.fixture
def table(tmp_path: Path) -> GuardedTable:
    return GuardedTable(tmp_path)


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The delays of the back-off, which do not pass."""
    made: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        if seconds >= 1:
            made.append(seconds)
        await real(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return made


@pytest.mark.parametrize(
    "damage",
    [
        FLUSH,
        change(made=True),
        change(overrun=True),
        change(element("listed_tcp", b"\0\x16", present=False)),
    ],
    ids=["deleted", "made", "overrun", "element-of-the-config"],
)
def test_damage_is_repaired_and_its_program_named(table: GuardedTable, damage: TableChange) -> None:
    table.notify(damage)
    assert table.changer.repairs == 1
    [(kind, fields)] = table.recorder.events
    assert (kind, fields["by"], fields["lacked"], fields["blocks"]) == (
        "healed",
        "nft",
        ["table"],
        3,
    )
    assert table.guard.status().items() >= {"count": 1, "by": "nft", "pid": 7}.items()
    assert not table.guard.is_repairing


def test_a_block_of_another_program_is_not_damage(table: GuardedTable) -> None:
    table.notify(change(element("block4", bytes(4), present=True)))
    assert table.changer.repairs == 0
    assert table.guard.status() == {"count": 0}


def test_a_lost_notification_makes_memory_incomplete(table: GuardedTable) -> None:
    table.notify(change(overrun=True))
    assert table.memory.may_be_incomplete


def test_an_addition_that_damages_nothing_is_kept(table: GuardedTable) -> None:
    table.changer.done = None
    table.reader.plan = PLAN._replace(objects={"counter": b""})
    table.notify(change(made=True))
    assert table.guard._plan == table.reader.plan
    assert table.recorder.events == []


@pytest.mark.parametrize("plan", [None, PLAN._replace(rules=())], ids=["missing", "empty"])
def test_a_broken_table_is_not_learned(table: GuardedTable, plan: Any) -> None:
    table.changer.done = None
    table.reader.plan = plan
    table.notify(change(made=True))
    assert table.guard._plan == PLAN


def test_changes_during_a_repair_are_repaired_with_it(table: GuardedTable) -> None:
    table.notify(FLUSH, FLUSH, FLUSH)
    assert table.changer.repairs == 1


def test_a_failed_repair_is_reported(table: GuardedTable, caplog: pytest.LogCaptureFixture) -> None:
    table.changer.fault = KernelError(12, "repair")
    with caplog.at_level(logging.ERROR, "sentryfwd"):
        table.notify(FLUSH)
    assert table.recorder.kinds() == ["heal-failed"]
    assert "cannot repair the table: repair" in caplog.text
    assert table.failures == 1
    assert not table.guard.is_repairing


def test_an_uninstall_is_not_repaired(table: GuardedTable, tmp_path: Path) -> None:
    command = TableLock(tmp_path)
    with command.held():
        command.write("uninstalled")
    table.notify(change(taken=["table"]))
    assert table.changer.repairs == 0
    assert not table.guard.is_installed


def test_an_uninstalled_table_is_left_alone(table: GuardedTable) -> None:
    table.guard.is_installed = False
    table.notify(change(taken=["set"]))
    assert table.changer.repairs == 0


def test_another_install_is_learned(table: GuardedTable, tmp_path: Path) -> None:
    command = TableLock(tmp_path)
    with command.held():
        command.write("installed")
    table.guard.is_installed = False
    table.reader.plan = PLAN._replace(objects={"counter": b""})
    table.changer.done = None
    table.notify(change(made=True))
    assert table.guard.is_installed
    assert table.guard._plan == table.reader.plan
    assert table.recorder.events == []


def test_repeated_damage_raises_the_alarm_and_is_repaired_later(
    table: GuardedTable, sleeps: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    async def flush() -> None:
        for _ in range(back_off.ALARM_REPAIRS_COUNT + 2):
            table.monitor.changes.append(FLUSH)
            table.guard.read_changes()
            await asyncio.wait(table.thread._tasks)

    with caplog.at_level(logging.ERROR, "sentryfwd"):
        table.run(flush)
    assert sleeps == [1.0, 2.0]
    assert table.changer.repairs == back_off.ALARM_REPAIRS_COUNT + 2
    assert table.recorder.kinds().count("alarm") == 1
    assert "ALARM: the table was repaired 3 times in a minute" in caplog.text


async def _damage(table: GuardedTable, *changes: TableChange) -> None:
    table.monitor.changes += changes
    table.guard.read_changes()
    await asyncio.wait(table.thread._tasks)


INSTALL = TableChange(42, "python3", frozenset({"rule"}), True, ())
"""The changes of `sentryfw install`."""


def test_an_install_after_repeated_damage_is_neither_named_nor_waited_for(
    table: GuardedTable, tmp_path: Path, sleeps: list[float]
) -> None:
    """It has made a table without the blocks that the damage took: they are restored at once."""

    async def storm() -> None:
        for _ in range(back_off.ALARM_REPAIRS_COUNT):
            await _damage(table, FLUSH)
        repairs = table.changer.repairs
        for _ in range(5):
            command = TableLock(tmp_path)
            with command.held():
                command.write("installed")
            await _damage(table, INSTALL)
        assert table.changer.repairs == repairs + 5

    table.run(storm)
    assert sleeps == []
    assert "alarm" not in table.recorder.kinds()


def test_a_reload_after_repeated_damage_is_neither_named_nor_waited_for(
    table: GuardedTable, sleeps: list[float]
) -> None:
    async def storm() -> None:
        for _ in range(back_off.ALARM_REPAIRS_COUNT):
            await _damage(table, FLUSH)
        for _ in range(5):
            table.monitor.changes.append(INSTALL)
            await table.guard.reinstall(lambda: None)
            table.changer.done = None  # what the child did is whole
            await _damage(table, INSTALL)

    table.run(storm)
    assert sleeps == []
    assert "alarm" not in table.recorder.kinds()


def test_damage_beside_our_own_changes_is_named_by_the_program_that_did_it(
    table: GuardedTable, sleeps: list[float]
) -> None:
    """The counterpart: who deletes while we install is found all the same."""

    async def storm() -> None:
        for _ in range(back_off.ALARM_REPAIRS_COUNT + 1):
            await _damage(table, FLUSH, change(made=True))

    table.run(storm)
    assert sleeps == [1.0]
    [alarm] = [fields for kind, fields in table.recorder.events if kind == "alarm"]
    assert (alarm["by"], alarm["pid"]) == ("nft", 7)


def test_no_delay_leaves_the_sets_empty_for_long() -> None:
    assert max(back_off.DELAYS_S) <= 5


# --- changes of the daemon


class FakeSets:
    """Takes never-block networks."""

    def __init__(self) -> None:
        self.networks: NetworkIndex | None = None
        self.known: NetworkIndex | None = None

    def replace_never_block(self, networks: NetworkIndex, known: NetworkIndex | None) -> None:
        self.networks, self.known = networks, known

    def replace_neighbours(self, *_: object) -> None:
        pass


HELD = packed_range(0xC0000200, 0xC00002FF, 4)
"""192.0.2.0/24 as an element."""


def _never_block_plan(*elements4: bytes) -> TableSnapshot:
    listed = PLAN.sets["listed_tcp"]
    made = {"never_block4": elements4, "never_block6": ()}
    sets = {name: listed._replace(name=name, elements=held) for name, held in made.items()}
    return PLAN._replace(sets=sets)


def _held(guard: TableGuard) -> list[list[tuple[int, int]]]:
    return [guard._plan.sets[name].ranges() for name in ("never_block4", "never_block6")]


@pytest.mark.parametrize("is_installed", [True, False])
def test_never_block_networks_are_replaced_in_the_table_and_the_plan(
    table: GuardedTable, *, is_installed: bool
) -> None:
    sets: Any = FakeSets()
    done: list[NetworkIndex] = []
    table.guard.keep(_never_block_plan(HELD), table.stamp, networks("192.0.2.0/24"))
    table.guard.is_installed = is_installed
    wanted = networks("198.18.0.0/24")
    replaced = table.run(lambda: table.guard.replace_never_block(sets, wanted, done.append))
    assert replaced is is_installed
    if is_installed:
        assert done == [wanted]
        assert sets.known == networks("192.0.2.0/24")
        assert sets.networks == networks("198.18.0.0/24")
        assert _held(table.guard) == [sets.networks.ranges(4), sets.networks.ranges(6)]
    else:
        assert (done, sets.networks) == ([], None)
        held = networks("192.0.2.0/24")
        assert _held(table.guard) == [held.ranges(4), held.ranges(6)]


def test_the_next_difference_is_of_what_was_replaced(table: GuardedTable) -> None:
    sets: Any = FakeSets()
    table.guard.keep(_never_block_plan(HELD), table.stamp, networks("192.0.2.0/24"))

    async def twice() -> None:
        for text in ("198.18.0.0/24", "203.0.113.0/24"):
            await table.guard.replace_never_block(sets, networks(text), print)

    table.run(twice)
    assert sets.known == networks("198.18.0.0/24")


def test_a_plan_that_another_command_has_changed_is_read(table: GuardedTable) -> None:
    sets: Any = FakeSets()
    table.guard.keep(_never_block_plan(), table.stamp)
    table.guard._plan = _never_block_plan(HELD)  # learnt
    table.run(lambda: table.guard.replace_never_block(sets, networks(), print))
    assert sets.known == networks("192.0.2.0/24")


def test_networks_of_neighbours_are_read_back(table: GuardedTable) -> None:
    sets: Any = FakeSets()
    names = ("onlink4", "onlink6", "whole6")
    listed = PLAN.sets["listed_tcp"]
    table.guard.keep(
        PLAN._replace(sets={name: listed._replace(name=name) for name in names}), table.stamp
    )
    done: list[Neighbours] = []
    assert table.run(lambda: table.guard.replace_neighbours(sets, Neighbours(), done.append))
    assert done == [Neighbours()]
    assert [table.guard._plan.sets[name].elements for name in names] == [(b"new",)] * 3


def test_a_damaged_set_is_replaced_as_a_whole(table: GuardedTable) -> None:
    """Otherwise the plan would take over what another program has changed."""
    sets: Any = FakeSets()
    table.guard.keep(_never_block_plan(HELD), table.stamp)
    table.monitor.changes.append(change(element("never_block4", bytes(4), present=False)))
    table.run(lambda: table.guard.replace_never_block(sets, networks(), print))
    assert sets.networks is not None
    assert sets.known is None


def test_a_reinstall_is_kept(table: GuardedTable) -> None:
    table.changer.done = None
    table.reader.plan = PLAN._replace(objects={"counter": b""})
    assert table.run(lambda: table.guard.reinstall(lambda: "made")) == "made"
    assert table.guard._plan == table.reader.plan
    assert table.guard._stamp != table.stamp


def test_a_reinstall_after_an_uninstall_is_refused(table: GuardedTable, tmp_path: Path) -> None:
    command = TableLock(tmp_path)
    with command.held():
        command.write("uninstalled")
    with pytest.raises(NotInstalled):
        table.run(lambda: table.guard.reinstall(print))


@pytest.mark.parametrize(
    "cause",
    [FLUSH, change(overrun=True), TableChange(7, "nft", frozenset(), False, (), switched_off=True)],
    ids=["deleted after a hang", "lost notification", "the switch itself"],
)
def test_after_the_switch_nothing_is_repaired(table: GuardedTable, cause: TableChange) -> None:
    called: list[bool] = []
    table.guard.switched_off = lambda: called.append(True)
    table.reader.switched_off = True
    table.notify(cause)
    table.notify(FLUSH)
    assert (table.changer.repairs, called) == (0, [True])
    assert not table.guard.is_installed


def test_a_switch_that_is_gone_again_counts_for_nothing(table: GuardedTable) -> None:
    table.notify(TableChange(7, "nft", frozenset(), False, (), switched_off=True), FLUSH)
    assert table.changer.repairs == 1
    assert table.guard.is_installed


def test_damage_during_a_repair_that_fails_for_it_is_repaired(table: GuardedTable) -> None:
    """The sets are read one by one; a flush in between makes the reading fail."""
    real = table.changer.repair

    def repair(*words: Any) -> Any:
        table.changer.repair = real  # type: ignore[method-assign]
        table.guard._causes.append(FLUSH)  # as the event loop does, beside the thread
        raise KernelError(2, "set block4")

    table.changer.repair = repair  # type: ignore[method-assign]
    table.notify(FLUSH)
    assert table.changer.repairs == 1
    assert table.recorder.kinds() == ["heal-failed", "healed"]
