"""A capture through the engine: replay(path, config, ...) -> Result.

Two passes: the first guesses what the operator did not say and finds the connections that are
older than the capture (view.py), the second judges. The clock is the capture's; it is held
where packets are slightly out of order, and goes on where it was set back.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Final

from sentryfw.config import Config
from sentryfw.engine.engine import Engine
from sentryfw.engine.model import (
    ACCEPT,
    Block,
    Malformed,
    Meta,
    Outcome,
    Packet,
    Refusal,
    Source,
    source_of,
)
from sentryfw.engine.packet import SCTP, TCP, UDP
from sentryfw.replay.capture import CaptureError, read_capture
from sentryfw.replay.flows import Kernel
from sentryfw.replay.header import COPY_RANGE, read_header
from sentryfw.replay.link import LINKS
from sentryfw.replay.view import Guess, Network, Service, View

MAX_FINDINGS: Final = 65536
REORDERED: Final = 1.0
"""Seconds that packets may be out of order; more is a clock that was set back."""
MAX_TICKS: Final = 64
"""Of a gap's seconds so many are ticked: enough to forget every source."""

Take = Callable[[Packet, float, bytes, int, int], None]
"""A packet, its time, and where it lies: in which buffer, from where to where."""


@dataclass(slots=True)
class Finding:
    """What was found about one source, at its first decision, and what came of it."""

    source: Source
    blocked: bool
    scan: str
    kinds: tuple[str, ...]
    targets: int
    probes: int
    """Until the decision."""
    first_seen: float
    decided_at: float
    tool: str
    reason: str
    blocks: int = 0
    """Times it was blocked: again, once the timeout is over."""
    packets_after: int = 0
    """Packets that the block drops."""
    answers_after: int = 0
    """Answers in the capture that the block would have prevented."""


@dataclass(slots=True)
class Result:
    """Everything that a replay found, the part before a fault included."""

    view: View
    packets: int = 0
    fates: Counter[str] = field(default_factory=Counter)
    """Packets by what became of them."""
    findings: dict[Source, Finding] = field(default_factory=dict)
    more: int = 0
    """Decisions about sources for which there was no room."""
    error: CaptureError | None = None


class Clock:
    """Capture times in, a clock that does not run backwards out."""

    def __init__(self) -> None:
        self.now = 0.0
        self._shift = 0.0

    def read(self, seconds: float) -> float:
        seconds += self._shift
        if seconds < self.now:
            if self.now - seconds > REORDERED:
                self._shift += self.now - seconds
            return self.now
        self.now = seconds
        return seconds


class Judge:
    """State of the second pass: kernel, engine, and what they found."""

    def __init__(self, config: Config, view: View) -> None:
        never_block = tuple(config.never_block.addresses)
        self.engine = Engine(config.horizons(), config.policy(never_block))
        self.kernel = Kernel(view, never_block)
        self.result = Result(view)
        self._findings = self.result.findings
        self._clock = Clock()
        self._ticked = -inf

    def feed(self, packet: Packet, seconds: float, data: bytes, at: int, end: int) -> None:
        """One packet, in the order of the capture, and where it lies."""
        now = self._clock.read(seconds)
        if now - self._ticked >= 1:
            self._tick(now)
        fate = self.kernel.receive(packet, now)
        if isinstance(fate, Meta):
            self.result.fates["judged"] += 1
            self._judge(packet, data[at : min(end, at + COPY_RANGE)], fate, now)
            return
        self.result.fates[fate] += 1
        if fate == "dropped":
            finding = self._findings.get(source_of(packet.source))
            if finding is not None:
                finding.packets_after += 1
        elif fate == "answer":
            finding = self._findings.get(source_of(packet.target))
            if finding is not None:
                finding.answers_after += 1

    def _judge(self, packet: Packet, payload: bytes, meta: Meta, now: float) -> None:
        outcome = self.engine.handle(payload, meta, now)
        if outcome.verdict == ACCEPT:
            self.kernel.confirm(packet, now)
        if outcome.blocks or outcome.refusals:
            self._decided(outcome)

    def _decided(self, outcome: Outcome) -> None:
        for block in outcome.blocks:
            is_new = self.kernel.block(block)
            finding = self._finding(block)
            if finding is None:
                continue
            if not finding.blocks:
                self._findings[block.source] = finding = _describe(block)
            if is_new:
                finding.blocks += 1
            else:  # it turned out to be one of a group
                finding.scan, finding.reason = block.evidence.scan, block.reason
        for refusal in outcome.refusals:
            self._finding(refusal)

    def _finding(self, decision: Block | Refusal) -> Finding | None:
        found = self._findings.get(decision.source)
        if found is None:
            if len(self._findings) >= MAX_FINDINGS:
                self.result.more += 1
                return None
            found = self._findings[decision.source] = _describe(decision)
        return found

    def _tick(self, now: float) -> None:
        """Every second that has passed, of a long gap the last ones."""
        gap = 1 if self._ticked == -inf else min(int(now - self._ticked), MAX_TICKS)
        for back in range(gap - 1, -1, -1):
            self.engine.tick(now - back)
        self.kernel.prune(now)
        self._ticked = now


def replay(
    path: Path,
    config: Config,
    local: tuple[Network, ...] = (),
    listed: frozenset[Service] | None = None,
) -> Result:
    """Judge a capture. What is not said, `local` or `listed`, is guessed. OSError."""
    view = look(path, local, listed)
    return judge(path, config, view._replace(listed=view.listed | _hand_listed(config)))


def judge(path: Path, config: Config, view: View) -> Result:
    """The second pass."""
    judging = Judge(config, view)
    result = judging.result
    try:
        _read(path, result.fates, judging.feed)
    except CaptureError as error:
        result.error = error
    result.packets = result.fates.total()
    return result


def look(path: Path, local: tuple[Network, ...], listed: frozenset[Service] | None) -> View:
    """The first pass. A fault of the capture ends it; the second pass meets it again."""
    guess = Guess()
    with suppress(CaptureError):
        _read(path, Counter(), lambda packet, *_: guess.see(packet))
    return guess.view(local, listed)


def _read(path: Path, fates: Counter[str], take: Take) -> None:
    """Give what can be judged to `take`, and count the rest. CaptureError, OSError."""
    for seconds, linktype, data, start, end in read_capture(path):
        find = LINKS.get(linktype)
        at = -2 if find is None else find(data, start, end)
        if at < 0:
            fates["not IP" if at == -1 else f"link type {linktype}"] += 1
            continue
        packet = read_header(data, at, end)
        if isinstance(packet, Malformed):
            fates["malformed"] += 1
        else:
            take(packet, seconds, data, at, end)


def _hand_listed(config: Config) -> frozenset[Service]:
    watch = config.watch
    return frozenset(
        (protocol, port)
        for protocol, ranges in (
            (TCP, watch.listed_tcp),
            (UDP, watch.listed_udp),
            (SCTP, watch.listed_sctp),
        )
        for first, last in ranges
        for port in range(first, last + 1)
    )


def _describe(decision: Block | Refusal) -> Finding:
    evidence = decision.evidence
    return Finding(
        source=decision.source,
        blocked=isinstance(decision, Block),
        scan=evidence.scan,
        kinds=evidence.kinds,
        targets=evidence.targets,
        probes=evidence.probes,
        first_seen=evidence.first_seen,
        decided_at=decision.at,
        tool=evidence.tool,
        reason=decision.reason,
    )
