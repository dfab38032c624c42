"""In a flood new sources are limited before connection tracking, and all others are served."""

import contextlib
import itertools
import re
import threading
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from typing import Final

import pytest

from sentryfw.engine.model import parse_source
from sentryfw.engine.networks import LINK_LOCAL_ONLY
from sentryfw.tools.drill.namespace import add_address, connect
from support.frames import SYN, tcp_frame
from support.lab import ATTACKER, BYSTANDER, INTERFACE, UNLISTED, VICTIM, Lab, Sentry
from support.waiting import wait_for

pytestmark = [pytest.mark.netns, pytest.mark.serial]

StartDaemon = Callable[[str], Sentry]
FLOOD_PORTS: Final = (7, 8, 9)
PUBLISHED: Final = 8443
SCANNERS: Final = 50
FIRST_SCANNER: Final = 0x10000
"""The number of the first scanner's address: none of the flood's."""


@contextlib.contextmanager
def _flood(lab: Lab, family: int) -> Iterator[None]:
    """Send SYNs of new sources to an unlisted port, far more than the limit in each second."""
    ended = threading.Event()
    # A source comes again after two seconds, when it is new again.
    frames = [
        [_syn(lab, family, first + n) for n in range(1000)] for first in range(0, 20000, 1000)
    ]

    def send() -> None:
        for part in itertools.cycle(frames):
            if ended.wait(0.1):
                return
            lab.wire.send(*part)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _syn(lab: Lab, family: int, number: int, port: int = 0) -> bytes:
    port = port or FLOOD_PORTS[number % len(FLOOD_PORTS)]
    return tcp_frame(lab.ether, _address(family, number), VICTIM[family], 40000, port, flags=SYN)


def _address(family: int, number: int) -> str:
    high, low = number >> 16 & 0xFF, number & 0xFFFF
    return f"10.{high}.{low >> 8}.{low & 0xFF}" if family == 4 else f"2001:db8:{high:x}:{low:x}::9"


def _is_early(lab: Lab) -> bool:
    return bool(lab.elements("flooded"))


def _wait_until_early(lab: Lab, family: int) -> None:
    """Wait until the limit is moved, and knows what the flood finds closed."""
    wait_for(lambda: _is_early(lab), "the limit is moved")
    wait_for(lambda: _closed(lab, family) == set(FLOOD_PORTS), "closed ports")


def _closed(lab: Lab, family: int) -> set[int]:
    """Return the ports that were found closed on the wire's interface."""
    listing = lab.nft("list", "set", "inet", "sentryfw", f"closed{family}")
    return {int(port) for port in re.findall(rf'"{INTERFACE}" \. \S+ \. (\d+)', listing)}


def _is_refused(lab: Lab, source: str, port: int) -> bool:
    """Return whether the kernel resets a connection of this source at once."""
    try:
        lab.open(source, port, timeout=5.0)
    except ConnectionRefusedError:
        return True
    except TimeoutError:
        return False
    raise AssertionError(f"port {port} is open")


@pytest.mark.parametrize("family", [4, 6])
def test_a_flood_is_limited_early_and_all_others_are_served(
    lab: Lab, start_daemon: StartDaemon, family: int
) -> None:
    daemon = start_daemon("[watch]\nlisted_tcp = [8080]\n")
    lab.listen(family=family)
    assert not _is_early(lab)
    with _flood(lab, family):
        wait_for(lambda: _is_early(lab), "the limit is moved")
        for _ in range(5):
            assert lab.answers(BYSTANDER[family])
        for port in UNLISTED:  # each probe but the first comes from a source of the last second
            lab.probe(ATTACKER[family], port)
            lab.probe(ATTACKER[family], port)
        assert daemon.alert(ATTACKER[family])["alert"]["action"] == "blocked"
    wait_for(lambda: not _is_early(lab), "it is back some seconds after the flood", 20)
    assert "a flood is limited behind" not in daemon.log()


@pytest.mark.parametrize("family", [4, 6])
def test_what_has_no_socket_and_is_listed_by_hand_is_not_limited(
    lab: Lab, start_daemon: StartDaemon, family: int
) -> None:
    start_daemon("[watch]\nlisted_tcp = [8080]\n")
    with _flood(lab, family):
        wait_for(lambda: _is_early(lab), "the limit is moved")
        assert all(_is_refused(lab, BYSTANDER[family], 8080) for _ in range(5))
        # Its counterpart: the port beside it is unlisted, and a new source has no answer there.
        assert not _is_refused(lab, BYSTANDER[family], 8081)


def test_a_published_port_is_served_in_a_flood(lab: Lab, start_daemon: StartDaemon) -> None:
    """Without a socket on the port that is published, the first hook cannot know it."""
    daemon = start_daemon("")
    lab.listen(PUBLISHED + 1)
    lab.nft("add", "table", "ip", "published")
    lab.nft(
        "add", "chain", "ip", "published", "pre",
        "{ type nat hook prerouting priority dstnat; }",
    )  # fmt: skip
    lab.nft(
        "add", "rule", "ip", "published", "pre", "tcp", "dport", str(PUBLISHED),
        "redirect", "to", f":{PUBLISHED + 1}",
    )  # fmt: skip
    with _flood(lab, 4):
        wait_for(lambda: "table published may redirect" in daemon.log(), "it is noticed")
        for _ in range(5):
            assert lab.answers(BYSTANDER[4], PUBLISHED)
        assert not _is_early(lab)


