"""Transcripts of ordinary traffic that is not a scan.

Each of these fails without the rule that excepts it. That the rule still finds a scanner is shown
next to it, unless test_strays.py or test_classify_kinds.py shows it.
"""

import random
from collections.abc import Iterator
from typing import Final

import pytest

from sentryfw.engine.strays import MAX_TRACE_PORTS
from support import forge
from support.transcript import A6, B6, HOST, HOST6, A, B, Scenario, scenario

DAY: Final = 86400.0
RESOLVER: Final = "198.51.100.53"
RESOLVER6: Final = "2001:db8:53::53"
ANSWER: Final = bytes.fromhex("1234 8180 0001 0001 0000 0000") + bytes(40)
NTP_SERVER: Final = bytes([0x24]) + bytes(47)
SNMP_ANSWER: Final = bytes.fromhex("302902010104067075626c6963a21c") + bytes(28)
"""GetResponse of SNMPv2c, community "public" (RFC 3416)."""
TIMESTAMPS: Final = bytes.fromhex("0101 080a 11223344 00000000")
"""TCP options: the timestamps of a SYN (RFC 7323)."""
EPHEMERAL: Final = range(32768, 61000)


def _datagram(
    run: Scenario, source: str, dport: int, *, sport: int, data: bytes = b"", ttl: int = 64,
    peer: bool = False, forwarded: bool = False,
) -> Scenario:  # fmt: skip
    host = HOST6 if ":" in source else HOST
    rest = forge.udp(dport, sport, data)
    said = f"{source} udp {sport} {dport} ttl {ttl}"
    payload = forge.ip(source, host, forge.UDP, rest, ttl=ttl)
    return run.send(payload, peer=peer, forwarded=forwarded, text=said)


def _segment(
    run: Scenario, source: str, dport: int, flags: str, *, sport: int, ttl: int = 64
) -> Scenario:
    host = HOST6 if ":" in source else HOST
    rest = forge.tcp(dport, flags, sport, seq=sport << 16 | dport)
    said = f"{source} tcp {flags} {sport} {dport} ttl {ttl}"
    return run.send(forge.ip(source, host, forge.TCP, rest, ttl=ttl), text=said)


# --- answers to packets forged with our address


def _answers(chance: random.Random, victim: str) -> Iterator[tuple[int, bytes]]:
    """Packets that a host under a forged flood, or a reflector, sends to us: protocol and bytes."""
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


def test_a_day_of_backscatter_causes_no_block() -> None:
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
    assert counters.strays["backscatter"] > 20_000
    assert counters.strays["late reply"] > 20_000
    assert counters.strays["no request"] > 10_000


@pytest.mark.parametrize("source", [A, A6], ids=["ipv4", "ipv6"])
def test_path_mtu_messages_and_other_icmp_errors_cause_no_block(source: str) -> None:
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
def test_late_packets_of_a_client_whose_flows_were_forgotten_cause_no_block(flags: str) -> None:
    """The flows were lost by conntrack -F, or by a service that restarted on other ports."""
    run = scenario().partner(A)
    for port in range(1, 500):
        run.tcp(A, flags, port).expect_accepted()


def test_a_partner_s_leftovers_of_passive_ftp_are_refused_as_evidence() -> None:
    """It finished a handshake with port 21; the data ports have closed since."""
    run = scenario(listed={21}).partner(A)
    for number, port in enumerate(range(50000, 50020)):
        run.at(number * 2.0).syn(A, port)
    run.expect_no_block()


def test_leftovers_of_active_ftp_cause_no_block() -> None:
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
def test_what_a_sip_call_still_sends_after_its_end_causes_no_block(ports: tuple[int, ...]) -> None:
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


# --- path traces


