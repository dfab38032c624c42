"""What the kernel tells of addresses, routes and links, and what of it matters."""

import socket
import struct
from collections.abc import Iterator
from typing import Final

import pytest

from sentryfw import nlmsg as nl
from sentryfw.netfilter.rtnetlink import EVERYTHING, Change, HostMonitor
from sentryfw.netns import Namespace, add_address
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

NOTHING: Final = Change()


@pytest.fixture
def monitor(namespace: Namespace) -> Iterator[HostMonitor]:
    namespace.ip("link", "add", "veth0", "type", "veth", "peer", "name", "veth1")
    for name in ("lo", "veth0", "veth1"):
        namespace.ip("link", "set", name, "up")
    add_address(namespace, "veth0", "198.18.0.1/24")
    made = namespace.call(HostMonitor)
    namespace.ip("link", "set", "veth0", "mtu", "1400")  # now it knows the links
    namespace.ip("link", "set", "veth1", "mtu", "1400")
    wait_for(lambda: made.read() is not None and len(made._links) >= 2, "the links")
    yield made
    made.close()


def _told(monitor: HostMonitor) -> Change:
    """All that is there, and comes within a moment."""
    found = NOTHING
    while change := monitor.read():
        found = found.also(change)
    return found


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("addr", "add", "198.18.1.1/24", "dev", "veth0"), Change(addresses=True)),
        (("-6", "addr", "add", "2001:2::9/64", "dev", "veth0"), Change(addresses=True)),
        (("addr", "del", "198.18.0.1/24", "dev", "veth0"), Change(addresses=True)),
        (("route", "add", "default", "via", "198.18.0.9"), Change(routes=True)),
        (("-6", "route", "add", "default", "dev", "veth0"), Change(routes=True)),
        (("route", "add", "192.0.2.0/24", "via", "198.18.0.9"), NOTHING),
        (("link", "set", "veth0", "mtu", "1300"), NOTHING),
        (("link", "set", "veth1", "down"), EVERYTHING),
        (("link", "add", "veth2", "type", "veth", "peer", "name", "veth3"), EVERYTHING),
    ],
    ids=[
        "address", "ipv6-address", "address-gone", "default-route", "ipv6-default-route",
        "other-route", "mtu", "link-down", "new-link",
    ],
)  # fmt: skip
def test_what_matters_is_told(
    namespace: Namespace, monitor: HostMonitor, words: tuple[str, ...], expected: Change
) -> None:
    namespace.ip(*words)
    # rtnetlink tells before it answers: all of it is there.
    assert _told(monitor) == expected


def test_lost_notifications_count_as_a_change(namespace: Namespace, monitor: HostMonitor) -> None:
    monitor._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    for number in range(60):
        namespace.ip("route", "add", f"192.0.2.{number}/32", "via", "198.18.0.9")
    assert _told(monitor) == EVERYTHING


def test_a_reading_has_a_budget(namespace: Namespace, monitor: HostMonitor) -> None:
    for number in range(4):
        add_address(namespace, "veth0", f"198.18.{number + 1}.1/24")
    assert monitor.read(budget=1)
    assert _told(monitor) == Change(addresses=True)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (nl.RTM_NEWROUTE, b""),
        (nl.RTM_NEWLINK, b"\0" * 4),
        (nl.RTM_NEWLINK, struct.pack("=BxHiII", socket.AF_BRIDGE, 1, 3, 1, 0)),
        (99, b"\0" * 16),
    ],
    ids=["short-route", "short-link", "bridge-port", "unknown"],
)
def test_what_says_nothing_changes_nothing(monitor: HostMonitor, kind: int, body: bytes) -> None:
    assert monitor.change(nl.Message(kind, 0, 0, body)) == NOTHING
