"""The model of the table: the fate of each packet, in the order of the rulesets."""

from ipaddress import ip_network
from typing import Any, Final, Self

import pytest

from sentryfw import config
from sentryfw.engine.model import Block, Evidence, Meta, Packet, parse_source
from sentryfw.engine.networks import LINK_LOCAL_ONLY
from sentryfw.engine.packet import decode
from sentryfw.netfilter.schema import SUSPECT_SET_SIZE, SUSPECT_TIMEOUT_S
from sentryfw.tools.replay.conntrack import MAX_FLOWS
from sentryfw.tools.replay.run import rules
from sentryfw.tools.replay.table_model import TableModel
from sentryfw.tools.replay.view import CaptureView
from support import forge

US: Final = "192.0.2.1"
THEM: Final = "203.0.113.7"
US6: Final = "2001:db8:1::1"
THEM6: Final = "2001:db8:2::7"
LISTED: Final = frozenset({(6, 22), (17, 53), (132, 3643)})

WINDOW: Final = 64240
"""The window of Linux; other SYNs without options may be deferred."""
UNLISTED: Final = Meta(unlisted=True, partner=False)
HELD: Final = Meta(unlisted=False, partner=False)
PARTNER: Final = Meta(unlisted=True, partner=True)
PEER: Final = Meta(unlisted=True, partner=False, peer=True)
DEFERRED: Final = Meta(unlisted=False, partner=False, deferred=True)
HALF_OPEN: Final = Meta(unlisted=False, partner=False, half_open=True)


class Wire:
    """A table, and packets that reach it a millisecond apart."""

    def __init__(
        self, *, older: Any = (), never_block: tuple[str, ...] = (), watch: str = ""
    ) -> None:
        local = tuple(ip_network(address) for address in (US, US6))
        view = CaptureView(local, LISTED, older=frozenset(older))
        settings = config.parse(f"[watch]\n{watch}\n".encode(), "test")
        networks = [ip_network(text) for text in never_block]
        self.table = TableModel(view, rules(settings), networks, [ip_network("192.0.2.0/24")])
        self.now = 1000.0

    def tcp(self, flags: str, port: int, sport: int = 40000, source: str = THEM) -> Any:
        """Receive a segment from them."""
        segment = forge.tcp(port, flags, sport, window=WINDOW)
        return self._receive(source, _us(source), 6, segment)

    def raw_syn(self, port: int, source: str = THEM) -> Any:
        """Receive a SYN with the shape of a raw-socket scanner's."""
        return self._receive(source, _us(source), 6, forge.tcp(port))

    def tcp_back(self, flags: str, port: int, sport: int = 40000, target: str = THEM) -> Any:
        """Send a segment to them in the same connection; `port` is ours."""
        segment = forge.tcp(sport, flags, port, window=WINDOW)
        return self._receive(_us(target), target, 6, segment)

    def udp(self, port: int, sport: int = 40000, source: str = THEM) -> Any:
        return self._receive(source, _us(source), 17, forge.udp(port, sport))

    def udp_back(self, port: int, sport: int = 40000, target: str = THEM) -> Any:
        return self._receive(_us(target), target, 17, forge.udp(sport, port))

    def icmp_back(self, kind: int, target: str = THEM) -> Any:
        return self._receive(US, target, 1, bytes([kind]) + bytes(7))

    def handshake(self, port: int = 22, sport: int = 40000, source: str = THEM) -> Self:
        assert self.tcp("S", port, sport, source) == "passed"
        assert self.tcp_back("SA", port, sport, source) == "sent"
        assert self.tcp("A", port, sport, source) == "passed"
        return self

    def serve(self, port: int = 22, sport: int = 40000, source: str = THEM) -> Self:
        """Finish a handshake and answer, as a server does that takes a request."""
        self.handshake(port, sport, source)
        assert self.tcp_back("A", port, sport, source) == "sent"
        return self

    def block(self, source: str = THEM, timeout: float = 60.0, *, forgeable: bool = True) -> Self:
        evidence = Evidence._make([None] * len(Evidence._fields))
        unit = parse_source(source, LINK_LOCAL_ONLY)
        self.table.block(
            Block(
                source=unit,
                timeout=timeout,
                offence=1,
                forgeable=forgeable,
                reason="",
                evidence=evidence,
                at=self.now,
            )
        )
        return self

    def wait(self, seconds: float) -> Self:
        self.now += seconds
        return self

    def _receive(self, source: str, target: str, protocol: int, rest: bytes) -> Any:
        self.now += 0.001
        payload = forge.ip(source, target, protocol, rest)
        packet = decode(payload)
        assert isinstance(packet, Packet)
        return self.table.receive(packet, self.now)


