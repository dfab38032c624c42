"""Late packets, unsolicited answers and broadcasts do not lead to a block.

From the real kernel; each of these fails without the rule that spares it.
"""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from sentryfw.engine.packet import DCCP, UDP_LITE
from support.frames import ACK, RST, SYN, icmp_frame, ip_frame, udp_frame
from support.lab import ATTACKER, BYSTANDER, VICTIM, Lab, drain
from support.shared import Shared, accept
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

both_families = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])

TCP_REPAIR: Final = 19
ANSWER: Final = bytes.fromhex("1234 8180 0001 0001 0000 0000") + bytes(20)


def _vanish(*sockets: socket.socket) -> None:
    """Close without a word, as a host does that loses its power."""
    for each in sockets:
        each.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        each.close()


@contextmanager
def _speaking_into_the_void(sockets: list[socket.socket]) -> Iterator[None]:
    """Data by every second one, a FIN by the others, and what TCP sends again of it."""
    for number, each in enumerate(sockets):
        if number % 2:
            each.sendall(b"are you there?")
        else:
            each.shutdown(socket.SHUT_WR)
    try:
        yield
    finally:
        _vanish(*sockets)


def _exchange(lab: Lab, port: int, family: int) -> tuple[socket.socket, socket.socket, int]:
    """A UDP socket on the victim and one on the attacker's host that have spoken to each other;
    and the victim's port."""
    ours, theirs = lab.bind_udp(port, family), lab.udp(ATTACKER[family])
    for each in (ours, theirs):
        each.settimeout(5)
    port = ours.getsockname()[1]
    ours.sendto(b"question", theirs.getsockname()[:2])
    assert theirs.recv(10) == b"question"
    theirs.sendto(b"answer", (VICTIM[family], port))
    assert ours.recv(10) == b"answer"
    return ours, theirs, port


# --- replies, and what comes late


@both_families
def test_a_reply_that_comes_when_its_socket_is_closed_is_not_judged(
    quiet: Shared, family: int
) -> None:
    for _ in range(20):
        ours, theirs, port = _exchange(quiet.lab, 0, family)
        ours.close()
        theirs.sendto(b"late", (VICTIM[family], port))
    drain(quiet.sentry)
    assert quiet.count("judged") == 0


@both_families
def test_a_call_that_has_ended_is_not_judged(quiet: Shared, family: int) -> None:
    """RTP and RTCP, audio and video, for a while yet to four ports that are closed."""
    streams = [_exchange(quiet.lab, 16384 + number, family) for number in range(4)]
    for ours, _, _ in streams:
        ours.close()
    for _ in range(50):
        for _, theirs, port in streams:
            theirs.sendto(b"\x80" + bytes(171), (VICTIM[family], port))
    drain(quiet.sentry)
    assert quiet.count("judged") == 0


@both_families
def test_answers_of_a_resolver_after_conntrack_forgot_the_questions_cause_no_block(
    quiet: Shared, family: int
) -> None:
    frames = [
        udp_frame(quiet.lab.ether, ATTACKER[family], VICTIM[family], 53, 40000 + n, ANSWER)
        for n in range(900)
    ]
    before = quiet.sentry.status()["engine"].get("late reply", 0)
    quiet.lab.wire.send(*frames)
    drain(quiet.sentry)
    assert quiet.sentry.status()["engine"]["late reply"] == before + 900


@both_families
def test_late_packets_of_clients_after_conntrack_forgot_their_flows_cause_no_block(
    quiet: Shared, family: int
) -> None:
    """The service with five ports has ended; data, FINs and retransmissions arrive."""
    lab = quiet.lab
    listeners = [lab.listen(9001 + number, family) for number in range(5)]
    clients = [lab.make_partner(ATTACKER[family], 9001)]
    clients += [lab.open(ATTACKER[family], 9001 + number) for number in range(1, 5)]
    _vanish(*map(accept, listeners))
    for listener in listeners:
        listener.close()
    lab.victim.run("conntrack", "-F")
    before = quiet.sentry.status()["engine"].get("late packet of a partner", 0)
    assert lab.elements(f"partner{family}")
    with _speaking_into_the_void(clients):
        wait_for(lambda: quiet.count("judged") >= 5, "data or a FIN to each port")
    drain(quiet.sentry)
    late = quiet.sentry.status()["engine"]["late packet of a partner"] - before
    assert late == quiet.count("judged")


