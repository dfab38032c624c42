"""The decoy process: reports, banner, limits. Redirection is in tests/kernel/test_decoy.py."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

import pytest

from sentryfw.decoy import server as module
from sentryfw.decoy.hold import RESET, prepare
from sentryfw.decoy.server import DecoyServer
from sentryfw.decoy.wire import CONNECTED, MESSAGE, PAYLOAD, REQUEST, Visit, decode
from support.waiting import wait_for

VISIT = Visit(CONNECTED, bytes((198, 18, 0, 2)), 40000, bytes((198, 18, 0, 1)), 23)
PORTS = [(23, 23)]


class Running(NamedTuple):
    """A decoy in a thread, and the ends that the daemon and visitors have."""

    server: DecoyServer
    reports: socket.socket
    address: tuple[str, int]

    def visit(self) -> Visit | None:
        return decode(self.reports.recv(MESSAGE.size), PORTS)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=5)


Start = Callable[..., Running]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Return a function that starts decoys, in which every connection counts as redirected.

    Each has to end when the daemon's end of its report socket is closed.
    """
    monkeypatch.setattr(module, "_visit", lambda *_: VISIT)
    running: list[tuple[threading.Thread, Running]] = []

    def begin(connections: int = 10, timeout: float = 5.0, hold: float = 0.0) -> Running:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(5)
        listening = socket.create_server(("127.0.0.1", 0))
        if hold:
            prepare(listening)
        address = listening.getsockname()
        server = DecoyServer(
            {"report": theirs.detach(), "tcp": [listening.detach()], "udp": [], "banner": "SSH\r\n",
             "connections": connections, "timeout": timeout, "hold": hold}
        )  # fmt: skip

        def run() -> None:
            with suppress(SystemExit):
                server.run()

        thread = threading.Thread(target=run)
        thread.start()
        running.append((thread, Running(server, ours, address)))
        return running[-1][1]

    yield begin
    for thread, decoy in running:
        decoy.reports.close()
        thread.join(5)
        assert not thread.is_alive()
        for key in list(decoy.server._selector.get_map().values()):
            key.fileobj.close()  # those that are kept, too
        decoy.server._selector.close()


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (b"GET / HTTP/1.0", CONNECTED), (b"SSH-2.0-x\r\n", CONNECTED), (b"\x16\x03\x01", REQUEST),
        (b"GET /a.png HTTP/1.1\r\nHost: example.org\r\n\r\n", REQUEST),
    ],
    ids=["no host", "ssh", "tls", "http"],
)  # fmt: skip
def test_a_visitor_is_reported_gets_the_banner_and_is_dismissed(
    start: Start, payload: bytes, kind: int
) -> None:
    decoy = start()
    with decoy.connect() as visitor:
        assert visitor.recv(100) == b"SSH\r\n"
        visitor.sendall(payload)
        assert decoy.visit() == VISIT._replace(kind=kind)
        assert decoy.visit() == VISIT._replace(kind=PAYLOAD, payload=payload)
        assert visitor.recv(100) == b""


def test_a_visitor_that_leaves_at_once_is_reported(start: Start) -> None:
    decoy = start(timeout=60.0)
    decoy.connect().close()
    assert decoy.visit() == VISIT
    with decoy.connect() as visitor:
        visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    assert decoy.visit() == VISIT


def test_a_silent_visitor_is_reported_before_it_is_dismissed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_BYTES_S", 0.05)
    decoy = start(timeout=60.0)
    with decoy.connect() as visitor:
        assert decoy.visit() == VISIT
        visitor.sendall(b"\x16\x03\x01")  # too late to be taken for a browser's
        assert decoy.visit() == VISIT._replace(kind=PAYLOAD, payload=b"\x16\x03\x01")


def test_a_silent_visitor_is_dismissed_after_the_timeout(start: Start) -> None:
    decoy = start(timeout=0.1)
    with decoy.connect() as visitor:
        assert visitor.recv(100) == b"SSH\r\n"
        assert visitor.recv(100) == b""


def test_a_visitor_beyond_the_limit_is_reported_and_reset(start: Start) -> None:
    decoy = start(connections=1)
    with decoy.connect() as first:
        assert first.recv(100) == b"SSH\r\n"
        assert decoy.visit() == VISIT
        with suppress(ConnectionResetError), decoy.connect() as second:
            while second.recv(100):
                pass
        assert decoy.visit() == VISIT


