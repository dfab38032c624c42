"""Transcripts of what the world sends anyway: none of it is a scan.

Each of these fails without the rule that spares it; what of a scanner the rule still finds is
told beside it, where it is not in test_strays.py or test_kinds.py.
"""

import random
from collections.abc import Iterator
from typing import Final

import pytest

from support import forge
from support.transcript import A6, B6, HOST, HOST6, A, B, Scenario, scenario

DAY: Final = 86400.0
RESOLVER: Final = "198.51.100.53"
RESOLVER6: Final = "2001:db8:53::53"
ANSWER: Final = bytes.fromhex("1234 8180 0001 0001 0000 0000") + bytes(40)
NTP_SERVER: Final = bytes([0x24]) + bytes(47)
EPHEMERAL: Final = range(32768, 61000)


def _datagram(
    run: Scenario, source: str, dport: int, *, sport: int, data: bytes = b"", ttl: int = 64
) -> Scenario:
    host = HOST6 if ":" in source else HOST
    rest = forge.udp(dport, sport, data)
    said = f"{source} udp {sport} {dport} ttl {ttl}"
    return run.send(forge.ip(source, host, forge.UDP, rest, ttl=ttl), said=said)


def _segment(
    run: Scenario, source: str, dport: int, flags: str, *, sport: int, ttl: int = 64
) -> Scenario:
    host = HOST6 if ":" in source else HOST
    rest = forge.tcp(dport, flags, sport, seq=sport << 16 | dport)
    said = f"{source} tcp {flags} {sport} {dport} ttl {ttl}"
    return run.send(forge.ip(source, host, forge.TCP, rest, ttl=ttl), said=said)


# --- answers to what somebody else sent in our name


def _answers(chance: random.Random, victim: str) -> Iterator[tuple[int, bytes]]:
    """What a host under a forged flood, or a reflector, sends to us: protocol and bytes."""
    six = ":" in victim
    errors = [1, 2, 3, 4, 129] if six else [0, 3, 5, 11, 12, 14, 16, 18]
    icmp = forge.ICMPV6 if six else forge.ICMP
    while True:
        ours = chance.randrange(1024, 65536)
        theirs = chance.choice([22, 80, 443, 6667, chance.randrange(1, 65536)])
        flags = chance.choice(["SA", "R", "RA", "SAE", "RPA"])
        yield forge.TCP, forge.tcp(ours, flags, theirs, seq=chance.getrandbits(32))
        yield icmp, forge.icmp(chance.choice(errors), rest=bytes(28))
        yield forge.SCTP, forge.sctp(ours, chance.choice([2, 6, 11, 14]), theirs)
        yield forge.UDP, forge.udp(ours, 53, ANSWER)
        yield forge.UDP, forge.udp(ours, 123, NTP_SERVER)


def test_a_day_of_backscatter_blocks_nobody() -> None:
    """100,000 answers to 100,000 ports, of 500 hosts under a flood in our name."""
    chance = random.Random(1)
    run = scenario()
    hosts = [f"100.64.{n >> 8}.{n & 255}" for n in range(250)]
    hosts += [f"2001:db8:{n:x}::1" for n in range(250)]
    answers = {host: _answers(chance, host) for host in hosts}
    for number in range(100_000):
        host = chance.choice(hosts)
        protocol, rest = next(answers[host])
        run.at(number * DAY / 100_000)
        run.send(forge.ip(host, HOST6 if ":" in host else HOST, protocol, rest))
    run.expect_no_block()
    assert {outcome.action for outcome in run.outcomes} == {"pass"}
    assert len(run.engine.tracker) == 0
    counters = run.engine.counters
    assert counters["backscatter"] > 20_000
    assert counters["late reply"] > 20_000
    assert counters["no request"] > 10_000


@pytest.mark.parametrize("source", [A, A6], ids=["ipv4", "ipv6"])
def test_path_mtu_messages_and_other_icmp_errors_block_nobody(source: str) -> None:
    """RFC 1191: unreachable, fragmentation needed; RFC 8201: packet too big."""
    kinds = (1, 2, 3, 4) if ":" in source else (3, 4, 5, 11, 12)
    run = scenario(triggers={"icmp": 1})
    for kind in kinds:
        run.icmp(source, kind).expect_accepted()


