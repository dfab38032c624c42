"""The parts of the daemon, and how they are built.

The order matters. The queue is bound first: what is queued from then on is held, and judged as soon
as all that judges is ready, instead of passing. Never-block sources, partners and blocks come next,
evidence last.

See docs/decisions.md: bound-first.
"""

import functools
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sentryfw.config.model import Config
from sentryfw.config.origin import OriginFiles
from sentryfw.daemon.block_room import BlockRoom
from sentryfw.daemon.confine_watch import ConfineWatch
from sentryfw.daemon.decoy_watch import DecoyWatch
from sentryfw.daemon.fleet.exchange import Exchange
from sentryfw.daemon.fleet.intake import Surroundings
from sentryfw.daemon.flow_loss import FlowLoss
from sentryfw.daemon.packet_path import PacketPath, clock
from sentryfw.daemon.relisting import Relisting
from sentryfw.daemon.watches.listed_scans import ListedScans
from sentryfw.engine.decide import MAX_OFFENDERS
from sentryfw.engine.engine import Engine
from sentryfw.engine.model import Source, parse_source
from sentryfw.engine.networks import NetworkIndex
from sentryfw.errors import LedgerFault, SentryError
from sentryfw.guard.block_index import key_text
from sentryfw.guard.guard import Guard
from sentryfw.guard.never_block import NeverBlockWatcher
from sentryfw.guard.never_block_update import Applied, NeverBlockUpdater
from sentryfw.host.affinity import SeparateCore
from sentryfw.host.protected import ProtectedNetworks, never_block, remembered
from sentryfw.host.whole6 import neighbours
from sentryfw.netfilter.features import Divert
from sentryfw.netfilter.install_process import (
    ANSWER_TIMEOUT_S,
    START_TIMEOUT_S,
    install_in_subprocess,
)
from sentryfw.netfilter.packet_queue import PacketQueue
from sentryfw.netfilter.table import Table
from sentryfw.record.active_blocks import listed_blocks, proven_blocks
from sentryfw.record.captures import CaptureStore, RecentProbes
from sentryfw.record.event_file import MIB, EventLimits
from sentryfw.record.fleet import held, outbox
from sentryfw.record.ledger import Ledger
from sentryfw.record.recorder import Recorder, RecordLimits
from sentryfw.record.records import probe_of
from sentryfw.record.resilient_ledger import AnyLedger, ResilientEventFile, ResilientLedger
from sentryfw.respond.responder import Callbacks, Responder
from sentryfw.tools.report.schedule import ReportSchedule

if TYPE_CHECKING:
    from sentryfw.daemon.fleet.decision_polls import Submit

log: Final = logging.getLogger("sentryfwd")


@dataclass(slots=True)
class Parts:
    """Everything that lives as long as the daemon. Only the daemon replaces a part."""

    config: Config
    divert: Divert
    """How packets reach the queue."""
    table: Table
    ledger: ResilientLedger
    events: ResilientEventFile
    recorder: Recorder
    guard: Guard
    never_block: NeverBlockWatcher
    packet_path: PacketPath
    decoys: DecoyWatch
    relisting: Relisting
    flow_loss: FlowLoss
    confine: ConfineWatch
    reports: ReportSchedule
    room: BlockRoom
    listed_scans: ListedScans
    fleet: Exchange
    queue: PacketQueue

    @property
    def engine(self) -> Engine:
        return self.packet_path.engine

    @property
    def responder(self) -> Responder:
        return self.packet_path.responder


def build_parts(config: Config) -> Parts:
    """Bind the queue, install the table, and restore what the ledger remembers.

    Needs CAP_NET_ADMIN. Raise SentryError if a part cannot be created.
    """
    queue = PacketQueue(config.queue.number, config.queue.max_len)
    try:
        return _build_behind(queue, config)
    except BaseException:
        queue.close()  # what is held is dropped, what follows passes
        raise


