"""The thread that asks for names: when it runs, what it reports, and not without names."""

import sys
from pathlib import Path

import pytest

from sentryfw.config.model import Paths
from sentryfw.host import allowed_names
from sentryfw.host.allowed_names import Lookup
from sentryfw.host.name_refresh import NameRefresher


class Refreshed:
    """A refresher over a list, with resolvers of a test."""

    def __init__(self, home: Path, text: str) -> None:
        self.paths = Paths(state=home)
        self.paths.allowlist.write_text(text)
        self.reported: list[tuple[str, str]] = []
        self.refresher = NameRefresher(self.paths, lambda *fault: self.reported.append(fault))
        self.asked: list[str] = []
        self.addresses: tuple[str, ...] = ("192.0.2.7",)

    def look_up(self, name: str, family: str) -> Lookup:
        self.asked.append(name)
        return Lookup(self.addresses if family == "4" else (), 300.0)

    def tick(self) -> None:
        self.refresher.tick()
        if self.refresher._thread is not None:
            self.refresher._thread.join(10)

    def answered(self) -> set[str]:
        found = allowed_names.read(self.paths.allowlist_names)
        return {name for name, families in found.items() if families["4"].addresses}


@pytest.fixture
def refreshed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refreshed:
    made = Refreshed(tmp_path, "office.example.org  # us\n192.0.2.1\n")
    monkeypatch.setattr(allowed_names, "look_up", made.look_up)
    return made


def test_names_are_asked_for_once_until_they_are_due(refreshed: Refreshed) -> None:
    for _ in range(3):
        refreshed.tick()
    assert refreshed.answered() == {"office.example.org"}
    assert refreshed.asked == ["office.example.org"] * 2  # of two families
    assert refreshed.reported == []


def test_a_name_that_is_added_is_asked_for_at_once(refreshed: Refreshed) -> None:
    refreshed.tick()
    refreshed.paths.allowlist.write_text("office.example.org\nhome.example.org\n")
    refreshed.tick()
    assert refreshed.answered() == {"office.example.org"}
    refreshed.refresher.list_changed()
    refreshed.tick()
    assert refreshed.answered() == {"office.example.org", "home.example.org"}


def test_a_name_that_has_ended_is_asked_for_no_more(refreshed: Refreshed) -> None:
    refreshed.paths.allowlist.write_text("office.example.org  # until 2001-01-01T00:00:00Z\n")
    refreshed.tick()
    assert refreshed.asked == []


def test_a_fault_is_reported_once(refreshed: Refreshed) -> None:
    refreshed.addresses = ()
    refreshed.tick()
    refreshed.refresher.list_changed()
    refreshed.tick()
    [(name, fault)] = refreshed.reported
    assert name == "office.example.org"
    assert "no such address" in fault


def test_a_list_that_cannot_be_read_is_reported_and_tried_again(refreshed: Refreshed) -> None:
    refreshed.paths.allowlist.unlink()
    refreshed.paths.allowlist.mkdir()
    refreshed.tick()
    assert [name for name, _ in refreshed.reported] == [""]
    assert refreshed.refresher._due_at < float("inf")


def test_without_names_nothing_is_loaded(
    refreshed: Refreshed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "sentryfw.host.allowed_names")
    refreshed.paths.allowlist.write_text("192.0.2.1\n")
    refreshed.tick()
    assert "sentryfw.host.allowed_names" not in sys.modules
    assert refreshed.refresher._due_at == float("inf")
