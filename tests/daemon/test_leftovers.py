"""Reactions that were switched off while no daemon ran."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentryfw import config
from sentryfw.config.model import Config
from sentryfw.daemon.leftovers import remove_leftovers
from sentryfw.host import last_good
from sentryfw.respond.helper import HelperServer
from sentryfw.respond.hosts_deny import HostsDenyFile
from sentryfw.respond.route import Routes
from sentryfw.tools.drill.namespace import Namespace

pytestmark = [pytest.mark.netns]

LINE = "ALL: {address}"
BLOCKED = {"198.18.0.2": True, "2001:2:0:1::/64": True}


def _settings(home: Path, *, enabled: bool) -> Config:
    deny = {"enabled": enabled, "path": str(home / "hosts.deny")}
    return Config.model_validate(
        {
            "paths": {"runtime": str(home / "run")},
            "respond": {"hosts_deny": deny, "route": {"enabled": enabled}},
        }
    )


@pytest.fixture
def left(tmp_path: Path, namespace: Namespace) -> Path:
    """Make lines and routes of an earlier daemon."""
    made = tmp_path / "hosts.deny"
    made.write_text("x: y\n")
    HostsDenyFile(made, LINE).apply(BLOCKED)
    routes = Routes()
    namespace.call(lambda: routes.apply(BLOCKED))
    routes.close()
    return made


@pytest.fixture
def helper(tmp_path: Path) -> Iterator[None]:
    """Root's helper, started after the reactions were switched off."""
    settings = _settings(tmp_path, enabled=False)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(settings.paths.helper))
    listener.listen(4)
    server = HelperServer(settings.respond, {0}, tmp_path / "sentryfw.toml")
    threading.Thread(target=server.serve, args=(listener,), daemon=True).start()
    yield
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def _routes(namespace: Namespace) -> str:
    both = (namespace.ip(family, "route", "show", "proto", "83") for family in ("-4", "-6"))
    return "".join(both)


def test_root_removes_what_is_switched_off(left: Path, namespace: Namespace) -> None:
    settings = _settings(left.parent, enabled=False)
    namespace.call(lambda: remove_leftovers(settings, None))
    assert left.read_text() == "x: y\n"
    assert _routes(namespace) == ""


def test_what_is_switched_on_stays(left: Path, namespace: Namespace) -> None:
    before = left.read_text(), _routes(namespace)
    settings = _settings(left.parent, enabled=True)
    namespace.call(lambda: remove_leftovers(settings, None))
    assert (left.read_text(), _routes(namespace)) == before
    assert before[1].count("blackhole") == 2


def test_lines_at_the_place_of_the_last_good_configuration_are_removed(
    left: Path, namespace: Namespace
) -> None:
    place = left.parent / "sentryfw.toml"
    place.write_text(f'[respond.hosts_deny]\nenabled = true\npath = "{left}"\n')
    last_good.save(place, config.load_with_sources(place))
    moved = Config.model_validate(
        {"respond": {"hosts_deny": {"enabled": True, "path": str(left.with_name("new.deny"))}}}
    )
    namespace.call(lambda: remove_leftovers(moved, place))
    assert left.read_text() == "x: y\n"


@pytest.mark.usefixtures("helper")
def test_without_root_the_helper_removes_the_lines(
    left: Path, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _settings(left.parent, enabled=False)
    monkeypatch.setattr(os, "geteuid", lambda: 999)
    namespace.call(lambda: remove_leftovers(settings, None))
    monkeypatch.undo()
    assert left.read_text() == "x: y\n"
    assert _routes(namespace) == ""


def test_without_root_and_helper_the_routes_are_removed(
    left: Path, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _settings(left.parent, enabled=False)
    monkeypatch.setattr(os, "geteuid", lambda: 999)
    namespace.call(lambda: remove_leftovers(settings, None))
    monkeypatch.undo()
    assert _routes(namespace) == ""
    assert "ALL: 198.18.0.2" in left.read_text()
