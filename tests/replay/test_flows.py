"""What the kernel would have done with each packet, in the order of the rulesets."""

from ipaddress import ip_network
from typing import Any, Final, Self

import pytest

from sentryfw.engine.model import Block, Evidence, Meta, Packet, parse_source, source_of
from sentryfw.engine.packet import decode
from sentryfw.replay.flows import MAX_FLOWS, MAX_PARTNERS, MAX_SUSPECTS, Kernel
from sentryfw.replay.view import View
from support import forge

US: Final = "192.0.2.1"
THEM: Final = "203.0.113.7"
US6: Final = "2001:db8:1::1"
THEM6: Final = "2001:db8:2::7"
LISTED: Final = frozenset({(6, 22), (17, 53), (132, 3643)})

UNLISTED: Final = Meta(unlisted=True, partner=False)
HELD: Final = Meta(unlisted=False, partner=False)
PARTNER: Final = Meta(unlisted=True, partner=True)


class Wire:
    """A kernel, and packets that pass it a millisecond apart."""

    def __init__(self, *, older: Any = (), never_block: tuple[str, ...] = ()) -> None:
        local = tuple(ip_network(address) for address in (US, US6))
        view = View(local, LISTED, older=frozenset(older))
        self.kernel = Kernel(view, tuple(ip_network(text) for text in never_block))
        self.now = 1000.0

    def tcp(self, flags: str, port: int, sport: int = 40000, source: str = THEM) -> Any:
        """From them."""
        return self._receive(source, _us(source), 6, forge.tcp(port, flags, sport))

    def tcp_back(self, flags: str, port: int, sport: int = 40000, target: str = THEM) -> Any:
        """From us, in the same connection: `port` is ours."""
        return self._receive(_us(target), target, 6, forge.tcp(sport, flags, port))

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

    def block(self, source: str = THEM, timeout: float = 60.0) -> Self:
        evidence = Evidence._make([None] * len(Evidence._fields))
        unit = parse_source(source)
        self.kernel.block(Block(unit, timeout, 1, True, "", evidence, self.now))
        return self

    def wait(self, seconds: float) -> Self:
        self.now += seconds
        return self

    def _receive(self, source: str, target: str, protocol: int, rest: bytes) -> Any:
        self.now += 0.001
        payload = forge.ip(source, target, protocol, rest)
        packet = decode(payload)
        assert isinstance(packet, Packet)
        return self.kernel.receive(packet, self.now)


def _us(other: str) -> str:
    return US6 if ":" in other else US


# --- who is addressed


def test_a_probe_of_an_unlisted_port_is_judged() -> None:
    assert Wire().tcp("S", 23) == UNLISTED


@pytest.mark.parametrize("source", [THEM, THEM6], ids=["ipv4", "ipv6"])
def test_a_listed_port_takes_its_packets_unjudged(source: str) -> None:
    assert Wire().tcp("S", 22, source=source) == "passed"
    assert Wire().udp(53, source=source) == "passed"


def test_ports_are_listed_by_protocol() -> None:
    assert Wire().udp(22) == UNLISTED
    assert Wire().tcp("S", 53) == UNLISTED


def test_packets_between_others_or_to_many_are_not_ours() -> None:
    wire = Wire()
    for target in ("198.51.100.9", "224.0.0.251", "255.255.255.255"):
        assert wire._receive(THEM, target, 17, forge.udp(5353)) == "outside"


def test_a_source_that_is_never_blocked_is_never_judged() -> None:
    assert Wire(never_block=("203.0.113.0/24",)).tcp("S", 23) == "passed"


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
def test_other_protocols_are_judged_where_nobody_uses_them(
    source: str, protocol: int, rest: bytes, fate: object
) -> None:
    wire = Wire()
    assert wire._receive(source, _us(source), protocol, rest) == fate
    assert wire.tcp("S", 22, source=source) == "passed"  # no suspect by that


# --- what is known


def test_answers_to_what_we_opened_are_passed() -> None:
    wire = Wire()
    assert wire.tcp_back("S", 50000, 443) == "sent"
    for flags in ("SA", "A", "PA", "FA", "RA"):
        assert wire.tcp(flags, 50000, 443) == "passed"


def test_answers_from_another_port_are_none() -> None:
    wire = Wire()
    wire.udp_back(50000, 53)
    assert wire.udp(50000, 53) == "passed"
    assert wire.udp(50000, 54) == UNLISTED


def test_a_flow_that_was_quiet_too_long_is_forgotten() -> None:
    wire = Wire()
    wire.udp_back(50000, 53)
    assert wire.wait(31).udp(50000, 53) == UNLISTED


