"""The hosts that look scanned."""

from ipaddress import IPv6Network

import pytest

from sentryfw.engine.packet import ICMP, TCP, UDP
from sentryfw.tools.replay.scanned import (
    MIN_HOSTS,
    MIN_PORTS,
    MIN_SWEEP,
    MIN_UNRELATED,
    Asked,
    Scanned,
)
from support import forge

THEM, OTHER = forge.packed("203.0.113.7"), forge.packed("203.0.113.8")
US, US6 = forge.packed("192.0.2.1"), forge.packed("2001:db8::1")
LAN = [forge.packed(f"192.0.2.{n}") for n in range(1, 60)]
WORLD = [forge.packed(f"198.{n}.100.1") for n in range(60)]


def _ports(count: int, target: bytes = US, source: bytes = THEM) -> list[Asked]:
    return [(source, target, TCP, 1000 + n) for n in range(count)]


def _hosts(hosts: list[bytes], protocol: int = TCP, source: bytes = THEM) -> list[Asked]:
    return [(source, host, protocol, 23) for host in hosts]


def test_nothing_was_asked() -> None:
    assert Scanned([], []).addresses() == set()


def test_a_host_was_asked_for_min_ports() -> None:
    assert Scanned(_ports(MIN_PORTS), []).addresses() == {US}
    assert Scanned(_ports(MIN_PORTS - 1), []).addresses() == set()


def test_a_port_that_was_asked_by_udp_counts_half() -> None:
    asked = [(THEM, US, UDP, 1000 + n) for n in range(2 * MIN_PORTS)]
    assert Scanned(asked, []).addresses() == {US}
    assert Scanned(asked[1:], []).addresses() == set()


def test_the_ports_of_two_sources_do_not_add_up() -> None:
    asked = [*_ports(MIN_PORTS - 1), *_ports(MIN_PORTS - 1, source=OTHER)]
    assert Scanned(asked, []).addresses() == set()


@pytest.mark.parametrize(
    ("protocol", "count"), [(TCP, MIN_HOSTS), (ICMP, MIN_HOSTS), (UDP, MIN_SWEEP)]
)
def test_min_hosts_of_a_network_were_asked(protocol: int, count: int) -> None:
    assert Scanned(_hosts(LAN[:count], protocol), []).addresses() == set(LAN[:count])
    assert Scanned(_hosts(LAN[: count - 1], protocol), []).addresses() == set()


def test_private_addresses_asked_from_the_internet_are_one_network() -> None:
    private = [forge.packed(f"10.{n}.0.1") for n in range(MIN_HOSTS)]
    asker, inside = forge.packed("8.8.8.8"), forge.packed("10.99.0.9")

    def asked(source: bytes) -> list[Asked]:
        return [(source, host, UDP, 100 + n) for n, host in enumerate(private)]

    assert Scanned(asked(asker), []).addresses() == set(private)
    assert Scanned(asked(asker)[1:], []).addresses() == set()
    assert Scanned(asked(inside), []).addresses() == set()


def test_a_scanner_is_not_among_the_scanned_hosts_of_its_network() -> None:
    """Its decoys asked it, too."""
    sweep = _hosts([host for host in LAN if host != US], source=US)
    decoys = [query for n in range(3) for query in _hosts(LAN, source=WORLD[n])]
    assert Scanned([*sweep, *decoys], []).addresses() == {host for host in LAN if host != US}


def test_hosts_asked_for_different_ports_were_not_scanned() -> None:
    asked = [(THEM, host, TCP, 1000 + n) for n, host in enumerate(LAN)]
    assert Scanned(asked, []).addresses() == set()


def test_hosts_of_a_scanned_network_that_answered_are_this_side_too() -> None:
    answers = [(THEM, host, ICMP, 8) for host in LAN[20:30]]
    assert Scanned(_hosts(LAN[:8]), answers).addresses() == set(LAN[:8] + LAN[20:30])
    assert Scanned(_hosts(LAN[: MIN_HOSTS - 1]), answers).addresses() == set()


