"""The sockets that receive from any peer, as the kernel reports them."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentryfw.netfilter.schema import DECOY_MARK
from sentryfw.netlink import sock_diag
from sentryfw.netlink.sock_diag import TCP, UDP, Receiver, receivers
from sentryfw.tools.drill.namespace import Namespace, add_address
from support.headers import header_numbers, numbers_of

pytestmark = [pytest.mark.netns]

ANY4, ANY6 = bytes(4), bytes(16)
OWN = bytes((198, 18, 0, 1))


@pytest.fixture
def wired(namespace: Namespace) -> Namespace:
    namespace.ip("link", "set", "lo", "up")
    add_address(namespace, "lo", "198.18.0.1/24")
    return namespace


@pytest.fixture
def opened() -> Iterator[list[socket.socket]]:
    sockets: list[socket.socket] = []
    yield sockets
    for made in sockets:
        made.close()


def _bind(
    host: Namespace, opened: list[socket.socket], family: int, kind: int, address: str,
    *, v6only: bool = False,
) -> socket.socket:  # fmt: skip
    made = host.call(lambda: socket.socket(family, kind))
    opened.append(made)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    made.bind((address, 993))
    if kind == socket.SOCK_STREAM:
        made.listen()
    return made


@pytest.mark.parametrize("protocol", [TCP, UDP], ids=["tcp", "udp"])
@pytest.mark.parametrize(
    ("family", "address", "v6only", "places"),
    [
        (socket.AF_INET, "", False, {ANY4}),
        (socket.AF_INET, "198.18.0.1", False, {OWN}),
        (socket.AF_INET6, "::", False, {ANY4, ANY6}),
        (socket.AF_INET6, "::", True, {ANY6}),
        (socket.AF_INET6, "::1", False, {bytes(15) + b"\1"}),
        (socket.AF_INET6, "::ffff:198.18.0.1", False, {OWN}),
    ],
    ids=["ipv4", "address", "both", "ipv6", "ipv6-address", "mapped"],
)
def test_a_socket_is_at_every_address_that_it_receives_at(
    wired: Namespace, opened: list[socket.socket], protocol: int, family: int, address: str,
    *, v6only: bool, places: set[bytes],
) -> None:  # fmt: skip
    kind = socket.SOCK_STREAM if protocol == TCP else socket.SOCK_DGRAM
    assert wired.call(receivers) == []
    _bind(wired, opened, family, kind, address, v6only=v6only)
    [found] = wired.call(receivers)
    assert set(found.places()) == {(place, protocol, 993) for place in places}
    assert (found.interface, found.mark) == (0, 0)


def test_a_socket_with_a_peer_is_left_out(wired: Namespace, opened: list[socket.socket]) -> None:
    client = _bind(wired, opened, socket.AF_INET, socket.SOCK_DGRAM, "198.18.0.1")
    client.connect(("198.18.0.1", 53))
    listener = _bind(wired, opened, socket.AF_INET, socket.SOCK_STREAM, "198.18.0.1")
    connected = wired.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    opened.append(connected)
    connected.connect(("198.18.0.1", 993))
    [found] = wired.call(receivers)
    assert (found.protocol, found.port) == (TCP, 993)
    listener.close()
    assert wired.call(receivers) == []


def test_marks_and_interfaces_are_reported(wired: Namespace, opened: list[socket.socket]) -> None:
    made = wired.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    opened.append(made)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, DECOY_MARK)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
    made.bind(("", 993))
    made.listen()
    [found] = wired.call(receivers)
    assert (found.mark, found.interface) == (DECOY_MARK, 1)


def test_each_socket_has_a_cookie_of_its_own(wired: Namespace, opened: list[socket.socket]) -> None:
    def one() -> Receiver:
        [found] = wired.call(receivers)
        return found

    first = _bind(wired, opened, socket.AF_INET, socket.SOCK_STREAM, "")
    before = one()
    assert one() == before
    first.close()
    _bind(wired, opened, socket.AF_INET, socket.SOCK_STREAM, "")
    assert one().cookie != before.cookie


def test_many_sockets_are_all_reported(wired: Namespace, opened: list[socket.socket]) -> None:
    """The kernel answers in several datagrams."""
    for _ in range(300):
        made = wired.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        opened.append(made)
        made.bind(("198.18.0.1", 0))
        made.listen()
    assert len({found.port for found in wired.call(receivers)}) == 300


def test_the_numbers_are_those_of_the_kernel_s_headers(tmp_path: Path) -> None:
    numbers = numbers_of(sock_diag, r"INET_DIAG_|SOCK_DIAG_|NETLINK_SOCK")
    headers = ("linux/inet_diag.h", "linux/sock_diag.h", "linux/netlink.h")
    assert len(numbers) == 4
    assert header_numbers(numbers, headers, tmp_path) == numbers