def test_an_answered_connection_outlives_an_unanswered_one() -> None:
    wire = Wire().handshake()
    assert wire.wait(3600).tcp("PA", 22) == "passed"
    assert not wire.kernel._suspects


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
    assert wire.wait(121).tcp("A", 50000, 443) == UNLISTED


def test_flags_no_stack_sends_belong_to_no_connection() -> None:
    wire = Wire().handshake()
    for flags in ("", "F", "FPU", "SF", "SR", "FR"):
        assert wire.tcp(flags, 22).unlisted


def test_connections_older_than_the_capture_are_known() -> None:
    us, them = forge.packed(US), forge.packed(THEM)
    wire = Wire(older=[(us, them, 6, 50000, 443), (us, them, 6, 22, 40000)])
    assert wire.tcp("A", 50000, 443) == "passed"
    assert wire.tcp("A", 22, 40000) == "passed"
    assert wire.tcp("A", 50001, 443) == PARTNER


def test_both_ends_of_the_middle_of_a_connection_make_it_known() -> None:
    wire = Wire()
    assert wire.tcp_back("A", 50000, 443) == "sent"
    assert wire.tcp("A", 50000, 443) == "passed"


# --- flags that go to judge, and flags that are backscatter


@pytest.mark.parametrize("flags", ["", "F", "FPU", "PU", "U", "SF", "SR", "FR", "SFA"])
def test_flags_no_stack_sends_are_judged_even_on_a_listed_port(flags: str) -> None:
    assert Wire().tcp(flags, 22) == UNLISTED


@pytest.mark.parametrize("flags", ["SA", "R", "RA"])
def test_backscatter_is_no_probe(flags: str) -> None:
    assert Wire().tcp(flags, 23) == "backscatter"


@pytest.mark.parametrize("flags", ["A", "FA", "PA"])
def test_an_ack_or_maimon_probe_is_judged_on_an_unlisted_port_only(flags: str) -> None:
    assert Wire().tcp(flags, 23) == UNLISTED
    assert Wire().tcp(flags, 22) == "passed"


# --- suspects and partners


def test_what_a_suspect_sends_to_a_listed_port_is_held() -> None:
    wire = Wire()
    wire.tcp("S", 23)
    assert wire.tcp("S", 22) == HELD
    assert wire.udp(53) == HELD
    assert wire.tcp("A", 22) == "passed"
    assert wire.tcp("S", 22, source="203.0.113.8") == "passed"


def test_a_source_is_no_suspect_any_more_after_five_seconds() -> None:
    wire = Wire()
    wire.tcp("S", 23)
    assert wire.wait(5.1).tcp("S", 22) == "passed"


def test_suspicion_of_ipv6_is_of_the_64() -> None:
    wire = Wire()
    wire.tcp("S", 23, source="2001:db8:2::7")
    assert wire.tcp("S", 22, source="2001:db8:2::8") == HELD
    assert wire.tcp("S", 22, source="2001:db8:2:1::8") == "passed"


def test_a_finished_handshake_makes_a_partner() -> None:
    assert Wire().handshake().tcp("S", 23, 40001) == PARTNER


def test_a_half_open_connection_makes_none() -> None:
    wire = Wire()
    wire.tcp("S", 22)
    wire.tcp_back("SA", 22)
    assert wire.tcp("S", 23) == UNLISTED


def test_a_reset_of_a_half_open_connection_is_judged() -> None:
    wire = Wire()
    wire.tcp("S", 22)
    wire.tcp_back("SA", 22)
    assert wire.tcp("R", 22) == Meta(unlisted=False, partner=False, half_open=True)


def test_a_reset_right_after_the_handshake_is_judged_and_takes_the_partnership_back() -> None:
    wire = Wire().handshake()
    assert wire.tcp("R", 22) == Meta(unlisted=False, partner=False, half_open=True)
    assert wire.tcp("S", 23, 40001) == UNLISTED


def test_a_reset_of_a_connection_that_lasted_is_not() -> None:
    wire = Wire().handshake()
    wire.now += 11
    assert wire.tcp("R", 22) == "passed"
    assert wire.tcp("S", 23, 40001) == PARTNER


def test_a_refused_handshake_makes_none() -> None:
    wire = Wire()
    wire.tcp("S", 22)
    wire.tcp_back("RA", 22)
    wire.tcp("A", 22)
    assert wire.tcp("S", 23) == UNLISTED


