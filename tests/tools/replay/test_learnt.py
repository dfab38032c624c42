"""Replay's model learns from answers: keys of sources, partners."""

from ipaddress import ip_network

import pytest

from sentryfw.engine.model import Packet
from sentryfw.engine.packet import decode
from sentryfw.tools.replay.learnt import Learnt
from support import forge

US, THEM = "192.0.2.1", "203.0.113.7"


def _packet(source: str, target: str, rest: bytes, protocol: int = 6) -> Packet:
    packet = decode(forge.ip(source, target, protocol, rest))
    assert isinstance(packet, Packet)
    return packet


@pytest.mark.parametrize(
    ("address", "size"), [(THEM, 4), ("2001:db8:2::7", 8), ("fe80::7", 16), ("64:ff9b::1", 16)]
)
def test_a_key_is_an_address_or_a_64(address: str, size: int) -> None:
    learnt = Learnt([ip_network("fe80::/10"), ip_network("64:ff9b::/96")])
    assert learnt.key(forge.packed(address)) == forge.packed(address)[:size]


@pytest.mark.parametrize(("flags", "assured"), [("SA", True), ("R", True), ("A", False)])
def test_only_an_answer_after_a_handshake_makes_a_partner(flags: str, *, assured: bool) -> None:
    learnt = Learnt([])
    learnt.learn_reply(_packet(US, THEM, forge.tcp(40000, flags, 22)), 1.0, assured=assured)
    assert len(learnt) == 0


def test_the_end_of_a_connection_renews_what_is_known() -> None:
    learnt = Learnt([])
    request = _packet(THEM, US, forge.tcp(22, "A", 40000))
    for now, flags in ((0.0, "A"), (50_000.0, "A"), (60_000.0, "FA")):
        learnt.learn_reply(_packet(US, THEM, forge.tcp(40000, flags, 22)), now, assured=True)
    assert learnt.was_served(request, 86_400.0 + 59_000)
    assert not learnt.was_served(request, 86_400.0 + 61_000)
    assert learnt.is_used(request, 100.0)


@pytest.mark.parametrize(
    ("target", "asks"),
    [("224.0.0.251", True), ("239.255.255.250", True), ("255.255.255.255", True),
     ("192.0.2.255", True), ("ff02::fb", True), ("192.0.2.9", False), ("240.0.0.9", False),
     ("2001:db8::9", False)],
)  # fmt: skip
def test_a_question_goes_to_a_group_or_a_network(target: str, *, asks: bool) -> None:
    learnt = Learnt([])
    source = US if "." in target else "2001:db8::1"
    learnt.learn_asked(_packet(source, target, forge.udp(5353, 50000), 17), 1.0)
    assert learnt.has_asked(17, 50000, 2.0) is asks