def _us(other: str) -> str:
    return US6 if ":" in other else US


# --- addresses, ports, protocols


def test_a_probe_of_an_unlisted_port_is_judged() -> None:
    assert Wire().tcp("S", 23) == UNLISTED


@pytest.mark.parametrize("source", [THEM, THEM6], ids=["ipv4", "ipv6"])
def test_a_listed_port_takes_its_packets_unjudged(source: str) -> None:
    assert Wire().tcp("S", 22, source=source) == "passed"
    assert Wire().udp(53, source=source) == "passed"


def test_ports_are_listed_by_protocol() -> None:
    assert Wire().udp(22) == UNLISTED
    assert Wire().tcp("S", 53) == UNLISTED


def test_packets_between_other_hosts_and_multicast_are_outside() -> None:
    wire = Wire()
    for target in ("198.51.100.9", "224.0.0.251", "255.255.255.255"):
        assert wire._receive(THEM, target, 17, forge.udp(5353)) == "outside"


def test_a_never_blocked_source_is_judged_and_not_suspected() -> None:
    wire = Wire(never_block=("203.0.113.0/24",))
    assert wire.tcp("S", 23) == UNLISTED
    assert wire.tcp("S", 22) == "passed"
    assert wire.raw_syn(22) == "passed"


@pytest.mark.parametrize(
    ("source", "protocol", "rest", "fate"),
    [
        (THEM, 47, bytes(8), "passed"),
        (THEM, 200, bytes(8), UNLISTED),
        (THEM, 1, bytes([8]) + bytes(7), UNLISTED),
        (THEM, 1, bytes([3]) + bytes(7), "passed"),
        (THEM6, 58, bytes([128]) + bytes(7), UNLISTED),
        (THEM6, 58, bytes([135]) + bytes(7), "passed"),
        (THEM, 132, bytes((0, 9, 0, 9)) + bytes(8) + b"\1" + bytes(3), UNLISTED),
        (THEM, 132, bytes((0, 9, 14, 59)) + bytes(8) + b"\1" + bytes(3), "passed"),
    ],
    ids=["gre", "unheard of", "ping", "unreachable", "ping6", "neighbour", "sctp", "sctp listed"],
)  # fmt: skip
def test_protocols_without_a_known_use_are_judged(
    source: str, protocol: int, rest: bytes, fate: object
) -> None:
    wire = Wire()
    assert wire._receive(source, _us(source), protocol, rest) == fate
    assert wire.tcp("S", 22, source=source) == "passed"  # no suspect by that


# --- known connections


def test_answers_to_what_we_opened_are_passed() -> None:
    wire = Wire()
    assert wire.tcp_back("S", 50000, 443) == "sent"
    for flags in ("SA", "A", "PA", "FA", "RA"):
        assert wire.tcp(flags, 50000, 443) == "passed"


def test_a_datagram_from_another_port_is_not_an_answer() -> None:
    wire = Wire()
    wire.udp_back(50000, 53)
    assert wire.udp(50000, 53) == "passed"
    assert wire.udp(50000, 54) == PEER


def test_a_flow_is_forgotten_after_its_timeout() -> None:
    wire = Wire()
    wire.udp_back(50000, 53)
    assert wire.wait(31).udp(50000, 53) == UNLISTED


def test_an_answered_connection_outlives_an_unanswered_one() -> None:
    wire = Wire().handshake()
    assert wire.wait(3600).tcp("PA", 22) == "passed"
    assert not wire.table._suspects


