"""Packets to unlisted ports that are not probes, and their counterparts that may be."""

from typing import Final

import pytest

from sentryfw.engine.model import Packet, Stray
from sentryfw.engine.packet import decode
from sentryfw.engine.strays import MAX_TRACE_HOPS, MIN_TRACE_PORT, REPLY, TRACE, udp_stray
from support import forge

PEERS: Final = {4: ("198.51.100.7", "192.0.2.1"), 6: ("2001:db8:a::7", "2001:db8::1")}
families = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])

QUESTION: Final = bytes.fromhex("1234 0100 0001 0000 0000 0000")
ANSWER: Final = bytes.fromhex("1234 8180 0001 0001 0000 0000")
"""DNS headers, RFC 1035 section 4.1.1; mDNS, LLMNR and NetBIOS have the same bit there."""
SNMP_ANSWER: Final = bytes.fromhex("302902010104067075626c6963a21c") + bytes(28)
NTP_CLIENT: Final = bytes([0x23]) + bytes(47)
NTP_SERVER: Final = bytes([0x24]) + bytes(47)
NTP_PRIVATE: Final = bytes([0x27]) + bytes(47)

ANSWERS: Final = {
    "dns": (53, ANSWER + b"\0" * 20),
    "dns-header-only": (53, ANSWER),
    "ntp": (123, NTP_SERVER),
    "netbios": (137, ANSWER),
    "ssdp": (1900, b"HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\n\r\n"),
    "ssdp-from-any-port": (49153, b"HTTP/1.1 200 OK\r\nST: ssdp:all\r\n\r\n"),
    "snmp": (161, SNMP_ANSWER),
    "mdns": (5353, ANSWER),
    "llmnr": (5355, ANSWER),
}
NO_ANSWERS: Final = {
    "nmap -g 53": (53, b""),
    "nmap -g 53 --data-length 8": (53, b"\x80" * 8),
    "dns-question": (53, QUESTION),
    "dns-answer-cut": (53, ANSWER[:11]),
    "ntp-client": (123, NTP_CLIENT),
    "ntp-private": (123, NTP_PRIVATE),
    "ntp-server-cut": (123, NTP_SERVER[:47]),
    "netbios-question": (137, QUESTION),
    "ssdp-search": (1900, b"M-SEARCH * HTTP/1.1\r\n\r\n"),
    "ssdp-notify": (1900, b"NOTIFY * HTTP/1.1\r\n\r\n"),
    "snmp-question": (161, SNMP_ANSWER.replace(b"\xa2", b"\xa0")),
    "snmp-answer-from-another-port": (162, SNMP_ANSWER),
    "snmp-nonsense": (161, b"\x30\xff\x02\x01\x01\x04\x06"),
    "mdns-question": (5353, QUESTION),
    "llmnr-question": (5355, QUESTION),
    "dns-answer-from-another-port": (54, ANSWER),
    "ntp-answer-from-another-port": (124, NTP_SERVER),
    "ntp-answer-from-dns": (53, NTP_SERVER),
    "dns-answer-from-ssdp": (1900, ANSWER),
}


def _datagram(
    family: int, dport: int, *, sport: int = 40000, data: bytes = b"", ttl: int = 64
) -> Packet:
    payload = forge.ip(*PEERS[family], forge.UDP, forge.udp(dport, sport, data), ttl=ttl)
    packet = decode(payload)
    assert isinstance(packet, Packet)
    return packet


# --- path traces


@families
@pytest.mark.parametrize("hops", range(1, MAX_TRACE_HOPS + 1))
@pytest.mark.parametrize("port", [33434, 33434 + 96, 44444, MIN_TRACE_PORT, 65535])
def test_a_datagram_to_a_high_port_with_few_hops_left_is_a_path_trace(
    family: int, hops: int, port: int
) -> None:
    assert udp_stray(_datagram(family, port, ttl=hops)) is TRACE


@families
@pytest.mark.parametrize("hops", [MAX_TRACE_HOPS + 1, 37, 64, 128, 255])
def test_a_datagram_with_more_hops_left_may_be_a_probe(family: int, hops: int) -> None:
    """nmap starts at 37 at least, and stacks at 64."""
    assert udp_stray(_datagram(family, 33434, ttl=hops)) is None


@families
@pytest.mark.parametrize("port", [1, 53, 161, 1900, MIN_TRACE_PORT - 1])
def test_a_datagram_to_a_low_port_may_be_a_probe(family: int, port: int) -> None:
    assert udp_stray(_datagram(family, port, ttl=1)) is None


# --- late replies


@families
@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_of_a_service_is_a_late_reply(family: int, name: str) -> None:
    sport, data = ANSWERS[name]
    assert udp_stray(_datagram(family, 40000, sport=sport, data=data)) is REPLY


@families
@pytest.mark.parametrize("name", NO_ANSWERS)
def test_a_query_may_be_a_probe_from_any_source_port(family: int, name: str) -> None:
    sport, data = NO_ANSWERS[name]
    assert udp_stray(_datagram(family, 40000, sport=sport, data=data)) is None


@families
@pytest.mark.parametrize("name", ANSWERS)
def test_every_truncation_of_an_answer_is_classified(family: int, name: str) -> None:
    """The queue copies the first bytes only; a truncated answer may count as a probe."""
    sport, data = ANSWERS[name]
    whole = _datagram(family, 40000, sport=sport, data=data)
    for size in range(whole.transport + 8, len(whole.payload) + 1):
        cut = decode(whole.payload[:size])
        assert isinstance(cut, Packet)
        assert udp_stray(cut) in (REPLY, None)


SENDER_REPORT: Final = "80c80006" + "00" * 24


@families
@pytest.mark.parametrize(
    ("port", "data", "is_report"),
    [
        (40001, SENDER_REPORT, True),
        (40001, SENDER_REPORT + "5c" * 30, True),  # encrypted, with a tag
        (40001, "81c90007" + "00" * 28 + "81ca0001" + "00" * 4, True),
        (1025, "80c90001" + "00" * 4, True),
        (40000, SENDER_REPORT, False),  # the media's port
        (1023, SENDER_REPORT, False),
        (40001, SENDER_REPORT[:-2], False),
        (40001, "80c90001", False),
        (40001, "40c90001" + "00" * 4, False),  # version 1
        (40001, "a0c90001" + "00" * 4, False),  # padding in the first packet
        (40001, "80ca0001" + "00" * 4, False),  # begins with no report
        (40001, "", False),
    ],
)
def test_a_report_about_a_call_is_late(
    family: int, port: int, data: str, *, is_report: bool
) -> None:
    packet = _datagram(family, port, sport=4005, data=bytes.fromhex(data))
    assert udp_stray(packet) is (REPLY if is_report else None)


def test_answers_are_found_behind_ip_options() -> None:
    rest = forge.udp(40000, 53, ANSWER)
    packet = decode(forge.ipv4(*PEERS[4], forge.UDP, rest, options=b"\x01" * 40))
    assert isinstance(packet, Packet)
    assert udp_stray(packet) is REPLY


def test_the_two_reasons_differ() -> None:
    assert isinstance(TRACE, Stray)
    assert isinstance(REPLY, Stray)
    assert TRACE.reason != REPLY.reason
