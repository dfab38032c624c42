"""Refreshes of the never-block sources: on which changes, and after which faults."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from sentryfw.config.model import Config
from sentryfw.errors import ConfigError, KernelError
from sentryfw.guard import never_block
from sentryfw.guard.never_block import NeverBlockWatcher, WatchedFiles
from sentryfw.host.protected import Address, Protected, ProtectedNetworks
from sentryfw.netlink.route import HostChange
from support.guarding import FakeRecorder


@pytest.mark.parametrize("change", ["write", "delete", "make", "replace"])
def test_a_changed_file_is_noticed_once(tmp_path: Path, change: str) -> None:
    path = tmp_path / "list"
    if change != "make":
        path.write_text("198.51.100.1\n")
    files = WatchedFiles([path, tmp_path / "missing"])
    assert not files.have_changed()
    if change == "delete":
        path.unlink()
    elif change == "replace":
        other = tmp_path / "new"
        other.write_text("198.51.100.2\n")
        other.replace(path)
    else:
        path.write_text("198.51.100.1\n198.51.100.2\n")
    assert files.have_changed()
    assert not files.have_changed()


class FakeUpdater:
    """Counts the updates; fails as often as a test wants it to."""

    def __init__(self) -> None:
        self.protected: list[Protected] = []
        self.refreshed = 0
        self.gateways: list[Address] = []
        self.updates: list[bool] = []
        self.faults: list[Exception] = []

    async def update(self, *, routes: bool) -> None:
        self.updates.append(routes)
        if self.faults:
            raise self.faults.pop(0)

    def reconfigure(self, _config: Config, protected: Any) -> None:
        self.protected = list(protected)

    def close(self) -> None:
        pass


class Watched:
    """A watcher over a fake updater, with delays of a moment."""

    def __init__(self) -> None:
        self.updater = FakeUpdater()
        self.recorder = FakeRecorder()
        fakes: Any = (self.updater, self.recorder)
        self.watcher = NeverBlockWatcher(Config(), *fakes)

    def run(self, work: Callable[[], Awaitable[None] | None]) -> None:
        async def run() -> None:
            made = work()
            if made is not None:
                await made
            if self.watcher._task is not None:
                await self.watcher._task

        asyncio.run(run())


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    monkeypatch.setattr(never_block, "SETTLE_S", 0.0)
    monkeypatch.setattr(never_block, "RETRY_DELAY_S", 0.0)
    made = Watched()
    yield made
    made.watcher._monitor.close()


def test_the_start_refreshes_what_changed_since_the_install(watched: Watched) -> None:
    watched.run(watched.watcher.start)
    assert watched.updater.updates == [True]


def test_requests_that_arrive_together_are_one_refresh(watched: Watched) -> None:
    def twice() -> None:
        watched.watcher.refresh_soon()
        watched.watcher.refresh_soon()

    watched.run(twice)
    assert watched.updater.updates == [False]


def test_a_minute_without_changes_refreshes(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.run(watched.watcher.tick)
    assert watched.updater.updates == []
    monkeypatch.setattr(watched.watcher, "_due_at", 0.0)
    watched.run(watched.watcher.tick)
    assert watched.updater.updates == [False]


def test_gateways_that_lapsed_are_read_again_after_a_while(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.updater.gateways = [ip_address("198.51.100.1")]
    changes = [HostChange(lapsed=True), HostChange(lapsed=True)]
    monkeypatch.setattr(watched.watcher._monitor, "read", changes.pop)
    watched.run(watched.watcher.readable)
    due_at = watched.watcher._routes_due_at
    watched.run(watched.watcher.readable)
    watched.run(watched.watcher.tick)
    assert watched.watcher._routes_due_at == due_at  # a later one does not put it off
    assert watched.updater.updates == []
    monkeypatch.setattr(watched.watcher, "_routes_due_at", 0.0)
    watched.run(watched.watcher.tick)
    watched.run(watched.watcher.tick)
    assert watched.updater.updates == [True]
    assert watched.watcher._monitor._gateways == {ip_address("198.51.100.1")}


def test_another_configuration_refreshes(watched: Watched) -> None:
    watched.run(lambda: watched.watcher.reconfigure(Config(), ProtectedNetworks.of([])))
    assert watched.updater.updates == [True]


def test_a_fault_of_the_kernel_is_retried_and_reported_once(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.updater.faults = [KernelError(2, "never-block")] * 3
    with caplog.at_level(logging.ERROR, "sentryfwd"):
        watched.run(lambda: watched.watcher.reconfigure(Config(), ProtectedNetworks.of([])))
    assert watched.updater.updates == [True] * 4  # what may have changed is not forgotten
    assert watched.recorder.kinds() == ["never-block-stale"]
    assert "the previous sources stay in effect" in caplog.text


def test_a_file_that_cannot_be_read_waits_for_the_next_change(watched: Watched) -> None:
    watched.updater.faults = [ConfigError("allowlist", ["unreadable"])]
    watched.run(watched.watcher.refresh_soon)
    assert watched.updater.updates == [False]
    watched.run(watched.watcher.refresh_soon)
    assert watched.updater.updates == [False, False]