def test_a_connection_we_opened_that_was_refused_is_forgotten() -> None:
    wire = Wire()
    wire.tcp_back("S", 50000, 443)
    assert wire.tcp("RA", 50000, 443) == "passed"
    assert wire.tcp("A", 50000, 443) == UNLISTED


def test_a_connection_is_known_some_time_after_its_end() -> None:
    wire = Wire()
    wire.tcp_back("S", 50000, 443)
    wire.tcp("SA", 50000, 443)
    wire.tcp_back("FA", 50000, 443)
    assert wire.wait(100).tcp("FA", 50000, 443) == "passed"
    assert wire.wait(121).tcp("A", 50000, 443) == PEER


def test_flags_that_no_stack_sends_belong_to_no_connection() -> None:
    wire = Wire().handshake()
    for flags in ("", "F", "FPU", "SF", "SR", "FR"):
        assert wire.tcp(flags, 22).unlisted


def test_connections_older_than_the_capture_are_known() -> None:
    us, them = forge.packed(US), forge.packed(THEM)
    wire = Wire(older=[(us, them, 6, 50000, 443), (us, them, 6, 22, 40000)])
    assert wire.tcp("A", 50000, 443) == "passed"
    assert wire.tcp("A", 22, 40000) == "passed"
    assert wire.tcp("A", 50001, 443) == PEER


def test_both_ends_of_the_middle_of_a_connection_make_it_known() -> None:
    wire = Wire()
    assert wire.tcp_back("A", 50000, 443) == "sent"
    assert wire.tcp("A", 50000, 443) == "passed"


# --- flags that go to judge, and flags that are backscatter


@pytest.mark.parametrize("flags", ["", "F", "FPU", "PU", "U", "SF", "SR", "FR", "SFA"])
def test_flags_that_no_stack_sends_are_judged_on_a_listed_port_too(flags: str) -> None:
    assert Wire().tcp(flags, 22) == UNLISTED


@pytest.mark.parametrize("flags", ["SA", "R", "RA"])
def test_backscatter_is_not_judged(flags: str) -> None:
    assert Wire().tcp(flags, 23) == "backscatter"


@pytest.mark.parametrize("flags", ["A", "FA", "PA"])
def test_an_ack_or_maimon_probe_is_judged_on_a_listed_port_too(flags: str) -> None:
    assert Wire().tcp(flags, 23) == UNLISTED
    assert Wire().tcp(flags, 22) == HELD


# --- suspects, partners, peers


def test_a_suspect_s_packet_to_a_listed_port_is_held() -> None:
    wire = Wire()
    wire.tcp("S", 23)
    assert wire.tcp("S", 22) == HELD
    assert wire.udp(53) == HELD
    assert wire.tcp("S", 22, source="203.0.113.8") == "passed"


def test_a_source_is_suspect_for_five_seconds() -> None:
    wire = Wire()
    wire.tcp("S", 23)
    assert wire.wait(5.1).tcp("S", 22) == "passed"


def test_an_ipv6_suspect_is_its_64() -> None:
    wire = Wire()
    wire.tcp("S", 23, source="2001:db8:2::7")
    assert wire.tcp("S", 22, source="2001:db8:2::8") == HELD
    assert wire.tcp("S", 22, source="2001:db8:2:1::8") == "passed"


def test_who_was_served_is_a_partner_a_minute_later() -> None:
    wire = Wire().serve()
    assert wire.tcp("S", 23, 40001) == UNLISTED
    assert wire.wait(60).tcp("S", 23, 40001) == PARTNER


def test_a_handshake_that_the_server_did_not_answer_makes_no_partner() -> None:
    assert Wire().handshake().wait(61).tcp("S", 23, 40001) == UNLISTED


@pytest.mark.parametrize("source", [THEM, THEM6, "fe80::7"])
def test_what_a_partner_uses_is_neither_held_nor_deferred(source: str) -> None:
    wire = Wire().serve(source=source).wait(60)
    assert wire.tcp("S", 23, source=source) == PARTNER
    assert wire.tcp("S", 22, 40001, source=source) == "passed"
    assert wire.raw_syn(22, source) == "passed"
    assert wire.udp(53, source=source) == Meta(unlisted=False, partner=True)


