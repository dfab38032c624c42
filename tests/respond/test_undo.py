"""Removal of lines and routes that outlast the daemon."""

from pathlib import Path

import pytest

from sentryfw.config.respond import Respond
from sentryfw.respond.hosts_deny import HostsDenyFile
from sentryfw.respond.route import Routes
from sentryfw.respond.undo import remove_routes, undo, wanted_tables
from sentryfw.tools.drill.namespace import Namespace

pytestmark = [pytest.mark.netns]


@pytest.fixture
def path(tmp_path: Path, namespace: Namespace) -> Path:
    """Make a hosts.deny with two lines of ours, and two routes."""
    made = tmp_path / "hosts.deny"
    made.write_text("x: y\n")
    changes = {"198.18.0.2": True, "2001:2:0:1::/64": True}
    HostsDenyFile(made, "ALL: {address}").apply(changes)
    routes = Routes()
    namespace.call(lambda: routes.apply(changes))
    routes.close()
    return made


def _respond(path: Path) -> Respond:
    """Return a configuration in which both are off; their leftovers are removed nevertheless."""
    return Respond.model_validate({"hosts_deny": {"path": str(path)}})


def test_all_lines_and_routes_are_removed(path: Path, namespace: Namespace) -> None:
    removed = namespace.call(lambda: undo(_respond(path), None))
    assert removed == [
        f"{path}: ALL: 198.18.0.2", f"{path}: ALL: [2001:2:0:1::]/64",
        "blackhole 198.18.0.2/32", "blackhole 2001:2:0:1::/64",
    ]  # fmt: skip
    assert path.read_text() == "x: y\n"
    assert namespace.call(lambda: undo(_respond(path), None)) == []


def test_one_address_is_removed_and_the_other_stays(path: Path, namespace: Namespace) -> None:
    removed = namespace.call(lambda: undo(_respond(path), "2001:2:0:1::/64"))
    assert removed == [f"{path}: ALL: [2001:2:0:1::]/64", "blackhole 2001:2:0:1::/64"]
    assert "ALL: 198.18.0.2\n" in path.read_text()
    assert "blackhole 198.18.0.2" in namespace.ip("route", "show", "proto", "83")


def test_without_leftovers_nothing_is_changed(tmp_path: Path, namespace: Namespace) -> None:
    missing = tmp_path / "hosts.deny"
    assert namespace.call(lambda: undo(_respond(missing), None)) == []
    assert not missing.exists()


def test_routes_of_every_table_are_removed_but_those_that_are_wanted(
    path: Path, namespace: Namespace
) -> None:
    routes = Routes(5277)
    namespace.call(lambda: routes.apply({"198.18.0.2": True, "198.18.0.3": True}))
    routes.close()
    announced = Respond.model_validate({"bgp": {"enabled": True}})
    assert wanted_tables(announced) == {5277}
    assert wanted_tables(Respond.model_validate({"route": {"enabled": True}})) == {254}
    assert namespace.call(lambda: remove_routes("198.18.0.3")) == [
        "blackhole 198.18.0.3/32 in table 5277"
    ]
    assert namespace.call(lambda: remove_routes(None, wanted_tables(announced))) == [
        "blackhole 198.18.0.2/32", "blackhole 2001:2:0:1::/64",
    ]  # fmt: skip
    assert namespace.call(lambda: undo(_respond(path), None))[-1:] == [
        "blackhole 198.18.0.2/32 in table 5277"
    ]