# --- who comes back


def test_a_client_that_retries_one_closed_port_for_minutes_is_not_blocked() -> None:
    """A new source port each time, and each SYN sent again as Linux does."""
    run = scenario().at(1000.0)
    for attempt in range(60):
        sport = EPHEMERAL[attempt * 37]
        for delay in (0.0, 1.0, 3.0, 7.0):
            run.at(1000.0 + attempt * 10 + delay)
            _segment(run, A, 8443, "S", sport=sport)
    run.expect_no_block()
    run.syn(A, 8444).expect_counted().syn(A, 8445).expect_block(A)


def test_a_client_of_two_services_that_are_down_is_not_blocked() -> None:
    run = scenario()
    for second in range(0, 7200, 5):
        run.at(float(second)).syn(A, 80).syn(A, 443)
    run.expect_no_block()


@pytest.mark.parametrize("flags", ["A", "PA", "FA", "FPA", "R", "RA"])
def test_late_packets_of_a_client_whose_flows_were_forgotten_block_nobody(flags: str) -> None:
    """As conntrack -F leaves them, or a service that was restarted on other ports."""
    run = scenario().partner(A)
    for port in range(1, 500):
        run.tcp(A, flags, port).expect_accepted()


def test_a_partner_s_leftovers_of_passive_ftp_are_refused_as_evidence() -> None:
    """It finished a handshake with port 21; the data ports have closed meanwhile."""
    run = scenario(listed={21}).partner(A)
    for number, port in enumerate(range(50000, 50020)):
        run.at(number * 2.0).syn(A, port)
    run.expect_no_block()


def test_leftovers_of_active_ftp_block_nobody() -> None:
    """A server that we called opens data connections; two of the ports are closed again, and it
    sends its SYN four times to each. (Source port 20 alone excuses nothing: nmap -g 20.)"""
    run = scenario()
    for start, port in ((0.0, 40001), (20.0, 40002)):
        for delay in (0.0, 1.0, 3.0, 7.0):
            run.at(start + delay)
            _segment(run, A, port, "S", sport=20)
    run.expect_no_block()
    _segment(run, A, 40003, "S", sport=20).expect_block(A)


@pytest.mark.parametrize("ports", [(16384,), (16384, 16385)], ids=["rtp", "rtp-and-rtcp"])
def test_what_a_sip_call_still_sends_after_its_end_blocks_nobody(ports: tuple[int, ...]) -> None:
    """50 packets a second, for a minute, to ports that are closed and forgotten."""
    run = scenario()
    for number in range(3000):
        run.at(number / 50)
        _datagram(run, A, ports[number % len(ports)], sport=17000, data=b"\x80" + bytes(171))
    run.expect_no_block()


def test_peers_of_a_file_sharer_that_has_ended_are_not_blocked() -> None:
    """Thousands come to its port for hours, by TCP and by UDP."""
    chance = random.Random(2)
    run = scenario()
    peers = [f"100.{64 + (n >> 16)}.{n >> 8 & 255}.{n & 255}" for n in range(3000)]
    for number in range(30_000):
        run.at(number * 14400 / 30_000)
        peer, sport = chance.choice(peers), chance.choice(EPHEMERAL)
        if chance.random() < 0.5:
            _segment(run, peer, 51413, "S", sport=sport)
        else:
            _datagram(run, peer, 51413, sport=sport, data=bytes(chance.randrange(20, 120)))
    run.expect_no_block()


def test_a_happy_eyeballs_client_that_resets_what_it_does_not_need_is_not_blocked() -> None:
    """RFC 8305: it opens several connections and keeps the first; here for an hour, to 80 and
    443, in both families."""
    run = scenario()
    for second in range(0, 3600, 5):
        run.at(float(second)).half_open(A, 80, 443).half_open(A6, 80, 443)
    run.expect_no_block()


# --- who looks for the way


