"""A raw-socket scanner learns nothing about listed ports by SYN; who sends it again is served.

With real scanners and clients, and with SYNs of the option lists that systems publish.
"""

import time
from itertools import count
from typing import Final

import pytest

from kernel.conftest import StartDaemon
from support import raw_scanners
from support.frames import SYN, tcp_segment
from support.lab import ATTACKER, VICTIM, Lab, synacks
from support.raw_scanners import Scan
from support.shared import Shared
from support.waiting import wait_for

pytestmark = [pytest.mark.netns, pytest.mark.nmap]

OPEN: Final = (22, 80, 443)
FAMILIES: Final = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
SERVED_WITHIN_S: Final = 0.5
"""Less than any retransmission takes."""
_sports: Final = count(20000)


SCANNERS: Final = pytest.mark.parametrize(
    ("scan", "family"),
    [pytest.param(scan, family, id=name) for name, scan, family in raw_scanners.SCANNERS],
)


@SCANNERS
def test_a_raw_scanner_finds_no_listed_port(fresh: Shared, scan: Scan, family: int) -> None:
    for port in OPEN:
        fresh.lab.listen(port, family)
    assert scan(fresh.lab, VICTIM[family], OPEN) == set()
    assert fresh.count("deferred") >= len(OPEN)
    assert not fresh.lab.is_blocked(ATTACKER[family]), "three listed ports are 1.5 targets of 3"
    assert fresh.lab.elements(f"suspect{family}") == set()


@SCANNERS
def test_with_raw_syn_served_it_finds_them_all(
    lab: Lab, start_daemon: StartDaemon, scan: Scan, family: int
) -> None:
    start_daemon('[watch]\nraw_syn = "serve"')
    for port in OPEN:
        lab.listen(port, family)
    assert scan(lab, VICTIM[family], OPEN) == set(OPEN)
    assert lab.count("deferred") == 0


@FAMILIES
def test_a_raw_scanner_of_many_listed_ports_is_blocked(fresh: Shared, family: int) -> None:
    lab = fresh.lab
    ports = range(8000, 8006)
    for port in ports:
        lab.listen(port, family)
    for port in ports:
        assert not lab.is_blocked(ATTACKER[family])
        _send(lab, family, port, RAW)
    wait_for(lambda: lab.is_blocked(ATTACKER[family]), "six listed ports are three targets")
    assert synacks(lab.wire.received(), 8005) == []


# --- clients

MSS: Final = bytes.fromhex("020405b4")
RAW: Final = 1024, MSS
STACKS: Final = {
    # Windows from Vista on; Windows 2000 and XP; macOS and iOS; Linux and Android; FreeBSD;
    # OpenBSD; NetBSD.
    "windows": (64240, "020405b40103030801010402"),
    "windows-xp": (65535, "020405b401010402"),
    "macos": (65535, "020405b4010303060101080a000000010000000004020000"),
    "linux": (64240, "020405b40402080a000000010000000001030307"),
    "freebsd": (65535, "020405b4010303060402080a0000000100000000"),
    "openbsd": (16384, "020405b401010402010303060101080a0000000100000000"),
    "netbsd": (32768, "020405b4010303030402080a0000000100000000"),
    # MSS alone: lwIP, ESP-IDF, Cisco IOS, HP JetDirect, VxWorks. No option: an old modem.
    "lwip": (2144, "02040218"),
    "esp32": (5760, "020405a0"),
    "cisco": (4128, "02040218"),
    "printer": (8760, "020405b4"),
    "vxworks": (8192, "020405b4"),
    "bare": (5840, ""),
}
SUSPICIOUS: Final = {
    "uip": (1024, "020405b4"),
    "4.4bsd": (4096, "020405b4"),
    "contiki": (512, ""),
}


def _send(lab: Lab, family: int, port: int, shape: tuple[int, bytes], sport: int = 0) -> int:
    """Send a SYN; return its source port. Its sequence number follows from the source port."""
    sport = sport or next(_sports)
    window, options = shape
    lab.wire.send(
        tcp_segment(
            lab.ether, ATTACKER[family], VICTIM[family], sport, port, SYN,
            seq=sport << 8, ack=0, window=window, options=options,
        )
    )  # fmt: skip
    return sport


def _is_answered(lab: Lab, family: int, port: int) -> bool:
    return ATTACKER[family] in synacks(lab.wire.received(), port)


