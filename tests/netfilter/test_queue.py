"""Every packet gets exactly one verdict, whatever judging it does."""

from typing import Any

import pytest

from sentryfw.engine.model import ACCEPT, DROP
from sentryfw.netfilter.queue import (
    MARK_MASK,
    MARK_MASK_INSIDE,
    UNLISTED_BIT,
    PacketQueue,
    QueuedPacket,
)


class FakePacket:
    """As netfilterqueue's: a second verdict is a RuntimeError."""

    def __init__(self) -> None:
        self.id = 1
        self.mark = UNLISTED_BIT | 0x5
        self.verdicts: list[str] = []
        self.refused = 0

    def get_payload(self) -> bytes:
        return b"E" * 40

    def get_payload_len(self) -> int:
        return 40

    def get_mark(self) -> int:
        return self.mark

    def set_mark(self, mark: int) -> None:
        self.mark = mark

    def accept(self) -> None:
        self._settle("accept")

    def drop(self) -> None:
        self._settle("drop")

    def _settle(self, verdict: str) -> None:
        if self.verdicts:
            self.refused += 1
            raise RuntimeError("Verdict already given for this packet")
        self.verdicts.append(verdict)


def _queue(monkeypatch: pytest.MonkeyPatch, judge: Any) -> PacketQueue:
    """A queue that is bound to nothing."""
    bound = type("Bound", (), {"bind": lambda *_, **__: None, "get_fd": lambda _: 0})
    monkeypatch.setattr("sentryfw.netfilter.queue.NetfilterQueue", bound)
    monkeypatch.setattr("sentryfw.netfilter.queue.BudgetedSocket", lambda _: None)
    return PacketQueue(0, 64, judge)


@pytest.mark.parametrize(("verdict", "given"), [(ACCEPT, "accept"), (DROP, "drop")])
def test_a_judged_packet_is_not_settled_again(
    monkeypatch: pytest.MonkeyPatch, verdict: Any, given: str
) -> None:
    packet = FakePacket()
    queue = _queue(monkeypatch, lambda queued: queued.verdict(verdict))
    queue._on_packet(packet)
    assert packet.verdicts == [given]
    assert packet.refused == 0
    assert queue.failures == 0


def test_a_packet_whose_judging_fails_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    packet = FakePacket()
    queue = _queue(monkeypatch, _fail)
    queue._on_packet(packet)
    assert packet.verdicts == ["accept"]
    assert queue.failures == 1


def test_a_failure_after_the_verdict_does_not_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    packet = FakePacket()

    def judge(queued: QueuedPacket) -> None:
        queued.verdict(DROP)
        _fail(queued)

    queue = _queue(monkeypatch, judge)
    queue._on_packet(packet)
    assert packet.verdicts == ["drop"]
    assert queue.failures == 1


def test_a_judge_without_a_verdict_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    packet = FakePacket()
    _queue(monkeypatch, lambda _: None)._on_packet(packet)
    assert packet.verdicts == ["accept"]


def test_an_accepted_packet_loses_our_marks_only(monkeypatch: pytest.MonkeyPatch) -> None:
    packet = FakePacket()
    _queue(monkeypatch, lambda queued: queued.verdict(ACCEPT))._on_packet(packet)
    assert packet.mark & MARK_MASK == 0
    assert packet.mark == 0x5


@pytest.mark.parametrize(
    ("mask", "inside", "left"),
    [(MARK_MASK, False, 0x08000005), (MARK_MASK_INSIDE, True, 0x5)],
    ids=["no-inside", "inside"],
)
def test_the_fifth_bit_is_ours_only_where_there_is_an_inside(
    mask: int, left: int, *, inside: bool
) -> None:
    packet = FakePacket()
    packet.mark = 0x08000005 | UNLISTED_BIT
    queued = QueuedPacket(packet, mask)
    assert queued.meta.inside is inside
    assert queued.meta.unlisted
    queued.verdict(ACCEPT)
    assert packet.mark == left


def _fail(_: QueuedPacket) -> None:
    raise ValueError("judging failed")
