"""The decoys in the daemon's loop: visits, payloads, restarts, and another configuration."""

import asyncio
import os
from collections.abc import Iterator
from typing import Any, Final

import pytest

from sentryfw.config.decoy import Decoy
from sentryfw.daemon import decoy_watch
from sentryfw.daemon.decoy_watch import MAX_PAYLOADS_PER_TICK, DecoyWatch
from sentryfw.decoy.wire import CONNECTED, PAYLOAD, Visit
from sentryfw.errors import SentryError
from support.forge import packed

OLD: Final = Decoy.model_validate({"tcp": [23]})
NEW: Final = Decoy.model_validate({"tcp": [24]})
NONE: Final = Decoy()
VISIT: Final = Visit(CONNECTED, packed("192.0.2.1"), 40_000, packed("198.18.0.1"), 23)


class FakeDecoys:
    """Decoys without a process: a pipe that is readable once there are visits."""

    failing: "list[Decoy]"
    running: "list[Decoy]"

    def __init__(self, config: Decoy, mark: int) -> None:
        if config in self.failing:
            raise SentryError("decoys: port 1: taken")
        self.config = config
        self.visits: list[Visit] = []
        self.restarted: str | None = None
        self._reader, self._writer = os.pipe()
        self.running.append(config)

    def fileno(self) -> int:
        return self._reader

    def send(self, *visits: Visit) -> None:
        self.visits += visits
        os.write(self._writer, b".")

    def receive(self) -> Iterator[Visit]:
        os.read(self._reader, 1)
        yield from self.visits
        self.visits = []

    def revive(self) -> str | None:
        return self.restarted

    def close(self) -> None:
        self.running.remove(self.config)
        os.close(self._reader)
        os.close(self._writer)


class Judged:
    """The packet path and the recorder, as far as decoys need them."""

    def __init__(self) -> None:
        self.visits: list[Visit] = []
        self.notes: list[tuple[str, dict[str, object]]] = []

    def judge_visit(self, visit: Visit) -> None:
        self.visits.append(visit)

    def note(self, kind: str, **fields: object) -> None:
        self.notes.append((kind, fields))


@pytest.fixture(autouse=True)
def decoys(monkeypatch: pytest.MonkeyPatch) -> type[FakeDecoys]:
    FakeDecoys.failing, FakeDecoys.running = [], []
    monkeypatch.setattr(decoy_watch, "Decoys", FakeDecoys)
    return FakeDecoys


def watch(config: Decoy, judged: Any = None) -> Any:
    judged = judged or Judged()
    return DecoyWatch(config, judged, judged)


def test_a_visit_is_judged_and_its_payload_is_recorded() -> None:
    judged = Judged()

    async def run() -> None:
        made = watch(OLD, judged)
        made.start()
        made.decoys.send(VISIT, VISIT._replace(kind=PAYLOAD, payload=b"GET /\n"))
        await asyncio.sleep(0.01)
        made.stop()
        made.close()

    asyncio.run(run())
    assert judged.visits == [VISIT]
    assert judged.notes == [
        ("decoy", {"address": "192.0.2.1", "port": 40_000, "target": "198.18.0.1",
                   "target_port": 23, "payload": "GET /\\x0a"})
    ]  # fmt: skip


def test_payloads_are_limited_until_the_next_tick() -> None:
    judged = Judged()

    async def run() -> None:
        made = watch(OLD, judged)
        made.start()
        flood = [VISIT._replace(kind=PAYLOAD)] * (MAX_PAYLOADS_PER_TICK + 5)
        for _ in range(2):
            made.decoys.send(*flood)
            await asyncio.sleep(0.01)
        assert len(judged.notes) == MAX_PAYLOADS_PER_TICK
        made.tick()
        made.decoys.send(*flood)
        await asyncio.sleep(0.01)
        made.stop()
        made.close()

    asyncio.run(run())
    assert len(judged.notes) == 2 * MAX_PAYLOADS_PER_TICK


def test_a_restart_is_recorded() -> None:
    judged = Judged()
    made = watch(OLD, judged)
    made.decoys.restarted = "the decoy ended with status 1 and was started again"
    made.tick()
    assert judged.notes == [("decoy-restarted", {"error": made.decoys.restarted})]
    made.close()


@pytest.mark.parametrize("before", [OLD, NONE], ids=["decoys", "none"])
@pytest.mark.parametrize("after", [NEW, NONE], ids=["others", "none"])
def test_another_configuration_replaces_the_decoys(before: Decoy, after: Decoy) -> None:
    async def run() -> None:
        made = watch(before)
        made.start()
        await made.replace(after)
        assert FakeDecoys.running == ([after] if after.wanted else [])
        assert (made.decoys is not None) == after.wanted
        made.stop()
        made.close()

    asyncio.run(run())
    assert FakeDecoys.running == []


def test_the_same_configuration_leaves_the_decoys_alone() -> None:
    async def run() -> None:
        made = watch(OLD)
        made.start()
        before = made.decoys
        await made.replace(OLD)
        assert made.decoys is before
        made.stop()
        made.close()

    asyncio.run(run())


def test_decoys_that_fail_leave_none_and_the_old_ones_can_run_again() -> None:
    FakeDecoys.failing.append(NEW)

    async def run() -> None:
        made = watch(OLD)
        made.start()
        with pytest.raises(SentryError, match="taken"):
            await made.replace(NEW)
        assert made.decoys is None
        await made.replace(OLD)
        assert FakeDecoys.running == [OLD]
        made.stop()
        made.close()

    asyncio.run(run())
