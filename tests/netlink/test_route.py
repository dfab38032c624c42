"""Notifications of addresses, routes and links, and which of them matter."""

import errno
import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Final

import pytest

from sentryfw.netlink import message as nl
from sentryfw.netlink import route
from sentryfw.netlink.route import EVERYTHING, HostChange, HostMonitor, RouteEntry, RouteSocket
from sentryfw.tools.drill.namespace import Namespace, add_address
from support.headers import header_numbers, numbers_of
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

NOTHING: Final = HostChange()
ROUTES: Final = HostChange(routes=True)
KNOWN: Final = "198.18.0.8"
"""A gateway that is known already."""


@pytest.fixture
def monitor(namespace: Namespace) -> Iterator[HostMonitor]:
    namespace.ip("link", "add", "veth0", "type", "veth", "peer", "name", "veth1")
    for name in ("lo", "veth0", "veth1"):
        namespace.ip("link", "set", name, "up")
    add_address(namespace, "veth0", "198.18.0.1/24")
    made = namespace.call(HostMonitor)
    namespace.ip("link", "set", "veth0", "mtu", "1400")  # the monitor learns the links
    namespace.ip("link", "set", "veth1", "mtu", "1400")
    wait_for(lambda: made.read() is not None and len(made._links) >= 2, "the links")
    yield made
    made.close()


def _read_all(monitor: HostMonitor) -> HostChange:
    """Return the change in all notifications that wait."""
    found = NOTHING
    while change := monitor.read():
        found = found.also(change)
    return found


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("addr", "add", "198.18.1.1/24", "dev", "veth0"), HostChange(addresses=True)),
        (("-6", "addr", "add", "2001:2::9/64", "dev", "veth0"), HostChange(addresses=True)),
        (("addr", "del", "198.18.0.1/24", "dev", "veth0"), HostChange(addresses=True)),
        (("route", "add", "default", "via", "198.18.0.9"), ROUTES),
        (("-6", "route", "add", "default", "dev", "veth0"), ROUTES),
        (("route", "add", "192.0.2.0/24", "via", "198.18.0.9"), ROUTES),
        (("route", "add", "192.0.2.0/24", "via", KNOWN), NOTHING),
        (("route", "add", "192.0.2.0/24", "dev", "veth0"), NOTHING),
        (("route", "add", "192.0.2.0/24", "via", "inet6", "fe80::9", "dev", "veth0"), ROUTES),
        (("route", "add", "192.0.2.0/24", "via", "198.18.0.9", "table", "77"), ROUTES),
        (("nexthop", "add", "id", "7", "via", "198.18.0.9", "dev", "veth0"), ROUTES),
        (("nexthop", "add", "id", "7", "via", KNOWN, "dev", "veth0"), NOTHING),
        (("link", "set", "veth0", "mtu", "1300"), NOTHING),
        (("link", "set", "veth1", "down"), EVERYTHING),
        (("link", "add", "veth2", "type", "veth", "peer", "name", "veth3"), EVERYTHING),
    ],
    ids=[
        "address", "ipv6-address", "address-gone", "default-route", "ipv6-default-route",
        "gateway", "known-gateway", "no-gateway", "gateway-of-ipv6", "other-table", "nexthop",
        "known-nexthop", "mtu", "link-down", "new-link",
    ],
)  # fmt: skip
def test_changes_that_matter_are_reported(
    namespace: Namespace, monitor: HostMonitor, words: tuple[str, ...], expected: HostChange
) -> None:
    monitor.know([ip_address(KNOWN)])
    namespace.ip(*words)
    # rtnetlink notifies before it answers: all notifications wait.
    assert _read_all(monitor) == expected


@pytest.mark.parametrize("gateway", ["198.18.0.9", KNOWN])
def test_a_gateway_is_a_change_once_and_may_lapse(
    namespace: Namespace, monitor: HostMonitor, gateway: str
) -> None:
    monitor.know([ip_address(KNOWN)])
    namespace.ip("route", "add", "192.0.2.0/24", "via", gateway)
    namespace.ip("route", "add", "192.0.3.0/24", "via", gateway)
    assert _read_all(monitor) == HostChange(routes=gateway != KNOWN)
    namespace.ip("route", "del", "192.0.2.0/24", "via", gateway)
    assert _read_all(monitor) == HostChange(lapsed=True)
    namespace.ip("route", "add", "192.0.2.0/24", "via", gateway)
    assert _read_all(monitor) == NOTHING
    monitor.know([])
    namespace.ip("route", "del", "192.0.2.0/24", "via", gateway)
    assert _read_all(monitor) == NOTHING


