"""A host on link that changes its addresses is found, and waits, by its hardware address."""

import random
import time
from ipaddress import ip_address
from typing import Any, Final

import pytest

from kernel.conftest import StartDaemon
from support.frames import SYN, tcp_segment
from support.lab import ATTACKER, INTERFACE, VICTIM, Lab, Sentry, synacks
from support.waiting import wait_for

pytestmark = pytest.mark.netns

PORT: Final = 443
SERVED_WITHIN_S: Final = 0.5
LAN6: Final = "2001:db8:1:1::%d"
"""Addresses of a prefix that the victim is connected to."""
CASES: Final = {
    "link-local": ("fe80::aaaa:%x", VICTIM[6]),
    "ipv6": (LAN6, "2001:db8:1:1::1"),
    "ipv4": ("198.18.0.%d", VICTIM[4]),
}
"""Addresses on link, and the address of the victim that they scan."""
ELSEWHERE: Final = {4: "203.0.113.7", 6: "2001:db8:77::7"}
"""Clients behind the same hardware address as a router's, not on link."""
OTHER_MAC: Final = bytes.fromhex("02005e1000aa")
_rng: Final = random.Random(11)


@pytest.fixture(params=CASES, ids=list(CASES))
def lan(request: pytest.FixtureRequest, lab: Lab) -> tuple[str, str]:
    """The addresses of a neighbour, as a format, and the victim's; before the daemon starts."""
    lab.victim.ip("address", "add", "2001:db8:1:1::1/64", "dev", INTERFACE, "nodad")
    for client in ELSEWHERE.values():
        six = ":" in client
        bits = 128 if six else 32
        lab.attacker.ip(
            "address", "add", f"{client}/{bits}", "dev", INTERFACE, *(["nodad"] if six else [])
        )
        lab.victim.ip("route", "add", f"{client}/{bits}", "dev", INTERFACE)
    lab.attacker.ip("address", "add", f"{LAN6 % 50}/64", "dev", INTERFACE, "nodad")
    lab.listen(PORT, 4)
    lab.listen(PORT, 6)
    return CASES[request.param]


def _syn(lab: Lab, source: str, target: str, port: int, mac: bytes = b"") -> None:
    """Send a SYN of an ordinary system's shape: only the finding can defer it."""
    options = bytes.fromhex("020405b40402080a000000010000000001030307")
    ether = lab.ether[:6] + (mac or lab.ether[6:])
    lab.wire.send(
        tcp_segment(
            ether, source, target, _rng.randrange(1024, 65536), port, SYN,
            seq=_rng.getrandbits(32), ack=0, window=_rng.randrange(65536), options=options,
        )
    )  # fmt: skip


def _is_answered(lab: Lab, source: str, target: str, mac: bytes = b"") -> bool:
    """Return whether a SYN to the listed port is answered; it is not when it is deferred."""
    link = mac or lab.ether[6:]
    lab.victim.ip(
        "neigh", "replace", source, "lladdr", link.hex(":"), "dev", INTERFACE, "nud", "permanent"
    )
    before = lab.count("deferred") + lab.count("blocked_prefix")
    lab.wire.received()
    found: list[str] = []
    _syn(lab, source, target, PORT, mac)

    def is_over() -> bool:
        found.extend(synacks(lab.wire.received(), PORT))
        return source in found or lab.count("deferred") + lab.count("blocked_prefix") > before

    wait_for(is_over, "an answer, or a SYN that was deferred or dropped")
    return source in found


def _findings(sentry: Sentry) -> list[dict[str, Any]]:
    noted = [event["sentryfw"] for event in sentry.events()]
    return [note for note in noted if note.get("event") == "distributed-scan"]


def _scan(lab: Lab, sentry: Sentry, addresses: str, target: str) -> dict[str, Any]:
    """Send 50 probes, two from each address, and return the finding."""
    for number in range(50):
        _syn(lab, addresses % (100 + number // 2), target, 7000 + number)
    return wait_for(lambda: _findings(sentry), "the finding")[0]


def _seconds_to_connect(lab: Lab, source: str) -> float:
    began = time.monotonic()
    lab.open(source, PORT)
    return time.monotonic() - began


def test_it_is_named_within_50_probes_and_no_new_address_of_it_is_answered(
    lab: Lab, lan: tuple[str, str], daemon: Sentry
) -> None:
    addresses, target = lan
    assert _is_answered(lab, addresses % 90, target)
    finding = _scan(lab, daemon, addresses, target)
    assert finding["place"] == lab.ether[6:].hex(":")
    assert lab.elements("defer_ether") == {lab.ether[6:].hex(":")}
    assert not _is_answered(lab, addresses % 91, target)


def test_other_neighbours_and_what_comes_through_a_router_are_served(
    lab: Lab, start_daemon: StartDaemon, lan: tuple[str, str]
) -> None:
    """The scanner is the router, too: only sources on link are meant."""
    sentry = start_daemon("")
    addresses, target = lan
    _scan(lab, sentry, addresses, target)
    assert _is_answered(lab, addresses % 91, target, OTHER_MAC)
    for client in ELSEWHERE.values():
        assert _seconds_to_connect(lab, client) < SERVED_WITHIN_S
    assert lab.count("deferred") == 0


def test_honest_neighbours_behind_one_hardware_address_are_served(
    lab: Lab, lan: tuple[str, str], daemon: Sentry
) -> None:
    """A bridge or repeater: 40 hosts, which look for the services of their kind."""
    addresses, target = lan
    for number in range(40):
        for port in (445, 80) if number % 2 else (631, 9100):
            _syn(lab, addresses % (100 + number), target, port)
    wait_for(lambda: lab.count("judged") >= 80, "all are judged")
    assert _findings(daemon) == []
    assert _is_answered(lab, addresses % 91, target)


def test_a_scanner_behind_them_is_found(lab: Lab, lan: tuple[str, str], daemon: Sentry) -> None:
    addresses, target = lan
    for number in range(20):
        _syn(lab, addresses % (200 + number), target, 445)
    assert _scan(lab, daemon, addresses, target)["place"] == lab.ether[6:].hex(":")


def test_with_prefixes_it_is_dropped_and_its_partners_are_not(
    lab: Lab, start_daemon: StartDaemon, lan: tuple[str, str]
) -> None:
    addresses, target = lan
    sentry = start_daemon('[block]\nprefixes = "ipv6"')
    partner = _partner(lab, ip_address(target).version)
    _scan(lab, sentry, addresses, target)
    assert lab.elements("block_ether") == {lab.ether[6:].hex(":")}
    before = lab.count("blocked_prefix")
    assert not _is_answered(lab, addresses % 91, target)
    assert lab.count("blocked_prefix") > before
    assert _is_answered(lab, addresses % 91, target, OTHER_MAC)
    for client in (partner, *ELSEWHERE.values()):
        assert _seconds_to_connect(lab, client) < SERVED_WITHIN_S
    lab.table.sets.unblock_all()
    assert lab.elements("block_ether") | lab.elements("defer_ether") == set()


def _partner(lab: Lab, family: int) -> str:
    """Make an address of the neighbour a partner, and return it."""
    client = {4: ATTACKER[4], 6: LAN6 % 50}[family]
    lab.make_partner(client, PORT)
    return client
