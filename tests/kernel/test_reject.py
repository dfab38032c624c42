"""[block] unlisted = "reject": probes below the trigger are refused, a scan gets no answer."""

import socket
from collections.abc import Callable

import pytest

from support.frames import SYN, icmp_frame, tcp_frame
from support.lab import ATTACKER, BYSTANDER, UNLISTED, VICTIM, Lab, Sentry, drain
from support.router import BEHIND, FORWARD, Router
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

MakeDaemon = Callable[[str], Sentry]
REJECT = '[block]\nunlisted = "reject"\n'
SILENT = """
table inet silent {
    chain input {
        type filter hook input priority filter; policy drop;
        ct state established accept
        meta l4proto ipv6-icmp accept
    }
    chain forward { type filter hook forward priority filter; policy drop; }
}
"""
"""A host's own filter that answers nothing."""
both_families = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])


@pytest.fixture
def daemon(lab: Lab, make_daemon: MakeDaemon) -> Sentry:
    lab.nft(SILENT)
    return make_daemon(REJECT).start()


def _answer(lab: Lab, source: str, target: str, port: int, kind: int) -> int:
    """Return the errno of a connection or of a datagram that is answered."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    with lab.attacker.call(lambda: socket.socket(family, kind)) as client:
        client.bind((source, 0))
        client.settimeout(5.0)
        try:
            client.connect((target, port))
            client.send(b"?")
            client.recv(1)
        except TimeoutError:
            return 0
        except OSError as error:
            return error.errno or -1
    return -1


@both_families
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["tcp", "udp"])
def test_a_probe_is_refused_where_the_host_is_silent(
    lab: Lab, daemon: Sentry, family: int, kind: int
) -> None:
    assert _answer(lab, ATTACKER[family], VICTIM[family], 7001, kind) == 111  # ECONNREFUSED
    drain(daemon)
    assert not lab.is_blocked(ATTACKER[family])


@both_families
def test_a_scan_learns_nothing_after_its_trigger(lab: Lab, daemon: Sentry, family: int) -> None:
    lab.wire.received()
    lab.probe(ATTACKER[family], *UNLISTED)
    daemon.alert(ATTACKER[family])
    lab.probe(ATTACKER[family], *range(9000, 9020))
    drain(daemon)
    refused = [frame for frame in lab.wire.received() if _is_reset(frame, family)]
    assert len(refused) == len(UNLISTED) - 1


def _is_reset(frame: bytes, family: int) -> bool:
    ethertype, start, at = (b"\x08\x00", 34, 23) if family == 4 else (b"\x86\xdd", 54, 20)
    if frame[12:14] != ethertype:
        return False  # ARP has a byte of an address there
    protocol = frame[at]
    return protocol == socket.IPPROTO_TCP and bool(frame[start + 13] & 0x04)


def test_pings_and_listed_ports_are_not_refused(lab: Lab, daemon: Sentry) -> None:
    lab.nft("delete table inet silent")
    lab.listen()
    lab.open(ATTACKER[4])
    lab.wire.received()
    lab.wire.send(icmp_frame(lab.ether, BYSTANDER[4], VICTIM[4], 8, 1))
    wait_for(lambda: any(f[23] == 1 and f[34] == 0 for f in lab.wire.received()), "an echo reply")


def test_hosts_behind_are_refused_for(lab: Lab, make_daemon: MakeDaemon) -> None:
    with Router(lab):
        make_daemon(REJECT + FORWARD).start()
        assert _answer(lab, ATTACKER[4], BEHIND[4], 7001, socket.SOCK_STREAM) == 111
        assert _answer(lab, ATTACKER[4], BEHIND[4], 7001, socket.SOCK_DGRAM) == 111


@pytest.mark.parametrize("settings", ["", '[detect]\nmode = "observe"\n' + REJECT])
def test_otherwise_the_host_stays_silent(lab: Lab, make_daemon: MakeDaemon, settings: str) -> None:
    """A table that rejected before has no such rule left, and observing refuses nothing."""
    lab.nft(SILENT)
    make_daemon(REJECT).start().stop()
    daemon = make_daemon(settings).start()
    assert ("reject with" in lab.nft("list table inet sentryfw")) is bool(settings)
    lab.wire.received()
    lab.wire.send(tcp_frame(lab.ether, ATTACKER[4], VICTIM[4], 40000, 7001, SYN))
    drain(daemon)
    assert not any(_is_reset(frame, 4) for frame in lab.wire.received())
