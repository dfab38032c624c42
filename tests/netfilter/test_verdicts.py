"""Every packet gets exactly one verdict, even if its judge fails and for any bytes."""

import errno
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.engine.model import ACCEPT, DROP, REJECT, Verdict
from sentryfw.netfilter.schema import PARTNER_BIT, UNLISTED_BIT
from sentryfw.netfilter.verdicts import (
    READ_BATCH,
    Judge,
    Queued,
    Reader,
)
from sentryfw.netlink.nfqueue import (
    NFQA_HWADDR,
    NFQA_IFINDEX_INDEV,
    NFQA_MARK,
    NFQA_PACKET_HDR,
    NFQA_PAYLOAD,
)

QUEUE: Final = 77
PAYLOAD: Final = b"E" * 41
ETHERNET: Final = bytes.fromhex("02005e100001")
HWADDR: Final = struct.pack("!HH", 6, 0) + ETHERNET + bytes(2)
"""struct nfqnl_msg_packet_hw: length, padding, 8 bytes of address."""
ERROR: Final = struct.pack("=IHHIIi", 20, 2, 0, 0, 0, -errno.ENOENT)
"""NLMSG_ERROR: a verdict arrived after its packet was gone."""


class Given(NamedTuple):
    """A verdict as the kernel reads it: for all packets up to `to`."""

    to: int
    verdict: Verdict
    mark: int | None


class FakeQueue:
    """The other end of the socket: messages, or errors to raise."""

    def __init__(self, *items: bytes | OSError) -> None:
        self.items = list(items)
        self.sent: list[bytes] = []
        self.refusals: list[OSError] = []

    def recv(self, size: int) -> bytes:
        assert size >= 1024
        if not self.items:
            raise BlockingIOError(errno.EAGAIN, "nothing")
        item = self.items.pop(0)
        if isinstance(item, OSError):
            raise item
        return item

    def send(self, data: bytes) -> int:
        if self.refusals:
            raise self.refusals.pop(0)
        self.sent.append(data)
        return len(data)

    @property
    def given(self) -> list[Given]:
        return [given for data in self.sent for given in _verdicts(data)]


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def _message(
    number: int, mark: int = UNLISTED_BIT, payload: bytes = PAYLOAD, sender: bytes | None = HWADDR,
    interface: int | None = None,
) -> bytes:  # fmt: skip
    """A message as nfqnl_build_packet_message() builds it (net/netfilter/nfnetlink_queue.c)."""
    body = struct.pack("!BBH", 2, 0, QUEUE)
    body += _attribute(NFQA_PACKET_HDR, struct.pack("!IHB", number, 0x0800, 1))
    if interface is not None:
        body += _attribute(NFQA_IFINDEX_INDEV, struct.pack("!I", interface))
    if mark:
        body += _attribute(NFQA_MARK, struct.pack("!I", mark))
    if sender is not None:
        body += _attribute(NFQA_HWADDR, sender)
    if payload:
        body += _attribute(NFQA_PAYLOAD, payload)
    return struct.pack("=IHHII", 16 + len(body), 3 << 8, 0, 0, 0) + body


def _verdicts(data: bytes) -> Iterator[Given]:
    at = 0
    while at < len(data):
        length, kind, flags, _, _ = struct.unpack_from("=IHHII", data, at)
        assert (kind, flags) == (3 << 8 | 3, 1), "NFQNL_MSG_VERDICT_BATCH, no acknowledgement"
        assert struct.unpack_from("!BBH", data, at + 16) == (0, 0, QUEUE)
        assert struct.unpack_from("=HH", data, at + 20) == (12, 2)
        verdict, number = struct.unpack_from("!II", data, at + 24)
        mark = None
        if length > 32:
            assert (length, *struct.unpack_from("=HH", data, at + 32)) == (40, 8, 3)
            (mark,) = struct.unpack_from("!I", data, at + 36)
        yield Given(number, verdict, mark)
        at += length


def _reader(kernel: FakeQueue, judge: Judge) -> Reader:
    return Reader(kernel.recv, kernel.send, judge, QUEUE)


def _by(verdicts: dict[int, Verdict]) -> Judge:
    def judge(packet: Queued) -> None:
        packet.verdict = verdicts.get(packet.number, DROP)

    return judge


def _dropping(packet: Queued) -> None:
    packet.verdict = DROP


