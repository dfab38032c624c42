"""What is guessed of a capture: the scanned side, the listed ports, the older connections."""

from collections.abc import Iterable
from ipaddress import ip_network

import pytest

from sentryfw.engine.model import Packet, address_text
from sentryfw.engine.packet import decode
from sentryfw.replay.view import MAX_ADDRESSES, MAX_LINES, Addresses, Bounded, Guess
from support import forge

US = "192.0.2.1"
THEM = "203.0.113.7"
US6, THEM6 = "2001:db8:1::1", "2001:db8:2::7"
FRIEND = "198.51.100.9"


def _tcp(source: str, target: str, flags: str, sport: int, dport: int) -> bytes:
    return forge.ip(source, target, 6, forge.tcp(dport, flags, sport))


def _udp(source: str, target: str, sport: int, dport: int) -> bytes:
    return forge.ip(source, target, 17, forge.udp(dport, sport))


def _guess(payloads: Iterable[bytes]) -> Guess:
    guess = Guess()
    for payload in payloads:
        packet = decode(payload)
        assert isinstance(packet, Packet)
        guess.see(packet)
    return guess


def _scan(ports: Iterable[int], flags: str = "S", us: str = US, them: str = THEM) -> list[bytes]:
    return [_tcp(them, us, flags, 40000, port) for port in ports]


def _visit(client: str, server: str, port: int, sport: int = 50000) -> list[bytes]:
    return [
        _tcp(client, server, "S", sport, port),
        _tcp(server, client, "SA", port, sport),
        _tcp(client, server, "A", sport, port),
    ]


def _local(guess: Guess) -> list[str]:
    return [address_text(address) for address in guess.addresses()]


def _listed(guess: Guess) -> set[tuple[int, int]]:
    return {socket[1:] for socket in guess.view((), None).sockets}


@pytest.mark.parametrize("flags", ["S", "", "F", "FPU", "A", "FA"])
def test_who_was_probed_without_an_answer_is_this_side(flags: str) -> None:
    answers = [_tcp(US, THEM, "RA", port, 40000) for port in range(1, 9)]
    assert _local(_guess([*_scan(range(1, 9), flags), *answers])) == [US]


def test_both_families_of_a_scanned_host_are_this_side() -> None:
    probes = [*_scan(range(1, 9)), *_scan(range(1, 7), us=US6, them=THEM6)]
    assert _local(_guess(probes)) == [US, US6]


def test_every_host_of_a_sweep_is_this_side() -> None:
    hosts = [f"192.0.2.{n}" for n in range(1, 9)]
    assert set(_local(_guess([_tcp(THEM, h, "S", 40000, 23) for h in hosts]))) == set(hosts)


def test_a_server_is_this_side_even_if_it_tries_dead_hosts_itself() -> None:
    visits = [p for n in range(20) for p in _visit(THEM, US, 22, 50000 + n)]
    dead = [_tcp(US, FRIEND, "S", 50000, 25)]
    assert _local(_guess(visits + dead)) == [US]


def test_the_busiest_server_is_this_side_where_nobody_scans() -> None:
    visits = [p for n in range(3) for p in _visit(THEM, US, 22, 50000 + n)]
    assert _local(_guess([*visits, *_visit(US, FRIEND, 443)])) == [US]


def test_groups_and_broadcasts_are_nobody() -> None:
    targets = ("224.0.0.251", "255.255.255.255", "192.0.2.255")
    many = [_udp(THEM, target, 40000, port) for target in targets for port in range(1, 9)]
    assert _local(_guess(many)) == []
    assert _local(_guess([_udp(THEM6, "ff02::fb", 5353, 5353)])) == []


def test_listed_is_what_answered_a_syn_or_a_datagram() -> None:
    answered = [*_visit(THEM, US, 22), _udp(THEM, US, 40000, 53), _udp(US, THEM, 53, 40000)]
    refused = [_tcp(US, THEM, "RA", 80, 40000)]
    guess = _guess([*_scan(range(70, 90)), *answered, *refused])
    assert _listed(guess) == {(6, 22), (17, 53)}


def test_a_port_from_which_we_asked_is_not_listed() -> None:
    asked = [_udp(US, FRIEND, 50000, 53), _udp(FRIEND, US, 53, 50000)]
    assert _listed(_guess([*_scan(range(1, 9)), *asked])) == set()


def test_a_syn_ack_that_nobody_asked_for_lists_nothing() -> None:
    assert _listed(_guess([*_scan(range(1, 9)), _tcp(US, THEM, "SA", 99, 40000)])) == set()


def test_what_the_operator_says_is_not_guessed() -> None:
    guess = _guess([*_scan(range(1, 9)), *_visit(THEM, US, 22)])
    told = guess.view((ip_network("198.51.100.0/24"),), frozenset({(6, 80)}))
    assert (told.local, told.listed) == ((ip_network("198.51.100.0/24"),), {(6, 80)})
    assert not told.sockets


def test_a_connection_seen_both_ways_without_a_syn_is_older_than_the_capture() -> None:
    middle = [_tcp(FRIEND, US, "A", 443, 50000), _tcp(US, FRIEND, "A", 50000, 443)]
    refused = [_tcp(THEM, US, "A", 40000, 99), _tcp(US, THEM, "R", 99, 40000)]
    guess = _guess([*_scan(range(1, 9)), *middle, *refused, *_visit(THEM, US, 22)])
    us, friend = forge.packed(US), forge.packed(FRIEND)
    assert guess.view((), None).older == {(us, friend, 6, 50000, 443)}


def test_the_guess_is_bounded_in_a_flood_of_forged_sources() -> None:
    flood = (
        _tcp(f"100.{64 + (n >> 16)}.{n >> 8 & 255}.{n & 255}", US, "S", 40000, 80)
        for n in range(MAX_LINES + 1000)
    )
    guess = _guess(flood)
    assert len(guess._lines) == MAX_LINES
    assert max(len(guess._probing), len(guess._probed)) <= MAX_ADDRESSES
    assert _local(guess) == [US]


def test_settling_an_address_that_found_no_room_makes_none() -> None:
    guess = _guess(
        [_tcp(f"100.64.{n >> 8}.{n & 255}", US, "S", 1, 80) for n in range(MAX_ADDRESSES)]
    )
    for payload in _visit(THEM, US, 22):
        packet = decode(payload)
        assert isinstance(packet, Packet)
        guess.see(packet)
    assert len(guess._probing) == MAX_ADDRESSES


def test_a_bounded_table_forgets_what_was_put_in_first() -> None:
    table: Bounded[int, str] = Bounded(2)
    for number in (1, 2, 3):
        table.keep(number, "x")
    assert list(table) == [2, 3]


@pytest.mark.parametrize(
    ("address", "inside"),
    [("192.0.2.1", True), ("192.0.2.2", False), ("198.51.100.200", True), ("198.51.101.1", False),
     ("2001:db8::1", True), ("2001:db9::1", False), ("::c000:201", False)],
)  # fmt: skip
def test_an_address_is_in_the_networks_or_not(address: str, *, inside: bool) -> None:
    texts = ("192.0.2.1", "198.51.100.0/24", "2001:db8::/32")
    addresses = Addresses([ip_network(text) for text in texts])
    assert addresses[forge.packed(address)] is inside
    assert addresses[forge.packed(address)] is inside


def test_the_memory_of_addresses_is_bounded() -> None:
    addresses = Addresses([ip_network("10.0.0.0/8")])
    for number in range(MAX_ADDRESSES + 10):
        assert not addresses[number.to_bytes(4)]
    assert len(addresses) == 10
