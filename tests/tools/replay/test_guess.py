"""The guess: the scanned side, the listed ports, the older connections."""

from collections.abc import Iterable
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.engine.model import Packet, address_text
from sentryfw.engine.packet import decode
from sentryfw.tools.replay.guess import MAX_LINES, MIN_STREAM, Guess
from sentryfw.tools.replay.view import MAX_ADDRESSES
from support import forge

US = "192.0.2.1"
THEM = "203.0.113.7"
US6, THEM6 = "2001:db8:1::1", "2001:db8:2::7"
FRIEND = "198.51.100.9"
DATA = b"data"


def _tcp(
    source: str, target: str, flags: str, sport: int, dport: int, *, seq: int = 1, data: bytes = b""
) -> bytes:
    return forge.ip(source, target, 6, forge.tcp(dport, flags, sport, seq=seq) + data)


def _udp(source: str, target: str, sport: int, dport: int) -> bytes:
    return forge.ip(source, target, 17, forge.udp(dport, sport))


def _sctp(source: str, target: str, chunk: int, sport: int, dport: int) -> bytes:
    return forge.ip(source, target, 132, forge.sctp(dport, chunk, sport))


def _icmp(source: str, target: str, kind: int) -> bytes:
    return forge.ip(source, target, 1, forge.icmp(kind))


def _guess(payloads: Iterable[bytes]) -> Guess:
    guess = Guess()
    for payload in payloads:
        packet = decode(payload)
        assert isinstance(packet, Packet)
        guess.take(packet, 0.0, payload, 0, len(payload))
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
def test_a_host_probed_without_an_answer_is_this_side(flags: str) -> None:
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


def test_the_busiest_server_is_this_side_without_a_scan() -> None:
    visits = [p for n in range(3) for p in _visit(THEM, US, 22, 50000 + n)]
    assert _local(_guess([*visits, *_visit(US, FRIEND, 443)])) == [US]


def test_multicast_and_broadcasts_are_not_hosts() -> None:
    targets = ("224.0.0.251", "255.255.255.255", "192.0.2.255")
    many = [_udp(THEM, target, 40000, port) for target in targets for port in range(1, 9)]
    assert _local(_guess(many)) == []
    assert _local(_guess([_udp(THEM6, "ff02::fb", 5353, 5353)])) == []


def test_a_port_that_answered_a_syn_or_a_datagram_is_listed() -> None:
    answered = [*_visit(THEM, US, 22), _udp(THEM, US, 40000, 53), _udp(US, THEM, 53, 40000)]
    refused = [_tcp(US, THEM, "RA", 80, 40000)]
    guess = _guess([*_scan(range(70, 90)), *answered, *refused])
    assert _listed(guess) == {(6, 22), (17, 53)}


def test_a_port_from_which_we_asked_is_not_listed() -> None:
    asked = [_udp(US, FRIEND, 50000, 53), _udp(FRIEND, US, 53, 50000)]
    assert _listed(_guess([*_scan(range(1, 9)), *asked])) == set()


def test_a_syn_ack_without_a_syn_lists_nothing() -> None:
    assert _listed(_guess([*_scan(range(1, 9)), _tcp(US, THEM, "SA", 99, 40000)])) == set()


def test_given_sides_and_ports_are_not_guessed() -> None:
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
    assert max(len(guess._lines), len(guess._asked), len(guess._sequences)) <= MAX_LINES
    assert len(guess._flows) <= MAX_ADDRESSES
    assert _local(guess) == [US]


def test_a_client_of_many_dead_servers_scans_none_of_them() -> None:
    """The capture was recorded at the client; its servers have no network in common."""
    servers = [f"198.{n}.100.9" for n in range(60)]
    dead = [_tcp(US, s, "S", 50000 + n, 6881 + n) for n, s in enumerate(servers)]
    assert _local(_guess(dead)) == [US]


def test_twenty_hosts_asked_for_one_port_are_this_side() -> None:
    """The counterpart: they have no network in common either."""
    hosts = [f"198.{n}.100.9" for n in range(20)]
    sweep = [_tcp(THEM, host, "S", 40000, 23) for host in hosts]
    own = [p for n in range(30) for p in _visit(THEM, FRIEND, 443, 50000 + n)]
    assert set(_local(_guess([*own, *sweep]))) == set(hosts)
    assert _local(_guess([*own, *sweep[:19]])) == [THEM]