@both_families
def test_late_packets_of_a_server_that_we_called_cause_no_block(fresh: Shared, family: int) -> None:
    """A pool of connections to a database; our program has vanished, conntrack has forgotten."""
    lab = fresh.lab
    listener = lab.listen(5432, family, lab.attacker)
    ours = [lab.open_from_victim(ATTACKER[family], 5432) for _ in range(5)]
    theirs = [accept(listener) for _ in ours]
    _vanish(*ours)
    lab.victim.run("conntrack", "-F")
    with _speaking_into_the_void(theirs):
        wait_for(lambda: fresh.count("judged") >= 3, "data or a FIN to each port")
    fresh.assert_quiet()


# --- answers to forged packets, and errors


@both_families
def test_answers_to_a_forged_flood_are_not_judged(quiet: Shared, family: int) -> None:
    ports = range(20000, 20300)
    quiet.lab.probe(ATTACKER[family], *ports, flags=SYN | ACK, sport=443)
    quiet.lab.probe(ATTACKER[family], *ports, flags=RST | ACK, sport=443)
    quiet.lab.probe(ATTACKER[family], *ports, flags=RST, sport=443)
    wait_for(lambda: quiet.count("backscatter") == 900, "900 answers")
    assert quiet.count("judged") == 0


ICMP_ERRORS: Final = {4: (0, 3, 5, 9, 11, 12, 14), 6: (1, 2, 3, 4, 129, 133, 134, 135, 136, 137)}


@both_families
def test_icmp_without_a_request_is_not_judged(quiet: Shared, family: int) -> None:
    """Errors, also for packets that were never ours; neighbours and routers in IPv6."""
    frames = [
        icmp_frame(quiet.lab.ether, ATTACKER[family], VICTIM[family], kind, 0, bytes(40))
        for kind in ICMP_ERRORS[family]
    ]
    _through_witness(quiet, frames)
    assert quiet.count("judged") == 0


TUNNELS: Final = (2, 4, 41, 46, 47, 50, 51, 59, 88, 89, 97, 103, 112, 115, 137)


def test_tunnels_and_routing_protocols_are_not_judged(quiet: Shared) -> None:
    lab = quiet.lab
    body = bytes(64)
    frames = [ip_frame(lab.ether, ATTACKER[4], VICTIM[4], p, body) for p in TUNNELS]
    _through_witness(quiet, frames)
    assert quiet.count("judged") == 0


@both_families
@pytest.mark.parametrize("protocol", [DCCP, UDP_LITE], ids=["dccp", "udp-lite"])
def test_a_client_of_a_protocol_with_ports_is_not_blocked(
    quiet: Shared, protocol: int, family: int
) -> None:
    """No socket lookup knows these protocols: one service is one target, however often."""
    _send_of(quiet, protocol, family, *[5004] * 20)
    wait_for(lambda: quiet.count("judged") >= 1, "it is judged")


@both_families
@pytest.mark.parametrize("protocol", [DCCP, UDP_LITE], ids=["dccp", "udp-lite"])
def test_a_scan_of_the_ports_of_a_protocol_is_blocked(
    fresh: Shared, protocol: int, family: int
) -> None:
    _send_of(fresh, protocol, family, 5004, 5005, 5006)
    assert fresh.await_alert()["kinds"] == ["protocol"]
    assert fresh.lab.is_blocked(ATTACKER[family])


def _send_of(lab: Shared, protocol: int, family: int, *ports: int) -> None:
    """Send requests of DCCP, or datagrams of UDP-Lite, from different source ports."""
    for number, port in enumerate(ports):
        ends = struct.pack("!HH", 40000 + number, port)
        body = ends + bytes((3, 0, 0, 0, 1, 0, 0, 0)) + bytes(8)
        if protocol == UDP_LITE:
            body = ends + struct.pack("!HH", 8, 0)
        frame = ip_frame(lab.lab.ether, ATTACKER[family], VICTIM[family], protocol, body)
        lab.lab.wire.send(frame)


def test_sctp_on_a_port_listed_by_hand_is_not_judged(quiet: Shared) -> None:
    lab = quiet.lab
    frames = [
        ip_frame(lab.ether, ATTACKER[4], VICTIM[4], 132, _sctp_init(port))
        for port in (3868, *range(9900, 9906))
    ]
    _through_witness(quiet, frames)
    assert quiet.count("judged") == 0


def _sctp_init(port: int) -> bytes:
    return struct.pack("!HHIIBBHIIHHI", 40000, port, 0, 0, 1, 0, 20, 1, 65535, 1, 1, 1)


WITNESS: Final = """
table inet witness {
    counter seen { }
    chain input {
        type filter hook input priority filter - 20;
        ether saddr != 00:00:00:00:00:00 counter name seen;
    }
}
"""