@pytest.mark.parametrize("source", [A, A6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("distance", [1, 5, 15, 29])
def test_traceroute_by_udp_blocks_nobody(source: str, distance: int) -> None:
    """Three probes a hop, a port each from 33434 on, sixteen at once: a few go beyond us."""
    run = scenario()
    for probe in range(90):
        ttl = probe // 3 + 1 - distance
        if 0 < ttl <= 6:
            _datagram(run, source, 33434 + probe, sport=40000 + probe, data=bytes(32), ttl=ttl)
    run.expect_accepted().expect_no_block()


def test_traceroute_by_tcp_blocks_nobody() -> None:
    """One port, however many hops: traceroute -T, tcptraceroute, mtr -T."""
    run = scenario()
    for probe in range(90):
        run.at(probe / 10)
        _segment(run, A, 80, "S", sport=40000 + probe, ttl=probe // 3 + 1)
    run.expect_no_block()


@pytest.mark.parametrize("first", [33000, 33434, 44444], ids=["mtr", "traceroute", "tracepath"])
def test_a_path_that_is_traced_for_hours_blocks_nobody(first: int) -> None:
    run = scenario()
    for second in range(0, 14400, 2):
        run.at(float(second))
        _datagram(run, A, first + second % 500, sport=40000, ttl=second % 8 + 1)
    run.expect_no_block()


def test_a_ping_of_every_second_for_a_day_blocks_nobody() -> None:
    run = scenario()
    for second in range(0, 86400, 7):
        run.at(float(second)).icmp(A, 8).icmp(A6, 128)
    run.expect_no_block()


def test_a_monitor_that_pings_nine_of_our_addresses_is_not_blocked() -> None:
    run = scenario()
    for second in range(0, 3600, 60):
        run.at(float(second)).icmp(A, 8, *(f"192.0.2.{n}" for n in range(1, 10)))
    run.expect_no_block()


# --- who answers late


@pytest.mark.parametrize("resolver", [RESOLVER, RESOLVER6], ids=["ipv4", "ipv6"])
def test_late_answers_of_a_busy_resolver_block_nobody(resolver: str) -> None:
    """5,000 questions of ours were given up; each answer comes to a port of its own."""
    chance = random.Random(3)
    run = scenario()
    for number in range(5000):
        run.at(number / 10)
        _datagram(run, resolver, chance.choice(EPHEMERAL), sport=53, data=ANSWER)
    run.expect_accepted().expect_no_block()
    assert len(run.engine.tracker) == 0


@pytest.mark.parametrize(
    ("sport", "data"),
    [
        (53, ANSWER),
        (123, NTP_SERVER),
        (137, ANSWER),
        (1900, b"HTTP/1.1 200 OK\r\n\r\n"),
        (5353, ANSWER),
        (5355, ANSWER),
    ],
    ids=["dns", "ntp", "netbios", "ssdp", "mdns", "llmnr"],
)
def test_answers_to_questions_that_went_to_many_block_nobody(sport: int, data: bytes) -> None:
    """Every host of the network answers, from its own address, to the port that asked."""
    run = scenario()
    for port in EPHEMERAL[:50]:
        for source in (A, B, A6, B6):
            _datagram(run, source, port, sport=sport, data=data).expect_accepted()


# --- an ordinary day


def test_an_ordinary_day_of_a_web_server_blocks_nobody() -> None:
    """2,000 clients: connections that are reset half-open, wrong ports, pings, late packets of
    those who finished a handshake, SYNs of suspects to listed ports."""
    chance = random.Random(4)
    run = scenario(listed={80, 443})
    clients = [f"100.{96 + (n >> 8)}.{n & 255}.7" for n in range(1000)]
    clients += [f"2001:db8:1:{n:x}::7" for n in range(1000)]
    for number in range(40_000):
        run.at(number * DAY / 40_000)
        client = chance.choice(clients)
        what = chance.random()
        if what < 0.3:
            run.half_open(client, chance.choice([80, 443]))
        elif what < 0.4:
            run.syn(client, 8080)  # a bookmark of before
        elif what < 0.5:
            run.icmp(client, 128 if ":" in client else 8)
        elif what < 0.7:
            run.syn(client, chance.choice([80, 443]))
        else:
            run.partner(client).tcp(client, chance.choice(["A", "FA", "PA"]), 4000 + number % 900)
    run.expect_no_block()
    assert run.engine.counters["late packet of a partner"] > 10_000
