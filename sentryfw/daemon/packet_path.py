"""The packet path: judge a packet, enforce what was decided, give the verdict, report.

    wire -> nft -> NFQUEUE -> judge -> enforce (acknowledged) -> verdict -> report

The rules of this file:
- A block is acknowledged by the kernel before the verdict is set: the packet that decided waits
  in the queue until nothing of its source can follow it.
- After the verdict an outcome goes one way, once: each decision to each of its consumers.
- Nothing here waits for a disk or another process: reports go into the queues of threads.
- A source whose block the kernel refuses is judged again at its next probe.
"""

import errno
import logging
import time
from collections.abc import Callable
from typing import Final

from sentryfw.daemon.fleet.weighed import DEFER_S, Weighed
from sentryfw.daemon.watches.zone_interfaces import ZoneInterfaces
from sentryfw.decoy.wire import REQUEST, Visit
from sentryfw.engine.engine import Engine
from sentryfw.engine.model import (
    Block,
    Confinement,
    DistributedScan,
    Outcome,
    Source,
    place_text,
    source_text,
)
from sentryfw.engine.networks import NetworkIndex, Whole6
from sentryfw.engine.revision import Revision
from sentryfw.errors import KernelError, NotFound
from sentryfw.host.whole6 import Neighbours
from sentryfw.netfilter.table import Table
from sentryfw.netfilter.verdicts import Queued
from sentryfw.record.captures import RecentProbes
from sentryfw.record.recorder import Recorder
from sentryfw.record.records import (
    block_entry,
    confinement_entry,
    distributed_fields,
    refusal_entry,
    target_text,
)
from sentryfw.record.throttle import DISTRIBUTED
from sentryfw.respond.responder import Responder

log: Final = logging.getLogger("sentryfwd")
clock: Final = time.monotonic  # does not jump when the wall clock is set


