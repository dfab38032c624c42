"""Decisions of a moment ago: blocked sources are drained, refused ones are not decided about again.

A never-blocked scanner costs a look-up a packet, no evidence and no decision.

See docs/decisions.md: drain.
"""

from collections import OrderedDict
from typing import Final, NamedTuple

from sentryfw.engine.decide import Decider
from sentryfw.engine.model import Block, Evidence, Kind, Refusal, Source

DRAIN_AFTER_BLOCK_S: Final = 2.0
"""Seconds for which packets of a source are dropped here after its block: they were in the queue
when the block reached the kernel. The kernel drops later ones; if one still arrives, the block is
gone and the packet is new evidence."""
MAX_DRAINING: Final = 65536
"""Sources whose packets are dropped here."""
REFUSAL_INTERVAL_S: Final = 60.0
"""Seconds between two reported refusals of one source for one reason."""
MAX_REFUSALS: Final = 65536
"""Refusals remembered."""
LASTING: Final = frozenset(("never_block", "partner", "observe", "command"))
"""Reasons that depend on nothing but the source, its kinds of probes, the policy, and whether it is
a partner."""


class Draining:
    """The ends of the sources' draining, and their blocks in case they turn out to be decoys."""

    def __init__(self) -> None:
        self._ends: OrderedDict[Source, float] = OrderedDict()
        self._blocks: dict[Source, Block] = {}

    def __len__(self) -> int:
        return len(self._ends)

    def begin(self, source: Source, block: Block | None, now: float) -> None:
        """Drop what this source sends from now on. `block` None: a cap prevented its block."""
        if len(self._ends) >= MAX_DRAINING:
            oldest, _ = self._ends.popitem(last=False)
            self._blocks.pop(oldest, None)
        self._ends[source] = now + DRAIN_AFTER_BLOCK_S
        self._ends.move_to_end(source)
        if block is not None:
            self._blocks[source] = block

    def holds(self, source: Source, now: float) -> bool:
        """Return whether packets of this source are dropped."""
        end = self._ends.get(source)
        return end is not None and end > now

    def block_of(self, source: Source) -> Block | None:
        """Return the block of a source that is still remembered."""
        return self._blocks.get(source)

    def replace_block(self, block: Block) -> None:
        """Remember another block of a source whose block is remembered."""
        self._blocks[block.source] = block

    def expire(self, now: float) -> None:
        """Forget the sources whose time is over."""
        while self._ends and next(iter(self._ends.values())) <= now:
            self._ends.popitem(last=False)
        self._blocks = {s: block for s, block in self._blocks.items() if s in self._ends}

    def release(self, source: Source) -> None:
        """Forget a source that was unblocked or could not be blocked."""
        self._ends.pop(source, None)
        self._blocks.pop(source, None)

    def clear(self) -> None:
        """Forget every source."""
        self._ends.clear()
        self._blocks.clear()


class _Last(NamedTuple):
    """A refusal, and what it depends on."""

    kinds: tuple[Kind, ...]
    partner: bool
    reason: str
    until: float


class Refusals:
    """Refusals of the last minute."""

    def __init__(self) -> None:
        self._reported: dict[tuple[Source, str], float] = {}
        self._last: dict[Source, _Last] = {}

    def __len__(self) -> int:
        return len(self._reported)

    def known(
        self, source: Source, kinds: tuple[Kind, ...], now: float, *, partner: bool
    ) -> str | None:
        """Return the reason for which the same decision was refused a moment ago, or None."""
        last = self._last.get(source)
        if last is None or last.until <= now or last.partner != partner or last.kinds != kinds:
            return None
        return last.reason

    def add(self, refusal: Refusal, *, partner: bool) -> bool:
        """Remember a refusal; return whether it is to be reported."""
        source, reason, now = refusal.source, refusal.reason, refusal.at
        key = (source, reason)
        until = self._reported.get(key, now)
        is_due = until <= now
        if is_due:
            if len(self._reported) >= MAX_REFUSALS:
                self.clear()  # a repeated report is better than growth
            until = self._reported[key] = now + REFUSAL_INTERVAL_S
        if reason in LASTING:
            self._last[source] = _Last(refusal.evidence.kinds, partner, reason, until)
        return is_due

    def expire(self, now: float) -> None:
        """Forget what is older than a minute."""
        self._reported = {key: end for key, end in self._reported.items() if end > now}
        self._last = {source: last for source, last in self._last.items() if last.until > now}

    def decide_again(self) -> None:
        """Decide about every source again: the policy has changed. Reports stay apart."""
        self._last.clear()

    def clear(self) -> None:
        """Forget every refusal."""
        self._reported.clear()
        self._last.clear()


def downgrade_decoys(
    decider: Decider, draining: Draining, evidence: Evidence, now: float
) -> tuple[Block, ...]:
    """Downgrade recent blocks of this source's decoy group to brief ones without an offence."""
    if evidence.scan != "decoy-scan":
        return ()
    downgraded = []
    for source in evidence.companions:
        block = draining.block_of(source)
        if block is not None and block.evidence.scan != "decoy-scan":
            others = (*(s for s in evidence.companions if s != source), evidence.source)
            old = block.evidence._replace(scan="decoy-scan", companions=others)
            decider.revoke_offence(source)
            downgraded.append(decider.block_briefly(old, now))
            draining.replace_block(downgraded[-1])
    return tuple(downgraded)
