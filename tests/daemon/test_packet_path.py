"""The packet path: what happens to a packet, in which order, without a kernel."""

import errno
import time
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, Final

import pytest

from sentryfw.config.model import Config
from sentryfw.daemon.packet_path import PacketPath
from sentryfw.decoy.wire import CONNECTED, Visit
from sentryfw.engine.counters import Counters
from sentryfw.engine.engine import Engine
from sentryfw.engine.model import (
    ACCEPT,
    DROP,
    Block,
    Confinement,
    DistributedScan,
    Evidence,
    Meta,
    Outcome,
    Probe,
    Refusal,
    Source,
    parse_source,
    place_text,
)
from sentryfw.errors import KernelError, NotFound
from sentryfw.netfilter.verdicts import Queued
from sentryfw.record.captures import RecentProbes
from sentryfw.respond.incident import Decision
from support import forge

Call = tuple[str, ...]
SCANNER: Final = parse_source("192.0.2.1")
COMPANION: Final = parse_source("192.0.2.2")
PARTNER: Final = parse_source("192.0.2.3")
TARGET: Final = forge.packed("198.18.0.1")
META: Final = Meta(unlisted=True, partner=False)


class FakeEngine:
    """Answers every packet with one outcome."""

    def __init__(self, outcome: Outcome, calls: list[Call]) -> None:
        self.counters = Counters()
        self.zones = Engine(Config().horizons(), Config().policy()).zones
        self._outcome = outcome
        self._calls = calls

    def handle(
        self, payload: bytes, meta: Meta, now: float, hardware: bytes = b"", number: int = 0
    ) -> Outcome:
        self._calls.append(("handle",))
        return self._outcome

    def handle_connect(
        self, source: bytes, target: bytes, port: int, now: float, *, is_request: bool
    ) -> Outcome:
        self._calls.append(("handle_connect", f"request {port}" if is_request else str(port)))
        return self._outcome

    def release(self, source: Source) -> None:
        self._calls.append(("release", name(source)))


class FakeSets:
    """The block sets of a kernel that acknowledges, or refuses with an errno."""

    def __init__(self, calls: list[Call], refusal: int | None = None) -> None:
        self._calls = calls
        self._refusal = refusal
        self.packet: Queued | None = None
        self.cut: list[str] = []

    def block(self, blocks: Iterable[tuple[Source, float]], cut: Iterable[Source] = ()) -> None:
        self._calls.append(("block", *(name(source) for source, _ in blocks)))
        self.cut = [name(source) for source in cut]
        self._answer("block4")

    def confine(self, source: Source, timeout: float) -> None:
        self._calls.append(("confine", name(source)))
        self._answer("confine4")

    def defer(self, place: bytes, timeout: float) -> None:
        self._calls.append(("defer", place_text(place)))
        self._answer("defer24")

    def unblock(self, source: Source) -> None:
        self._calls.append(("unblock", name(source)))
        if source == PARTNER:
            raise NotFound("not blocked")

    def block_prefix(self, place: bytes, timeout: float) -> None:
        self._calls.append(("block", place_text(place)))
        self._answer("block24")

    def _answer(self, what: str) -> None:
        if self.packet is not None:
            assert self.packet.verdict == UNDECIDED, "the verdict is set before the block"
        if self._refusal is not None:
            raise KernelError(self._refusal, what)


class FakeResponder:
    def __init__(self, calls: list[Call], *, wants_before: bool) -> None:
        self._calls = calls
        self.wants_before = wants_before

    def hand_over(
        self, decision: Decision, at: float, epoch: float, *, is_before: bool = False
    ) -> None:
        self._calls.append(("before" if is_before else "react", name(decision.source)))

    def ended(self, address: str | None) -> None:
        self._calls.append(("ended", address or ""))