def _through_witness(quiet: Shared, frames: list[bytes]) -> None:
    """Send packets, and check that all reach the hook where SentryFW judges them."""
    quiet.lab.nft(WITNESS)
    try:
        quiet.lab.wire.send(*frames)
        wait_for(lambda: _witnessed(quiet.lab) >= len(frames), "all of them reach the input hook")
        drain(quiet.sentry)
    finally:
        quiet.lab.nft("delete table inet witness")


def _witnessed(lab: Lab) -> int:
    return int(lab.nft("list counters table inet witness").split("packets ")[1].split()[0])


# --- broadcast and multicast

TO_ALL: Final = {
    4: {
        "dhcp": ("255.255.255.255", 67),
        "dhcp-offer": ("255.255.255.255", 68),
        "netbios-name": ("198.18.0.255", 137),
        "netbios-datagram": ("198.18.0.255", 138),
        "mdns": ("224.0.0.251", 5353),
        "llmnr": ("224.0.0.252", 5355),
        "ssdp": ("239.255.255.250", 1900),
        "ws-discovery": ("239.255.255.250", 3702),
        "steam": ("198.18.0.255", 27036),
        "dropbox": ("255.255.255.255", 17500),
    },
    6: {
        "mdns": ("ff02::fb", 5353),
        "llmnr": ("ff02::1:3", 5355),
        "ssdp": ("ff02::c", 1900),
        "dhcpv6": ("ff02::1:2", 547),
        "ws-discovery": ("ff02::c", 3702),
        "all-nodes": ("ff02::1", 7000),
    },
}


def _group_mac(target: str) -> bytes:
    """RFC 1112, section 6.4; RFC 2464, section 7."""
    if ":" in target:
        return b"\x33\x33" + socket.inet_pton(socket.AF_INET6, target)[12:]
    address = socket.inet_aton(target)
    if not target.startswith(("224.", "239.")):
        return b"\xff" * 6
    return b"\x01\x00\x5e" + bytes([address[1] & 0x7F]) + address[2:]


def _join(lab: Lab, group: str) -> None:
    """Let a host listen to a group; every host listens to broadcasts."""
    index = struct.pack("@I", lab.victim.call(lambda: socket.if_nametoindex("veth0")))
    if ":" in group:
        joined = socket.inet_pton(socket.AF_INET6, group) + index
        lab.bind_udp(0, 6).setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, joined)
    elif group.startswith(("224.", "239.")):
        joined = socket.inet_aton(group) + bytes(4) + index
        lab.bind_udp(0, 4).setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)


@both_families
def test_broadcast_and_multicast_of_everyday_services_are_not_judged(
    quiet: Shared, family: int
) -> None:
    """DHCP, NetBIOS, mDNS, LLMNR, SSDP and others, all from one host."""
    lab = quiet.lab
    groups = TO_ALL[family].values()
    for group, _ in groups:
        _join(lab, group)
    frames = [
        udp_frame(_group_mac(target) + lab.ether[6:], ATTACKER[family], target, port, port)
        for target, port in groups
    ]
    _through_witness(quiet, frames)
    assert quiet.count("judged") == 0


@both_families
@pytest.mark.parametrize(
    ("sport", "data"),
    [
        (123, bytes([0x24]) + bytes(47)),
        (137, ANSWER),
        (1900, b"HTTP/1.1 200 OK\r\n\r\n"),
        (5353, ANSWER),
        (5355, ANSWER),
    ],
    ids=["ntp", "netbios", "ssdp", "mdns", "llmnr"],
)
def test_answers_to_broadcasts_cause_no_block(
    quiet: Shared, family: int, sport: int, data: bytes
) -> None:
    """The answers come from an address that we did not send to, so conntrack does not know them."""
    frames = [
        udp_frame(quiet.lab.ether, ATTACKER[family], VICTIM[family], sport, port, data)
        for port in range(40000, 40020)
    ]
    quiet.lab.wire.send(*frames)
    wait_for(lambda: quiet.count("judged") == 20, "20 answers")


def test_a_dhcp_renewal_causes_no_block(quiet: Shared) -> None:
    """RFC 2131, section 4.4.5: the answers come to port 68, which a raw socket reads."""
    for _ in range(20):
        quiet.lab.wire.send(
            udp_frame(quiet.lab.ether, ATTACKER[4], VICTIM[4], 67, 68, bytes(300)),
            udp_frame(quiet.lab.ether, BYSTANDER[4], VICTIM[4], 67, 68, bytes(300)),
        )
    wait_for(lambda: quiet.count("judged"), "they are judged")