def test_a_client_whose_servers_mostly_answer_sweeps_nothing() -> None:
    servers = [f"198.{n}.100.9" for n in range(60)]
    visits = [p for s in servers[:30] for p in _visit(US, s, 443)]
    dead = [_tcp(US, s, "S", 50000, 443) for s in servers[30:]]
    assert _local(_guess([*visits, *dead])) == [US]


def test_a_peer_to_peer_client_asks_by_udp_and_other_ports_too() -> None:
    peers = [f"198.{n}.100.9" for n in range(60)]
    asked = [_udp(US, p, 6346, 6346 if n % 2 else 7000 + n) for n, p in enumerate(peers)]
    assert _local(_guess(asked)) == [US]
    sweep = [_udp(THEM, peer, 40000, 161) for peer in peers]
    assert set(_local(_guess(sweep))) == set(peers)


@pytest.mark.parametrize("kind", [8, 13, 15, 17])
def test_pings_count(kind: int) -> None:
    hosts = [f"192.0.2.{n}" for n in range(1, 9)]
    assert set(_local(_guess(_icmp(THEM, host, kind) for host in hosts))) == set(hosts)


def test_answered_pings_do_not_count() -> None:
    hosts = [f"192.0.2.{n}" for n in range(1, 9)]
    pings = [p for h in hosts for p in (_icmp(THEM, h, 8), _icmp(h, THEM, 0))]
    assert _local(_guess(pings)) == [THEM]


def test_unusual_protocols_count() -> None:
    others = [forge.ip(THEM, US, number, bytes(20)) for number in (200, 201, 202, 203, 204)]
    own = [p for n in range(9) for p in _visit(THEM, FRIEND, 443, 50000 + n)]
    assert _local(_guess([*others, *own])) == [US]
    usual = [forge.ip(THEM, US, number, bytes(20)) for number in (2, 47, 50, 51, 89)]
    assert US not in _local(_guess([*usual, *own]))


def test_a_resolver_that_answers_is_not_this_side() -> None:
    asked = [
        p
        for n in range(40)
        for p in (_udp(US, FRIEND, 50000 + n, 53), _udp(FRIEND, US, 53, 50000 + n))
    ]
    more = [_tcp(US, FRIEND, "S", 50000, port) for port in range(853, 860)]
    assert _local(_guess([*asked, *more])) == [US]
    scan = [_tcp(US, FRIEND, "S", 50000, port) for port in range(20)]
    assert _local(_guess([*asked, *scan])) == [FRIEND]


def test_discovery_asks_every_host_and_scans_none() -> None:
    hosts = [f"192.0.2.{n}" for n in range(2, 40)]
    assert _local(_guess(_udp(US, host, 50000, 8612) for host in hosts)) == [US]
    assert set(_local(_guess(_udp(US, host, 50000, 161) for host in hosts))) == set(hosts)


def test_a_side_that_is_not_local_is_never_guessed() -> None:
    guess = _guess([*_scan(range(1, 9)), *_visit(FRIEND, THEM, 22)])
    assert _local(guess) == [US]
    elsewhere = (ip_network("192.0.2.0/24"),)
    assert [address_text(a) for a in guess.addresses(elsewhere)] == [THEM]
    assert str(guess.view((), None, elsewhere).local[0]) == f"{THEM}/32"


def test_addresses_of_class_e_are_hosts_and_the_broadcast_address_is_not() -> None:
    assert _local(_guess(_scan(range(1, 9), us="240.0.0.1"))) == ["240.0.0.1"]
    assert _local(_guess(_scan(range(1, 9), us="255.255.255.255"))) == []


@given(st.lists(st.binary(min_size=40, max_size=60), max_size=30), st.sampled_from((0x45, 0x60)))
def test_no_packets_make_it_raise(tails: list[bytes], first: int) -> None:
    """Addresses and ports repeat, so that packets answer each other."""
    guess = Guess()
    for tail in tails:
        whole = bytes((first, 0, 0, 0, 0, 0, 6 + 11 * (tail[0] & 1), 64)) + tail
        payload = (
            whole[:9] + bytes((6, 17, 1, 132, 200)[tail[1] % 5 : tail[1] % 5 + 1]) + whole[10:]
        )
        packet = decode(payload[:2] + len(payload).to_bytes(2) + payload[4:])
        if isinstance(packet, Packet):
            same = Packet(
                forge.packed((US, THEM)[tail[2] & 1]), forge.packed((THEM, US)[tail[2] & 1]),
                packet.protocol, tail[3] & 1, tail[4] & 1, packet.flags,
                transport=packet.transport, payload=b"",
            )  # fmt: skip
            guess.take(same, 0.0, payload, 0, len(payload))
    view = guess.view((), None)
    assert len(view.local) <= 2
    assert set(_local(guess)) <= {US, THEM}