def test_a_fresh_partner_s_packets_are_held() -> None:
    wire = Wire().serve()
    wire.tcp("S", 23)
    assert wire.tcp("S", 22, 40001) == HELD


@pytest.mark.parametrize("source", [THEM, THEM6])
def test_a_raw_scanner_s_syn_to_a_listed_port_is_deferred(source: str) -> None:
    assert Wire().raw_syn(22, source) == DEFERRED
    assert Wire(watch='raw_syn = "serve"').raw_syn(22, source) == "passed"


def test_a_suspect_s_raw_syn_is_deferred_too() -> None:
    wire = Wire()
    wire.tcp("S", 23)
    assert wire.raw_syn(22) == DEFERRED


def test_every_stranger_s_syn_to_a_greylisted_port_is_deferred() -> None:
    wire = Wire(watch="greylist_tcp = [22]")
    assert wire.tcp("S", 22) == DEFERRED


def test_a_server_of_ours_may_ask_the_ident_port() -> None:
    wire = Wire()
    wire.tcp_back("S", 50000, 6667)
    assert wire.tcp("S", 113) == UNLISTED
    wire = Wire()
    wire.tcp_back("S", 50000, 6667)
    wire.tcp("SA", 50000, 6667)
    assert wire.tcp("S", 113) == "passed"
    assert wire.tcp("S", 114) == PEER


@pytest.mark.parametrize("group", ["239.255.255.250", "192.0.2.255", "255.255.255.255"])
def test_a_neighbour_s_answer_to_a_multicast_question_is_dropped(group: str) -> None:
    wire = Wire()
    wire._receive(US, group, 17, forge.udp(3702, 50000))
    assert wire.udp(50000, 3702, source="192.0.2.9") == "dropped"
    assert wire.udp(50001, 3702, source="192.0.2.9") == UNLISTED
    assert wire.udp(50000, 3702) == UNLISTED  # not a neighbour
    assert wire.wait(10).udp(50000, 3702, source="192.0.2.9") == UNLISTED


def test_a_half_open_connection_does_not_make_a_partner() -> None:
    wire = Wire()
    wire.tcp("S", 22)
    wire.tcp_back("SA", 22)
    assert wire.tcp("S", 23) == UNLISTED


def test_a_reset_of_a_half_open_connection_is_judged() -> None:
    wire = Wire()
    wire.tcp("S", 22)
    wire.tcp_back("SA", 22)
    assert wire.tcp("R", 22) == HALF_OPEN


def test_a_reset_right_after_the_handshake_is_judged() -> None:
    wire = Wire().handshake()
    assert wire.tcp("R", 22) == HALF_OPEN
    assert wire.wait(60).tcp("S", 23, 40001) == UNLISTED


def test_a_reset_after_the_server_s_answer_is_not_judged() -> None:
    wire = Wire().serve()
    assert wire.tcp("R", 22) == "passed"
    assert wire.wait(60).tcp("S", 23, 40001) == PARTNER


def test_a_refused_handshake_does_not_make_a_partner() -> None:
    wire = Wire()
    wire.tcp("S", 22)
    wire.tcp_back("RA", 22)
    wire.tcp("A", 22)
    assert wire.tcp("S", 23) == UNLISTED


def test_a_suspect_that_is_served_becomes_a_partner() -> None:
    wire = Wire()
    wire.tcp("S", 22)
    wire.tcp("S", 23)
    wire.tcp_back("SA", 22)
    assert wire.tcp("A", 22) == "passed"
    wire.tcp_back("A", 22)
    assert wire.wait(60).tcp("S", 24) == PARTNER


def test_a_source_that_answered_us_is_a_peer_not_a_partner() -> None:
    wire = Wire()
    wire.tcp_back("S", 50000, 443)
    wire.tcp("SA", 50000, 443)
    wire.tcp("A", 50000, 443)
    assert wire.tcp("S", 23) == PEER


def test_a_late_packet_of_a_server_carries_the_peer_bit() -> None:
    wire = Wire()
    wire.tcp_back("S", 50000, 443)
    wire.tcp("SA", 50000, 443)
    wire.tcp_back("R", 50000, 443)
    assert wire.wait(30).tcp("A", 50000, 443) == PEER


