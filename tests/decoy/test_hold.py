"""Visitors that are kept; with a real server they are in test_server.py and tests/kernel."""

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from sentryfw.decoy.hold import Holds, is_of_browser, prepare

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        found: list[Pair] = []
        for _ in range(3):
            visitor = socket.create_connection(listening.getsockname(), timeout=5)
            found.append((visitor, listening.accept()[0]))
        yield found
    for visitor, accepted in found:
        visitor.close()
        accepted.close()


def test_nothing_is_kept_by_default() -> None:
    holds = Holds(0.0)
    assert not holds.is_wanted
    assert holds.first_end is None
    assert not holds.give_up_oldest()
    holds.close()


def test_the_oldest_first_and_each_once(pairs: list[Pair]) -> None:
    holds = Holds(60.0)
    for _, accepted in pairs:
        holds.add(accepted)
    assert len(holds) == 3
    holds.expire()
    assert len(holds) == 3
    assert holds.give_up_oldest()
    with pytest.raises(ConnectionResetError):
        pairs[0][0].recv(1)
    pairs[2][0].close()
    holds.close_left()
    assert len(holds) == 1
    holds.close()
    assert [accepted.fileno() for _, accepted in pairs] == [-1, -1, -1]


def test_their_time_ends(pairs: list[Pair]) -> None:
    holds = Holds(1e-9)
    for _, accepted in pairs:
        holds.add(accepted)
    holds.expire()
    assert len(holds) == 0
    holds.close()


def test_a_connection_begins_with_the_smallest_window() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        prepare(listening)
        with socket.create_connection(listening.getsockname()), suppress(OSError):
            accepted, _ = listening.accept()
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) < 5000
            accepted.close()


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"GET /favicon.ico HTTP/1.1\r\nHost: a\r\n", True),
        (b"POST / HTTP/1.0\r\nAccept: */*\r\nhost:a\r\n", True),
        (b"\x16\x03\x01\x00\xf4\x01", True),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"Host: a HTTP/1.1", False),
        (b"SSH-2.0-Go\r\n", False),
        (b"\x16", False),
        (b"", False),
    ],
)
def test_requests_that_a_page_makes_a_browser_send(payload: bytes, expected: bool) -> None:  # noqa: FBT001
    assert is_of_browser(payload) is expected