# --- listed ports


@pytest.mark.parametrize("answer", [2, 11])
def test_a_port_that_answered_an_sctp_init_is_listed(answer: int) -> None:
    opened = [_sctp(THEM, US, 1, 40000, 2905), _sctp(US, THEM, answer, 2905, 40000)]
    refused = [_sctp(THEM, US, 1, 40000, 99), _sctp(US, THEM, 6, 99, 40000)]
    assert _listed(_guess([*_scan(range(1, 9)), *opened, *refused])) == {(132, 2905)}


def test_a_port_is_listed_if_only_its_client_is_recorded() -> None:
    half = [_tcp(THEM, US, "S", 40000, 22), _tcp(THEM, US, "PA", 40000, 22, seq=2, data=DATA)]
    bare = [_tcp(THEM, US, "S", 40000, 23), _tcp(THEM, US, "A", 40000, 23, seq=2)]
    assert _listed(_guess([*_scan(range(1, 9)), *half, *bare])) == {(6, 22)}


def test_a_stream_of_datagrams_goes_to_a_listed_port() -> None:
    stream = [_udp(THEM, US, 40000, 514)] * MIN_STREAM
    probes = [_udp(THEM, US, 40000, 515)] * (MIN_STREAM - 1)
    assert _listed(_guess([*_scan(range(1, 9)), *stream, *probes])) == {(17, 514)}


def test_a_port_whose_question_is_answered_from_another_port_is_listed() -> None:
    """TFTP: RFC 1350, section 4."""
    transfer = [_udp(US, THEM, 49153, 69), _udp(THEM, US, 42560, 49153)]
    stranger = [_udp(US, THEM, 49154, 69), _udp(FRIEND, US, 42560, 49154)]
    assert _listed(_guess([*_scan(range(1, 9)), *transfer, *stranger])) == {(17, 49153)}


# --- connections of which one direction is recorded


def _older(payloads: Iterable[bytes]) -> set[int]:
    """Return the ports of this side in the connections that are older."""
    view = _guess([*_scan(range(1, 9)), *payloads]).view((ip_network(US),), None)
    return {line[3] for line in view.older}


def test_two_segments_of_a_connection_in_one_direction_are_older() -> None:
    segments = [_tcp(FRIEND, US, "A", 443, 50000, seq=n, data=DATA) for n in (1, 5)]
    assert _older(segments) == {50000}


def test_a_syn_ack_and_data_in_one_direction_are_older() -> None:
    answer = [_tcp(FRIEND, US, "SA", 443, 50000), _tcp(FRIEND, US, "A", 443, 50000, data=DATA)]
    assert _older(answer) == {50000}
    assert _older(answer[:1]) == set()


def test_lone_responses_of_a_server_are_older_and_their_ends_too() -> None:
    ports = range(50000, 50040)
    responses = [_tcp(FRIEND, US, "PA", 80, port, seq=port, data=DATA) for port in ports]
    ends = [_tcp(FRIEND, US, "FA", 80, port) for port in range(51000, 51003)]
    assert _older([*responses, *ends]) == {*ports, 51000, 51001, 51002}
    assert _older(ends) == set()


def test_acks_without_data_are_probes_however_they_are_repeated() -> None:
    probes = [_tcp(THEM, US, flags, 40000, 99, seq=n) for flags in ("A", "FA") for n in range(5)]
    assert _older(probes) == set()


def test_a_stream_of_acks_is_a_download_that_is_older() -> None:
    assert _older([_tcp(FRIEND, US, "A", 50000, 22)] * (MIN_STREAM + 1)) == {22}


def test_segments_with_one_sequence_number_are_a_scan() -> None:
    """nmap -sA --data-length 4: its probes have data, and one sequence number."""
    assert _older(_tcp(THEM, US, "A", 40000, p, data=DATA) for p in range(99, 110)) == set()


def test_a_segment_that_is_reset_is_not_older() -> None:
    probes = [_tcp(THEM, US, "A", 40000, 99, seq=7, data=DATA), _tcp(US, THEM, "R", 99, 40000)]
    assert _older(probes) == set()
    assert _older(probes[:1]) == {99}