def test_a_source_that_refused_our_connection_is_not_a_peer() -> None:
    wire = Wire()
    wire.tcp_back("S", 50000, 443)
    wire.tcp("RA", 50000, 443)
    assert wire.tcp("S", 23) == UNLISTED


def test_an_answer_by_udp_makes_a_peer() -> None:
    wire = Wire()
    wire.udp_back(50000, 53)
    wire.udp(50000, 53)
    assert wire.tcp("S", 23) == PEER


def test_a_source_that_we_served_by_udp_does_not_become_a_partner() -> None:
    wire = Wire()
    wire.udp(53)
    packet = decode(forge.ip(THEM, US, 17, forge.udp(53)))
    assert isinstance(packet, Packet)
    wire.table.confirm(packet, wire.now)
    wire.udp_back(53)
    assert wire.wait(60).tcp("S", 23) == UNLISTED
    assert wire.table.learnt.was_served(packet, wire.now)


def test_a_peer_expires_a_day_after_its_first_answer() -> None:
    wire = Wire()
    wire.tcp_back("S", 50000, 443)
    wire.tcp("SA", 50000, 443)
    wire.wait(86000).tcp("A", 50000, 443)
    assert wire.wait(300).tcp("S", 23) == PEER
    assert wire.wait(200).tcp("S", 23) == UNLISTED


def test_a_never_blocked_source_s_reset_is_passed() -> None:
    assert Wire(never_block=(THEM,)).handshake().tcp("R", 22) == "passed"


def test_a_partner_expires_an_hour_after_what_it_used() -> None:
    wire = Wire().serve()
    assert wire.wait(89900).tcp("S", 23, 40001) == PARTNER
    assert wire.wait(101).tcp("S", 23, 40001) == UNLISTED


# --- what is not watched


def test_ports_at_or_above_the_upper_bound_are_passed() -> None:
    wire = Wire(watch="upper_tcp = 1024\nupper_udp = 100")
    assert wire.tcp("S", 1023) == UNLISTED
    assert wire.tcp("S", 1024) == wire.tcp("F", 1024) == "passed"
    assert wire.udp(99) == UNLISTED
    assert wire.udp(100) == "passed"


def test_in_traps_mode_only_the_traps_are_judged() -> None:
    wire = Wire(watch='mode = "traps"\ntrap_tcp = [23]')
    assert wire.tcp("S", 23) == UNLISTED
    assert wire.tcp("S", 24) == wire.udp(23) == "passed"
    assert wire._receive(THEM, US, 200, bytes(8)) == "passed"


def test_in_traps_mode_a_reset_of_a_half_open_connection_is_passed() -> None:
    wire = Wire(watch='mode = "traps"\ntrap_tcp = [23]')
    wire.tcp("S", 22)
    wire.tcp_back("SA", 22)
    assert wire.tcp("R", 22) == "passed"


# --- blocks


def test_a_blocked_source_s_connections_are_dropped_new_and_known() -> None:
    wire = Wire().handshake().block()
    for flags in ("S", "A", "PA", "F", "", "SA", "R"):
        assert wire.tcp(flags, 22) == "dropped"
    assert wire.udp(53) == "dropped"
    assert wire._receive(THEM, US, 1, bytes([8]) + bytes(7)) == "dropped"


def test_a_live_flow_to_a_service_that_served_it_goes_on_unless_the_block_is_proven() -> None:
    for forgeable, fate in ((True, "passed"), (False, "dropped")):
        wire = Wire().serve().block(forgeable=forgeable)
        assert wire.tcp("A", 22) == fate
        assert wire.tcp("S", 22, 40001) == "dropped"
        assert wire.tcp("A", 22, 40001) == "dropped"


def test_connections_that_we_open_to_a_blocked_source_work() -> None:
    wire = Wire().block()
    wire.tcp_back("S", 50000, 443)
    assert wire.tcp("SA", 50000, 443) == "passed"
    wire.udp_back(50000, 53)
    assert wire.udp(50000, 53) == "passed"


