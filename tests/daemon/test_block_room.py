"""Blocks that drop nothing give way, near [block] max_elements."""

import asyncio
from typing import Any

import pytest

from sentryfw.daemon import block_room
from sentryfw.daemon.block_room import IDLE_S, PERIOD_S, BlockRoom
from sentryfw.engine.caps import Caps
from sentryfw.engine.model import Source, parse_source
from sentryfw.errors import KernelError
from support.guarding import FakeRecorder

ONE, TWO, SIX = (parse_source(text) for text in ("192.0.2.1", "192.0.2.2", "2001:db8::/64"))


class Room:
    """A room beside caps that are nearly used up, and the packets that blocks have dropped."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.packets = {ONE: 0, TWO: 5, SIX: 0}
        self.displaced: list[Source] = []
        self.unblocked: list[str] = []
        self.fault = False
        self.recorder = FakeRecorder()
        self.caps = Caps(per_minute=100, max_elements=2)
        for source in self.packets:
            self.caps.count(source, 0.0, 3600.0, forgeable=True, offence=1)
        made: Any = self
        self.engine: Any = made
        self.decider: Any = made
        self.room = BlockRoom(made, made, made.recorder)
        monkeypatch.setattr(block_room, "clock", lambda: self.now)
        monkeypatch.setattr(block_room, "_dropped", self._read)

    def _read(self, sources: list[Source]) -> dict[Source, int]:
        if self.fault:
            raise KernelError(1, "elements")
        return {source: self.packets[source] for source in sources}

    def take_displaced(self) -> list[Source]:
        taken, self.displaced = self.displaced, []
        return taken

    def record_unblocked(self, addresses: list[str]) -> None:
        self.unblocked += addresses

    def read(self, now: float) -> list[Source]:
        """Let a period pass; return the blocks that may give way."""
        self.now = now

        async def ticks() -> None:
            for _ in range(PERIOD_S + 1):
                self.room.tick()
                while self.room._task is not None and not self.room._task.done():
                    await asyncio.wait({self.room._task})

        asyncio.run(ticks())
        return list(self.caps._four.idle)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = Room(monkeypatch)
    yield made
    made.room.close()


def test_a_block_that_drops_nothing_may_give_way(room: Room) -> None:
    assert room.read(0.0) == []
    room.packets[TWO] += 1  # a scanner at one probe a minute
    assert room.read(60.0) == []
    room.packets[TWO] += 1
    assert room.read(IDLE_S) == [ONE]
    room.packets[TWO] += 1
    assert room.read(IDLE_S + 60) == [ONE]
    room.packets[ONE] += 1
    assert room.read(IDLE_S + 120) == []


def test_nothing_is_read_while_there_is_room(room: Room) -> None:
    room.caps.reconfigure(100, 100)
    room.fault = True
    assert room.read(0.0) == []
    assert room.room._task is None


def test_counters_that_cannot_be_read_are_read_later(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    room.read(0.0)
    room.fault = True
    assert room.read(IDLE_S) == []
    assert "cannot read which blocks drop nothing" in caplog.text
    room.fault = False
    assert room.read(IDLE_S + 10) == [ONE, TWO]


def test_what_gave_way_is_recorded_once(room: Room) -> None:
    room.displaced = [ONE, SIX]
    room.read(0.0)
    assert room.unblocked == ["192.0.2.1", "2001:db8::/64"]
    [(kind, fields)] = room.recorder.events
    assert (kind, fields["count"], fields["by"]) == ("unblocked", 2, "sentryfwd")
