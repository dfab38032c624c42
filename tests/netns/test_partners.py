"""Partners: who finished a handshake is not blocked for what anybody could forge in its name."""

import socket
import struct

import pytest

from support.frames import ACK, FIN, SYN
from support.lab import ATTACKER, BYSTANDER, LISTED, UNLISTED, VICTIM, Lab, Sentry, drain
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

both_families = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
KEYS = {4: (ATTACKER[4], BYSTANDER[4]), 6: ("2001:2:0:1::", "2001:2:0:2::")}
"""How the two sources stand in a set: an IPv6 source is its /64."""


@both_families
def test_a_finished_handshake_makes_a_partner(lab: Lab, daemon: Sentry, family: int) -> None:
    lab.listen(LISTED, family)
    lab.open(ATTACKER[family])
    wait_for(lambda: lab.elements(f"partner{family}") == {KEYS[family][0]}, "a partner")


@both_families
@pytest.mark.parametrize("flags", [SYN, FIN, 0, SYN | FIN], ids=["syn", "fin", "null", "synfin"])
def test_a_partner_is_not_blocked_by_forged_probes(
    lab: Lab, daemon: Sentry, family: int, flags: int
) -> None:
    lab.listen(LISTED, family)
    lab.open(ATTACKER[family])
    lab.probe(ATTACKER[family], *UNLISTED, flags=flags)
    event = daemon.alert(ATTACKER[family], action="allowed")
    assert event["sentryfw"]["reason"] == "partner"
    assert not event["sentryfw"]["blocked"]
    drain(daemon)
    assert not lab.is_blocked(ATTACKER[family])
    assert lab.answers(ATTACKER[family])


def test_the_same_probes_block_a_source_that_is_no_partner(lab: Lab, daemon: Sentry) -> None:
    lab.listen()
    lab.open(ATTACKER[4])
    lab.probe(BYSTANDER[4], *UNLISTED)
    daemon.alert(BYSTANDER[4], action="blocked")


def test_late_packets_of_a_partner_are_no_evidence(lab: Lab, daemon: Sentry) -> None:
    lab.listen()
    lab.open(ATTACKER[4])
    lab.probe(ATTACKER[4], *UNLISTED, *range(9000, 9020), flags=ACK)
    late = "late packet of a partner"
    wait_for(lambda: daemon.status()["engine"].get(late) == 23, "23 late packets")
    assert daemon.alerts(ATTACKER[4]) == []


@both_families
def test_a_suspect_is_not_learnt(lab: Lab, daemon: Sentry, family: int) -> None:
    listener = lab.listen(LISTED, family)
    suspect, clean = KEYS[family]
    lab.probe(ATTACKER[family], UNLISTED[0])
    wait_for(lambda: lab.elements(f"suspect{family}") == {suspect}, "a suspect")
    for address in (ATTACKER[family], BYSTANDER[family]):
        client = lab.open(address)
        server, _ = listener.accept()
        with server:
            client.sendall(b"hello")
            assert server.recv(5) == b"hello"
    assert suspect in lab.elements(f"suspect{family}")
    assert lab.elements(f"partner{family}") == {clean}


def test_a_partner_is_blocked_where_the_configuration_says_so(
    lab: Lab, start_daemon: object
) -> None:
    daemon = start_daemon("[never_block]\npartners = false")  # type: ignore[operator]
    lab.listen()
    lab.open(ATTACKER[4])
    lab.probe(ATTACKER[4], *UNLISTED)
    daemon.alert(ATTACKER[4], action="blocked")
    assert not lab.answers(ATTACKER[4])


@pytest.mark.nmap
@both_families
def test_a_connect_scan_that_begins_with_a_listed_port_makes_no_partner(
    lab: Lab, daemon: Sentry, family: int
) -> None:
    """The handshake with the listed port is over before the first unlisted probe."""
    lab.listen(LISTED, family)
    source = ["-6"] if family == 6 else []
    ports = f"{LISTED},{LISTED + 1}-{LISTED + 8}"
    command = ["nmap", *source, "-n", "-Pn", "-sT", "-r", "-p", ports, "--max-retries", "0"]
    lab.attacker.run(*command, VICTIM[family])
    wait_for(lambda: _was_blocked(daemon), "the scanner is blocked")
    assert lab.elements(f"partner{family}") == set()


def test_a_partner_that_aborts_a_connection_later_stays_one(lab: Lab, daemon: Sentry) -> None:
    listener = lab.listen()
    client = lab.open(ATTACKER[4])
    server, _ = listener.accept()
    server.close()
    wait_for(lambda: lab.elements("partner4") == {ATTACKER[4]}, "a partner")
    lab.nft("flush", "set", "inet", "sentryfw", "fresh4")  # as ten seconds do
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    lab.open(ATTACKER[4])
    assert lab.elements("partner4") == {ATTACKER[4]}
    assert lab.count("half_open") == 0


def _was_blocked(daemon: Sentry) -> bool:
    return any(event.get("alert", {}).get("action") == "blocked" for event in daemon.events())
