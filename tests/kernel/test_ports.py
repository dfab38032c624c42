"""The watched ports in the kernel: [watch] mode, traps and upper bounds."""

from collections.abc import Callable

import pytest

from support.frames import FIN, SYN, udp_frame
from support.lab import ATTACKER, BYSTANDER, LISTED, VICTIM, Lab, Sentry, drain
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

StartDaemon = Callable[[str], Sentry]
EAGER = "[detect]\ntrigger = 1\ntriggers = { null = 1, fin = 1 }\n"
both_families = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])


def _judged(lab: Lab, daemon: Sentry, *ports: int, family: int = 4, flags: int = SYN) -> list[int]:
    """Return the ports at which one probe blocks its source."""
    found = []
    for port in ports:
        lab.probe(ATTACKER[family], port, flags=flags)
        drain(daemon)
        if lab.is_blocked(ATTACKER[family]):
            found.append(port)
        lab.nft(f"flush set inet sentryfw block{family}")
        daemon.release(ATTACKER[family])
        lab.nft(f"flush set inet sentryfw suspect{family}")
    return found


@both_families
def test_ports_at_or_above_the_upper_bound_are_not_watched(
    lab: Lab, start_daemon: StartDaemon, family: int
) -> None:
    daemon = start_daemon(f"[watch]\nupper_tcp = 1024\n{EAGER}")
    assert _judged(lab, daemon, 7, 1023, 1024, 40000, family=family) == [7, 1023]
    assert _judged(lab, daemon, 1023, 1024, family=family, flags=FIN) == [1023]


def test_each_protocol_has_a_bound_of_its_own(lab: Lab, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(f"[watch]\nupper_udp = 1024\n{EAGER}")
    lab.wire.send(
        *(udp_frame(lab.ether, ATTACKER[4], VICTIM[4], 40000, port) for port in (1024, 40000))
    )
    assert _judged(lab, daemon, 40000) == [40000]
    assert daemon.status()["engine"].get("udp", 0) == 0
    lab.wire.send(udp_frame(lab.ether, ATTACKER[4], VICTIM[4], 40000, 1023))
    wait_for(lambda: lab.is_blocked(ATTACKER[4]), "a datagram below the bound blocks")


@both_families
def test_traps_are_judged_and_nothing_else(
    lab: Lab, start_daemon: StartDaemon, family: int
) -> None:
    daemon = start_daemon(f'[watch]\nmode = "traps"\ntrap_tcp = [1, "7-11"]\n{EAGER}')
    assert _judged(lab, daemon, 1, 2, 6, 7, 9, 11, 12, 65535, family=family) == [1, 7, 9, 11]
    assert _judged(lab, daemon, 7, 12, family=family, flags=0) == [7]


def test_a_trap_with_a_listener_is_a_service(lab: Lab, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(f'[watch]\nmode = "traps"\ntrap_tcp = [1, {LISTED}]\n{EAGER}')
    listener = lab.listen()
    assert _judged(lab, daemon, 1, LISTED) == [1]
    listener.close()
    assert _judged(lab, daemon, LISTED) == [LISTED]


def test_a_suspect_is_held_at_services_beside_the_traps(
    lab: Lab, start_daemon: StartDaemon
) -> None:
    """Zero leak holds for every listed port."""
    start_daemon(f'[watch]\nmode = "traps"\ntrap_tcp = [1]\n{EAGER}')
    lab.listen()
    lab.wire.received()
    lab.probe(ATTACKER[4], 1, LISTED)
    wait_for(lambda: lab.is_blocked(ATTACKER[4]), "blocked")
    assert not lab.answers(ATTACKER[4])
    assert lab.answers(BYSTANDER[4])


def test_more_than_64_traps_work(lab: Lab, start_daemon: StartDaemon) -> None:
    ports = list(range(2, 400, 2))
    daemon = start_daemon(f'[watch]\nmode = "traps"\ntrap_tcp = {[1, *ports]}\n{EAGER}')
    assert _judged(lab, daemon, 396, 397, 398) == [396, 398]


def test_every_probe_counts_with_count_probes(lab: Lab, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(
        '[detect]\ncount = "probes"\ntrigger = 3\nslow_trigger = 3\n[block]\nunlisted = "accept"\n'
    )
    for hit in (1, 2, 3):
        assert not lab.is_blocked(ATTACKER[4])
        lab.probe(ATTACKER[4], 7, sport=40000 + hit)
        wait_for(lambda hit=hit: daemon.status()["engine"].get("syn") == hit, f"hit {hit}")  # type: ignore[misc]
        drain(daemon)
    assert lab.is_blocked(ATTACKER[4])
    assert daemon.alert(ATTACKER[4])["sentryfw"]["reason"] == (
        "3 probes to 1 distinct target within the window"
    )