def test_a_block_of_a_blocked_source_changes_its_timeout() -> None:
    wire = Wire()
    evidence = Evidence._make([None] * len(Evidence._fields))
    block = Block(
        source=parse_source(THEM, LINK_LOCAL_ONLY),
        timeout=10.0,
        offence=1,
        forgeable=True,
        reason="",
        evidence=evidence,
        at=wire.now,
    )
    assert wire.table.block(block)
    assert not wire.table.block(block._replace(at=wire.now + 1))
    assert wire.table.block(block._replace(at=wire.now + 12))


def test_a_block_ends_with_its_timeout() -> None:
    wire = Wire().block(timeout=10)
    assert wire.tcp("S", 23) == "dropped"
    assert wire.wait(10).tcp("S", 23) == UNLISTED


def test_a_never_blocked_address_passes_even_where_its_64_is_blocked() -> None:
    wire = Wire(never_block=(THEM6,)).block(THEM6)
    assert wire.tcp("S", 22, source=THEM6) == "passed"
    assert wire.tcp("S", 23, source="2001:db8:2::8") == "dropped"


@pytest.mark.parametrize("flags", ["SA", "RA", "A"])
def test_a_segment_to_a_blocked_source_is_an_answer_and_opens_nothing(flags: str) -> None:
    wire = Wire().block()
    assert wire.tcp("S", 22) == "dropped"
    assert wire.tcp_back(flags, 22) == "answer"
    assert wire.tcp("A", 22) == "dropped"


def test_a_datagram_from_a_listed_port_to_a_blocked_source_opens_nothing() -> None:
    wire = Wire().block()
    assert wire.udp_back(53) == "answer"
    assert wire.udp(53) == "dropped"


def test_unreachable_is_an_answer_and_an_echo_is_not() -> None:
    wire = Wire().block()
    assert wire.icmp_back(3) == "answer"
    assert wire.icmp_back(8) == "sent"


def test_an_answer_to_a_probe_that_was_dropped_opens_nothing() -> None:
    wire = Wire()
    wire.tcp("S", 23)
    wire.tcp_back("A", 23)
    assert wire.tcp("A", 23) == UNLISTED


def test_a_probe_that_was_accepted_opens_a_connection() -> None:
    wire = Wire()
    wire.tcp("S", 23)
    packet = decode(forge.ip(THEM, US, 6, forge.tcp(23)))
    assert isinstance(packet, Packet)
    wire.table.confirm(packet, wire.now)
    wire.tcp_back("SA", 23)
    assert wire.tcp("A", 23) == "passed"


# --- bounds


def test_flows_are_bounded_and_the_oldest_goes_first() -> None:
    wire = Wire()
    for number in range(MAX_FLOWS + 10):
        source = f"100.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
        wire.now = 1000.0
        wire.tcp("S", 22, source=source)
    assert len(wire.table._connections) == MAX_FLOWS
    assert wire.tcp_back("SA", 22, target="100.64.0.5") == "sent"
    assert wire.tcp("A", 22, source="100.64.0.5") == HELD
    wire.tcp_back("A", 22, target="100.64.0.5")
    assert not wire.table.learnt.is_partner(forge.packed("100.64.0.5"), wire.now + 61)


def test_a_full_set_takes_no_new_element_until_one_expires() -> None:
    table = Wire().table
    last = SUSPECT_SET_SIZE.to_bytes(4)
    for number in range(SUSPECT_SET_SIZE + 1):
        table._judge_unlisted(number.to_bytes(4), 1.0)
    assert len(table) == SUSPECT_SET_SIZE
    assert not table._suspects.has(last, 1.0)
    table._judge_unlisted(last, 1.1 + SUSPECT_TIMEOUT_S)
    assert table._suspects.has(last, 1.1 + SUSPECT_TIMEOUT_S)
    assert len(table) == SUSPECT_SET_SIZE


def test_expired_blocks_are_forgotten() -> None:
    wire = Wire().block(timeout=10)
    wire.table.prune(wire.now + 9)
    assert len(wire.table) == 1
    wire.table.prune(wire.now + 100)
    assert len(wire.table) == 0