class FakeRecorder:
    def __init__(self, calls: list[Call]) -> None:
        self._calls = calls
        self.captured: list[list[Any]] = []

    def probe(self, probe: Probe, at: float, zone: str = "") -> None:
        self._calls.append(("probe", name(probe.source)))

    def append(self, record: Any) -> None:
        self._calls.append(("record", record.address))

    def capture(self, record: Any, packets: list[Any]) -> None:
        self._calls.append(("capture", record.address))
        self.captured.append(packets)

    def note(self, kind: str, **fields: object) -> None:
        self._calls.append(("note", kind))


UNDECIDED: Final = 7
"""The verdict of a packet that waits."""


class Path:
    """A packet path with fakes around it, and the calls that they saw."""

    def __init__(
        self, outcome: Outcome, *, refusal: int | None = None, wants_before: bool = False
    ) -> None:
        self.calls: list[Call] = []
        self.engine = FakeEngine(outcome, self.calls)
        self.sets = FakeSets(self.calls, refusal)
        self.recorder = FakeRecorder(self.calls)
        self.recent = RecentProbes(4)
        self.blocked: list[tuple[str, float, float]] = []
        parts: Any = {
            "engine": self.engine,
            "table": SimpleNamespace(sets=self.sets, decisions=self.sets),
            "recorder": self.recorder,
            "responder": FakeResponder(self.calls, wants_before=wants_before),
            "recent": self.recent,
        }
        self.path = PacketPath(blocked=self._blocked, **parts)

    def _blocked(self, source: Source, timeout: float, at: float) -> None:
        self.calls.append(("blocked", name(source)))
        self.blocked.append((name(source), timeout, at))

    def judge(self) -> Queued:
        queued = Queued(1, 0, packet(7001), META)
        queued.verdict = UNDECIDED
        self.sets.packet = queued
        self.path.judge(queued)
        return queued

    def visit(self) -> None:
        self.path.judge_visit(Visit(CONNECTED, SCANNER, 40_000, TARGET, 23))


def packet(port: int) -> bytes:
    return forge.ip("192.0.2.1", "198.18.0.1", 6, forge.tcp(port))


def name(source: Source) -> str:
    return ".".join(map(str, source))


def evidence(source: Source) -> Evidence:
    probe = Probe(source, (TARGET, 6, 7001), "syn")
    return Evidence(
        source=source, targets=3, probes=3, kinds=("syn",), first_seen=1.0, last_seen=2.0,
        score=1.0, slow_score=0.0, scan="portscan", sample=(), last=probe, address=bytes(source),
    )  # fmt: skip


def block(source: Source, timeout: float = 60.0) -> Block:
    return Block(
        source=source, timeout=timeout, offence=1, forgeable=True, reason="3 targets",
        evidence=evidence(source), at=time.monotonic(),
    )  # fmt: skip


def confinement(source: Source) -> Confinement:
    return Confinement(
        source, 3600.0, 1, "3 distinct targets", block(source).evidence, time.monotonic()
    )


def refusal(source: Source) -> Refusal:
    return Refusal(source, "partner", evidence(source), time.monotonic())


def test_a_packet_without_evidence_is_passed_and_not_reported() -> None:
    path = Path(Outcome(ACCEPT))
    assert path.judge().verdict == ACCEPT
    assert path.calls == [("handle",)]


def test_a_probe_below_the_trigger_is_recorded_and_its_packet_kept() -> None:
    probe = Probe(SCANNER, (TARGET, 6, 7001), "syn")
    path = Path(Outcome(DROP, "count", probe=probe))
    assert path.judge().verdict == DROP
    assert path.calls == [("handle",), ("probe", "192.0.2.1")]
    assert len(path.recent) == 1


