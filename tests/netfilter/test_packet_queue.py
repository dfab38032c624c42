"""A bound NFQUEUE number: packets of a real queue get their verdicts."""

import socket

import pytest

from sentryfw.engine.model import DROP
from sentryfw.errors import SentryError, Unsupported
from sentryfw.netfilter import packet_queue
from sentryfw.netfilter.packet_queue import PacketQueue
from sentryfw.netfilter.schema import COPY_RANGE_BYTES, UNLISTED_BIT
from sentryfw.netfilter.verdicts import Queued
from sentryfw.netlink import nftables as nl
from sentryfw.netlink.message import NLM_F_APPEND, NLM_F_CREATE
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.tools.drill.namespace import Namespace
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

NUMBER = 77
CHAIN = f"""
table inet tried {{
    chain input {{
        type filter hook input priority 0;
        meta mark set {UNLISTED_BIT | 0x5:#x}
    }}
}}
"""


def _bound(namespace: Namespace, packets: list[Queued], *, drop: bool = False) -> PacketQueue:
    def judge(packet: Queued) -> None:
        packets.append(packet)
        if drop:
            packet.verdict = DROP

    return namespace.call(lambda: PacketQueue(NUMBER, 64, judge))


@pytest.fixture
def sockets(namespace: Namespace, netlink: NfnetlinkSocket) -> tuple[socket.socket, socket.socket]:
    """A sender and a receiver on lo, whose packets go through the queue."""
    namespace.ip("link", "set", "lo", "up")
    assert namespace.run("nft", CHAIN).returncode == 0
    rule = nl.queue_target_rule("tried", "input", NUMBER, "queue")
    netlink.transact([(nl.NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, rule)], "queue")
    made = [
        namespace.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2)
    ]
    made[1].bind(("127.0.0.1", 0))
    made[1].settimeout(5)
    return made[0], made[1]


def _read(queue: PacketQueue, packets: list[Queued], count: int) -> None:
    wait_for(lambda: queue.reader.receive() or len(packets) >= count, "packets")  # type: ignore[func-returns-value]


def test_an_accepted_packet_arrives(
    namespace: Namespace, sockets: tuple[socket.socket, socket.socket]
) -> None:
    sender, receiver = sockets
    packets: list[Queued] = []
    queue = _bound(namespace, packets)
    sender.sendto(b"E" * 1000, receiver.getsockname())
    _read(queue, packets, 1)
    assert receiver.recv(2000) == b"E" * 1000
    [packet] = packets
    assert (packet.mark, packet.meta.unlisted) == (UNLISTED_BIT | 0x5, True)
    assert len(packet.payload) == COPY_RANGE_BYTES
    assert packet.payload[0] == 0x45
    queue.close()
    sender.close()
    receiver.close()


def test_a_dropped_packet_does_not_arrive(
    namespace: Namespace, sockets: tuple[socket.socket, socket.socket]
) -> None:
    sender, receiver = sockets
    packets: list[Queued] = []
    queue = _bound(namespace, packets, drop=True)
    sender.sendto(b"dropped", receiver.getsockname())
    _read(queue, packets, 1)
    queue.close()
    sender.sendto(b"no queue is bound: bypass", receiver.getsockname())
    assert receiver.recv(100) == b"no queue is bound: bypass"
    sender.close()
    receiver.close()


def test_a_number_is_bound_once_until_it_is_closed(namespace: Namespace) -> None:
    first = _bound(namespace, [])
    with pytest.raises(SentryError, match="queue 77 is bound by another program"):
        _bound(namespace, [])
    first.close()
    _bound(namespace, []).close()


def test_without_the_library_the_queue_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    packet_queue.require_library()
    monkeypatch.setattr(packet_queue, "_missing", "libnetfilter_queue.so.1: not found")
    with pytest.raises(Unsupported, match="apt install libnetfilter-queue1"):
        packet_queue.require_library()
