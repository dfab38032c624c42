"""Listed and unlisted ports, and packets that are not judged."""

import errno
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final

import pytest

from support.frames import ACK, RST, SYN, tcp_frame, udp_frame
from support.lab import ATTACKER, BYSTANDER, LISTED, UNLISTED, VICTIM, Lab, Sentry, drain
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

StartDaemon = Callable[[str], Sentry]
both_families = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])

WITNESS: Final = """
table inet witness {
    counter seen { }
    chain input { type filter hook input priority -100; udp dport 7000-7100 counter name seen; }
}
"""
"""Counts the packets that reach the input hook before SentryFW."""


def _refused(lab: Lab, source: str, port: int) -> bool:
    """Check whether the victim's own stack refused (RST): the packet was not judged."""
    client = lab.start_opening(source)
    client.settimeout(5)
    return client.connect_ex((VICTIM[ip_address(source).version], port)) == errno.ECONNREFUSED


@both_families
def test_unlisted_datagrams_are_judged_and_dropped(lab: Lab, daemon: Sentry, family: int) -> None:
    bound = lab.bind_udp(LISTED, family)
    sender = lab.udp(ATTACKER[family])
    for port in UNLISTED[:2]:
        sender.sendto(b"?", (VICTIM[family], port))
    sender.sendto(b"a suspect's, held and accepted", (VICTIM[family], LISTED))
    bound.settimeout(5)
    assert bound.recv(100) == b"a suspect's, held and accepted"
    assert not lab.is_blocked(ATTACKER[family])
    sender.sendto(b"?", (VICTIM[family], UNLISTED[2]))
    assert daemon.alert(ATTACKER[family])["sentryfw"]["kinds"] == ["udp"]
    sender.sendto(b"blocked", (VICTIM[family], LISTED))
    wait_for(lambda: lab.count("blocked_late") == 1, "the datagram is dropped")
    bound.setblocking(False)
    with pytest.raises(BlockingIOError):
        bound.recv(100)


def test_probes_of_one_port_are_one_target(lab: Lab, daemon: Sentry) -> None:
    lab.probe(ATTACKER[4], *[UNLISTED[0]] * 50)
    wait_for(lambda: daemon.status()["engine"].get("syn") == 50, "50 probes are judged")
    assert not lab.is_blocked(ATTACKER[4])


@pytest.mark.parametrize(
    ("target", "mac"),
    [
        ("198.18.0.255", "ffffffffffff"),
        ("255.255.255.255", "ffffffffffff"),
        ("224.0.0.1", "01005e000001"),
        ("ff02::1", "333300000001"),
    ],
    ids=["subnet-broadcast", "broadcast", "multicast4", "multicast6"],
)
def test_broadcast_and_multicast_are_not_judged(
    lab: Lab, daemon: Sentry, target: str, mac: str
) -> None:
    lab.nft(WITNESS)
    ether = bytes.fromhex(mac) + lab.ether[6:]
    source = ATTACKER[ip_address(target).version]
    lab.wire.send(*(udp_frame(ether, source, target, 4000, port) for port in range(7000, 7020)))
    lab.wire.send(udp_frame(lab.ether, BYSTANDER[4], VICTIM[4], 4000, 7000))
    wait_for(lambda: lab.count("judged"), "the one unicast datagram is judged")
    assert "packets 21 " in lab.nft("list counters table inet witness")
    assert lab.count("judged") == 1
    drain(daemon)
    assert not lab.is_blocked(source)


@both_families
def test_a_listener_is_listed_as_soon_as_it_listens(lab: Lab, daemon: Sentry, family: int) -> None:
    lab.probe(ATTACKER[family], LISTED)
    wait_for(lambda: lab.count("judged") == 1, "without a listener the port is unlisted")
    listener = lab.listen(LISTED, family)
    lab.open(BYSTANDER[family])
    assert lab.count("judged") == 1
    listener.close()
    lab.probe(BYSTANDER[family], LISTED)
    wait_for(lambda: lab.count("judged") == 2, "when it has closed, the port is unlisted again")


def test_a_port_listed_by_hand_is_not_judged(lab: Lab, start_daemon: StartDaemon) -> None:
    daemon = start_daemon('[watch]\nlisted_tcp = [8080, "9000-9002"]\nlisted_udp = [53]')
    for port in (8080, 9000, 9001, 9002):
        assert _refused(lab, ATTACKER[4], port)
    lab.udp(ATTACKER[4]).sendto(b"?", (VICTIM[4], 53))
    lab.probe(ATTACKER[4], 9003)
    wait_for(lambda: lab.count("judged"), "the port after the range is judged")
    drain(daemon)
    assert lab.count("judged") == daemon.status()["engine"]["syn"] == 1


@both_families
def test_a_never_blocked_address_is_judged_and_reported_and_not_blocked(
    lab: Lab, start_daemon: StartDaemon, family: int
) -> None:
    daemon = start_daemon(f'[never_block]\naddresses = ["{ATTACKER[family]}"]')
    lab.listen(LISTED, family)
    lab.probe(ATTACKER[family], *UNLISTED, 7004)
    event = daemon.alert(ATTACKER[family], action="allowed")
    assert event["sentryfw"]["reason"] == "never_block"
    assert not lab.is_blocked(ATTACKER[family])
    assert lab.elements(f"suspect{family}") == set()
    lab.nft(f"add element inet sentryfw block{family} {{ {_key(family)} }}")
    assert lab.answers(ATTACKER[family])


