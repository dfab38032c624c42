"""Losses of flows, after which packets of unknown flows are expected."""

import errno
from collections.abc import Iterator
from typing import Any

import pytest

from sentryfw.daemon import flow_loss
from sentryfw.daemon.flow_loss import FlowLoss
from sentryfw.engine.engine import Engine
from sentryfw.engine.flows import FLOWS_UNKNOWN_S
from sentryfw.netlink.conntrack import Flows
from support.guarding import FakeRecorder
from support.transcript import HORIZONS, POLICY


class Watched:
    """A watch over an engine, a count of flows, and a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.flows: int | None = 0
        self.limit = 0
        self.fault = False
        self.flushed = False
        self.removed = False
        self.engine = Engine(HORIZONS, POLICY)
        self.recorder: Any = FakeRecorder()
        monkeypatch.setattr(flow_loss, "clock", lambda: self.now)
        monkeypatch.setattr(flow_loss, "ConntrackCounter", lambda: self)
        monkeypatch.setattr(flow_loss, "FlushDetector", lambda: self)
        self.loss = FlowLoss(self.engine, self.recorder)

    def read(self) -> Flows | None:
        if self.fault:
            raise OSError
        return None if self.flows is None else Flows(self.flows, self.limit)

    def was_flushed(self) -> bool:
        if self.fault:
            raise OSError
        return self.flushed

    def remove(self) -> None:
        if self.fault:
            raise OSError(errno.EPERM, "not permitted")
        self.removed = True

    def close(self) -> None:
        pass

    def second(self, flows: int | None = None, changes: int = 0, *, flushed: bool = False) -> bool:
        """Return whether unknown flows are expected from this second on."""
        self.now += 100.0
        self.flows = flows
        self.flushed = flushed
        self.loss.tick(changes)
        return self.engine.flows_unknown_until == self.now + FLOWS_UNKNOWN_S


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    made = Watched(monkeypatch)
    yield made
    made.loss.close()


def test_at_the_start_no_flow_is_known(watched: Watched) -> None:
    assert watched.engine.flows_unknown_until == FLOWS_UNKNOWN_S


@pytest.mark.parametrize(
    ("before", "after", "lost"),
    [(1000, 0, True), (1000, 500, True), (16, 0, True), (15, 0, False), (0, 0, False),
     (1000, None, True)],
)  # fmt: skip
def test_a_flush_of_more_than_a_few_flows_is_a_loss(
    watched: Watched, before: int, after: int | None, *, lost: bool
) -> None:
    watched.second(before)
    assert watched.second(after, flushed=True) is lost
    assert watched.recorder.kinds() == ["flows-lost"] * lost
    assert not watched.second(after)


def test_flows_that_expire_together_are_not_lost(watched: Watched) -> None:
    """Any host can begin many short flows at once."""
    assert not any(watched.second(flows) for flows in (100_000, 0, 400, 2, 1_000, 300))
    assert watched.recorder.kinds() == []


def test_our_flows_are_removed_at_the_end(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.loss.close()
    assert watched.removed
    watched.fault = True
    watched.loss.close()
    assert caplog.messages == [
        "connection tracking keeps the flows that show a flush: not permitted"
    ]


def test_an_address_that_moves_here_is_a_failover(watched: Watched) -> None:
    assert not watched.second(10)
    assert watched.second(10, changes=1)
    assert not watched.second(10, changes=1)
    assert watched.second(10, changes=3)


def test_without_a_count_nothing_is_lost(watched: Watched) -> None:
    watched.second(1000)
    watched.fault = True
    assert not watched.second(0, flushed=True)
    watched.fault = False
    assert watched.second(0, flushed=True)


def test_a_full_table_is_reported_once_and_its_end(watched: Watched) -> None:
    watched.limit = 1000
    for flows in (900, 949):
        watched.second(flows)
    assert watched.recorder.kinds() == []
    for flows in (950, 1000, 940, 960):
        watched.second(flows)
    assert watched.recorder.kinds() == ["conntrack-full"]
    for flows in (899, 900):
        watched.second(flows)
    assert watched.recorder.kinds() == ["conntrack-full", "conntrack-full-over"]


def test_without_a_limit_no_table_is_full(watched: Watched) -> None:
    watched.second(1_000_000)
    assert watched.recorder.kinds() == []