def test_packets_are_read_from_the_kernel_s_messages() -> None:
    seen: list[Queued] = []
    _reader(FakeQueue(_message(1), _message(2, 0x5 | PARTNER_BIT, b"")), seen.append).receive()
    assert [(p.number, p.mark, p.payload) for p in seen] == [
        (1, UNLISTED_BIT, PAYLOAD), (2, 0x5 | PARTNER_BIT, b""),
    ]  # fmt: skip
    assert [(p.meta.unlisted, p.meta.partner) for p in seen] == [(True, False), (False, True)]


@pytest.mark.parametrize(
    ("sender", "hardware"),
    [
        pytest.param(HWADDR, ETHERNET, id="ethernet"),
        pytest.param(HWADDR[:10], ETHERNET, id="no-padding"),
        pytest.param(None, b"", id="a-link-without-addresses"),
        pytest.param(struct.pack("!HH", 0, 0) + bytes(8), b"", id="empty"),
        pytest.param(struct.pack("!HH", 8, 0) + bytes(range(8)), b"", id="eight-bytes"),
        pytest.param(struct.pack("!HH", 0x0106, 0) + bytes(8), b"", id="false-length"),
        pytest.param(HWADDR[:9], b"", id="short"),
        pytest.param(b"", b"", id="nothing"),
    ],
)
def test_the_sender_s_hardware_address_is_read_within_its_bounds(
    sender: bytes | None, hardware: bytes
) -> None:
    seen: list[Queued] = []
    _reader(FakeQueue(_message(1, sender=sender)), seen.append).receive()
    assert [(p.number, p.payload, p.hardware) for p in seen] == [(1, PAYLOAD, hardware)]


def test_successive_drops_are_one_verdict() -> None:
    kernel = FakeQueue(*map(_message, (1, 2, 3)))
    _reader(kernel, _dropping).receive()
    assert kernel.given == [Given(3, DROP, None)]


def test_an_accepted_packet_is_released_before_the_next_is_judged() -> None:
    known: list[list[Given]] = []
    kernel = FakeQueue(*map(_message, (1, 2, 3, 4)))

    def judge(packet: Queued) -> None:
        known.append(kernel.given)
        packet.verdict = ACCEPT if packet.number == 2 else DROP

    _reader(kernel, judge).receive()
    sent = [Given(1, DROP, None), Given(2, ACCEPT, 0)]
    assert known == [[], [], sent, sent]
    assert kernel.given == [*sent, Given(4, DROP, None)]


def test_an_accepted_packet_keeps_the_mark_bits_of_others() -> None:
    kernel = FakeQueue(_message(1, UNLISTED_BIT | 0x5), _message(2, UNLISTED_BIT | 0x6))
    _reader(kernel, _by({1: ACCEPT, 2: ACCEPT})).receive()
    assert kernel.given == [Given(1, ACCEPT, 0x5), Given(2, ACCEPT, 0x6)]


def test_a_refused_packet_is_accepted_with_the_unlisted_bit_alone() -> None:
    kernel = FakeQueue(_message(1, UNLISTED_BIT | PARTNER_BIT | 0x5), _message(2, 0x6))
    _reader(kernel, _by({1: REJECT, 2: REJECT})).receive()
    assert kernel.given == [
        Given(1, ACCEPT, UNLISTED_BIT | 0x5), Given(2, ACCEPT, UNLISTED_BIT | 0x6),
    ]  # fmt: skip


def test_bits_of_others_in_the_mark_stay() -> None:
    kernel = FakeQueue(_message(1, 0x08000005 | UNLISTED_BIT))
    seen: list[Queued] = []
    _reader(kernel, seen.append).receive()
    assert seen[0].meta.unlisted
    assert kernel.given == [Given(1, ACCEPT, 0x08000005)]


@pytest.mark.parametrize("interface", [None, 1, 7, 0x01020304], ids=str)
def test_the_judge_gets_the_interface_of_a_packet(interface: int | None) -> None:
    seen: list[Queued] = []
    _reader(FakeQueue(_message(1, interface=interface)), seen.append).receive()
    assert seen[0].interface == (interface or 0)


def _fail(_: Queued) -> None:
    raise ValueError("judging failed")


def _drop_and_fail(packet: Queued) -> None:
    packet.verdict = DROP
    _fail(packet)


