"""Admission of the entries of others, however they came: decide, apply, keep, and report.

All of it runs in the thread of the control socket, off the packet path. The kernel has
a block before the ledger has its row, and the ledger the row before the answer: after a crash the
same entries come again, and are the same.

See docs/decisions.md: fleet-trust.
"""

import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from ipaddress import ip_network
from typing import Final, NamedTuple

from sentryfw.config.fleet import FleetCrowdsec
from sentryfw.config.model import Config
from sentryfw.daemon.fleet.effects import Effects, is_network
from sentryfw.daemon.fleet.weighed import Weighed
from sentryfw.engine.engine import Engine
from sentryfw.engine.model import Source, parse_source
from sentryfw.engine.networks import NetworkIndex
from sentryfw.errors import KernelError, NotFound, SentryError
from sentryfw.fleet.admission import Admission, Admitted, Member, Standing
from sentryfw.fleet.entry import Entry
from sentryfw.guard.block_index import KnownBlocks
from sentryfw.host.protected import ALWAYS
from sentryfw.netfilter.table import Table
from sentryfw.record.recorder import Recorder

log: Final = logging.getLogger("sentryfwd")

MAX_EVENTS: Final = 20
"""Entries of one request with an event each."""
MAX_NAMED: Final = 5
"""Addresses in an event about more."""
REPORT_INTERVAL_S: Final = 60.0
"""Seconds between two events about refused entries."""


class Surroundings(NamedTuple):
    """The parts of the daemon that a fleet uses."""

    engine: Engine
    memory: KnownBlocks
    weighed: Weighed
    recorder: Recorder


def members_of(config: Config) -> dict[str, Member]:
    """Return the members of a configuration by their names. A host that observes shows all."""
    observes = config.detect.mode != "block"
    return {
        name: Member(
            "show" if observes else member.trust,
            member.max_alive, member.per_minute, int(member.max_time),
            is_neighbour=isinstance(member, FleetCrowdsec),
        )
        for name, member in config.fleet.others.items()
    }  # fmt: skip


class Intake:
    """Admission, and the effects of what was admitted."""

    def __init__(self, config: Config, around: Surroundings) -> None:
        self._around = around
        self._always = NetworkIndex(ALWAYS)
        self._table: Table | None = None
        self._reported_at = -math.inf
        self._partners: set[Source] | None = None
        """Those among the sources of a request; None: the kernel is asked for each."""
        self.refused = 0
        """Entries refused since the last event about them."""
        self.admission = Admission(config.fleet.name, members_of(config), self._is_exempt)
        self.effects = Effects(around.memory, around.weighed, config.paths.ledger, _unblock)

    @property
    def standings(self) -> Mapping[str, Standing]:
        """The members by their names."""
        return self.admission.standings

    @contextmanager
    def open(self) -> Iterator[Table]:
        """Use the table. It is kept open: to close a socket that has changed a set takes the
        kernel 10 ms (measured). The guard need not follow what it changes."""
        if self._table is None:
            self._table = Table()
            self._around.memory.own_ports.add(self._table.port)
        table = self._table
        try:
            yield table
        except SentryError:  # an answer may be left on its socket
            self._close(table)
            raise
        finally:
            self._partners = None

    def look_up(self, table: Table, entries: Iterable[Entry]) -> None:
        """Ask the kernel at once which sources of these entries are partners."""
        sources = {one.source for one in entries if one.is_host}
        self._partners = table.sets.partners_among(sources)

    def apply(
        self, table: Table, admitted: list[Admitted], now: float, wall: float
    ) -> Iterator[str]:
        """Give admitted entries their effect; yield each fault."""
        try:
            self.effects.apply(table, admitted, self.standings, now)
        except KernelError as error:  # a full set; or a repair, which adds them again
            fault = f"the kernel did not take these entries: {error}"
            log.error("fleet: %s", fault)
            self._close(table)
            yield fault
        fault = self.effects.store(admitted, self.standings, wall)
        self._note(admitted)
        if fault:
            yield fault

    def _note(self, admitted: list[Admitted]) -> None:
        """Write an event for each entry, or, for many at once, one for each member."""
        if len(admitted) <= MAX_EVENTS:
            for one in admitted:
                self._around.recorder.note(
                    "fleet", member=one.entry.member, address=one.entry.address, effect=one.effect,
                    evidence=one.entry.evidence, scan=one.entry.scan, reason=one.entry.reason,
                    seconds=one.seconds, gap=one.gap,
                )  # fmt: skip
            return
        members: dict[str, list[Admitted]] = {}
        for one in admitted:
            members.setdefault(one.entry.member, []).append(one)
        for name, some in members.items():
            self._around.recorder.note(
                "fleet-part", member=name, count=len(some),
                effects=dict(Counter(one.effect for one in some)),
                first=some[0].entry.seq, last=some[-1].entry.seq,
                addresses=[one.entry.address for one in some[:MAX_NAMED]],
                gap=sum(one.gap for one in some),
            )  # fmt: skip

    def _close(self, table: Table) -> None:
        self._table = None
        self._around.memory.own_ports.discard(table.port)
        table.close()

    def follow_released(self) -> None:
        """Forget what was unblocked by hand since: that is local."""
        for source in self._around.weighed.take_released():
            for standing in self.standings.values():
                if source is None:
                    standing.alive.clear()
                    continue
                for address in list(standing.alive):
                    if not is_network(address) and parse_source(address) == source:
                        del standing.alive[address]

    def report(self, now: float, unreadable: Mapping[str, int]) -> None:
        """Say what was refused, once in REPORT_INTERVAL_S."""
        if not self.refused or now - self._reported_at < REPORT_INTERVAL_S:
            return
        self._reported_at = now
        members = {
            name: dict(standing.refused)
            for name, standing in self.standings.items()
            if standing.refused
        }
        self._around.recorder.note(
            "fleet-refused", count=self.refused, members=members, unreadable=dict(unreadable)
        )
        log.warning("fleet: %d entries refused: `sentryfw fleet members` shows why", self.refused)
        self.refused = 0

    def counts(self, now: float) -> dict[str, dict[str, object]]:
        """Return what each member has in effect, and what was refused. Any thread may call it."""
        members: dict[str, dict[str, object]] = {}
        for name, standing in self.standings.items():
            alive = Counter(item.effect for item in list(standing.alive.values()) if item.end > now)
            members[name] = {
                "trust": standing.member.trust,
                "last": standing.last,
                "blocks": alive["block"],
                "weighed": alive["weigh"],
                "shown": alive["show"],
                "learnt": standing.learnt,
                "refused": dict(standing.refused),
            }
        return members

    def _is_exempt(self, entry: Entry) -> bool:
        """Return whether a source is never touched by what other members say."""
        address = entry.network.network_address.packed
        engine = self._around.engine
        if not entry.is_host:
            never = engine.decider.policy.never_block
            return never.overlaps(entry.network) or self._always.overlaps(entry.network)
        if entry.network.prefixlen == 64 and address in engine.whole6:
            return True  # many sources here
        source = entry.source
        is_known = engine.decider.is_protected(source) or self._always.holds(source)
        if is_known or entry.network.is_multicast:
            return True
        if self._partners is not None:
            return source in self._partners
        return self._table is not None and self._table.sets.is_partner(source)


def _unblock(address: str) -> None:
    """End this host's own block. The guard follows it, as one by `sentryfw unblock`, so it is on a
    socket that is not ours."""
    with closing(Table()) as table, suppress(NotFound):
        if is_network(address):
            table.sets.unblock_network(ip_network(address))
        else:
            table.sets.unblock(parse_source(address))
