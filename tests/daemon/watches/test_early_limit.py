"""A flood is limited before connection tracking where nothing redirects packets."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from sentryfw.daemon.watches import early_limit
from sentryfw.daemon.watches.early_limit import (
    LIMIT_S,
    MAX_LIMIT_S,
    MIN_DROPPED,
    SEARCH_SHARE,
    EarlyLimit,
)
from sentryfw.errors import KernelError
from sentryfw.netfilter.table import Counter
from sentryfw.netlink.links import Link


class FakeTable:
    """The counter of the limit, and the times for which the limit was moved."""

    def __init__(self) -> None:
        self.dropped: int | None = 0
        self.is_repaired = False
        self.moved: list[float] = []
        self.decisions = self

    def counter(self, name: str) -> Counter | None:
        assert name == "over_limit"
        if self.is_repaired:
            raise KernelError(2, "counter")
        return None if self.dropped is None else Counter(self.dropped, 0)

    def limit_early(self, timeout: float) -> None:
        if self.is_repaired:
            raise KernelError(2, "limit a flood")
        self.moved.append(timeout)


class Scene:
    """A watch over the fake table, with a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.table = FakeTable()
        table: Any = self.table
        self.watch = EarlyLimit(table)
        self.now = 0.0
        self.search_s = 0.0
        self.found: str | Exception = ""
        monkeypatch.setattr(early_limit, "clock", lambda: self.now)
        monkeypatch.setattr(early_limit, "redirection", self._search)

    def _search(self) -> str:
        self.now += self.search_s
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def tick(self, *drops: int) -> None:
        """Let a second pass for each number of packets that the limit drops."""

        async def ticks() -> None:
            for count in drops:
                self.now += 1.0
                if self.table.dropped is not None:
                    self.table.dropped += count
                self.watch.tick()
                if self.watch._search is not None:
                    await self.watch._search

        asyncio.run(ticks())


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


def test_the_limit_is_moved_while_it_drops(scene: Scene) -> None:
    scene.tick(0, MIN_DROPPED, MIN_DROPPED, MIN_DROPPED - 1, MIN_DROPPED)
    assert scene.table.moved == [LIMIT_S] * 3


def test_what_was_dropped_before_the_start_does_not_count(scene: Scene) -> None:
    scene.table.dropped = 10**6
    scene.tick(0, 0)
    assert scene.table.moved == []


@pytest.mark.parametrize("found", ["table nat may redirect", OSError(13, "Permission denied"),
                                   KernelError(1, "rules")])  # fmt: skip
def test_it_stays_where_something_redirects_or_may(
    scene: Scene, caplog: pytest.LogCaptureFixture, found: str | Exception
) -> None:
    caplog.set_level(logging.INFO, "sentryfwd")
    scene.found = found
    scene.tick(0, MIN_DROPPED, MIN_DROPPED)
    assert scene.table.moved == []
    assert len(caplog.messages) == 1
    scene.found = ""
    scene.tick(MIN_DROPPED)
    assert scene.table.moved == [LIMIT_S]
    assert caplog.messages[1:] == ["a flood is limited behind connection tracking only: no longer"]


def test_a_long_search_is_rare_and_the_limit_stays_moved_until_the_next(scene: Scene) -> None:
    scene.search_s = 0.2
    pause = scene.search_s / SEARCH_SHARE
    scene.tick(0, *[MIN_DROPPED] * 21)
    assert scene.table.moved == pytest.approx([LIMIT_S + pause] * 2)
    assert pause == pytest.approx(10.0)


def test_a_search_of_seconds_does_not_keep_it_moved_for_minutes(scene: Scene) -> None:
    scene.search_s = 2.0
    scene.tick(0, MIN_DROPPED, MIN_DROPPED)
    assert scene.table.moved == [MAX_LIMIT_S]


def test_a_table_that_is_repaired_or_made_again_is_waited_for(scene: Scene) -> None:
    scene.tick(0, 0)
    scene.table.is_repaired = True
    scene.tick(MIN_DROPPED, MIN_DROPPED)
    scene.table.is_repaired = False
    scene.table.dropped = 0
    scene.tick(MIN_DROPPED, MIN_DROPPED)
    assert scene.table.moved == [LIMIT_S]
    scene.table.dropped = None
    scene.tick(0)
    scene.table.dropped = 0
    scene.tick(0, MIN_DROPPED)
    assert scene.table.moved == [LIMIT_S] * 2


def test_a_table_that_disappears_during_the_search_is_waited_for(scene: Scene) -> None:
    scene.tick(0)

    def search() -> str:
        scene.table.is_repaired = True
        return ""

    early_limit.redirection = search
    scene.tick(MIN_DROPPED)
    assert scene.table.moved == []


# --- what redirects beside nf_tables


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("ip_tables_names", "filter\nnat\n", "iptables-legacy may redirect"),
        ("ip6_tables_names", "mangle\n", "iptables-legacy may redirect"),
        ("ip_tables_names", "filter\nraw\n", ""),
        ("ip_tables_names", "", ""),
        ("ip_vs", "IP Virtual Server version 1.2.1\n", "IPVS is loaded"),
    ],
)
def test_iptables_legacy_and_ipvs_are_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, text: str, found: str
) -> None:
    _alone(monkeypatch, tmp_path)
    (tmp_path / name).write_text(text)
    assert early_limit.redirection() == found


def test_tables_that_only_root_may_read_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _alone(monkeypatch, tmp_path)
    refused = PermissionError(13, "Permission denied")
    monkeypatch.setattr(Path, "read_text", lambda _: (_ for _ in ()).throw(refused))
    assert early_limit.redirection() == "iptables-legacy may redirect"


def test_a_vrf_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _alone(monkeypatch, tmp_path)
    assert early_limit.redirection() == ""
    monkeypatch.setattr(early_limit, "links", lambda: [Link("blue", "vrf", "")])
    assert early_limit.redirection() == "there is a VRF"


def test_a_table_that_redirects_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _alone(monkeypatch, tmp_path)
    monkeypatch.setattr(early_limit, "redirecting_table", lambda *_: "nat")
    assert early_limit.redirection() == "table nat may redirect"


def _alone(monkeypatch: pytest.MonkeyPatch, net: Path) -> None:
    """A host without redirections."""
    monkeypatch.setattr(early_limit, "NET", net)
    monkeypatch.setattr(early_limit, "links", lambda: [Link("eth0", "", "")])
    monkeypatch.setattr(early_limit, "redirecting_table", lambda *_: "")