@pytest.mark.parametrize("family", [4, 6])
def test_a_service_that_starts_on_a_flooded_port_is_served(
    lab: Lab, start_daemon: StartDaemon, family: int
) -> None:
    """A client's second SYN comes when the kernel has forgotten that the port was closed."""
    start_daemon("")
    with _flood(lab, family):
        _wait_until_early(lab, family)
        lab.listen(FLOOD_PORTS[0], family)
        assert lab.open(BYSTANDER[family], FLOOD_PORTS[0]).getpeername()


@pytest.mark.parametrize("family", [4, 6])
def test_a_scanner_of_flooded_ports_is_blocked(
    lab: Lab, start_daemon: StartDaemon, family: int
) -> None:
    """One in eight of its probes is remembered: of 99 none with a probability of 2 in a million."""
    daemon = start_daemon("")
    with _flood(lab, family):
        _wait_until_early(lab, family)
        for port in FLOOD_PORTS * 33:
            lab.probe(ATTACKER[family], port)
        assert daemon.alert(ATTACKER[family])["alert"]["action"] == "blocked"


@pytest.mark.parametrize("family", [4, 6])
def test_a_scanner_beside_the_flooded_ports_is_blocked_by_its_second_probes(
    lab: Lab, start_daemon: StartDaemon, family: int
) -> None:
    """The counterpart: of a port that is not flooded every new source is remembered."""
    daemon = start_daemon("")
    with _flood(lab, family):
        _wait_until_early(lab, family)
        lab.probe(ATTACKER[family], UNLISTED[0])
        for port in UNLISTED:
            lab.probe(ATTACKER[family], port)
        assert daemon.alert(ATTACKER[family])["alert"]["action"] == "blocked"


@pytest.mark.parametrize("family", [4, 6])
def test_of_a_flooded_ports_sources_few_are_remembered(
    lab: Lab, start_daemon: StartDaemon, family: int
) -> None:
    start_daemon("")
    with _flood(lab, family):
        _wait_until_early(lab, family)
        # Of 10,000 sources a second: an eighth, what the limit lets pass, and each port's first.
        wait_for(lambda: 0 < len(lab.elements(f"seen{family}")) < 5000, "few are remembered")


@pytest.mark.parametrize("family", [4, 6])
def test_scanners_that_probe_the_same_ports_at_once_are_remembered(
    lab: Lab, start_daemon: StartDaemon, family: int
) -> None:
    """The counterpart: a port that fifty scan at once is not a flood's: all are remembered."""
    start_daemon("")
    with _flood(lab, family):
        _wait_until_early(lab, family)
        for number in range(SCANNERS):
            lab.wire.send(_syn(lab, family, FIRST_SCANNER + number, UNLISTED[0]))
        seen = set(lab.elements(f"seen{family}"))
    bits = 32 if family == 4 else 64
    networks = [ip_network(f"{element}/{bits}") for element in seen]
    for number in range(SCANNERS):
        source = ip_address(_address(family, FIRST_SCANNER + number))
        assert any(source in network for network in networks), source


@pytest.mark.parametrize("family", [4, 6])
def test_a_block_and_its_end_count_in_a_flood(
    lab: Lab, start_daemon: StartDaemon, family: int
) -> None:
    start_daemon("")
    lab.listen(family=family)
    attacker = parse_source(ATTACKER[family], LINK_LOCAL_ONLY)
    lab.table.sets.block([(attacker, 600.0)])
    with _flood(lab, family):
        _wait_until_early(lab, family)
        assert not lab.answers(ATTACKER[family])
        before = lab.dropped(ATTACKER[family])
        for _ in range(100):  # a new source's until it is remembered: the limit drops most of those
            lab.probe(ATTACKER[family], FLOOD_PORTS[0])
        wait_for(lambda: lab.dropped(ATTACKER[family]) > before, "a drop that the block counts")
        lab.table.sets.unblock(attacker)
        assert lab.answers(ATTACKER[family])


@pytest.mark.parametrize("family", [4, 6])
def test_a_never_block_source_is_not_limited(
    lab: Lab, start_daemon: StartDaemon, family: int
) -> None:
    """Each of its probes is judged, of the first, too, which a new source's would hardly be."""
    daemon = start_daemon(f'[never_block]\naddresses = ["{BYSTANDER[family]}"]')
    with _flood(lab, family):
        _wait_until_early(lab, family)
        lab.probe(BYSTANDER[family], *FLOOD_PORTS)
        reason = daemon.alert(BYSTANDER[family], action="allowed")["sentryfw"]["reason"]
        assert reason == "never_block"


def test_what_an_unwatched_interface_sends_is_not_limited(
    lab: Lab, start_daemon: StartDaemon
) -> None:
    """A port found closed is so for the packets of its interface."""
    start_daemon(f'[watch]\ninterfaces = ["{INTERFACE}"]')
    connect(lab.victim, lab.attacker, ("up0", "up1"))
    add_address(lab.victim, "up0", "198.18.32.1/24")
    add_address(lab.attacker, "up1", "198.18.32.2/24")
    lab.attacker.ip("route", "add", f"{VICTIM[4]}/32", "via", "198.18.32.1", "dev", "up1")
    with _flood(lab, 4):
        _wait_until_early(lab, 4)
        assert _is_refused(lab, "198.18.32.2", FLOOD_PORTS[0])
        assert _closed(lab, 4) == set(FLOOD_PORTS)
