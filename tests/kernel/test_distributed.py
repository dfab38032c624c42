"""Scans that many sources share out: reported, and from then on strangers' SYNs are deferred."""

import random
import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Final

import pytest

from kernel.conftest import StartDaemon
from support.frames import SYN, tcp_segment
from support.lab import ATTACKER, INTERFACE, VICTIM, Lab, Sentry, synacks
from support.waiting import wait_for

pytestmark = pytest.mark.netns

OPEN: Final = (80, 443, 8080, 9000, 20022, 31337, 40000, 50000, 65000)
"""Nine open ports of 65,535."""
SERVED_WITHIN_S: Final = 0.5
_rng: Final = random.Random(7)


def _routes(lab: Lab) -> None:
    """Let the victim answer the sources that the attacker's host sends from."""
    for network in ("2001:db8::/32", "10.0.0.0/8"):
        family = "-6" if ":" in network else "-4"
        via = ATTACKER[6 if ":" in network else 4]
        lab.victim.ip(family, "route", "add", network, "via", via)


def _ports() -> list[int]:
    """Return all ports in a random order, in which the first 50 are closed."""
    ports = [port for port in range(1, 65536) if port not in OPEN]
    _rng.shuffle(ports)
    later = [*ports[50:], *OPEN]
    _rng.shuffle(later)
    return ports[:50] + later


def _syn(lab: Lab, source: str, port: int, window: int = 64240) -> bytes:
    """Return a SYN of an ordinary system's shape: only the finding can defer it."""
    options = bytes.fromhex("020405b40402080a000000010000000001030307")
    sport = _rng.randrange(1024, 65536)
    return tcp_segment(
        lab.ether, source, VICTIM[ip_address(source).version], sport, port, SYN,
        seq=_rng.getrandbits(32), ack=0, window=window, options=options,
    )  # fmt: skip


def _findings(sentry: Sentry) -> list[dict[str, Any]]:
    noted = [event["sentryfw"] for event in sentry.events()]
    return [note for note in noted if note.get("event") == "distributed-scan"]


def _await_finding(sentry: Sentry) -> dict[str, Any]:
    return wait_for(lambda: _findings(sentry), "the finding")[0]


def _home(number: int) -> str:
    """Return an address of a home's /56."""
    return f"2001:db8:5:ff{number & 0xFF:02x}::{number >> 8 or 1:x}"


def _site(number: int) -> str:
    """Return an address of a /48, each in a /64 and (for a while) a /56 of its own."""
    return f"2001:db8:6:{(number * 257) & 0xFFFF:x}::1"


def _office(number: int) -> str:
    return f"10.77.7.{number % 250 + 1}"


def _anywhere(number: int) -> str:
    return f"10.{number % 250}.{number // 250}.9"


CASES: Final = pytest.mark.parametrize(
    ("source", "place"),
    [
        pytest.param(_site, "2001:db8:6::/48", id="48"),
        pytest.param(_home, "2001:db8:5:ff00::/56", id="56"),
        pytest.param(_office, "10.77.7.0/24", id="24"),
        pytest.param(_anywhere, VICTIM[4], id="botnet"),
    ],
)


