"""Partners are confined unless that would cut them off from what the table did not learn."""

from typing import Any

import pytest

from sentryfw.daemon.confine_watch import PERIOD_S, ConfineWatch
from sentryfw.daemon.overload import Loss
from sentryfw.errors import KernelError
from sentryfw.netfilter.schema import PARTNER_SET_SIZE, SERVED_SET_SIZE, SERVED_UDP_SET_SIZE
from support.transcript import scenario


class FakeDecisions:
    """The answers of the table."""

    def __init__(self) -> None:
        self.paused = False
        self.count_of = 0
        self.fault = False

    def is_paused(self) -> bool:
        if self.fault:
            raise KernelError(2, "get element")
        return self.paused

    def count(self, _name: str) -> int | None:
        return self.count_of


class Watched:
    """A watch of a fake table."""

    def __init__(self) -> None:
        self.decisions = FakeDecisions()
        self.notes: list[str] = []
        self.engine = scenario().engine
        made: Any = self
        self.watch = ConfineWatch(self.engine, made, made)

    def note(self, kind: str, **_fields: object) -> None:
        self.notes.append(kind)

    def is_possible(self) -> bool:
        for _ in range(PERIOD_S + 1):
            self.watch.tick()
        return self.engine.decider.policy.confine


def test_a_new_table_confines() -> None:
    watched = Watched()
    assert watched.is_possible()
    assert (watched.notes, watched.watch.obstacle) == ([], "")


@pytest.mark.parametrize("full", [False, True], ids=["paused", "full"])
def test_confinement_pauses_and_resumes_and_both_are_noted(*, full: bool) -> None:
    watched = Watched()
    watched.decisions.paused = not full
    watched.decisions.count_of = SERVED_SET_SIZE * 9 // 10 + 1 if full else 0
    assert not watched.is_possible()
    assert not watched.is_possible()
    watched.decisions.paused, watched.decisions.count_of = False, 10
    assert watched.is_possible()
    assert watched.notes == ["confine-paused", "confine-resumed"]


def test_during_a_repair_it_stays_as_it_was() -> None:
    watched = Watched()
    watched.decisions.paused = True
    assert not watched.is_possible()
    watched.decisions.fault = True
    assert not watched.is_possible()


def test_a_reload_makes_a_new_policy_and_the_pause_holds() -> None:
    watched = Watched()
    watched.decisions.paused = True
    assert not watched.is_possible()
    watched.engine.decider.confine(is_possible=True)
    assert not watched.is_possible()


def test_full_sets_are_counted_by_what_they_hold() -> None:
    watched = Watched()
    watched.decisions.count_of = SERVED_UDP_SET_SIZE
    assert watched.is_possible()  # UDP's own set is full: partners do not depend on it
    assert watched.watch.full == {Loss.SERVED_SET_FULL: 2}
    watched.decisions.count_of = PARTNER_SET_SIZE
    assert not watched.is_possible()
    assert watched.watch.full == {Loss.SERVED_SET_FULL: 6, Loss.PARTNER_SET_FULL: 2}
