"""Hosts behind: routed packets are judged, and a block holds on each way to a service."""

from collections.abc import Iterator
from typing import Final

import pytest

from support.frames import ACK, FIN, RST, SYN, tcp_frame
from support.lab import ATTACKER, BYSTANDER, INTERFACE, LISTED, VICTIM, Lab, Sentry, drain, synacks
from support.router import (
    BEHIND,
    FORWARD,
    OUTSIDE,
    PUBLISH,
    PUBLISHED,
    SERVICE,
    Router,
    hosts,
)
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

both_families = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
BURST: Final = 300
NOTRACK: Final = """
table inet nobody_tracks {
    chain c { type filter hook prerouting priority raw; notrack; }
}
"""


@pytest.fixture
def guard(router: Router, lab: Lab) -> Iterator[Sentry]:
    """The daemon, with hosts behind."""
    sentry = Sentry(lab, FORWARD)
    try:
        yield sentry.start()
    finally:
        sentry.close()


@both_families
def test_a_sweep_over_hosts_behind_is_a_portsweep(
    router: Router, guard: Sentry, family: int
) -> None:
    router.probe(ATTACKER[family], *hosts(family, 3))
    event = guard.alert(ATTACKER[family])
    assert event["sentryfw"]["scan"] == "portsweep"
    assert event["sentryfw"]["targets"] == 3
    assert guard.lab.is_blocked(ATTACKER[family])


@pytest.mark.nmap
@both_families
def test_nmap_over_a_prefix_behind_is_seen_at_its_third_host(
    router: Router, guard: Sentry, family: int
) -> None:
    words = ["nmap", "-sS", "-Pn", "-n", "-T5", "--max-retries", "0", "-p", "443"]
    network = {4: ["198.18.64.96/28"], 6: ["-6", "2001:2:64::100/124"]}[family]
    source = ["-S", ATTACKER[family], "-e", INTERFACE]
    guard.lab.attacker.run(*words, *source, *network)
    event = guard.alert(ATTACKER[family])
    assert event["sentryfw"]["scan"] == "portsweep"
    assert event["sentryfw"]["targets"] == 3


@both_families
def test_a_scan_of_one_host_behind_is_a_portscan(
    router: Router, guard: Sentry, family: int
) -> None:
    router.probe(ATTACKER[family], *((BEHIND[family], port) for port in (7001, 7002, 7003)))
    assert guard.alert(ATTACKER[family])["sentryfw"]["scan"] == "portscan"


@pytest.mark.parametrize("flags", [0, FIN, SYN | FIN], ids=["null", "fin", "synfin"])
def test_flags_that_no_stack_sends_are_judged_at_listed_ports_too(
    router: Router, guard: Sentry, flags: int
) -> None:
    router.probe(ATTACKER[4], (BEHIND[4], SERVICE), (BEHIND[4], SERVICE + 1), flags=flags)
    guard.alert(ATTACKER[4])


def test_resets_of_half_open_connections_behind_are_evidence(router: Router, guard: Sentry) -> None:
    router.listen(4)
    for sport in range(41000, 41008):
        guard.lab.wire.send(tcp_frame(guard.lab.ether, ATTACKER[4], BEHIND[4], sport, SERVICE))
    # The attacker's own stack resets what it did not open, as under a SYN scan.
    wait_for(lambda: guard.lab.count("half_open") == 8, "eight resets")


@both_families
def test_listed_and_published_services_are_reached_and_make_partners(
    router: Router, guard: Sentry, family: int
) -> None:
    guard.lab.nft(PUBLISH)
    router.listen(family)
    assert router.opens(ATTACKER[family], BEHIND[family], SERVICE)
    assert router.opens(BYSTANDER[family], VICTIM[family], PUBLISHED)
    wait_for(lambda: len(guard.lab.elements(f"partner{family}")) == 2, "two partners")
    drain(guard)
    assert guard.lab.count("judged") == 0


@both_families
def test_what_is_opened_from_inside_is_not_judged(
    router: Router, guard: Sentry, family: int
) -> None:
    guard.lab.listen(LISTED, family, guard.lab.attacker)
    with router.open_from_behind(family, LISTED) as client:
        assert client.getpeername()[1] == LISTED
    wait_for(lambda: guard.lab.elements(f"peer{family}"), "the server is a peer")
    drain(guard)
    assert guard.lab.count("judged") == 0


def test_late_packets_of_a_peer_of_a_host_behind_are_not_evidence(
    router: Router, guard: Sentry
) -> None:
    guard.lab.listen(LISTED, 4, guard.lab.attacker)
    router.open_from_behind(4, LISTED).close()
    wait_for(lambda: guard.lab.elements("peer4"), "the server is a peer")
    router.probe(ATTACKER[4], *((BEHIND[4], port) for port in range(50000, 50010)), flags=ACK)
    wait_for(lambda: guard.lab.count("judged") == 10, "ten late packets")
    drain(guard)
    assert guard.alerts(ATTACKER[4]) == []