def test_a_connection_to_the_decoys_own_port_is_closed_without_a_report(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoy = start()
    monkeypatch.setattr(module, "_visit", lambda *_: None)
    with decoy.connect() as visitor:
        assert visitor.recv(100) == b""
    decoy.reports.setblocking(False)
    with pytest.raises(BlockingIOError):
        decoy.visit()


def test_datagrams_are_answered_rarely_and_only_to_clients(start: Start) -> None:
    server = start().server
    assert server._may_answer("192.0.2.1", 40000)
    assert not server._may_answer("192.0.2.1", 40000)
    assert not server._may_answer("192.0.2.2", 53)
    answered = sum(server._may_answer(f"192.0.2.{number}", 40000) for number in range(3, 100))
    assert answered == module.MAX_ANSWERS_PER_S - 1


# --- hold


def test_a_visitor_is_kept_and_nothing_of_it_is_read(start: Start) -> None:
    decoy = start(hold=60.0)
    with decoy.connect() as visitor:
        assert visitor.recv(100) == b"SSH\r\n"
        visitor.sendall(b"SSH-2.0-x\r\n")
        assert decoy.visit() == VISIT
        assert decoy.visit() == VISIT._replace(kind=PAYLOAD, payload=b"SSH-2.0-x\r\n")
        _assert_kept(visitor)
        assert len(decoy.server._holds) == 1
    wait_for(lambda: not len(decoy.server._holds), "a visitor that left is closed")


def test_a_silent_visitor_is_kept(start: Start) -> None:
    decoy = start(hold=60.0, timeout=0.1)
    with decoy.connect() as visitor:
        assert visitor.recv(100) == b"SSH\r\n"
        wait_for(lambda: len(decoy.server._holds) == 1, "kept")
        _assert_kept(visitor)


def test_the_end_of_a_hold_is_a_reset(start: Start) -> None:
    decoy = start(hold=0.3, timeout=0.1)
    with decoy.connect() as visitor:
        visitor.sendall(b"hello")
        with pytest.raises(ConnectionResetError):
            _read_all(visitor)


@pytest.mark.parametrize(
    "request_", [b"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01"]
)
def test_a_browser_is_reported_and_dismissed(start: Start, request_: bytes) -> None:
    decoy = start(hold=60.0)
    with decoy.connect() as visitor, suppress(ConnectionResetError):
        visitor.sendall(request_)
        while visitor.recv(100):
            pass
    assert decoy.visit() == VISIT._replace(kind=REQUEST)
    assert decoy.visit() == VISIT._replace(kind=PAYLOAD, payload=request_)


def test_the_oldest_is_given_up_for_a_newer_visitor(start: Start) -> None:
    decoy = start(connections=2, hold=60.0, timeout=0.1)
    visitors = [decoy.connect() for _ in range(2)]
    wait_for(lambda: len(decoy.server._holds) == 2, "both are kept")
    visitors.append(decoy.connect())
    with pytest.raises(ConnectionResetError):
        _read_all(visitors[0])
    wait_for(lambda: len(decoy.server._holds) == 2, "the newest is kept")
    for visitor in visitors[1:]:
        assert visitor.recv(100) == b"SSH\r\n"
        _assert_kept(visitor)
    for visitor in visitors:
        visitor.close()
    wait_for(lambda: not len(decoy.server._holds), "all left")


def test_visitors_that_have_not_sent_yet_are_not_given_up(start: Start) -> None:
    decoy = start(connections=1, hold=60.0, timeout=30.0)
    with decoy.connect() as first:
        assert first.recv(100) == b"SSH\r\n"
        with suppress(ConnectionResetError), decoy.connect() as second:
            while second.recv(100):
                pass
        first.sendall(b"still here")
        wait_for(lambda: len(decoy.server._holds) == 1, "the first is kept")


def _assert_kept(visitor: socket.socket) -> None:
    """Fail unless the other side neither answers, closes nor reads: its window closes."""
    visitor.settimeout(0.3)
    with pytest.raises(TimeoutError):
        visitor.recv(100)
    visitor.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    with pytest.raises(TimeoutError):
        visitor.sendall(b"x" * 1_000_000)
    # Its end would wait behind what it could not send.
    visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def _read_all(visitor: socket.socket) -> None:
    while visitor.recv(100):
        pass
