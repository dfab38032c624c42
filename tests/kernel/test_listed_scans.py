"""Silent scans of listed ports are reported, without a block; clients of many services are not."""

import socket
import struct
from ipaddress import ip_address
from typing import Any, Final

import pytest

from kernel.conftest import StartDaemon
from sentryfw.daemon.watches.listed_scans import MIN_SILENT_PORTS
from support.frames import SYN, tcp_segment
from support.lab import ATTACKER, BYSTANDER, INTERFACE, UNLISTED, VICTIM, Lab, Sentry
from support.router import BEHIND, Router
from support.waiting import wait_for

pytestmark = pytest.mark.netns

PORTS: Final = tuple(range(8001, 8019))
"""Eighteen listed ports."""
MAIL: Final = (25, 110, 143, 465, 587, 993, 995)
OPTIONS: Final = bytes.fromhex("020405b40402080a000000010000000001030307")
"""Those of a Linux host's SYN: no raw-socket tool's shape."""
FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
SILENT: Final = {4: "198.18.0.77", 6: "2001:2:0:77::7"}
"""Addresses that no host has: no kernel resets what is sent in their name."""


def _listen(lab: Lab, family: int, ports: tuple[int, ...] = PORTS) -> None:
    for port in ports:
        lab.listen(port, family)


def _half_open(lab: Lab, source: str, *ports: int) -> None:
    """Send a SYN to each port and answer nothing."""
    link = lab.ether[6:].hex(":")
    if ":" in source:
        lab.victim.ip("-6", "route", "replace", f"{source}/128", "dev", INTERFACE)
    lab.victim.ip("neigh", "replace", source, "lladdr", link, "dev", INTERFACE, "nud", "permanent")
    for number, port in enumerate(ports):
        lab.wire.send(
            tcp_segment(
                lab.ether, source, VICTIM[ip_address(source).version], 40000 + number, port, SYN,
                seq=number << 20 | 7, ack=0, options=OPTIONS,
            )
        )  # fmt: skip


def _connect(lab: Lab, source: str, *ports: int, data: bytes = b"", reset: bool = False) -> None:
    """Open a connection to each port, send the data, and close it."""
    for port in ports:
        client = lab.open(source, port)
        if data:
            client.sendall(data)
        if reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()


def _said(sentry: Sentry) -> list[dict[str, Any]]:
    noted = [event["sentryfw"] for event in sentry.events()]
    return [note for note in noted if note.get("event") == "listed-scan"]


def _await_said(sentry: Sentry) -> dict[str, Any]:
    return wait_for(lambda: _said(sentry), "the report")[0]


def _name(source: str) -> str:
    return source if "." in source else f"{':'.join(source.split(':')[:4])}::/64"


def _assert_only_said_about(lab: Lab, sentry: Sentry, family: int) -> None:
    """Assert that no source was reported when a scanner is, who scans now."""
    wait_for(lambda: _are_old(lab, f"broad{family}"), "what was opened is some seconds old")
    _half_open(lab, SILENT[family], *PORTS)
    _await_said(sentry)
    assert {note["address"] for note in _said(sentry)} == {_name(SILENT[family])}


def _are_old(lab: Lab, name: str) -> bool:
    """Return whether the elements of a set, if it has any, are old enough to be judged."""
    listing = lab.nft(f"list set inet sentryfw {name}")
    left = [part.split()[0].rstrip(",") for part in listing.split("expires ")[1:]]
    return all(part.startswith("1m") and float(part[2:].split("s")[0]) < 56 for part in left)


@FAMILIES
@pytest.mark.parametrize("unlisted", [(), UNLISTED[:2]], ids=["listed", "two-unlisted"])
def test_a_half_open_scan_of_listed_ports_is_reported_and_not_blocked(
    lab: Lab, daemon: Sentry, family: int, unlisted: tuple[int, ...]
) -> None:
    _listen(lab, family)
    _half_open(lab, SILENT[family], *unlisted, *PORTS)
    note = _await_said(daemon)
    assert note["address"] == _name(SILENT[family])
    assert set(note["ports"]) <= set(PORTS)
    assert f"listed-scan by {note['address']}" in daemon.log()
    assert lab.elements(f"block{family}") == set()