def test_answers_to_forgeries_of_addresses_behind_are_not_evidence(
    router: Router, guard: Sentry
) -> None:
    for flags in (SYN | ACK, RST, RST | ACK):
        router.probe(ATTACKER[4], *hosts(4, 5), flags=flags)
    wait_for(lambda: guard.lab.count("backscatter") == 15, "fifteen answers")
    assert guard.lab.count("judged") == 0


def test_without_connection_tracking_only_syns_are_judged(router: Router, guard: Sentry) -> None:
    """A reply to a connection from inside then looks like a probe; a SYN does not."""
    guard.lab.nft(NOTRACK)
    guard.lab.listen(LISTED, 4, guard.lab.attacker)
    router.open_from_behind(4, LISTED).close()
    router.probe(ATTACKER[4], *hosts(4, 9), flags=ACK)
    drain(guard)
    assert guard.lab.count("judged") == 0
    router.probe(ATTACKER[4], *hosts(4, 3))
    guard.alert(ATTACKER[4])
    assert guard.lab.count("judged") == 3


@both_families
def test_a_burst_of_scanners_opens_nothing_behind(
    router: Router, guard: Sentry, family: int
) -> None:
    """Three unlisted probes and a listed or published port, back to back, of each source."""
    lab = guard.lab
    lab.nft(PUBLISH)
    router.listen(family)
    mac = lab.ether[6:].hex(":")
    gateway = ATTACKER[family]
    network = {4: "198.19.0.0/16", 6: "2001:2:8000::/33"}[family]
    lab.victim.ip("neigh", "replace", gateway, "lladdr", mac, "dev", "veth0", "nud", "permanent")
    lab.victim.ip("route", "add", network, "via", gateway, "dev", "veth0")
    for name in ("all", "veth0"):
        lab.victim.run("sysctl", "-qw", f"net.ipv4.conf.{name}.rp_filter=0")
    sources = {
        4: [f"198.19.{n >> 8}.{n & 0xFF}" for n in range(1, BURST + 1)],
        6: [f"2001:2:8000:{n:x}::7" for n in range(1, BURST + 1)],
    }[family]
    for number, source in enumerate(sources):
        last = (BEHIND[family], SERVICE) if number % 2 else (VICTIM[family], PUBLISHED)
        router.probe(source, *hosts(family, 3), last)
    drain(guard)
    router.probe(BYSTANDER[family], (BEHIND[family], SERVICE))
    seen: list[str] = []

    def bystander_is_answered() -> bool:
        frames = lab.wire.received()
        seen.extend((*synacks(frames, SERVICE), *synacks(frames, PUBLISHED)))
        return BYSTANDER[family] in seen

    wait_for(bystander_is_answered, "a clean source is answered")
    assert set(seen) == {BYSTANDER[family]}
    assert len(list(lab.table.sets.blocked_sources())) == BURST


@pytest.mark.parametrize("settings", [OUTSIDE, FORWARD], ids=["forward-off", "forward-on"])
@both_families
def test_a_block_holds_for_this_host_hosts_behind_and_published_ports(
    router: Router, lab: Lab, settings: str, family: int
) -> None:
    lab.nft(PUBLISH)
    lab.listen(LISTED, family)
    router.listen(family)
    ways = [
        (VICTIM[family], LISTED),
        (BEHIND[family], SERVICE),
        (VICTIM[family], PUBLISHED),
    ]
    sentry = Sentry(lab, settings)
    try:
        sentry.start()
        assert [way for way in ways if not router.opens(BYSTANDER[family], *way)] == []
        lab.probe(ATTACKER[family], 7001, 7002, 7003)
        sentry.alert(ATTACKER[family])
        dropped = lab.dropped(ATTACKER[family])
        for way in ways:
            assert not router.opens(ATTACKER[family], *way, timeout=0.1), way
            now = lab.dropped(ATTACKER[family])
            assert now > dropped, way
            dropped = now
        assert [way for way in ways if not router.opens(BYSTANDER[family], *way)] == []
    finally:
        sentry.close()


def test_without_forward_hosts_behind_are_not_judged(router: Router, lab: Lab) -> None:
    sentry = Sentry(lab, OUTSIDE)
    try:
        sentry.start()
        assert "divert_forward" not in lab.nft("list table inet sentryfw")
        router.listen(4)
        router.probe(ATTACKER[4], *hosts(4, 9), (BEHIND[4], SERVICE))
        wait_for(lambda: synacks(lab.wire.received(), SERVICE), "the last one's answer")
        assert lab.count("judged") == 0
    finally:
        sentry.close()


def test_a_flush_is_repaired_with_the_ports_listed_behind(router: Router, guard: Sentry) -> None:
    lab = guard.lab
    before = lab.nft("-s", "list set inet sentryfw listed_forward4")
    assert BEHIND[4] in before
    lab.nft("flush ruleset")
    wait_for(lambda: guard.status()["healed"]["count"] == 1, "a repair")
    assert lab.nft("-s", "list set inet sentryfw listed_forward4") == before
    assert BEHIND[6] in lab.nft("-s", "list set inet sentryfw listed_forward6")
    router.probe(ATTACKER[4], *hosts(4, 3))
    guard.alert(ATTACKER[4])