def _build_behind(queue: PacketQueue, config: Config) -> Parts:
    ledger = ResilientLedger(config.paths.ledger)
    store = open_capture_store(config)
    ledger.max_bytes = config.record.ledger_mib * MIB
    events = ResilientEventFile(config.paths.events, event_limits(config))
    recorder = Recorder(ledger, events, store, record_limits(config))
    recorder.core = SeparateCore(threading.get_native_id())  # this thread runs the loop
    table = Table()
    protected = ProtectedNetworks.of(never_block(config, remembered(ledger.protected())))

    def unblocked(source: Source) -> None:  # the packet path is made after the guard
        packet_path.unblocked(source)

    def noted(kind: str, fields: dict[str, object]) -> None:  # a reload replaces the responder
        packet_path.responder.noted(kind, fields)

    guard = Guard(config, table, recorder, unblocked)
    with guard.lock.held():
        divert = install_table(config, protected.networks, START_TIMEOUT_S)
        guard.prepare(ledger, protected.networks)
    packet_path = PacketPath(
        engine=make_engine(config, protected.networks),
        table=table,
        blocked=guard.blocked,
        recorder=recorder,
        responder=make_responder(config, recorder, protected.networks),
        recent=make_recent(config, store),
    )
    recorder.listener = noted
    applied = Applied(packet_path.protect, packet_path.unblocked, packet_path.use_neighbours)
    updater = NeverBlockUpdater(config, guard, table.sets, recorder, protected, applied)
    packet_path.use_neighbours(neighbours(config))
    restore(packet_path, guard, ledger, config)
    decoys = DecoyWatch(config.decoy, packet_path, recorder)
    queue.use(packet_path.judge)
    return Parts(
        config=config, divert=divert, table=table, ledger=ledger, events=events,
        recorder=recorder, guard=guard, packet_path=packet_path, decoys=decoys, queue=queue,
        never_block=NeverBlockWatcher(config, updater, recorder),
        relisting=Relisting(packet_path, table.sets, guard, recorder),
        flow_loss=FlowLoss(packet_path.engine, recorder), reports=ReportSchedule(recorder),
        confine=ConfineWatch(packet_path.engine, table, recorder),
        room=BlockRoom(packet_path, guard, recorder), listed_scans=ListedScans(recorder),
        fleet=make_fleet(config, packet_path, guard, recorder, table, ledger),
    )  # fmt: skip


def make_fleet(
    config: Config, path: PacketPath, guard: Guard, recorder: Recorder, table: Table,
    ledger: ResilientLedger,
) -> Exchange:  # fmt: skip
    """Return the exchange with the fleet, which continues with what the ledger remembers of it;
    without that, everything else works."""
    fleet = Exchange(config, Surroundings(path.engine, guard.memory, path.weighed, recorder))
    left_by_earlier_one = outbox.is_enabled(ledger) or held.active(ledger, time.time())
    if not fleet.is_on and not left_by_earlier_one:
        return fleet
    try:
        fleet.start(table, clock(), time.time())
    except (SentryError, sqlite3.Error) as error:
        log.error("the fleet is not remembered: %s", error)
    return fleet


def start_polls(parts: Parts, submit: "Submit") -> None:
    """Begin to ask CrowdSec's API, if the configuration names one. `submit`: runs a function in the
    thread of the control socket; the questions end with that."""
    member = parts.fleet.crowdsec
    if member is None:
        return
    from sentryfw.daemon.fleet.decision_polls import DecisionPolls  # noqa: PLC0415 - few need it

    polls = DecisionPolls(member, parts.recorder, submit, lambda: neighbours(parts.config).whole6)
    threading.Thread(target=polls.run, name="crowdsec-decisions", daemon=True).start()


def install_table(
    config: Config, never_block: NetworkIndex, timeout: float = ANSWER_TIMEOUT_S
) -> Divert:
    """Install or update the table of a daemon that has bound the queue."""
    divert = install_in_subprocess(config, never_block, timeout)
    if config.drops_while_away:
        with closing(Table()) as table:
            table.decisions.drop_while_away(is_on=True)
    return divert


def make_engine(config: Config, never_block: NetworkIndex) -> Engine:
    """Return an engine for this configuration."""
    rules = config.zones(never_block)
    engine = Engine(rules[0].horizons, rules[0].policy)
    engine.zones.use(rules)
    return engine


def make_responder(config: Config, recorder: Recorder, never_block: NetworkIndex) -> Responder:
    """Return the reactions that this configuration asks for, not started yet."""
    callbacks = Callbacks(recorder.reaction, recorder.learnt, block_checker())
    prefix = "s" if config.watch.mode == "traps" else "a"
    helper = config.paths.helper if os.geteuid() else None
    files = OriginFiles(config.geo, config.labels)
    return Responder(config.respond, callbacks, never_block, prefix, helper, files)


