"""A failover or a flush of connection tracking blocks none of a thousand live clients."""

import socket
import struct
from collections.abc import Iterator

import pytest

from support.conntrack import flush
from support.frames import ACK, PSH, ip_frame
from support.lab import ATTACKER, BYSTANDER, VICTIM, Lab, Sentry, drain
from support.router import BEHIND, FORWARD, SERVICE, Router

pytestmark = [pytest.mark.netns]

CLIENTS = 1000
FLOWS = 4
"""Live flows of each server with hosts behind, more than make a scan."""
SERVICES = (443, 993)
TIMESTAMP = b"\1\1\x08\x0a" + struct.pack("!II", 7, 9)
BURST = 50


@pytest.fixture
def guard(router: Router, lab: Lab) -> Iterator[Sentry]:
    sentry = Sentry(lab, FORWARD)
    try:
        yield sentry.start()
    finally:
        sentry.close()


def _source(number: int, family: int) -> str:
    """Return one of the clients: in the wire's IPv4 network, or in a /64 of its own."""
    if family == 4:
        return f"198.18.{100 + (number >> 8)}.{number & 255}"
    return f"2001:2:5:{number:x}::1"


def _segment(lab: Lab, source: str, target: str, sport: int, dport: int) -> bytes:
    """Return a segment of a live flow: ACK with data, and a timestamp that answers one of ours."""
    header = struct.pack("!HHIIBBHHH", sport, dport, 7, 9, 8 << 4, ACK | PSH, 500, 0, 0)
    return ip_frame(lab.ether, source, target, socket.IPPROTO_TCP, header + TIMESTAMP + b"data")


def _send(lab: Lab, sentry: Sentry, frames: list[bytes]) -> None:
    """Send what live flows send, not faster than their clients would."""
    for at in range(0, len(frames), BURST):
        lab.wire.send(*frames[at : at + BURST])
        drain(sentry)


def _blocked(lab: Lab) -> int:
    return len(list(lab.table.sets.blocked_sources()))


@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
def test_servers_of_hosts_behind_are_not_blocked_by_a_failover(
    lab: Lab, router: Router, guard: Sentry, family: int
) -> None:
    """The address moved here: not one of their flows is known."""
    frames = []
    for number in range(CLIENTS):
        server = _source(number, family)
        frames += [
            _segment(lab, server, BEHIND[family], 443, 40000 + number % 1000 * FLOWS + flow)
            for flow in range(FLOWS)
        ]
    _send(lab, guard, frames)
    assert _blocked(lab) == 0
    # A scanner in the midst of it is none of them: it shows no timestamp.
    router.probe(ATTACKER[family], *((BEHIND[family], 50000 + n) for n in range(3)), flags=ACK)
    router.probe(BYSTANDER[family], *((BEHIND[family], 7000 + n) for n in range(3)))
    guard.alert(ATTACKER[family], action="blocked")
    guard.alert(BYSTANDER[family], action="blocked")


@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
def test_clients_of_a_service_are_not_blocked_by_a_failover(
    lab: Lab, daemon: Sentry, family: int
) -> None:
    """One service listens already, the other is about to start."""
    lab.listen(SERVICES[0], family)
    frames = [
        _segment(lab, _source(number, family), VICTIM[family], 40000 + number, port)
        for number in range(CLIENTS)
        for port in SERVICES
    ]
    _send(lab, daemon, frames)
    assert _blocked(lab) == 0
    lab.probe(ATTACKER[family], 7001, 7002, 7003, flags=ACK)
    daemon.alert(ATTACKER[family], action="blocked")


@pytest.mark.parametrize("behind", [False, True], ids=["input", "forward"])
def test_connections_outlast_a_flush(
    lab: Lab, router: Router, guard: Sentry, *, behind: bool
) -> None:
    """Client and server both go on sending, and the client opens more."""
    listener = router.listen(4) if behind else lab.listen(SERVICE)
    address = BEHIND[4] if behind else VICTIM[4]
    pairs = []
    for _ in range(20):
        client = lab.start_opening(ATTACKER[4])
        client.settimeout(5.0)
        client.connect((address, SERVICE))
        server, _ = listener.accept()
        server.sendall(b"hello")
        assert client.recv(5) == b"hello"
        pairs.append((client, server))
    lab.victim.call(flush)
    for client, server in pairs:
        server.settimeout(10.0)
        client.sendall(b"again")
        assert server.recv(5) == b"again"
        server.sendall(b"there")
        assert client.recv(5) == b"there"
    assert not lab.is_blocked(ATTACKER[4])
    assert router.opens(ATTACKER[4], address, SERVICE)
    assert not guard.alerts(ATTACKER[4])
    for _, server in pairs:
        server.close()


def test_downloads_of_hosts_behind_outlast_a_flush(lab: Lab, router: Router, guard: Sentry) -> None:
    """The server sends first, on more connections than make a scan."""
    listener = lab.listen(8080, host=lab.attacker)
    pairs = [(router.open_from_behind(4, 8080), listener.accept()[0]) for _ in range(8)]
    for client, server in pairs:
        server.sendall(b"hello")
        assert client.recv(5) == b"hello"
    lab.victim.call(flush)
    for _, server in pairs:
        server.sendall(b"first")
    drain(guard)
    for client, server in pairs:
        client.sendall(b"more?")
        server.settimeout(10.0)
        assert server.recv(5) == b"more?"
        assert client.recv(5) == b"first"
    assert not lab.is_blocked(ATTACKER[4])
    for pair in pairs:
        for end in pair:
            end.close()
