"""Partners and distributed scans against hosts behind: as against this host."""

import time
from ipaddress import ip_address
from typing import Any, Final

import pytest

from kernel.conftest import StartDaemon
from support.frames import SYN, tcp_segment
from support.lab import ATTACKER, BYSTANDER, UNLISTED, Lab, Sentry, synacks
from support.router import BEHIND, FORWARD, SERVICE, Router
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

OTHER: Final = 443
SETTINGS: Final = FORWARD.replace(f"tcp = [{SERVICE}]", f"tcp = [{SERVICE}, {OTHER}]")
KEYS: Final = {4: BYSTANDER[4], 6: "2001:2:0:2::"}
SERVED_WITHIN_S: Final = 0.5
FAMILIES: Final = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
OPTIONS: Final = bytes.fromhex("020405b40402080a000000010000000001030307")
"""Options of an ordinary system's SYN: only a finding can defer it."""


@pytest.fixture
def guard(router: Router, start_daemon: StartDaemon) -> Sentry:
    """The daemon, with two services of a host behind, which are open."""
    sentry = start_daemon(SETTINGS)
    for family in (4, 6):
        for port in (SERVICE, OTHER):
            router.listen(family, port)
    return sentry


def _make_partner(router: Router, family: int) -> None:
    lab = router.lab
    assert router.opens(BYSTANDER[family], BEHIND[family], SERVICE)
    wait_for(lambda: KEYS[family] in lab.elements(f"partner{family}"), "a partner")
    lab.nft("flush", "set", "inet", "sentryfw", f"fresh{family}")  # as a minute does


def _probe_unlisted(router: Router, family: int) -> None:
    router.probe(BYSTANDER[family], *((BEHIND[family], port) for port in UNLISTED))


@FAMILIES
def test_a_partner_that_scans_behind_finds_what_it_used_and_nothing_else(
    router: Router, guard: Sentry, family: int
) -> None:
    _make_partner(router, family)
    _probe_unlisted(router, family)
    wait_for(lambda: KEYS[family] in guard.lab.elements(f"confine{family}"), "confined")
    assert router.opens(BYSTANDER[family], BEHIND[family], SERVICE)
    confined = guard.lab.count("confined")
    assert not router.opens(BYSTANDER[family], BEHIND[family], OTHER, timeout=0.3)
    assert guard.lab.count("confined") > confined
    assert not guard.lab.is_blocked(BYSTANDER[family])


@FAMILIES
def test_a_handshake_behind_right_before_a_scan_is_worth_nothing(
    router: Router, guard: Sentry, family: int
) -> None:
    assert router.opens(BYSTANDER[family], BEHIND[family], SERVICE)
    wait_for(lambda: guard.lab.elements(f"fresh{family}"), "a fresh partner")
    _probe_unlisted(router, family)
    guard.alert(BYSTANDER[family], action="blocked")
    assert not router.opens(BYSTANDER[family], BEHIND[family], SERVICE, timeout=0.3)


# --- distributed scans


def _scattered(number: int, family: int) -> str:
    """Return an address; none of the first 200 shares a prefix with another."""
    return f"2a00:{number + 1:x}::1" if family == 6 else f"{20 + number}.{number}.7.9"


def _syn(lab: Lab, source: str, port: int, number: int) -> bytes:
    return tcp_segment(
        lab.ether, source, BEHIND[ip_address(source).version], 20000 + number, port, SYN,
        seq=number * 7919, ack=0, window=1000 + number * 13, options=OPTIONS,
    )  # fmt: skip


def _route(lab: Lab) -> None:
    """Let the victim send answers to any address to the attacker's host."""
    for family in (4, 6):
        lab.victim.ip(f"-{family}", "route", "add", "default", "via", ATTACKER[family])


def _findings(sentry: Sentry) -> list[dict[str, Any]]:
    noted = [event["sentryfw"] for event in sentry.events()]
    return [note for note in noted if note.get("event") == "distributed-scan"]


def _scan_behind(lab: Lab, sentry: Sentry, family: int, times: int) -> None:
    """Have scattered sources share out the ports of the host behind, each tried `times` times."""
    ports = [7000 + number // times for number in range(33 * times * min(times, 2))]
    for number, port in enumerate(ports):
        lab.wire.send(_syn(lab, _scattered(number % 200, family), port, number))
    finding = wait_for(lambda: _findings(sentry), "the finding")[0]
    assert finding["place"] == BEHIND[family]
    wait_for(lambda: lab.elements(f"defer_target{family}"), "strangers are deferred")


@FAMILIES
@pytest.mark.parametrize("times", [1, 2], ids=["each-port-once", "each-port-twice"])
def test_a_scan_of_a_host_behind_that_is_shared_out_learns_nothing_more(
    router: Router, guard: Sentry, family: int, times: int
) -> None:
    lab = guard.lab
    _route(lab)
    _scan_behind(lab, guard, family, times)
    lab.wire.received()
    for number, port in enumerate((SERVICE, OTHER), 190):
        lab.wire.send(_syn(lab, _scattered(number, family), port, number))
    wait_for(lambda: lab.count("deferred") >= 2, "both are judged")
    frames = lab.wire.received()
    assert synacks(frames, SERVICE) + synacks(frames, OTHER) == []
    assert router.behind


@FAMILIES
def test_after_it_a_partner_is_served_at_once_and_a_stranger_after_a_second(
    router: Router, guard: Sentry, family: int
) -> None:
    lab = guard.lab
    _make_partner(router, family)
    _route(lab)
    stranger = {4: "198.18.0.77", 6: "2001:2:0:77::7"}[family]
    bits = {4: 24, 6: 48}[family]
    lab.attacker.ip(
        "address", "add", f"{stranger}/{bits}", "dev", "veth0", *(["nodad"] if family == 6 else [])
    )
    _scan_behind(lab, guard, family, 1)
    deferred = lab.count("deferred")
    assert router.opens(BYSTANDER[family], BEHIND[family], SERVICE)
    assert lab.count("deferred") == deferred
    began = time.monotonic()
    assert router.opens(stranger, BEHIND[family], SERVICE)
    assert time.monotonic() - began > SERVED_WITHIN_S
    assert lab.count("deferred") > deferred