def block_checker() -> Callable[[str], bool]:
    """Return a function that asks the kernel whether an address is blocked.

    It is for one thread, and opens its own socket at the first call.
    """
    table = functools.cache(Table)
    return lambda address: table().sets.is_blocked(parse_source(address))


def open_capture_store(config: Config) -> CaptureStore | None:
    """Return the store of captures; None if they are off or the disk does not accept them."""
    wanted = config.evidence
    if not wanted.packets:
        return None
    try:
        return CaptureStore(config.paths.evidence, wanted.max_files, wanted.max_age)
    except (OSError, SentryError) as error:
        log.error("the packets behind blocks are not kept: %s", error)
        return None


def make_recent(config: Config, store: CaptureStore | None) -> RecentProbes:
    """Return the memory of recent packets, which holds none without a store."""
    return RecentProbes(config.evidence.packets if store else 0)


def event_limits(config: Config) -> EventLimits:
    """Return the bounds of the event file."""
    wanted = config.record
    return EventLimits(wanted.events_mib * MIB, wanted.events_files, wanted.min_free_mib * MIB)


def record_limits(config: Config) -> RecordLimits:
    """Return the bounds of what the recorder writes."""
    wanted = config.record
    return RecordLimits(wanted.events_per_second, wanted.min_free_mib * MIB, config.paths.state)


def use_limits(parts: Parts) -> None:
    """Bound what is written as the configuration in use asks."""
    parts.recorder.use_limits(record_limits(parts.config))
    parts.events.use_limits(event_limits(parts.config))
    parts.ledger.max_bytes = parts.config.record.ledger_mib * MIB


def seconds_left(guard: Guard) -> dict[str, float]:
    """Return the sources that are blocked, and the seconds until each block ends."""
    now = clock()
    return {key_text(key): end - now for key, (_, end) in guard.memory.ends.items()}


def restore_reactions(
    config: Config, blocked: dict[str, float], old: Responder, new: Responder
) -> None:
    """Give the blocks to new reactions; `old`: those that have ended, which know proven blocks that
    are not in the ledger yet."""
    proven, listed = old.mirrored.proven, set[str]()
    if new.is_needed:
        try:
            with Ledger(config.paths.ledger) as ledger:
                listed = _listed(ledger)
                if new.mirrored.need_proof and not old.mirrored.need_proof:
                    proven = proven_blocks(ledger, time.time())
        except LedgerFault as error:
            log.error("which blocks are proven, or of an imported list, is not known: %s", error)
    new.restore({a: left for a, left in blocked.items() if a not in listed}, proven)


def _listed(ledger: AnyLedger) -> set[str]:
    """Return the sources of imported lists, which reactions do not mirror."""
    return {block.address for block in listed_blocks(ledger, time.time())}


def restore(packet_path: PacketPath, guard: Guard, ledger: ResilientLedger, config: Config) -> None:
    """Restore active blocks, pending probes and offences into engine and reactions."""
    engine = packet_path.engine
    ends = guard.memory.ends
    engine.decider.caps.restore((len(key), end) for key, (_, end) in ends.items())
    if len(ends) > config.block.max_elements:
        log.warning(
            "%d sources are blocked, more than [block] max_elements = %d: no source is blocked"
            " until enough blocks have ended", len(ends), config.block.max_elements,
        )  # fmt: skip
    now = time.time()
    responder = packet_path.responder
    if responder.is_needed:
        proven = proven_blocks(ledger, now) if responder.mirrored.need_proof else ()
        listed = _listed(ledger)
        active = {a: left for a, left in seconds_left(guard).items() if a not in listed}
        responder.restore(active, proven)
    epoch = now - clock()
    zones = {zone.name: zone.tracker for zone in engine.zones.all}
    longest = max(tracker.horizons.slow_window for tracker in zones.values())
    for probe in ledger.probes(now - longest):
        # A later one was recorded before the clock was set back; a zone may be gone.
        if probe.at <= now and probe.zone in zones:
            zones[probe.zone].restore(probe_of(probe), probe.at - epoch)
    newest = ledger.offences(MAX_OFFENDERS)
    while newest:  # the oldest first; each is freed here before the next is made there
        address, count = newest.popitem()
        engine.decider.restore_offences({parse_source(address): count})
