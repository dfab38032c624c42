"""Blackhole routes in a private namespace, as ip(8) lists them."""

import json
import sys
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from sentryfw.errors import ReactionFailed
from sentryfw.respond.route import RTPROT_SENTRYFW, Routes
from sentryfw.tools.drill.namespace import Namespace, add_address

pytestmark = [pytest.mark.netns]

A = "198.18.0.2"
SIX = "2001:2:0:1::/64"


@pytest.fixture
def routes(namespace: Namespace) -> Iterator[Routes]:
    made = Routes()
    namespace.call(made.routes)  # its socket is made there
    yield made
    made.close()


def _blackholes(namespace: Namespace, family: str = "-4") -> set[tuple[str, str]]:
    """Return (destination, protocol) of the blackhole routes in the main table."""
    listed = namespace.ip("-j", "-N", family, "route", "show", "table", "main", "type", "blackhole")
    found = json.loads(listed or "[]")
    return {(route["dst"], route.get("protocol", "boot")) for route in found}


def test_routes_are_added_and_removed(namespace: Namespace, routes: Routes) -> None:
    assert routes.apply({A: True, SIX: True}) == {}
    ours = str(RTPROT_SENTRYFW)
    assert _blackholes(namespace) == {(A, ours)}
    assert _blackholes(namespace, "-6") == {("2001:2:0:1::/64", ours)}
    assert routes.routes() == {ip_network(A), ip_network(SIX)}
    assert routes.apply({A: False, SIX: False}) == {}
    assert _blackholes(namespace) == _blackholes(namespace, "-6") == set()


def test_adding_twice_and_removing_twice_succeeds(routes: Routes) -> None:
    assert routes.apply({A: True}) == routes.apply({A: True}) == {}
    assert routes.apply({A: False}) == routes.apply({A: False}) == {}


def test_a_route_of_another_program_is_neither_replaced_nor_removed(
    namespace: Namespace, routes: Routes
) -> None:
    namespace.ip("route", "add", "blackhole", A)
    refused = routes.apply({A: True, "198.18.0.3": True})
    assert refused == {A: "route to 198.18.0.2/32: File exists"}
    routes.apply({A: False})
    routes.sync(set())
    assert {destination for destination, _ in _blackholes(namespace)} == {A}


def test_sync_leaves_exactly_the_given_addresses(namespace: Namespace, routes: Routes) -> None:
    routes.apply({A: True, "198.18.0.3": True, SIX: True})
    routes.sync({"198.18.0.3", "198.18.0.4", "2001:2:0:2::/64"})
    assert routes.routes() == {
        ip_network("198.18.0.3"), ip_network("198.18.0.4"), ip_network("2001:2:0:2::/64"),
    }  # fmt: skip


def test_many_routes_are_all_read_back(routes: Routes) -> None:
    """The kernel needs more than one message for them."""
    wanted = {f"198.18.{n >> 8}.{n & 255}" for n in range(3000)}
    routes.sync(wanted)
    assert routes.routes() == {ip_network(address) for address in wanted}
    routes.sync(set())
    assert routes.routes() == set()


def test_our_own_packets_are_not_sent(namespace: Namespace, routes: Routes) -> None:
    """A blackhole is not one-way, as the documentation warns."""
    namespace.ip("link", "add", "veth0", "type", "veth", "peer", "name", "veth1")
    namespace.ip("link", "set", "veth0", "up")
    namespace.ip("link", "set", "veth1", "up")
    add_address(namespace, "veth0", "198.18.0.1/24")
    assert namespace.run("ip", "route", "get", A).returncode == 0
    routes.apply({A: True})
    assert "Invalid argument" in namespace.run("ip", "route", "get", A).stderr
    routes.apply({A: False})
    assert namespace.run("ip", "route", "get", A).returncode == 0


def test_a_prefix_on_the_wire_keeps_its_connected_route(
    namespace: Namespace, routes: Routes
) -> None:
    """The neighbours of a scanner in our own /64, such as the gateway, stay reachable."""
    namespace.ip("link", "add", "veth0", "type", "veth", "peer", "name", "veth1")
    namespace.ip("link", "set", "veth0", "up")
    namespace.ip("link", "set", "veth1", "up")
    add_address(namespace, "veth0", "2001:2:0:1::1/64")
    assert routes.apply({SIX: True}) == {}
    assert "dev veth0" in namespace.ip("-6", "route", "get", "2001:2:0:1::99")


def test_a_missing_privilege_is_reported(namespace: Namespace) -> None:
    code = (
        "from sentryfw.respond.route import Routes\nprint(Routes().apply({'198.18.0.2': True}))\n"
    )
    done = namespace.run(
        "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all",
        sys.executable, "-P", "-c", code,
    )  # fmt: skip
    assert "Operation not permitted" in done.stdout, done.stderr


def test_a_closed_socket_is_opened_again(namespace: Namespace, routes: Routes) -> None:
    routes.close()
    namespace.call(lambda: routes.apply({A: True}))
    assert {destination for destination, _ in _blackholes(namespace)} == {A}


def test_an_error_of_the_dump_is_raised(routes: Routes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sentryfw.netlink.route.RTM_GETROUTE", 255)
    with pytest.raises(ReactionFailed, match="rtnetlink"):
        routes.routes()