class PacketPath:
    """Judges packets in the daemon's loop and passes on the decisions that follow."""

    def __init__(
        self, *, engine: Engine, table: Table, recorder: Recorder, responder: Responder,
        recent: RecentProbes, blocked: Callable[[Source, float, float], None],
    ) -> None:  # fmt: skip
        """`blocked` is called with the source, timeout and time of each acknowledged block."""
        self.engine = engine
        self.responder = responder
        self.recent = recent
        self._sets = table.sets
        self._decisions = table.decisions
        self._blocked = blocked
        self._recorder = recorder
        self.revision = Revision(engine)
        self.weighed = Weighed()
        self._interfaces = ZoneInterfaces(engine.zones)
        self._displaced: list[Source] = []
        self.acknowledged = 0
        """Blocks that the kernel has acknowledged."""

    def judge(self, packet: Queued) -> None:
        """Judge one packet and set its verdict, after its blocks were acknowledged."""
        zone = self._interfaces.zone(packet.interface) if self._interfaces.has_zones else 0
        outcome = self.engine.handle(packet.payload, packet.meta, clock(), packet.hardware, zone)
        acknowledged_at = self.enforce(outcome.blocks) if outcome.blocks else None
        if outcome.confinement is not None:
            acknowledged_at = self.confine(outcome.confinement)
        if outcome.distributed is not None:
            self.defer(outcome.distributed)
        if self.weighed and outcome.action == "count" and not packet.meta.partner:
            self._weigh(outcome, zone)
        packet.verdict = outcome.verdict
        if outcome.action != "pass":
            name = self._interfaces.names[zone]
            self.report(outcome, packet.payload, acknowledged_at, name)

    def judge_visit(self, visit: Visit) -> None:
        """Judge a connection that a decoy accepted: no verdict, the handshake is over."""
        outcome = self.engine.handle_connect(
            visit.source, visit.target, visit.port, clock(), is_request=visit.kind == REQUEST
        )
        acknowledged_at = self.enforce(outcome.blocks) if outcome.blocks else None
        if outcome.action != "pass":
            self.report(outcome, b"", acknowledged_at)

    def enforce(self, blocks: tuple[Block, ...]) -> float | None:
        """Block in the kernel; return when it acknowledged (clock value), None if it refused."""
        for block in blocks:
            if block.displaces is not None:
                self._give_way(block.displaces)
        if self.responder.wants_before:
            epoch = time.time() - clock()
            for block in blocks:
                self.responder.hand_over(block, block.at, epoch, is_before=True)
        proven = [block.source for block in blocks if not block.forgeable]
        try:
            self._sets.block(((block.source, block.timeout) for block in blocks), cut=proven)
        except KernelError as error:
            self._refused(blocks, error)
            return None
        return clock()

    def _give_way(self, source: Source) -> None:
        """End the block that gives way to another one."""
        try:
            self._sets.unblock(source)
        except NotFound:
            pass  # it was ended a moment ago
        except KernelError as error:
            log.error("%s: its block does not give way: %s", source_text(source), error)
            return
        self.unblocked(source)
        self._displaced.append(source)
        self.engine.counters.displaced += 1

    def take_displaced(self) -> list[Source]:
        """Return the sources whose blocks gave way since the last call."""
        taken, self._displaced = self._displaced, []
        return taken

    def confine(self, decision: Confinement) -> float | None:
        """Confine a partner in the kernel; return when it acknowledged, None if it refused."""
        try:
            self._decisions.confine(decision.source, decision.timeout)
        except KernelError as error:
            self._refused((decision,), error)
            return None
        return clock()

    def defer(self, found: DistributedScan) -> None:
        """Defer the strangers of a distributed scan, and report it when it is new."""
        try:
            if found.timeout:
                self._decisions.defer(found.place, found.timeout)
            if found.is_blocked:
                self._decisions.block_prefix(found.place, found.timeout)
        except KernelError as error:  # a full set serves
            self._recorder.note("defer-failed", place=place_text(found.place), error=str(error))
        if found.is_new:
            self._recorder.note(DISTRIBUTED, **distributed_fields(found))

    def _weigh(self, outcome: Outcome, zone: int) -> None:
        """Defer a source by its first probe here, if another member of the fleet reported it; block
        it by its second target, if as many members do as [fleet] agree asks for."""
        probe, now = outcome.probe, clock()
        if probe is None or self.engine.zones.all[zone].observes:
            return
        if not self.weighed.holds(probe.source, now):
            return
        agreement = self.weighed.try_target(probe.source, probe.target, now)
        try:
            self._decisions.defer_source(probe.source, DEFER_S)
            if agreement is not None:
                self._decisions.block_for_fleet([(probe.source, agreement.seconds)])
                self._recorder.note(
                    "fleet-agreed", address=source_text(probe.source), members=agreement.members,
                    seconds=agreement.seconds,
                )  # fmt: skip
        except KernelError as error:  # a full set serves
            self._recorder.note("defer-failed", place=source_text(probe.source), error=str(error))

    def _refused(self, blocks: tuple[Block | Confinement, ...], error: KernelError) -> None:
        self.engine.counters.blocks_failed += len(blocks)
        for block in blocks:
            self.engine.release(block.source)
        if error.code == errno.ENFILE:
            self.engine.counters.block_set_full += len(blocks)  # overload.py reports it
        else:
            self._recorder.note("block-failed", error=str(error))
            log.error("%s: not blocked; the next probe is judged again", error)

    def report(
        self, outcome: Outcome, payload: bytes, acknowledged_at: float | None, zone: str = ""
    ) -> None:
        """Pass on the decisions; not blocks that the kernel refused (acknowledged_at is None)."""
        now = time.time()
        epoch = now - clock()
        if outcome.action == "defer" and outcome.probe is not None:  # only observed
            source, target = source_text(outcome.probe.source), target_text(outcome.probe.target)
            self._recorder.note("would-defer", address=source, target=target)
        elif outcome.probe is not None:
            self._recorder.probe(outcome.probe, now, zone)
            self.recent.keep(outcome.probe, payload, now)
        for block in outcome.blocks:
            if acknowledged_at is None:
                break
            self.responder.hand_over(block, acknowledged_at, epoch)
            self._blocked(block.source, block.timeout, acknowledged_at)
            self.revision.remember(block)
            self.acknowledged += 1
            record = block_entry(block, acknowledged_at, epoch)
            self._recorder.append(record)
            self._recorder.capture(record, self.recent.take(block, payload, block.at + epoch))
            payload = b""  # the packet belongs to the first block
        if outcome.confinement is not None and acknowledged_at is not None:
            self.responder.hand_over(outcome.confinement, acknowledged_at, epoch)
            record = confinement_entry(outcome.confinement, acknowledged_at, epoch)
            self._recorder.append(record)
            self._recorder.capture(record, self.recent.take(outcome.confinement, payload, now))
        for refusal in outcome.refusals:
            self.responder.hand_over(refusal, refusal.at, epoch)
            self._recorder.append(refusal_entry(refusal, epoch))

    def follow_zones(self) -> None:
        """Find the interfaces of the zones that the engine has now."""
        self._interfaces.use(self.engine.zones)

    def tick(self) -> None:
        """Look the names of interfaces up again; called once a second."""
        self._interfaces.tick()

    def unblocked(self, source: Source | None) -> None:
        """Follow a block, or with None every block, that ended before its time."""
        self.revision.forget(source)
        self.weighed.released(source)
        if source is None:
            self.engine.release_all()
        else:
            self.engine.release(source)
        self.responder.ended(None if source is None else source_text(source))

    def protect(self, networks: NetworkIndex) -> None:
        """Replace the networks that are never blocked."""
        self.engine.protect(networks)
        self.responder.protect(networks)

    def use_neighbours(self, found: Neighbours) -> None:
        """Replace the networks of neighbours, and those in which a source is a whole address."""
        self.engine.use_neighbours(Whole6(found.whole6), NetworkIndex(found.onlink))