def test_a_block_is_acknowledged_before_the_verdict_and_reported_after_it() -> None:
    path = Path(Outcome(DROP, "block", blocks=(block(SCANNER),)))
    before = time.monotonic()
    assert path.judge().verdict == DROP
    assert path.calls == [
        ("handle",), ("block", "192.0.2.1"), ("react", "192.0.2.1"), ("blocked", "192.0.2.1"),
        ("record", "192.0.2.1"), ("capture", "192.0.2.1"),
    ]  # fmt: skip
    [(source, timeout, at)] = path.blocked
    assert (source, timeout) == ("192.0.2.1", 60.0)
    assert before <= at <= time.monotonic()


def test_a_reaction_that_wants_the_decision_first_has_it_before_the_kernel() -> None:
    path = Path(Outcome(DROP, "block", blocks=(block(SCANNER),)), wants_before=True)
    path.judge()
    assert path.calls[:4] == [
        ("handle",), ("before", "192.0.2.1"), ("block", "192.0.2.1"), ("react", "192.0.2.1"),
    ]  # fmt: skip


@pytest.mark.parametrize("other", [COMPANION, PARTNER], ids=["blocked", "just unblocked"])
def test_a_block_that_gives_way_ends_first(other: Source) -> None:
    path = Path(Outcome(DROP, "block", blocks=(block(SCANNER)._replace(displaces=other),)))
    path.judge()
    assert path.calls[:5] == [
        ("handle",), ("unblock", name(other)), ("release", name(other)), ("ended", name(other)),
        ("block", "192.0.2.1"),
    ]  # fmt: skip
    assert path.path.take_displaced() == [other]
    assert path.path.take_displaced() == []
    assert path.engine.counters.displaced == 1


def test_several_blocks_are_one_transaction_and_each_goes_one_way_once() -> None:
    path = Path(Outcome(DROP, "block", blocks=(block(SCANNER), block(COMPANION, 30.0))))
    path.judge()
    assert path.calls[:2] == [("handle",), ("block", "192.0.2.1", "192.0.2.2")]
    assert path.calls[2:] == [
        (call, address)
        for address in ("192.0.2.1", "192.0.2.2")
        for call in ("react", "blocked", "record", "capture")
    ]
    assert [timeout for _, timeout, _ in path.blocked] == [60.0, 30.0]
    # The packet that decided belongs to the first block only.
    assert [len(packets) for packets in path.recorder.captured] == [1, 0]


@pytest.mark.parametrize(
    ("code", "full", "notes"),
    [
        pytest.param(errno.ENFILE, 2, [], id="the set is full"),
        pytest.param(errno.ENOENT, 0, [("note", "block-failed")], id="the table is gone"),
    ],
)
def test_blocks_that_the_kernel_refuses_are_released_and_not_reported(
    code: int, full: int, notes: list[Call]
) -> None:
    path = Path(Outcome(DROP, "block", blocks=(block(SCANNER), block(COMPANION))), refusal=code)
    assert path.judge().verdict == DROP
    assert path.calls == [
        ("handle",), ("block", "192.0.2.1", "192.0.2.2"),
        ("release", "192.0.2.1"), ("release", "192.0.2.2"), *notes,
    ]  # fmt: skip
    assert path.engine.counters.blocks_failed == 2
    assert path.engine.counters.block_set_full == full
    assert path.blocked == []


def test_a_refusal_reaches_reactions_and_record_but_not_the_kernel() -> None:
    path = Path(Outcome(DROP, "refuse", refusals=(refusal(PARTNER),)))
    path.judge()
    assert path.calls == [("handle",), ("react", "192.0.2.3"), ("record", "192.0.2.3")]


def test_a_confinement_is_acknowledged_before_the_verdict_and_reported() -> None:
    path = Path(Outcome(DROP, "confine", confinement=confinement(PARTNER)))
    assert path.judge().verdict == DROP
    assert path.calls == [
        ("handle",), ("confine", "192.0.2.3"), ("react", "192.0.2.3"), ("record", "192.0.2.3"),
        ("capture", "192.0.2.3"),
    ]  # fmt: skip


