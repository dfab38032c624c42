"""Evidence on a port that becomes listed is void; the rest is weighed again.

After a boot clients come before their services do. A block that rests on probes of services that
start a moment later does not stand. Pure: the daemon looks for the sockets (daemon/relisting.py).

The rules of this file.
1. Void is a probe that a socket would have taken, had it been there: of VOIDABLE kinds, to a target
   at which one receives now that was not seen before the probe.
2. A block stands if the rest of its evidence is a scan by the triggers and windows of its time; of
   a distributed scan, if two targets are left.
3. What is left of the evidence counts on.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final

from sentryfw.engine.engine import Engine
from sentryfw.engine.model import Block, Kind, Probe, Seen, Source, Target
from sentryfw.engine.table import SourceState
from sentryfw.engine.track import Horizons, Tracker

VOIDABLE: Final = frozenset[Kind](("syn", "ack", "maimon", "udp", "sctp-init"))
"""Kinds that the ruleset judges by the socket at their target. It judges the others always."""
MAX_BLOCKS_KEPT: Final = 4096
"""Blocks that can be weighed again; older ones stand."""
KEPT_S: Final = 660.0
"""Seconds for which a block can be weighed again: the ten minutes after a start, and one more."""

Places = Mapping[Target, float]
"""(address, protocol, port) at which a socket receives -> when it was seen first, a clock value. An
address of zeros is any address of its family."""


class Revision:
    """Weighs evidence again when sockets appear at its targets."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._blocks: OrderedDict[Source, Block] = OrderedDict()

    def __len__(self) -> int:
        return len(self._blocks)

    def remember(self, block: Block) -> None:
        """Remember a block that the kernel has acknowledged."""
        self._blocks[block.source] = block
        self._blocks.move_to_end(block.source)
        if len(self._blocks) > MAX_BLOCKS_KEPT:
            self._blocks.popitem(last=False)

    def forget(self, source: Source | None) -> None:
        """Forget the block of a source, with None of every source: it was ended otherwise."""
        if source is None:
            self._blocks.clear()
        else:
            self._blocks.pop(source, None)

    def listed(self, places: Places, now: float) -> list[Block]:
        """Return the blocks that do not stand, with sockets at these places, and forget them."""
        while self._blocks and next(iter(self._blocks.values())).at < now - KEPT_S:
            self._blocks.popitem(last=False)
        fallen = [block for block in self._blocks.values() if not self._stands(block, places)]
        for block in fallen:
            del self._blocks[block.source]
        return fallen

    def end(self, block: Block, places: Places) -> None:
        """Follow the end of a block that did not stand: no offence, and the rest counts on."""
        zone = self._engine.zones.named(block.evidence.zone)
        zone.decider.revoke_offence(block.source)
        for seen in _rest(block.evidence.trace, places):
            probe = Probe(block.source, seen.target, seen.kind, listed=seen.listed)
            zone.tracker.restore(probe, seen.at)

    def void_pending(
        self, sources: Iterable[tuple[Source, SourceState]], places: Places, tracker: Tracker
    ) -> int:
        """Remove the void targets of a tracker's sources; return how many there were."""
        count = 0
        for source, state in sources:
            gone = [
                target
                for target, (at, _, kind, listed) in state.targets.items()
                if is_void(Seen(target, at, kind, listed), places)
            ]
            count += len(gone)
            for target in gone:
                del state.targets[target]
            if gone and not state.targets:
                tracker.forget(source)
        return count

    def _stands(self, block: Block, places: Places) -> bool:
        evidence = block.evidence
        rest = _rest(evidence.trace, places)
        if len(rest) == len(evidence.trace):
            return True
        if evidence.scan == "distributed-scan":
            return len(rest) > 1
        horizons = self._engine.zones.named(block.evidence.zone).tracker.horizons
        if horizons.repeats:  # the trace does not show how often each target was probed
            return evidence.score * len(rest) >= len(evidence.trace)
        return _is_scan(rest, horizons, block.at)


def is_void(seen: Seen, places: Places) -> bool:
    """Return whether a probe was to a target at which a socket receives that came after it."""
    if seen.listed or seen.kind not in VOIDABLE:
        return False
    address, protocol, port = seen.target
    since = places.get(seen.target)
    if since is None:
        since = places.get((bytes(len(address)), protocol, port))
    return since is not None and since >= seen.at


def _rest(trace: tuple[Seen, ...], places: Places) -> list[Seen]:
    return [seen for seen in trace if not is_void(seen, places)]


def _is_scan(trace: list[Seen], horizons: Horizons, at: float) -> bool:
    """Return whether targets make a scan, as Tracker weighs them (track.py)."""
    score = slow = 1e-9
    for seen in trace:
        share = 1 / horizons.triggers.get(seen.kind, horizons.trigger)
        share = share / 2 if seen.listed else share
        if seen.at >= at - horizons.window:
            score += share
        if seen.at >= at - horizons.slow_window:
            slow += share
    return score >= 1 or slow * horizons.trigger / max(horizons.slow_trigger, horizons.trigger) >= 1