@pytest.mark.parametrize(
    ("judge", "verdict", "failures"),
    [(_fail, ACCEPT, 1), (_drop_and_fail, DROP, 1), (lambda _: None, ACCEPT, 0)],
    ids=["before-the-verdict", "after-the-verdict", "no-verdict"],
)
def test_packets_get_a_verdict_if_the_judge_fails(
    judge: Judge, verdict: Verdict, failures: int
) -> None:
    kernel = FakeQueue(_message(1), _message(2))
    reader = _reader(kernel, judge)
    reader.receive()
    assert {given.verdict for given in kernel.given} == {verdict}
    assert kernel.given[-1].to == 2
    assert reader.failures == 2 * failures
    assert isinstance(reader.last_failure, ValueError) == bool(failures)


def test_refused_verdicts_are_sent_with_the_next_ones() -> None:
    kernel = FakeQueue(_message(1))
    kernel.refusals = [OSError(errno.ENOBUFS, "no memory")] * 2
    reader = _reader(kernel, _by({1: ACCEPT}))
    reader.receive()
    assert (kernel.sent, reader.failures) == ([], 2)
    kernel.items = [_message(2)]
    reader.receive()
    assert kernel.given == [Given(1, ACCEPT, 0), Given(2, DROP, None)]
    reader.receive()
    assert len(kernel.sent) == 1


def test_a_broken_socket_raises_after_the_verdicts() -> None:
    kernel = FakeQueue(_message(1), OSError(errno.EBADF, "closed"))
    reader = _reader(kernel, _dropping)
    with pytest.raises(OSError, match="closed"):
        reader.receive()
    assert kernel.given == [Given(1, DROP, None)]


def test_lost_packets_are_counted() -> None:
    lost = OSError(errno.ENOBUFS, "no room")
    kernel = FakeQueue(_message(1), lost, _message(5), ERROR, _message(6))
    reader = _reader(kernel, _dropping)
    reader.receive()
    assert (reader.received, reader.skipped, reader.overruns) == (3, 3, 1)


def test_packet_numbers_wrap_around() -> None:
    kernel = FakeQueue(*map(_message, (0xFFFFFFFE, 0xFFFFFFFF, 0, 1)))
    reader = _reader(kernel, _dropping)
    reader.receive(1)
    before = reader.skipped
    reader.receive()
    assert reader.skipped == before
    assert kernel.given[-1].to == 1


def test_one_receive_is_bounded_by_its_budget() -> None:
    kernel = FakeQueue(*map(_message, range(1, READ_BATCH + 3)))
    reader = _reader(kernel, _dropping)
    reader.receive()
    assert (reader.received, reader.is_drained) == (READ_BATCH, False)
    reader.receive()
    assert (reader.received, reader.is_drained) == (READ_BATCH + 2, True)


def test_messages_without_a_packet_are_skipped() -> None:
    kernel = FakeQueue(ERROR, b"", bytes(19))
    reader = _reader(kernel, _fail)
    reader.receive()
    assert (kernel.sent, reader.received, reader.failures) == ([], 0, 0)


@given(st.lists(st.one_of(st.binary(max_size=120), st.binary(max_size=80).map(
    lambda rest: _message(1)[:20] + rest
))))  # fmt: skip
def test_any_bytes_are_read_without_a_failure(messages: list[bytes]) -> None:
    kernel = FakeQueue(*messages)
    reader = _reader(kernel, _dropping)
    reader.receive()
    assert reader.failures == 0
    assert bool(kernel.sent) == bool(reader.received)


@given(
    st.lists(
        st.tuples(st.sampled_from([ACCEPT, DROP]), st.integers(0, 3)), max_size=3 * READ_BATCH
    ),
    st.integers(1, READ_BATCH),
)
def test_each_packet_gets_its_own_verdict(packets: list[tuple[Verdict, int]], budget: int) -> None:
    kernel = FakeQueue(
        *(_message(n, UNLISTED_BIT | mark) for n, (_, mark) in enumerate(packets, 1))
    )
    verdicts = dict(enumerate((verdict for verdict, _ in packets), 1))
    reader = _reader(kernel, _by(verdicts))
    while kernel.items:
        reader.receive(budget)
    found: dict[int, tuple[Verdict, int]] = {}
    for sent in kernel.given:  # as in the kernel: for all waiting packets, up to this one
        for number in range(len(found) + 1, sent.to + 1):
            found[number] = sent.verdict, sent.mark or 0
    assert found == {
        number: (verdict, mark if verdict == ACCEPT else 0)
        for number, (verdict, mark) in enumerate(packets, 1)
    }