def _shared_out(lab: Lab, source: Callable[[int], str], ports: list[int], each: int = 2) -> None:
    """Send a SYN to each port, `each` of them from one source, with any window."""
    for number in range(0, len(ports), each):
        home = source(number // each)
        for port in ports[number : number + each]:
            lab.wire.send(_syn(lab, home, port, _rng.randrange(65536)))


@CASES
@pytest.mark.parametrize("each", [1, 2], ids=["one-port-each", "two-ports-each"])
def test_a_scan_that_is_shared_out_is_reported_within_50_probes(
    lab: Lab, daemon: Sentry, source: Callable[[int], str], place: str, each: int
) -> None:
    """From then on, no listed port answers the first SYN of a stranger of it."""
    _routes(lab)
    family = ip_address(source(0)).version
    for port in OPEN:
        lab.listen(port, family)
    _shared_out(lab, source, _ports()[:50], each)
    assert _await_finding(daemon)["place"] == place
    assert any("distributed-scan" in line for line in daemon.log().splitlines())
    lab.wire.received()
    for number, port in enumerate(OPEN, 100):
        lab.wire.send(_syn(lab, source(number), port))
    wait_for(lambda: lab.count("deferred") >= len(OPEN), "all are judged")
    assert [port for port in OPEN if synacks(lab.wire.received(), port)] == []


@pytest.mark.parametrize("source", [_site, _anywhere], ids=["48", "botnet"])
def test_a_raw_scan_of_all_ports_that_is_shared_out_finds_no_open_port(
    lab: Lab, daemon: Sentry, source: Callable[[int], str]
) -> None:
    """Two ports a source, each SYN of an ordinary system's shape, as fast as a scanner sends."""
    _routes(lab)
    for port in OPEN:
        lab.listen(port, ip_address(source(0)).version)
    ports = _ports()
    _shared_out(lab, source, ports[:50])
    _await_finding(daemon)
    _shared_out(lab, lambda number: source(number + 25), ports[50:])
    wait_for(lambda: lab.count("deferred") >= len(OPEN), "all are judged")
    wait_for(lambda: not lab.elements("suspect4") | lab.elements("suspect6"), "it is over", 30)
    assert [port for port in OPEN if synacks(lab.wire.received(), port)] == []


@CASES
def test_observe_reports_it_and_defers_nothing(
    lab: Lab, start_daemon: StartDaemon, source: Callable[[int], str], place: str
) -> None:
    sentry = start_daemon('[detect]\nmode = "observe"')
    _routes(lab)
    family = ip_address(source(0)).version
    lab.listen(OPEN[0], family)
    _shared_out(lab, source, _ports()[:50])
    finding = _await_finding(sentry)
    assert (finding["place"], finding["deferred_s"]) == (place, 0)
    lab.wire.received()
    lab.wire.send(_syn(lab, source(99), OPEN[0]))
    wait_for(lambda: source(99) in synacks(lab.wire.received(), OPEN[0]), "a SYN/ACK")
    assert lab.count("deferred") == 0


# --- clients that are served

HOUSE: Final = {
    4: ("203.0.113.%d", "203.0.113.0/24"),
    6: ("2001:2:0:1%02x::5", "2001:2:0:100::/56"),
}
"""Addresses of a prefix that the attacker's host has, too, and the prefix: not on link."""
CLIENT: Final = {4: "203.0.113.2", 6: "2001:2:0:1fe::2"}
ELSEWHERE: Final = {4: "192.0.2.7", 6: "2001:db8:77::7"}


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def family(request: pytest.FixtureRequest, lab: Lab) -> int:
    """The family, with clients inside and outside of the prefix that scans."""
    bits, nodad = (128, ["nodad"]) if request.param == 6 else (32, [])
    for client in (CLIENT[request.param], ELSEWHERE[request.param]):
        lab.attacker.ip("address", "add", f"{client}/{bits}", "dev", INTERFACE, *nodad)
        lab.victim.ip("route", "add", f"{client}/{bits}", "dev", INTERFACE)
    return int(request.param)


def _scan_from_prefix(lab: Lab, sentry: Sentry, family: int) -> None:
    address, place = HOUSE[family]
    _shared_out(lab, lambda number: address % (number + 10), _ports()[:50])
    assert _await_finding(sentry)["place"] == place


def _seconds_to_connect(lab: Lab, source: str, port: int = OPEN[0]) -> float:
    began = time.monotonic()
    lab.open(source, port)
    return time.monotonic() - began


def test_a_real_connection_costs_a_stranger_of_the_prefix_a_second(
    lab: Lab, start_daemon: StartDaemon, family: int
) -> None:
    sentry = start_daemon("")
    lab.listen(OPEN[0], family)
    _scan_from_prefix(lab, sentry, family)
    assert 0.7 < _seconds_to_connect(lab, CLIENT[family]) < 3
    engine = sentry.status()["engine"]
    assert (engine["deferred"], engine["came again"]) == (1, 1)


def test_a_partner_of_the_prefix_and_a_stranger_elsewhere_are_served_at_once(
    lab: Lab, start_daemon: StartDaemon, family: int
) -> None:
    sentry = start_daemon("")
    lab.listen(OPEN[0], family)
    lab.make_partner(CLIENT[family], OPEN[0])
    _scan_from_prefix(lab, sentry, family)
    assert _seconds_to_connect(lab, CLIENT[family]) < SERVED_WITHIN_S
    assert _seconds_to_connect(lab, ELSEWHERE[family]) < SERVED_WITHIN_S
    assert lab.count("deferred") == 0


def test_a_never_blocked_client_of_the_prefix_is_served_at_once(
    lab: Lab, start_daemon: StartDaemon, family: int
) -> None:
    sentry = start_daemon(f'[never_block]\naddresses = ["{CLIENT[family]}"]')
    lab.listen(OPEN[0], family)
    _scan_from_prefix(lab, sentry, family)
    assert _seconds_to_connect(lab, CLIENT[family]) < SERVED_WITHIN_S
    assert lab.count("deferred") == 0


# --- prefixes that are blocked


def test_strangers_of_a_blocked_prefix_are_dropped_and_its_partners_are_not(
    lab: Lab, start_daemon: StartDaemon, family: int
) -> None:
    sentry = start_daemon('[block]\nprefixes = "both"')
    lab.listen(OPEN[0], family)
    lab.make_partner(CLIENT[family], OPEN[0])
    _scan_from_prefix(lab, sentry, family)
    assert _findings(sentry)[0]["blocked_s"] == 60
    before = lab.count("blocked_prefix")
    lab.wire.received()
    lab.wire.send(_syn(lab, HOUSE[family][0] % 200, OPEN[0]))
    wait_for(lambda: lab.count("blocked_prefix") > before, "the stranger is dropped")
    assert synacks(lab.wire.received(), OPEN[0]) == []
    assert _seconds_to_connect(lab, CLIENT[family]) < SERVED_WITHIN_S
    assert _seconds_to_connect(lab, ELSEWHERE[family]) < SERVED_WITHIN_S
    lab.table.sets.unblock_all()
    assert lab.elements({4: "block24", 6: "block56"}[family]) == set()