def test_lost_notifications_count_as_a_change(namespace: Namespace, monitor: HostMonitor) -> None:
    monitor._socket._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    for number in range(60):
        namespace.ip("route", "add", f"192.0.2.{number}/32", "via", "198.18.0.9")
    assert _read_all(monitor) == EVERYTHING


def test_one_read_is_bounded_by_its_budget(namespace: Namespace, monitor: HostMonitor) -> None:
    for number in range(4):
        add_address(namespace, "veth0", f"198.18.{number + 1}.1/24")
    assert monitor.read(budget=1)
    assert _read_all(monitor) == HostChange(addresses=True)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (route.RTM_NEWROUTE, b""),
        (route.RTM_NEWNEXTHOP, b"\0" * 7),
        (route.RTM_NEWLINK, b"\0" * 4),
        (route.RTM_NEWLINK, struct.pack("=BxHiII", socket.AF_BRIDGE, 1, 3, 1, 0)),
        (99, b"\0" * 16),
    ],
    ids=["short-route", "short-nexthop", "short-link", "bridge-port", "unknown"],
)
def test_other_messages_are_not_a_change(monitor: HostMonitor, kind: int, body: bytes) -> None:
    assert monitor.change(nl.Message(kind, 0, 0, body)) == NOTHING


# --- routes


@pytest.mark.parametrize("network", ["198.18.0.0/24", "198.18.7.1/32", "2001:2::/48"])
def test_added_routes_are_read_back(namespace: Namespace, network: str) -> None:
    sock = RouteSocket()
    namespace.call(lambda: list(sock.routes()))  # opened in the namespace
    entry = RouteEntry(ip_network(network), 99, route.RTN_BLACKHOLE)
    body = route.packed_route(entry)
    assert sock.request(route.RTM_NEWROUTE, nl.NLM_F_CREATE | nl.NLM_F_EXCL, body) == 0
    assert sock.request(route.RTM_NEWROUTE, nl.NLM_F_CREATE | nl.NLM_F_EXCL, body) == errno.EEXIST
    assert entry in sock.routes()
    assert sock.request(route.RTM_DELROUTE, 0, body) == 0
    assert entry not in sock.routes()
    sock.close()


@pytest.mark.parametrize("table", [7, 255 + 22, 0xFFFF_FFFF])
def test_a_route_of_another_table_is_read_back_with_its_table(
    namespace: Namespace, table: int
) -> None:
    sock = RouteSocket()
    namespace.call(lambda: list(sock.routes()))
    entry = RouteEntry(ip_network("198.18.7.1/32"), 99, route.RTN_BLACKHOLE, table)
    assert sock.request(route.RTM_NEWROUTE, nl.NLM_F_CREATE, route.packed_route(entry)) == 0
    assert entry in sock.routes()
    assert namespace.ip("route", "show", "table", str(table)).startswith("blackhole 198.18.7.1")
    assert sock.request(route.RTM_DELROUTE, 0, route.packed_route(entry)) == 0
    assert entry not in sock.routes()
    sock.close()


def test_a_closed_route_socket_opens_again(namespace: Namespace) -> None:
    sock = RouteSocket()
    namespace.call(lambda: list(sock.routes()))
    sock.close()
    body = route.packed_route(RouteEntry(ip_network("198.18.0.9/32"), 99, route.RTN_BLACKHOLE))
    code = namespace.call(lambda: sock.request(route.RTM_NEWROUTE, nl.NLM_F_CREATE, body))
    assert code == 0
    sock.close()


def test_the_numbers_are_those_of_the_kernel_s_headers(tmp_path: Path) -> None:
    numbers = numbers_of(route, r"RTM|RTA_|RTN|RT_|NHA_|IFA_|IFLA_|IFF_")
    headers = (
        "linux/rtnetlink.h",
        "linux/nexthop.h",
        "linux/if_link.h",
        "linux/if_addr.h",
        "linux/if.h",
    )
    assert len(numbers) == 36
    assert header_numbers(numbers, headers, tmp_path) == numbers