def test_every_scanner_of_a_network_adds_its_hosts() -> None:
    asked = [*_hosts(LAN[:8]), *_hosts(LAN[20:26], source=OTHER)]
    assert Scanned(asked, []).addresses() == set(LAN[:8] + LAN[20:26])


def test_the_wider_of_a_sweep_and_a_scan_is_this_side() -> None:
    assert Scanned([*_hosts(WORLD), *_ports(20)], []).addresses() == set(WORLD)
    assert Scanned([*_hosts(WORLD), *_ports(200)], []).addresses() == {US}


def test_each_family_has_a_side() -> None:
    assert Scanned([*_ports(9), *_ports(6, US6, source=US6)], []).addresses() == {US, US6}


@pytest.mark.parametrize(("answered", "is_sweep"), [(15, True), (16, False)])
def test_a_sweep_gets_few_answers(answered: int, *, is_sweep: bool) -> None:
    answers = [(THEM, host, TCP, 23) for host in LAN[:answered]]
    assert Scanned(_hosts(WORLD), answers).addresses() == (set(WORLD) if is_sweep else set())


@pytest.mark.parametrize(("others", "is_sweep"), [(15, True), (16, False)])
def test_a_sweep_by_udp_is_most_of_what_its_source_asks(others: int, *, is_sweep: bool) -> None:
    asked = [(THEM, host, UDP, 5000 + n) for n, host in enumerate(LAN[:others])]
    found = Scanned([*_hosts(WORLD, UDP), *asked], []).addresses()
    assert found == (set(WORLD) if is_sweep else set())


def test_a_resolver_is_not_scanned_before_twenty_ports() -> None:
    answers = [(THEM, US, UDP, 53)]
    assert Scanned(_ports(MIN_SWEEP - 1), answers).addresses() == set()
    assert Scanned(_ports(MIN_SWEEP), answers).addresses() == {US}
    assert Scanned(_hosts(LAN[:8]), answers).addresses() == set(LAN[1:8])


def _name(networks: int, hosts: int) -> list[Asked]:
    """A client asks `hosts` addresses of a name in one network, and `networks` other servers."""
    asked = [(THEM, host, TCP, 443) for host in WORLD[:networks]]
    return [*asked, *((THEM, host, TCP, 443) for host in LAN[:hosts])]


@pytest.mark.parametrize("hosts", [MIN_HOSTS, 13])
def test_a_client_whose_internet_does_not_answer_scans_no_name_with_many_addresses(
    hosts: int,
) -> None:
    assert Scanned(_name(MIN_UNRELATED, hosts), []).addresses() == set()
    assert Scanned(_name(MIN_UNRELATED - 1, hosts), []).addresses() == set(LAN[:hosts])


def test_a_scanner_of_several_networks_is_a_sweep() -> None:
    """It hides among MIN_UNRELATED networks: of fewer hosts than MIN_SWEEP in all."""
    hosts = MIN_SWEEP - MIN_UNRELATED
    assert Scanned(_name(MIN_UNRELATED, hosts - 1), []).addresses() == set()
    assert Scanned(_name(MIN_UNRELATED, hosts), []).addresses() == {*WORLD[:4], *LAN[:hosts]}


def test_the_own_network_is_swept_while_the_internet_does_not_answer() -> None:
    inside = [forge.packed(f"192.168.1.{n}") for n in range(1, 1 + MIN_HOSTS)]
    asked = [(THEM, host, TCP, 443) for host in (*WORLD[:15], *inside)]
    source = forge.packed("192.168.1.99")
    assert Scanned([(source, *rest) for _, *rest in asked], []).addresses() == set(inside)


def test_hosts_behind_nat64_have_their_own_networks() -> None:
    prefix = IPv6Network("64:ff9b::/96")
    base = prefix.network_address.packed[:12]
    world, lan = ([base + host for host in hosts[:MIN_HOSTS]] for hosts in (WORLD, LAN))
    assert Scanned(_hosts(world, source=US6), [], (prefix,)).addresses() == set()
    assert Scanned(_hosts(lan, source=US6), [], (prefix,)).addresses() == set(lan)
    assert Scanned(_hosts(world, source=US6), []).addresses() == set(world)
