"""The answers after a block, and the packets that the sniffer records on a wire."""

import socket
import time
from typing import Any

import pytest

from sentryfw.engine.model import Packet
from sentryfw.engine.packet import decode
from sentryfw.tools.drill.sniffer import Sighting, Sniffer, answers_after, probes
from support import forge
from support.waiting import wait_for

ATTACKER = "198.18.1.2"
ATTACKER6 = "2001:2:0:1::2"
VICTIM = {ATTACKER: "198.18.0.1", ATTACKER6: "2001:2::1"}
BLOCKED_AT = 10.0

BOTH = pytest.mark.parametrize("source", [ATTACKER, ATTACKER6], ids=["ipv4", "ipv6"])


def sighting(at: float, payload: bytes, *, sent: bool, icmp_type: int | None = None) -> Sighting:
    packet = decode(payload)
    assert isinstance(packet, Packet)
    return Sighting(at, sent, packet, icmp_type)


def probe(at: float, source: str, port: int, sport: int = 40000, flags: str = "S") -> Sighting:
    segment = forge.tcp(port, flags, sport)
    return sighting(at, forge.ip(source, VICTIM[source], forge.TCP, segment), sent=True)


def answer(at: float, source: str, port: int, sport: int = 40000, flags: str = "SA") -> Sighting:
    segment = forge.tcp(sport, flags, port)
    return sighting(at, forge.ip(VICTIM[source], source, forge.TCP, segment), sent=False)


def datagram(at: float, source: str, port: int) -> Sighting:
    payload = forge.ip(source, VICTIM[source], forge.UDP, forge.udp(port))
    return sighting(at, payload, sent=True)


def datagram_back(at: float, source: str, port: int) -> Sighting:
    payload = forge.ip(VICTIM[source], source, forge.UDP, forge.udp(40000, port))
    return sighting(at, payload, sent=False)


def icmp(at: float, source: str, icmp_type: int, *, sent: bool = False) -> Sighting:
    protocol = 58 if ":" in source else 1
    here, there = (source, VICTIM[source]) if sent else (VICTIM[source], source)
    payload = forge.ip(here, there, protocol, bytes([icmp_type, 0, 0, 0, 0, 0, 0, 0]))
    return sighting(at, payload, sent=sent, icmp_type=icmp_type)


@BOTH
def test_without_packets_there_is_no_answer(source: str) -> None:
    assert answers_after([], BLOCKED_AT) == 0
    assert answers_after([probe(11, source, 80)], BLOCKED_AT) == 0


@BOTH
def test_an_answer_before_the_block_does_not_count(source: str) -> None:
    assert answers_after([probe(9.0, source, 80), answer(9.1, source, 80)], BLOCKED_AT) == 0


@BOTH
def test_a_syn_ack_repeated_for_an_older_probe_does_not_count(source: str) -> None:
    seen = [probe(9.0, source, 80), answer(9.1, source, 80)]
    seen += [answer(11.0, source, 80), answer(13.0, source, 80)]
    assert answers_after(seen, BLOCKED_AT) == 0


@BOTH
@pytest.mark.parametrize("flags", ["SA", "R", "RA", "A"])
def test_an_answer_to_a_newer_probe_counts(source: str, flags: str) -> None:
    seen = [probe(10.5, source, 80), answer(10.6, source, 80, flags=flags)]
    assert answers_after(seen, BLOCKED_AT) == 1


@BOTH
def test_an_answer_to_the_same_probe_sent_again_counts(source: str) -> None:
    seen = [probe(9.0, source, 80), probe(10.5, source, 80), answer(10.6, source, 80)]
    assert answers_after(seen, BLOCKED_AT) == 1


@BOTH
def test_each_answer_counts(source: str) -> None:
    seen = [probe(11.0 + port / 100, source, port) for port in (22, 80, 443)]
    seen += [answer(12.0, source, port) for port in (22, 443)]
    assert answers_after(seen, BLOCKED_AT) == 2


@BOTH
def test_ports_distinguish_the_older_probe_from_the_newer(source: str) -> None:
    seen = [probe(9.0, source, 80, sport=1111), probe(11.0, source, 80, sport=2222)]
    late = answer(11.1, source, 80, sport=1111)
    assert answers_after([*seen, late], BLOCKED_AT) == 0
    assert answers_after([*seen, late, answer(11.2, source, 80, sport=2222)], BLOCKED_AT) == 1