def test_a_confinement_that_the_kernel_refuses_is_released() -> None:
    path = Path(Outcome(DROP, "confine", confinement=confinement(PARTNER)), refusal=errno.ENFILE)
    path.judge()
    assert path.calls == [("handle",), ("confine", "192.0.2.3"), ("release", "192.0.2.3")]


def distributed(*, timeout: float = 60.0, is_new: bool = True) -> DistributedScan:
    target = (TARGET, 6, 7001)
    return DistributedScan(
        bytes((192, 0, 2)), timeout, (SCANNER,), (target,), 1.0, 2.0, is_new=is_new
    )


@pytest.mark.parametrize(
    ("found", "refusal", "calls"),
    [
        (distributed(), None, [("defer", "192.0.2.0/24"), ("note", "distributed-scan")]),
        (distributed(is_new=False), None, [("defer", "192.0.2.0/24")]),
        (
            distributed(is_new=False)._replace(is_blocked=True), None,
            [("defer", "192.0.2.0/24"), ("block", "192.0.2.0/24")],
        ),
        (distributed(timeout=0.0), None, [("note", "distributed-scan")]),
        (
            distributed(), errno.ENFILE,
            [("defer", "192.0.2.0/24"), ("note", "defer-failed"), ("note", "distributed-scan")],
        ),
    ],
    ids=["new", "prolonged", "blocked, too", "only observed", "the set is full"],
)  # fmt: skip
def test_strangers_of_a_distributed_scan_are_deferred_before_the_verdict(
    found: DistributedScan, refusal: int | None, calls: list[Call]
) -> None:
    path = Path(Outcome(DROP, "count", distributed=found), refusal=refusal)
    assert path.judge().verdict == DROP
    assert path.calls == [("handle",), *calls]


def test_only_observed_a_deferral_is_an_event() -> None:
    probe = Probe(SCANNER, (TARGET, 6, 22), "syn", listed=True)
    path = Path(Outcome(ACCEPT, "defer", probe=probe))
    assert path.judge().verdict == ACCEPT
    assert path.calls == [("handle",), ("note", "would-defer")]


def test_only_proven_blocks_cut_live_flows() -> None:
    proven = block(SCANNER)._replace(forgeable=False)
    path = Path(Outcome(DROP, "block", blocks=(proven, block(COMPANION))))
    path.judge()
    assert path.sets.cut == ["192.0.2.1"]


def test_refusals_beside_blocks_that_the_kernel_refused_are_reported() -> None:
    outcome = Outcome(DROP, "block", blocks=(block(SCANNER),), refusals=(refusal(PARTNER),))
    path = Path(outcome, refusal=errno.ENFILE)
    path.judge()
    assert path.calls[-2:] == [("react", "192.0.2.3"), ("record", "192.0.2.3")]


def test_a_visit_to_a_decoy_is_enforced_and_reported_like_a_packet() -> None:
    path = Path(Outcome(DROP, "block", blocks=(block(SCANNER),)))
    path.visit()
    assert path.calls == [
        ("handle_connect", "23"), ("block", "192.0.2.1"), ("react", "192.0.2.1"),
        ("blocked", "192.0.2.1"), ("record", "192.0.2.1"), ("capture", "192.0.2.1"),
    ]  # fmt: skip


def test_in_observe_mode_a_scan_is_accepted_reported_and_not_blocked() -> None:
    config = Config.model_validate({"detect": {"mode": "observe"}})
    path = Path(Outcome(ACCEPT))
    path.path.engine = Engine(config.horizons(), config.policy())
    verdicts = []
    for port in (7001, 7002, 7003):
        queued = Queued(port, 0, packet(port), META)
        path.path.judge(queued)
        verdicts.append(queued.verdict)
    assert verdicts == [ACCEPT] * 3
    assert ("react", "192.0.2.1") in path.calls
    assert ("record", "192.0.2.1") in path.calls
    assert not [call for call in path.calls if call[0] in {"block", "blocked"}]
