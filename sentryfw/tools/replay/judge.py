"""The second pass over a capture: table model, engine, and what they find.

The clock is the capture's. It stands still while packets are slightly out of order, and continues
where it was set back.
"""

from collections import Counter
from dataclasses import dataclass, field
from math import inf
from typing import Final

from sentryfw.engine.classify import ACK, RST, SYN
from sentryfw.engine.engine import Engine
from sentryfw.engine.fingerprint import attribute
from sentryfw.engine.model import (
    ACCEPT,
    Block,
    Confinement,
    Meta,
    Outcome,
    Packet,
    Probe,
    Refusal,
    Source,
    source_of,
)
from sentryfw.engine.packet import TCP, decode
from sentryfw.netfilter.schema import COPY_RANGE_BYTES
from sentryfw.tools.replay.capture import CaptureError
from sentryfw.tools.replay.passes import Pass
from sentryfw.tools.replay.table_model import TableModel
from sentryfw.tools.replay.view import Bounded, CaptureView

MAX_FINDINGS: Final = 65536
MAX_REORDER_S: Final = 1.0
"""Seconds that packets may be out of order; more is a clock that was set back."""
MAX_DEFERRED: Final = 65536
MAX_TICKS: Final = 64
"""Seconds of a gap that are ticked: enough to forget every source."""

ACTIONS: Final[dict[type, str]] = {
    Block: "blocked", Confinement: "confined", Refusal: "refused"
}  # fmt: skip

Line = tuple[bytes, int, bytes, int]
"""Source and its port, target and its port."""


@dataclass
class SourceFinding:
    """The finding about one source at its first decision, and the packets that followed."""

    source: Source
    action: str
    """blocked, confined or refused: the first decision, or the block that followed it."""
    scan: str
    kinds: tuple[str, ...]
    targets: int
    probes: int
    """Probes until the decision."""
    first_seen: float
    decided_at: float
    tool: str
    reason: str
    blocks: int = 0
    """Times it was blocked; it is judged again when the timeout is over."""
    packets_after: int = 0
    """Packets that the block dropped."""
    answers_after: int = 0
    """Answers in the capture that the block would have prevented."""


@dataclass
class ReplayResult:
    """The findings of a replay; those before a fault of the capture are included."""

    view: CaptureView
    packets: int = 0
    fates: Counter[str] = field(default_factory=Counter)
    """Packets by fate (table_model.Fate)."""
    findings: dict[Source, SourceFinding] = field(default_factory=dict)
    more: int = 0
    """Decisions about sources beyond MAX_FINDINGS."""
    error: CaptureError | None = None


class Clock:
    """A clock that follows capture times and never runs backwards."""

    def __init__(self) -> None:
        self.now = 0.0
        self._shift = 0.0

    def read(self, seconds: float) -> float:
        seconds += self._shift
        if seconds < self.now:
            if self.now - seconds > MAX_REORDER_S:
                self._shift += self.now - seconds
            return self.now
        self.now = seconds
        return seconds