@FAMILIES
@pytest.mark.parametrize("reset", [False, True], ids=["close", "reset"])
def test_a_connect_scan_of_listed_ports_is_reported_and_not_blocked(
    lab: Lab, daemon: Sentry, family: int, *, reset: bool
) -> None:
    """nmap -sT resets its connections; others close them."""
    _listen(lab, family)
    _connect(lab, ATTACKER[family], *PORTS, reset=reset)
    assert _await_said(daemon)["address"] == _name(ATTACKER[family])
    assert lab.elements(f"block{family}") == set()


def test_a_neighbour_is_reported_by_its_whole_address(lab: Lab, daemon: Sentry) -> None:
    _listen(lab, 6)
    _half_open(lab, "fe80::77", *PORTS)
    assert _await_said(daemon)["address"] == "fe80::77"


@FAMILIES
def test_a_partner_of_one_service_is_reported_too(lab: Lab, daemon: Sentry, family: int) -> None:
    _listen(lab, family)
    lab.make_partner(ATTACKER[family], PORTS[0])
    _connect(lab, ATTACKER[family], *PORTS)
    assert _await_said(daemon)["address"] == _name(ATTACKER[family])


@FAMILIES
def test_a_scan_of_a_host_behind_is_reported_and_its_client_is_not(
    lab: Lab, start_daemon: StartDaemon, family: int
) -> None:
    behind = BEHIND[family]
    with Router(lab) as router:
        sentry = start_daemon(
            f'[watch]\ninterfaces = ["{INTERFACE}"]\nforward = true\n'
            f'[[watch.listed_forward]]\nto = ["{behind}"]\ntcp = ["{PORTS[0]}-{PORTS[-1]}"]'
        )
        for port in PORTS:
            router.listen(family, port)
        for port in PORTS:
            assert router.opens(BYSTANDER[family], behind, port)  # and sends data
        wait_for(lambda: _are_old(lab, f"broad{family}"), "what was opened is some seconds old")
        for port in PORTS:
            client = lab.start_opening(ATTACKER[family])
            client.settimeout(5.0)
            client.connect((behind, port))
            client.close()
        _await_said(sentry)
        assert {note["address"] for note in _said(sentry)} == {_name(ATTACKER[family])}
        assert lab.elements(f"block{family}") == set()


# --- clients


@FAMILIES
@pytest.mark.parametrize("rounds", [1, 3], ids=["proxy", "health-checks"])
def test_a_client_that_sends_data_to_many_services_is_not_reported(
    lab: Lab, daemon: Sentry, family: int, rounds: int
) -> None:
    _listen(lab, family)
    for _ in range(rounds):
        _connect(lab, BYSTANDER[family], *PORTS, data=b"GET / HTTP/1.1\r\n\r\n")
    assert lab.nft(f"list set inet sentryfw broad{family}").count("expires") > MIN_SILENT_PORTS
    _assert_only_said_about(lab, daemon, family)


@FAMILIES
def test_a_mail_client_is_not_reported(lab: Lab, daemon: Sentry, family: int) -> None:
    """Not even one that closes its connections again."""
    _listen(lab, family, (*PORTS, *MAIL))
    for _ in range(3):
        _connect(lab, BYSTANDER[family], *MAIL)
    _assert_only_said_about(lab, daemon, family)


@FAMILIES
def test_a_never_blocked_checker_is_not_reported(
    lab: Lab, start_daemon: StartDaemon, family: int
) -> None:
    """One that sends nothing has to be named."""
    sentry = start_daemon(f'[never_block]\naddresses = ["{BYSTANDER[family]}"]')
    _listen(lab, family)
    _connect(lab, BYSTANDER[family], *PORTS)
    _assert_only_said_about(lab, sentry, family)