@FAMILIES
@pytest.mark.parametrize("name", STACKS)
def test_the_syn_of_a_system_is_answered_at_once(fresh: Shared, name: str, family: int) -> None:
    lab = fresh.lab
    lab.listen(80, family)
    window, options = STACKS[name]
    _send(lab, family, 80, (window, bytes.fromhex(options)))
    wait_for(lambda: _is_answered(lab, family, 80), "a SYN/ACK", SERVED_WITHIN_S)
    assert fresh.count("deferred") == 0


@FAMILIES
@pytest.mark.parametrize("name", SUSPICIOUS)
def test_a_suspicious_stack_is_served_at_its_first_retransmission(
    fresh: Shared, name: str, family: int
) -> None:
    lab = fresh.lab
    lab.listen(80, family)
    window, options = SUSPICIOUS[name]
    shape = window, bytes.fromhex(options)
    began = time.monotonic()
    sport = _send(lab, family, 80, shape)
    _send(lab, family, 80, shape, sport)  # at once: no stack does
    wait_for(lambda: fresh.count("deferred") == 2, "both are judged")
    counted = fresh.sentry.status()["engine"].get("came again", 0)
    assert not _is_answered(lab, family, 80)
    _wait_until(began + 1.0)
    _send(lab, family, 80, shape, sport)
    wait_for(lambda: _is_answered(lab, family, 80), "a SYN/ACK", SERVED_WITHIN_S)
    assert fresh.sentry.status()["engine"]["came again"] == counted + 1
    fresh.assert_quiet()


def _wait_until(due: float) -> None:
    wait_for(lambda: time.monotonic() >= due, "a retransmission timeout")


@FAMILIES
def test_a_connect_scan_of_three_listed_ports_is_served(fresh: Shared, family: int) -> None:
    for port in OPEN:
        fresh.lab.listen(port, family)
    assert raw_scanners.nmap(fresh.lab, VICTIM[family], OPEN, "-sT") == set(OPEN)
    assert fresh.count("deferred") == 0


@FAMILIES
def test_a_client_of_a_greylisted_port_is_served_at_its_first_retransmission(
    lab: Lab, start_daemon: StartDaemon, family: int
) -> None:
    sentry = start_daemon("[watch]\ngreylist_tcp = [22]")
    for port in (22, 80):
        lab.listen(port, family)
    began = time.monotonic()
    lab.open(ATTACKER[family], 80)
    assert time.monotonic() - began < SERVED_WITHIN_S
    began = time.monotonic()
    lab.open(ATTACKER[family], 22)
    assert 0.7 < time.monotonic() - began < 3
    engine = sentry.status()["engine"]
    assert (engine["deferred"], engine["came again"]) == (1, 1)


@FAMILIES
def test_a_partner_of_a_greylisted_port_is_served_at_once(
    lab: Lab, start_daemon: StartDaemon, family: int
) -> None:
    start_daemon("[watch]\ngreylist_tcp = [22]")
    lab.listen(22, family)
    lab.make_partner(ATTACKER[family], 22)
    before = lab.count("deferred")
    began = time.monotonic()
    lab.open(ATTACKER[family], 22)
    assert time.monotonic() - began < SERVED_WITHIN_S
    assert lab.count("deferred") == before


@FAMILIES
def test_observe_serves_and_records_what_it_would_have_deferred(
    lab: Lab, start_daemon: StartDaemon, family: int
) -> None:
    sentry = start_daemon('[detect]\nmode = "observe"')
    lab.listen(80, family)
    _send(lab, family, 80, RAW)
    wait_for(lambda: _is_answered(lab, family, 80), "a SYN/ACK", SERVED_WITHIN_S)
    notes = wait_for(
        lambda: [e["sentryfw"] for e in sentry.events()
                 if e["sentryfw"].get("event") == "would-defer"], "the record",
    )  # fmt: skip
    assert [note["target"] for note in notes] == [f"{VICTIM[family]} tcp/80"]


@FAMILIES
def test_without_the_daemon_it_is_served(lab: Lab, start_daemon: StartDaemon, family: int) -> None:
    start_daemon("").stop()
    lab.listen(80, family)
    _send(lab, family, 80, RAW)
    wait_for(lambda: _is_answered(lab, family, 80), "a SYN/ACK", SERVED_WITHIN_S)