@BOTH
def test_the_protocol_distinguishes_them_too(source: str) -> None:
    seen = [probe(9.0, source, 53), datagram(11.0, source, 53), answer(11.1, source, 53)]
    assert answers_after(seen, BLOCKED_AT) == 0
    assert answers_after([*seen, datagram_back(11.2, source, 53)], BLOCKED_AT) == 1


@BOTH
def test_a_packet_that_is_not_an_answer_does_not_count(source: str) -> None:
    """The victim's own connection to the attacker's host."""
    assert answers_after([answer(11.0, source, 55555, sport=7, flags="S")], BLOCKED_AT) == 0


@pytest.mark.parametrize(
    ("source", "icmp_type", "count"),
    [
        pytest.param(ATTACKER, 3, 1, id="ipv4 unreachable"),
        pytest.param(ATTACKER6, 1, 1, id="ipv6 unreachable"),
        pytest.param(ATTACKER, 0, 0, id="ipv4 echo reply"),
        pytest.param(ATTACKER, 1, 0, id="type 1 is no unreachable in ipv4"),
        pytest.param(ATTACKER6, 3, 0, id="type 3 is no unreachable in ipv6"),
        pytest.param(ATTACKER6, 135, 0, id="neighbour solicitation"),
        pytest.param(ATTACKER6, 136, 0, id="neighbour advertisement"),
    ],
)
def test_icmp_unreachable_after_the_block_counts(source: str, icmp_type: int, count: int) -> None:
    seen = [datagram(9.0, source, 53), datagram(11.0, source, 54)]
    assert answers_after([*seen, icmp(11.1, source, icmp_type)], BLOCKED_AT) == count
    assert answers_after([*seen, icmp(9.9, source, icmp_type)], BLOCKED_AT) == 0


def test_unreachable_that_the_attacker_sends_does_not_count() -> None:
    assert answers_after([icmp(11.0, ATTACKER, 3, sent=True)], BLOCKED_AT) == 0


def test_probes_are_what_was_sent_but_icmp() -> None:
    first, second = probe(1, ATTACKER, 1), datagram(2, ATTACKER, 2)
    seen = [first, answer(1.1, ATTACKER, 1), icmp(1.2, ATTACKER, 3, sent=True), second]
    assert list(probes(seen)) == [first, second]


# --- on a wire


def send(namespace: Any, target: str, port: int) -> int:
    """One datagram; the port it came from."""

    def speak() -> int:
        family = socket.AF_INET6 if ":" in target else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"?", (target, port))
            return int(sock.getsockname()[1])

    return int(namespace.call(speak))


@pytest.mark.netns
@pytest.mark.parametrize("target", ["198.18.0.2", "2001:2::2"], ids=["ipv4", "ipv6"])
def test_the_sniffer_sees_the_probe_and_the_refusal(pair: Any, target: str) -> None:
    sniffer = Sniffer(pair.here, "veth0")
    try:
        before = time.time()
        sport = send(pair.here, target, 4321)
        kept: list[Sighting] = []

        def unreachable() -> list[Sighting]:
            kept.extend(sniffer.take())
            return [item for item in kept if not item.sent and item.icmp_type in (1, 3)]

        [refusal] = wait_for(unreachable, "an ICMP error")
        after = time.time()
    finally:
        sniffer.close()
    [sent] = [item for item in probes(kept) if item.packet.dport == 4321]
    assert sent.packet.sport == sport
    assert before <= sent.at <= refusal.at <= after
    assert answers_after(kept, before) == 1
    assert answers_after(kept, after) == 0


@pytest.mark.netns
def test_take_gives_each_sighting_once(pair: Any) -> None:
    sniffer = Sniffer(pair.here, "veth0")
    try:
        for port in (5001, 5002):
            send(pair.here, "198.18.0.2", port)
            taken: list[Sighting] = []

            def seen(port: int = port, taken: list[Sighting] = taken) -> bool:
                taken.extend(sniffer.take())
                return any(item.packet.dport == port for item in taken)

            wait_for(seen, "the datagram")
            ports = {item.packet.dport for item in probes(taken)}
            assert ports & {5001, 5002} == {port}
    finally:
        sniffer.close()
