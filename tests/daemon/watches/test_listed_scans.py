"""Sources that open many listed ports and send nothing are reported once."""

import asyncio
from typing import Any

import pytest

from sentryfw.daemon.watches import listed_scans
from sentryfw.daemon.watches.listed_scans import (
    GRACE_S,
    MAX_SAID,
    MIN_SILENT_PORTS,
    PERIOD_S,
    SAID_S,
    ListedScans,
)
from sentryfw.engine.model import Source, parse_source
from sentryfw.errors import KernelError
from sentryfw.netfilter.sets.opened import Opened
from sentryfw.record.throttle import LISTED
from support.guarding import FakeRecorder

ONE, SIX = parse_source("192.0.2.1"), parse_source("2001:db8::/64")


class Watch:
    """A watch, and what the rules have noted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.noted: dict[Source, list[Opened]] = {}
        self.fault = False
        self.recorder = FakeRecorder()
        recorder: Any = self.recorder
        self.watch = ListedScans(recorder)
        monkeypatch.setattr(listed_scans, "clock", lambda: self.now)
        monkeypatch.setattr(listed_scans, "_read", self._read)

    def _read(self) -> dict[Source, list[Opened]]:
        if self.fault:
            raise KernelError(1, "elements")
        return self.noted

    def see(self, source: Source, ports: int, *, age: float = GRACE_S, talked: int = 0) -> None:
        """Let a period pass in which a source has opened these ports, beyond the limit."""
        self.noted = {source: [Opened(100 + n, age, n < talked) for n in range(ports)]}
        self.pass_period()

    def pass_period(self) -> None:
        async def ticks() -> None:
            for _ in range(PERIOD_S + 1):
                self.watch.tick()
                task = self.watch._task
                if task is not None and not task.done():
                    await asyncio.wait({task})

        asyncio.run(ticks())

    @property
    def said(self) -> list[tuple[str, list[int]]]:
        return [(f["address"], f["ports"]) for kind, f in self.recorder.events if kind == LISTED]


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


def test_who_opens_many_ports_and_sends_nothing_is_reported_once(watch: Watch) -> None:
    watch.see(ONE, MIN_SILENT_PORTS)
    watch.see(ONE, MIN_SILENT_PORTS + 5)
    assert watch.said == [("192.0.2.1", [100, 101, 102, 103])]
    watch.now = SAID_S + 1
    watch.see(ONE, MIN_SILENT_PORTS)
    assert len(watch.said) == 2


def test_a_ipv6_source_is_named_by_its_prefix(watch: Watch) -> None:
    watch.see(SIX, MIN_SILENT_PORTS)
    assert [name for name, _ in watch.said] == ["2001:db8::/64"]


def test_who_sends_data_is_not_reported(watch: Watch) -> None:
    watch.see(ONE, 50, talked=50 - MIN_SILENT_PORTS + 1)
    assert watch.said == []


def test_a_client_has_time_to_send_data(watch: Watch) -> None:
    watch.see(ONE, 50, age=GRACE_S - 0.1)
    assert watch.said == []


def test_a_fault_of_the_table_is_not_the_end(watch: Watch) -> None:
    watch.fault = True
    watch.see(ONE, MIN_SILENT_PORTS)
    assert watch.said == []
    watch.fault = False
    watch.pass_period()
    assert len(watch.said) == 1


def test_it_reads_once_a_period(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr(listed_scans, "_read", lambda: read.append(1) or {})
    watch.pass_period()
    watch.pass_period()
    assert len(read) == 2


def test_its_memory_is_bounded(watch: Watch) -> None:
    opened = [Opened(100 + n, GRACE_S, has_talked=False) for n in range(MIN_SILENT_PORTS)]
    watch.noted = {Source(number.to_bytes(4)): opened for number in range(MAX_SAID + 10)}
    watch.pass_period()
    assert len(watch.watch._said) == MAX_SAID
