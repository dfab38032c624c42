"""Looks for services that started after their clients came, without a kernel."""

import asyncio
import errno
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sentryfw.daemon import relisting
from sentryfw.daemon.relisting import MIN_AGE_S, Relisting, Sockets
from sentryfw.engine.model import Block
from sentryfw.engine.revision import Revision
from sentryfw.errors import KernelError, NotFound
from sentryfw.guard.block_index import BlockIndex, element_key
from sentryfw.netfilter.schema import DECOY_MARK
from sentryfw.netlink.sock_diag import TCP, UDP, Receiver
from support.guarding import FakeRecorder
from support.transcript import A, Scenario, scenario

SERVICE = Receiver(TCP, bytes(16), 993, both=True, interface=0, mark=0, cookie=b"service")


class Kernel:
    """The sockets of a host, and a clock."""

    def __init__(self) -> None:
        self.sockets: list[Receiver] = []
        self.now = 0.0
        self.fault: OSError | None = None
        self.looks = 0

    def receivers(self) -> list[Receiver]:
        self.looks += 1
        if self.fault is not None:
            raise self.fault
        return self.sockets


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(relisting.sock_diag, "receivers", made.receivers)
    monkeypatch.setattr(relisting, "clock", lambda: made.now)
    return made


@pytest.fixture
def sockets(kernel: Kernel, tmp_path: Path) -> Sockets:
    path = tmp_path / "range"
    path.write_text("32768\t60999\n")
    return Sockets(path)


# --- sockets


def test_a_socket_counts_once_it_is_ten_seconds_old(kernel: Kernel, sockets: Sockets) -> None:
    assert sockets.look(0.0) == {}
    kernel.sockets = [SERVICE]
    assert sockets.look(5.0) == {}
    assert sockets.look(5.0 + MIN_AGE_S - 1) == {}
    places = {(bytes(16), TCP, 993): 5.0, (bytes(4), TCP, 993): 5.0}
    assert sockets.look(5.0 + MIN_AGE_S) == places
    assert sockets.look(5.0 + MIN_AGE_S + 1) == {}  # it is not new any more