def _key(family: int) -> str:
    return ATTACKER[4] if family == 4 else "2001:2:0:1::"


def test_a_gateway_is_never_blocked(lab: Lab, start_daemon: StartDaemon) -> None:
    lab.victim.ip("route", "add", "default", "via", ATTACKER[4])
    daemon = start_daemon("")
    lab.probe(ATTACKER[4], *UNLISTED)
    assert daemon.alert(ATTACKER[4], "allowed")["sentryfw"]["reason"] == "never_block"
    lab.probe(BYSTANDER[4], *UNLISTED)
    daemon.alert(BYSTANDER[4])
    assert not lab.is_blocked(ATTACKER[4])


def test_backscatter_is_not_judged(lab: Lab, daemon: Sentry) -> None:
    ports = range(20000, 20020)
    lab.probe(ATTACKER[4], *ports, flags=SYN | ACK)
    lab.probe(ATTACKER[4], *ports, flags=RST)
    lab.probe(ATTACKER[4], *ports, flags=RST | ACK)
    wait_for(lambda: lab.count("backscatter") == 60, "60 answers")
    assert lab.count("judged") == 0
    assert not lab.is_blocked(ATTACKER[4])


def test_packets_on_an_unwatched_interface_are_not_judged(
    lab: Lab, start_daemon: StartDaemon
) -> None:
    start_daemon('[watch]\ninterfaces = ["other*"]')
    for port in UNLISTED:
        assert _refused(lab, ATTACKER[4], port)
    assert lab.count("judged") == 0


def test_observe_mode_reports_a_scanner_and_does_not_block_it(
    lab: Lab, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon('[detect]\nmode = "observe"')
    for port in UNLISTED:
        assert _refused(lab, ATTACKER[4], port)
    event = daemon.alert(ATTACKER[4], action="allowed")
    assert event["sentryfw"]["reason"] == "observe"
    assert not lab.is_blocked(ATTACKER[4])


def test_a_fragmented_probe_is_judged_after_reassembly(lab: Lab, daemon: Sentry) -> None:
    for port in UNLISTED:
        lab.wire.send(*_fragments(tcp_frame(lab.ether, ATTACKER[4], VICTIM[4], 4000, port)))
    event = daemon.alert(ATTACKER[4])
    assert event["sentryfw"]["kinds"] == ["syn"]
    assert event["sentryfw"]["targets"] == 3


def _fragments(frame: bytes) -> list[bytes]:
    """Split an IPv4 packet with 20 bytes of TCP into 8, 8 and 4 bytes, as nmap -f does."""
    ether, header, data = frame[:14], bytearray(frame[14:34]), frame[34:]
    header[4:6] = data[2:4]  # each packet has its own identification
    pieces = []
    for start in range(0, len(data), 8):
        piece = data[start : start + 8]
        more = 0x2000 if start + 8 < len(data) else 0
        header[2:4] = (20 + len(piece)).to_bytes(2)
        header[6:8] = (more | start >> 3).to_bytes(2)
        header[10:12] = b"\0\0"
        header[10:12] = _sum(bytes(header)).to_bytes(2)
        pieces.append(ether + bytes(header) + piece)
    return pieces


def _sum(header: bytes) -> int:
    total = sum(int.from_bytes(header[at : at + 2]) for at in range(0, 20, 2))
    total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@both_families
def test_a_source_port_reused_during_time_wait_is_served(
    lab: Lab, daemon: Sentry, family: int
) -> None:
    """The server closed first: its side of the old connection is in TIME_WAIT."""
    listener = lab.listen(family=family)
    listener.settimeout(5)
    for _ in range(3):
        client = lab.start_opening(ATTACKER[family], port=40001)
        client.settimeout(5)
        client.connect((VICTIM[family], LISTED))
        accepted, _peer = listener.accept()
        accepted.close()
        assert client.recv(1) == b""
        client.close()
        wait_for(lambda: _is_time_wait(lab, family), "the server's side is in TIME_WAIT")
    assert lab.count("judged") == 0


def _is_time_wait(lab: Lab, family: int) -> bool:
    done = lab.victim.run("ss", f"-{family}tnH", "state", "time-wait", f"sport = {LISTED}")
    return ":40001" in done.stdout


NOTRACK: Final = """
table inet untracked {
    chain prerouting { type filter hook prerouting priority raw; notrack; }
    chain output { type filter hook output priority raw; notrack; }
}
"""


@both_families
def test_clients_are_served_under_an_operator_s_notrack_rules(
    lab: Lab, daemon: Sentry, family: int
) -> None:
    lab.nft(NOTRACK)
    listener = lab.listen(family=family)
    listener.settimeout(5)
    for _ in range(5):
        client = lab.open(ATTACKER[family])
        accepted, _peer = listener.accept()
        client.sendall(b"hello")
        accepted.settimeout(5)
        assert accepted.recv(5) == b"hello"
        accepted.close()
        client.close()
    assert not lab.is_blocked(ATTACKER[family])


@both_families
def test_a_scanner_is_blocked_under_notrack_rules(lab: Lab, daemon: Sentry, family: int) -> None:
    lab.nft(NOTRACK)
    lab.listen(family=family)
    lab.probe(ATTACKER[family], *UNLISTED)
    wait_for(lambda: lab.is_blocked(ATTACKER[family]), "the scanner is blocked")