@pytest.mark.parametrize("source", [A, A6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("distance", [0, 5, 15, 29])
def test_traceroute_by_udp_causes_no_block(source: str, distance: int) -> None:
    """Three probes a hop, a port each from 33434 on; none is answered, so it goes on to the
    thirtieth hop. Tried again twice."""
    run = scenario()
    for again in range(3):
        for probe in range(90):
            ttl = probe // 3 + 1 - distance
            if ttl > 0:
                run.at(again * 60 + probe / 10)
                _datagram(run, source, 33434 + probe, sport=40000 + probe, data=bytes(32), ttl=ttl)
                run.expect_accepted()
    run.expect_no_block()


@pytest.mark.parametrize("source", [A, A6], ids=["ipv4", "ipv6"])
def test_a_udp_scan_whose_ttl_fits_the_distance_is_caught(source: str) -> None:
    """Beyond 96 ports it gets no answer, and each is a target."""
    run = scenario()
    for number in range(MAX_TRACE_PORTS):
        _datagram(run, source, 40001 + number * 7, sport=50000, ttl=7).expect_accepted()
    for port in (60001, 60002):
        _datagram(run, source, port, sport=50000, ttl=7).expect_counted()
    _datagram(run, source, 40001, sport=50000, ttl=7).expect_accepted()  # a known one
    _datagram(run, source, 60003, sport=50000, ttl=7).expect_block(source)


def test_forged_traces_do_not_make_a_scanner_s_forgotten() -> None:
    run = scenario()
    for number in range(MAX_TRACE_PORTS):
        _datagram(run, A, 40001 + number, sport=50000, ttl=7)
    for number in range(30_000):
        _datagram(
            run, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 33434, sport=1, ttl=7
        )
    for port in (60001, 60002, 60003):
        _datagram(run, A, port, sport=50000, ttl=7)
    run.expect_block(A)


def test_traceroute_by_tcp_causes_no_block() -> None:
    """One port, however many hops: traceroute -T, tcptraceroute, mtr -T."""
    run = scenario()
    for probe in range(90):
        run.at(probe / 10)
        _segment(run, A, 80, "S", sport=40000 + probe, ttl=probe // 3 + 1)
    run.expect_no_block()


@pytest.mark.parametrize("first", [33000, 33434, 44444], ids=["mtr", "traceroute", "tracepath"])
def test_a_path_that_is_traced_for_hours_causes_no_block(first: int) -> None:
    """mtr has a port of its own for each probe; here it probes our hop every four seconds."""
    run = scenario()
    for second in range(0, 14400, 4):
        run.at(float(second))
        _datagram(run, A, first + second // 4 % 5000, sport=40000, ttl=second % 8 + 1)
    run.expect_no_block()


@pytest.mark.parametrize("kind", ["trace", "reply", "late"])
def test_of_a_host_behind_nothing_is_shown(kind: str) -> None:
    """With [watch] forward the answer would show that the address is used."""
    run = scenario()
    for port in range(40000, 40050):
        if kind == "trace":
            _datagram(run, A, port, sport=40000, ttl=7, forwarded=True)
        elif kind == "reply":
            _datagram(run, A, port, sport=53, data=ANSWER, peer=True, forwarded=True)
        else:
            payload = forge.ip(A, HOST, forge.TCP, forge.tcp(port, "A"))
            run.send(payload, partner=True, forwarded=True)
        run.expect_dropped()


@pytest.mark.parametrize("peer", [True, False], ids=["peer", "partner"])
def test_a_download_of_a_host_behind_goes_on_after_a_flush(peer: bool) -> None:  # noqa: FBT001
    """The host only receives, so it sends nothing that would make the flow known again. Who was
    only served here is not a server of a host behind, and a download has data."""
    run = scenario()
    for port in range(40000, 40050):
        segment = forge.tcp(port, "A", sport=443) + b"data"
        payload = forge.ip(A, HOST, forge.TCP, segment)
        run.send(payload, partner=not peer, peer=peer, forwarded=True)
        (run.expect_accepted if peer else run.expect_dropped)()
        bare = forge.ip(A, HOST, forge.TCP, forge.tcp(port, "A", sport=443))
        run.send(bare, partner=not peer, peer=peer, forwarded=True)
        run.expect_dropped()


def test_a_ping_of_every_second_for_a_day_causes_no_block() -> None:
    run = scenario()
    for second in range(0, 86400, 7):
        run.at(float(second)).icmp(A, 8).icmp(A6, 128)
    run.expect_no_block()


def test_a_monitor_that_pings_nine_of_our_addresses_is_not_blocked() -> None:
    """And when two of the services that it monitors, too, are down."""
    run = scenario()
    for second in range(0, 3600, 60):
        run.at(float(second)).icmp(A, 8, *(f"192.0.2.{n}" for n in range(1, 10)))
        if second:
            run.syn(A, 80, 443)
    run.expect_no_block()
    run.icmp(A, 8, "192.0.2.77").expect_block(A)  # one that is new: a sweep and two ports


# --- late answers


@pytest.mark.parametrize("resolver", [RESOLVER, RESOLVER6], ids=["ipv4", "ipv6"])
def test_late_answers_of_a_busy_resolver_cause_no_block(resolver: str) -> None:
    """5,000 questions of ours were given up; each answer comes to a port of its own."""
    chance = random.Random(3)
    run = scenario()
    for number in range(5000):
        run.at(number / 10)
        _datagram(run, resolver, chance.choice(EPHEMERAL), sport=53, data=ANSWER, peer=True)
        run.expect_accepted()
    assert len(run.engine.tracker) == 0


@pytest.mark.parametrize("source", [A, A6], ids=["ipv4", "ipv6"])
def test_a_udp_scan_that_looks_like_late_answers_gets_none(source: str) -> None:
    """Its source never answered us. No evidence, either: reflectors send the same."""
    run = scenario()
    for port in range(1024, 3024):
        _datagram(run, source, port, sport=53, data=ANSWER).expect_dropped()
    assert len(run.engine.tracker) == 0


@pytest.mark.parametrize("source", ["0.1.1.1", "127.0.0.9", "::2", "::ffff:192.0.2.9"])
def test_a_source_that_no_host_has_gets_no_answer(source: str) -> None:
    run = scenario()
    for port in range(1, 60):
        run.syn(source, port).expect_dropped().udp(source, port).expect_dropped()
    _datagram(run, source, 40000, sport=40000, ttl=7).expect_dropped()
    assert len(run.engine.tracker) == 0


def test_in_mode_observe_nothing_is_silenced() -> None:
    run = scenario(mode="observe")
    _datagram(run, A, 40000, sport=53, data=ANSWER).expect_accepted()
    run.syn("0.1.1.1", 23).expect_accepted()


@pytest.mark.parametrize(
    ("sport", "data"),
    [
        (53, ANSWER),
        (123, NTP_SERVER),
        (137, ANSWER),
        (1900, b"HTTP/1.1 200 OK\r\n\r\n"),
        (5353, ANSWER),
        (5355, ANSWER),
        (49153, b"HTTP/1.1 200 OK\r\n\r\n"),
        (161, SNMP_ANSWER),
    ],
    ids=["dns", "ntp", "netbios", "ssdp", "mdns", "llmnr", "ssdp from any port", "snmp"],
)
def test_answers_to_multicast_queries_cause_no_block(sport: int, data: bytes) -> None:
    """Every host of the network answers, from its own address, to the port that asked."""
    run = scenario()
    for port in EPHEMERAL[:50]:
        for source in (A, B, A6, B6):
            _datagram(run, source, port, sport=sport, data=data).expect_dropped()
    assert len(run.engine.tracker) == 0


RTCP: Final = bytes.fromhex("80c90001747c6813") + bytes.fromhex("81ca0006747c6813") + bytes(20)
"""An empty receiver report, and a description of the source (RFC 3550, section 6.4 and 6.5)."""


@pytest.mark.parametrize("source", [A, A6], ids=["ipv4", "ipv6"])
def test_a_telephone_whose_calls_have_ended_is_not_blocked(source: str) -> None:
    """It reports to the port beside the media's, after each call, and the port is closed."""
    run = scenario()
    for call in range(40):
        run.at(call * 20.0)
        _datagram(run, source, 10001 + 2 * call, sport=4005, data=RTCP).expect_dropped()
    assert len(run.engine.tracker) == 0


@pytest.mark.parametrize("source", [A, A6], ids=["ipv4", "ipv6"])
def test_a_udp_scan_hidden_in_reports_of_calls_learns_nothing_of_odd_ports(source: str) -> None:
    """It gets no answer, at even ports it is caught, and so it is with other data."""
    run = scenario()
    for port in range(1025, 2025, 2):
        _datagram(run, source, port, sport=4005, data=RTCP).expect_dropped()
    run.expect_no_block()
    for port in (2026, 2028, 2030):
        _datagram(run, source, port, sport=4005, data=RTCP)
    run.expect_block(source)


DISCOVERY: Final = (5353, 5355, 1900, 3702, 137, 9999, 8612)


def test_unicast_discovery_and_file_sharing_are_one_target() -> None:
    """A neighbour asks by every protocol at once, and for files."""
    run = scenario()
    for second in range(0, 3600, 60):
        run.at(float(second)).udp(A, *DISCOVERY, 138).syn(A, 139, 445).syn(A, 80)
    run.expect_no_block()
    run.syn(A, 22).expect_block(A)  # the third target
    assert (run.block.evidence.sample[0][1:], run.block.evidence.targets) == ((17, 5353), 3)


def test_a_router_that_maps_its_lan_is_not_blocked() -> None:
    """A home router's networkmap: its own question, the web page, printers by LPD and raw port."""
    run = scenario()
    for second in range(0, 3600, 60):
        run.at(float(second)).udp(A, 9999, 9999, 9999).syn(A, 80, 515, 9100).udp(A, 5353, 137)
    run.expect_no_block()
    run.syn(A, 22).expect_block(A)  # the third target


def test_three_protocols_of_a_printer_are_one_target() -> None:
    run = scenario().syn(A, 515, 631, 9100).syn(A, 22).expect_no_block()
    run.syn(A, 23).expect_block(A)


def test_one_discovery_port_of_three_addresses_is_a_sweep() -> None:
    run = scenario()
    for number, port in enumerate((137, 445, 5353)):
        run.udp(A, port, to=f"192.0.2.{number}")
    run.expect_block(A)


def test_printers_of_three_addresses_are_a_sweep() -> None:
    run = scenario()
    for number, port in enumerate((9100, 515, 631)):
        run.syn(A, port, to=f"192.0.2.{number}")
    run.expect_block(A)


def test_ports_of_these_numbers_by_another_protocol_count() -> None:
    scenario().syn(A, 9999).syn(A, 8612).expect_counted().syn(A, 1900).expect_block(A)
    scenario().udp(A, 515).udp(A, 9100).expect_counted().udp(A, 631).expect_block(A)


# --- odd stacks


@pytest.mark.parametrize("source", [A, A6], ids=["ipv4", "ipv6"])
def test_a_bare_fin_of_apple_s_stack_counts_no_more_than_a_syn(source: str) -> None:
    """Sent when a connection is closed before it is answered, with the timestamps of its SYN."""
    host = HOST6 if ":" in source else HOST
    for times, expected in ((TIMESTAMPS, 3), (b"", 2)):  # nmap's FIN has no options
        run = scenario()
        for port in range(443, 443 + expected):
            run.expect_no_block()
            fin = forge.tcp(port, "F", options=times)
            run.send(forge.ip(source, host, forge.TCP, fin))
        run.expect_block(source)


def test_a_bare_fin_of_apple_s_stack_from_a_partner_is_a_late_packet() -> None:
    run = scenario()
    for port in range(20):
        fin = forge.ip(A, HOST, forge.TCP, forge.tcp(port, "F", options=TIMESTAMPS))
        run.send(fin, partner=True).expect_accepted()


def test_a_nat_may_repeat_syn_fin_ack_in_a_server_s_name() -> None:
    run = scenario().peer(A)
    for port in EPHEMERAL[:20]:
        run.tcp(A, "SFA", port).expect_accepted()
    run.tcp(A, "SF", 1).expect_counted().tcp(A, "SF", 2).expect_block(A)
    run.tcp(B, "SFA", 1).expect_counted().tcp(B, "SFA", 2).expect_block(B)


# --- acknowledgements to listed ports


@pytest.mark.parametrize("flags", ["A", "FA", "PA"])
def test_clients_of_five_services_that_conntrack_forgot_are_not_blocked(flags: str) -> None:
    run = scenario(listed=set(range(1, 7)))
    run.tcp(A, flags, 1, 2, 3, 4, 5).expect_counted_and_accepted()
    run.tcp(A, flags, 6).expect_block(A)  # an ACK scan of listed ports


def test_a_partner_s_late_packets_to_listed_ports_are_not_evidence() -> None:
    run = scenario(listed=set(range(1, 100))).partner(A)
    run.tcp(A, "A", *range(1, 100)).expect_accepted()


# --- an ordinary day


def test_an_ordinary_day_of_a_web_server_causes_no_block() -> None:
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
            run.syn(client, 8080)  # an old bookmark
        elif what < 0.5:
            run.icmp(client, 128 if ":" in client else 8)
        elif what < 0.7:
            run.syn(client, chance.choice([80, 443]))
        else:
            run.partner(client).tcp(client, chance.choice(["A", "FA", "PA"]), 4000 + number % 900)
    run.expect_no_block()
    assert run.engine.counters.strays["late packet of a partner"] > 10_000