def test_a_socket_that_comes_and_goes_does_not_grow_old(kernel: Kernel, sockets: Sockets) -> None:
    for now in range(0, 60, 3):
        kernel.sockets = [SERVICE._replace(cookie=str(now // 6).encode())]
        assert sockets.look(float(now)) == {}


@pytest.mark.parametrize(
    ("socket", "counts"),
    [
        (SERVICE, True),
        (SERVICE._replace(port=40000), True),
        (SERVICE._replace(protocol=UDP), True),
        (SERVICE._replace(protocol=UDP, port=32767), True),
        (SERVICE._replace(protocol=UDP, port=32768), False),
        (SERVICE._replace(protocol=UDP, port=60999), False),
        (SERVICE._replace(mark=DECOY_MARK), False),
        (SERVICE._replace(interface=3), False),
    ],
    ids=["tcp", "tcp-high", "udp", "udp-below", "udp-client", "udp-last", "decoy", "interface"],
)
def test_sockets_of_clients_and_decoys_do_not_count(
    kernel: Kernel, sockets: Sockets, socket: Receiver, *, counts: bool
) -> None:
    """A resolver's socket is open for as long as an attacker delays its answer."""
    kernel.sockets = [socket]
    sockets.look(0.0)
    assert bool(sockets.look(MIN_AGE_S)) is counts


def test_without_a_port_range_the_kernel_s_own_counts(kernel: Kernel, tmp_path: Path) -> None:
    sockets = Sockets(tmp_path / "missing")
    kernel.sockets = [SERVICE._replace(protocol=UDP, port=40000), SERVICE._replace(protocol=UDP)]
    sockets.look(0.0)
    kernel.sockets[0] = kernel.sockets[0]._replace(cookie=b"client")
    sockets.look(0.0)
    assert {port for _, _, port in sockets.look(MIN_AGE_S)} == {993}


# --- what follows


class FakeSets:
    def __init__(self) -> None:
        self.unblocked: list[bytes] = []
        self.fault: Exception | None = None

    def unblock(self, source: bytes) -> None:
        if self.fault is not None:
            raise self.fault
        self.unblocked.append(source)


class Watched:
    """A relisting over a real engine that has blocked A for three services."""

    def __init__(self, kernel: Kernel, run: Scenario) -> None:
        self.kernel = kernel
        self.engine = run.engine
        revision = Revision(run.engine)
        [self.block] = run.outcomes[-1].blocks
        revision.remember(self.block)
        self.path: Any = SimpleNamespace(
            engine=run.engine, revision=revision, acknowledged=0,
            unblocked=run.engine.release,
        )  # fmt: skip
        self.sets = FakeSets()
        self.recorder: Any = FakeRecorder()
        ends = BlockIndex()
        ends[element_key(self.block.source)] = (self.block.timeout, self.end_of(self.block))
        self.recorded: list[str] = []
        guard: Any = SimpleNamespace(
            memory=SimpleNamespace(ends=ends), record_unblocked=self.recorded.extend
        )
        self.ends = ends
        sets: Any = self.sets
        self.relisting = Relisting(self.path, sets, guard, self.recorder)

    @staticmethod
    def end_of(block: Block) -> float:
        return block.at + block.timeout

    def run(self, *times: float) -> None:
        async def ticks() -> None:
            for now in times:
                self.kernel.now = now
                self.relisting.tick()
                if self.relisting._task is not None:
                    await self.relisting._task

        asyncio.run(ticks())


@pytest.fixture
def watched(kernel: Kernel) -> Iterator[Watched]:
    made = Watched(kernel, scenario().syn(A, 993, 587, 443))
    yield made
    made.relisting.close()


def test_the_block_of_a_client_is_ended_recorded_and_reported(
    kernel: Kernel, watched: Watched
) -> None:
    watched.run(1.0)
    kernel.sockets = [SERVICE]
    watched.run(2.0, 7.0)
    assert watched.sets.unblocked == []
    watched.run(2.0 + MIN_AGE_S)
    assert watched.sets.unblocked == [watched.block.source]
    assert watched.recorded == [A]
    [refusal] = [entry for entry in watched.recorder.records if entry.reason == "listed"]
    assert refusal.address == A
    assert not refusal.blocked
    assert watched.recorder.kinds() == ["unblocked"]
    state = watched.engine.tracker.get(watched.block.source)
    assert state is not None
    assert [target[2] for target in state.targets] == [587, 443]


@pytest.mark.parametrize("change", ["by hand", "gone", "forever"])
def test_a_block_that_is_not_ours_any_more_stays(
    kernel: Kernel, watched: Watched, change: str
) -> None:
    key = element_key(watched.block.source)
    if change == "gone":
        watched.ends.pop(key)
    else:
        watched.ends[key] = {"by hand": (3600.0, 4000.0), "forever": (0.0, 0.0)}[change]
    kernel.sockets = [SERVICE]
    watched.run(1.0, 1.0 + MIN_AGE_S)
    assert watched.sets.unblocked == []
    assert watched.recorder.kinds() == []


@pytest.mark.parametrize("fault", [NotFound("gone"), KernelError(errno.EBUSY, "busy")])
def test_a_kernel_that_refuses_leaves_the_block(
    kernel: Kernel, watched: Watched, fault: Exception
) -> None:
    watched.sets.fault = fault
    kernel.sockets = [SERVICE]
    watched.run(1.0, 1.0 + MIN_AGE_S)
    assert watched.recorded == []


def test_it_looks_ten_minutes_and_then_a_minute_after_a_block(
    kernel: Kernel, watched: Watched
) -> None:
    watched.run(1.0, 599.0)
    assert kernel.looks == 2
    watched.run(601.0, 700.0)
    assert kernel.looks == 2
    watched.path.acknowledged += 1
    watched.run(701.0, 759.0, 762.0)
    assert kernel.looks == 4


def test_a_fault_is_reported_once(
    kernel: Kernel, watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    kernel.fault = OSError(errno.EPERM, "no")
    watched.run(1.0, 2.0, 3.0)
    assert caplog.text.count("cannot look for sockets") == 1