def test_a_suspect_makes_no_partner_of_itself() -> None:
    wire = Wire()
    wire.tcp("S", 22)
    wire.tcp("S", 23)
    wire.tcp_back("SA", 22)
    assert wire.tcp("A", 22) == "passed"
    assert wire.tcp("S", 24) == UNLISTED


def test_who_answered_us_is_no_partner() -> None:
    wire = Wire()
    wire.tcp_back("S", 50000, 443)
    wire.tcp("SA", 50000, 443)
    wire.tcp("A", 50000, 443)
    assert wire.tcp("S", 23) == UNLISTED


def test_a_partner_is_one_for_a_day() -> None:
    wire = Wire().handshake()
    assert wire.wait(86300).tcp("S", 23, 40001) == PARTNER
    assert wire.wait(101).tcp("S", 23, 40001) == UNLISTED


# --- blocks


def test_of_a_blocked_source_everything_it_starts_or_goes_on_with_is_dropped() -> None:
    wire = Wire().handshake().block()
    for flags in ("S", "A", "PA", "F", "", "SA", "R"):
        assert wire.tcp(flags, 22) == "dropped"
    assert wire.udp(53) == "dropped"
    assert wire._receive(THEM, US, 1, bytes([8]) + bytes(7)) == "dropped"


def test_what_we_open_to_a_blocked_source_still_works() -> None:
    wire = Wire().block()
    wire.tcp_back("S", 50000, 443)
    assert wire.tcp("SA", 50000, 443) == "passed"
    wire.udp_back(50000, 53)
    assert wire.udp(50000, 53) == "passed"


def test_a_block_of_a_blocked_source_is_no_new_one() -> None:
    wire = Wire()
    evidence = Evidence._make([None] * len(Evidence._fields))
    block = Block(parse_source(THEM), 10.0, 1, True, "", evidence, wire.now)
    assert wire.kernel.block(block)
    assert not wire.kernel.block(block._replace(at=wire.now + 1))
    assert wire.kernel.block(block._replace(at=wire.now + 12))


def test_a_block_ends_with_its_timeout() -> None:
    wire = Wire().block(timeout=10)
    assert wire.tcp("S", 23) == "dropped"
    assert wire.wait(10).tcp("S", 23) == UNLISTED


def test_a_never_blocked_address_passes_even_where_its_64_is_blocked() -> None:
    wire = Wire(never_block=(THEM6,)).block(THEM6)
    assert wire.tcp("S", 23, source=THEM6) == "passed"
    assert wire.tcp("S", 23, source="2001:db8:2::8") == "dropped"


@pytest.mark.parametrize("flags", ["SA", "RA", "A"])
def test_what_is_sent_to_a_blocked_source_is_an_answer_and_opens_nothing(flags: str) -> None:
    wire = Wire().block()
    assert wire.tcp("S", 22) == "dropped"
    assert wire.tcp_back(flags, 22) == "answer"
    assert wire.tcp("A", 22) == "dropped"


def test_a_datagram_from_a_listed_port_to_a_blocked_source_opens_nothing() -> None:
    wire = Wire().block()
    assert wire.udp_back(53) == "answer"
    assert wire.udp(53) == "dropped"


def test_unreachable_is_an_answer_and_an_echo_is_none() -> None:
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
    wire.kernel.confirm(packet, wire.now)
    wire.tcp_back("SA", 23)
    assert wire.tcp("A", 23) == "passed"


# --- bounds


def test_no_table_grows_beyond_its_size_and_the_oldest_goes_first() -> None:
    wire = Wire()
    for number in range(MAX_FLOWS + 10):
        source = f"100.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
        wire.now = 1000.0
        wire.tcp("S", 22, source=source)
    assert len(wire.kernel._flows) == MAX_FLOWS
    assert wire.tcp_back("SA", 22, target="100.64.0.5") == "sent"
    assert wire.tcp("A", 22, source="100.64.0.5") == "passed"
    assert source_of(forge.packed("100.64.0.5")) not in wire.kernel._partners


def test_suspects_and_partners_are_bounded() -> None:
    kernel = Wire().kernel
    for number in range(MAX_SUSPECTS + 10):
        kernel._judge_unlisted(number.to_bytes(4), 1.0)
    for number in range(MAX_PARTNERS + 10):
        kernel._learn_partner((number + (1 << 24)).to_bytes(4), 1.0)
    assert len(kernel) == MAX_SUSPECTS + MAX_PARTNERS


def test_ended_blocks_are_forgotten() -> None:
    wire = Wire().block(timeout=10)
    wire.kernel.prune(wire.now + 9)
    assert len(wire.kernel) == 1
    wire.kernel.prune(wire.now + 100)
    assert len(wire.kernel) == 0