class Judge(Pass):
    """The second pass: table model, engine, and their findings."""

    def __init__(self, view: CaptureView, engine: Engine, table: TableModel) -> None:
        super().__init__()
        self.engine = engine
        self.table = table
        self.result = ReplayResult(view)
        self._findings = self.result.findings
        self._tools: Bounded[Source, str] = Bounded(MAX_FINDINGS)
        """Tools of probes before a decision, by their header fields."""
        self._deferred: Bounded[Line, bool] = Bounded(MAX_DEFERRED)
        """Connections whose SYNs would have been deferred."""
        self._clock = Clock()
        self._ticked = -inf

    def take(self, packet: Packet, _seconds: float, data: bytes, at: int, end: int) -> None:
        """Take one packet, in the order of the capture. `at` and `end`: its place in `data`."""
        now = self._clock.read(_seconds)
        if now - self._ticked >= 1:
            self._tick(now)
        fate = self.table.receive(packet, now)
        if isinstance(fate, Meta):
            self.count("judged")
            payload = packet.payload or data[at : min(end, at + COPY_RANGE_BYTES)]
            self._judge(packet, payload, fate, now)
            return
        self.count(fate)
        if fate == "passed":
            if self._deferred:
                self._take_back(packet, now)
        elif fate == "dropped":
            finding = self._findings.get(source_of(packet.source, self.engine.whole6))
            if finding is not None:
                finding.packets_after += 1
        elif fate == "answer":
            finding = self._findings.get(source_of(packet.target, self.engine.whole6))
            if finding is not None:
                finding.answers_after += 1

    def _judge(self, packet: Packet, payload: bytes, meta: Meta, now: float) -> None:
        outcome = self.engine.handle(payload, meta, now)
        if outcome.verdict == ACCEPT:
            self.table.confirm(packet, now)
        elif meta.deferred and not outcome.blocks:
            self.table.confirm(packet, now)  # a recorded client would have sent its SYN again
            self._deferred.keep(_line(packet), True)
        if outcome.blocks or outcome.refusals or outcome.confinement is not None:
            self._decided(outcome)
        elif outcome.probe is not None:
            self._attribute(outcome.probe, payload)

    def _take_back(self, packet: Packet, now: float) -> None:
        """Take back the evidence of a deferred SYN whose handshake the source finished, as a
        network stack does, which would have sent it again."""
        if packet.protocol != TCP or packet.flags & (SYN | RST | ACK) != ACK:
            return
        if not self._deferred.pop(_line(packet), False):
            return
        source = source_of(packet.source, self.engine.whole6)
        target = packet.target, TCP, packet.dport
        self.engine.tracker.take_back(Probe(source, target, "syn", listed=True), now)

    def _attribute(self, probe: Probe, payload: bytes) -> None:
        """Keep the tool of a probe below the trigger: the one that decides may have none."""
        packet = decode(payload)
        if isinstance(packet, Packet):
            tool = attribute(payload, packet, probe.kind)
            if tool != "unknown":
                self._tools.keep(probe.source, tool)

    def _decided(self, outcome: Outcome) -> None:
        for block in outcome.blocks:
            is_new = self.table.block(block)
            finding = self._finding(block)
            if finding is None:
                continue
            if not finding.blocks:
                self._findings[block.source] = finding = self._describe(block)
            if is_new:
                finding.blocks += 1
            else:  # it turned out to be one of a group
                finding.scan, finding.reason = block.evidence.scan, block.reason
        for refusal in outcome.refusals:
            self._finding(refusal)
        if outcome.confinement is not None:
            self._finding(outcome.confinement)

    def _finding(self, decision: Block | Confinement | Refusal) -> SourceFinding | None:
        found = self._findings.get(decision.source)
        if found is None:
            if len(self._findings) >= MAX_FINDINGS:
                self.result.more += 1
                return None
            found = self._findings[decision.source] = self._describe(decision)
        return found

    def _describe(self, decision: Block | Confinement | Refusal) -> SourceFinding:
        evidence = decision.evidence
        tool = evidence.tool
        if tool == "unknown":
            tool = self._tools.get(decision.source, tool)
        return SourceFinding(
            source=decision.source,
            action=ACTIONS[type(decision)],
            scan=evidence.scan,
            kinds=evidence.kinds,
            targets=evidence.targets,
            probes=evidence.probes,
            first_seen=evidence.first_seen,
            decided_at=decision.at,
            tool=tool,
            reason=decision.reason,
        )

    def _tick(self, now: float) -> None:
        """Tick each second that has passed; of a long gap the last ones."""
        gap = 1 if self._ticked == -inf else min(int(now - self._ticked), MAX_TICKS)
        for back in range(gap - 1, -1, -1):
            self.engine.tick(now - back)
        self.table.prune(now)
        self._ticked = now


def _line(packet: Packet) -> Line:
    return packet.source, packet.sport, packet.target, packet.dport
