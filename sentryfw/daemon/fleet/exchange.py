"""The daemon's side of a fleet: signed entries out, and what others send, in.

The transport of entries is not trusted: signatures, caps and exemptions are
checked here. All of it runs in the thread of the control socket, one request after another, off the
packet path. The kernel has a block before the ledger has its row, and the ledger the row before the
answer: after a crash the same entries come again, and are the same.

See docs/decisions.md: fleet-outbox, fleet-trust.
"""

import logging
import math
import time
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import closing
from typing import Any, Final, NamedTuple, cast

from sentryfw.config.model import Config
from sentryfw.daemon.fleet.effects import Effects, is_network
from sentryfw.daemon.fleet.learner import Learner
from sentryfw.daemon.fleet.outbox_wait import NO_FLEET, OutboxWait
from sentryfw.daemon.fleet.sender import MAX_ENTRIES, Sender
from sentryfw.daemon.fleet.statements import Statements
from sentryfw.daemon.fleet.weighed import Weighed
from sentryfw.engine.engine import Engine
from sentryfw.engine.model import parse_source
from sentryfw.engine.networks import NetworkIndex
from sentryfw.errors import KernelError, SentryError
from sentryfw.fleet.admission import Admission, Admitted, Alive, Effect, Member, Rejected
from sentryfw.fleet.entry import Elements, Entry
from sentryfw.guard.block_index import KnownBlocks
from sentryfw.host.protected import ALWAYS
from sentryfw.netfilter.table import Table
from sentryfw.record.fleet import held, outbox
from sentryfw.record.ledger import Ledger
from sentryfw.record.recorder import Recorder

log: Final = logging.getLogger("sentryfwd")

REPORT_INTERVAL_S: Final = 60.0
"""Seconds between two events about refused entries."""

Answer = dict[str, Any]
Answers = Generator[Answer, None, None]


class Surroundings(NamedTuple):
    """The parts of the daemon that the exchange uses."""

    engine: Engine
    memory: KnownBlocks
    weighed: Weighed
    recorder: Recorder


class Exchange:
    """Signs our entries, and admits those of other members."""

    def __init__(self, config: Config, around: Surroundings) -> None:
        self._config = config
        self._around = around
        self._always = NetworkIndex(ALWAYS)
        self._table: Table | None = None
        self._sender = Sender(config)
        self.outbox = OutboxWait(config, self._sender)
        self._effects = Effects(around.memory, around.weighed, config.paths.ledger)
        self._statements = Statements(config)
        self._reported_at = -math.inf
        self._refused = 0
        self._repairs = 0
        self._admission = Admission(config.fleet.name, self._members(), self._is_exempt)
        self._learner = Learner(config.paths.ledger, self._admission)

    def _members(self) -> dict[str, Member]:
        observes = self._config.detect.mode != "block"
        return {
            name: Member(
                "show" if observes else member.trust,
                member.max_alive, member.per_minute, int(member.max_time),
            )
            for name, member in self._config.fleet.members.items()
        }  # fmt: skip

    @property
    def is_on(self) -> bool:
        """Whether the configuration names a fleet."""
        return bool(self._config.fleet.name)

    def start(self, table: Table, now: float, wall: float) -> None:
        """Continue with what the ledger remembers; end the entries of members that the
        configuration names no longer. Raise SentryError or sqlite3.Error."""
        standings = self._admission.standings
        self._around.weighed.agree = self._config.fleet.agree
        with Ledger(self._config.paths.ledger) as ledger:
            if self.is_on:
                outbox.enable(ledger, wall, mirrors=self._config.fleet.mirrors)
            else:
                outbox.disable(ledger)
            rows = held.active(ledger, wall)
            self._restore([row for row in rows if row.member in standings], now, wall)
            for name, last in held.numbers(ledger).items():
                self._admission.restore(name, last, {}, now)
        for name in {row.member for row in rows} - standings.keys():
            addresses = [row.address for row in rows if row.member == name]
            for address in addresses:
                self._effects.lift(table, address, standings, now)
            self._effects.forget(name, addresses)
        self._effects.refill(table, standings, now)

    def repaired(self, repairs: int) -> bool:
        """Return whether the table was repaired since the last call; `repairs`: their number."""
        before, self._repairs = self._repairs, repairs
        return self.is_on and repairs != before

    def refill(self) -> None:
        """Add what the fleet blocks to a table that was repaired. Runs in a thread of its own."""
        try:
            with closing(Table()) as table:
                standings = self._admission.standings
                self._effects.refill(table, standings, time.monotonic())
        except SentryError as error:
            log.warning("fleet: the repaired table lacks blocks of other members: %s", error)

    def _restore(self, rows: list[held.Held], now: float, wall: float) -> None:
        for row in rows:
            end = math.inf if row.ends_at is None else now + row.ends_at - wall
            cut = row.evidence != "forgeable"
            kept = {row.address: Alive(cast(Effect, row.effect), end, cut)}
            self._admission.restore(row.member, 0, kept, now)
            if row.effect == "weigh":
                self._around.weighed.add(parse_source(row.address), end, row.member)

    def reconfigure(self, config: Config) -> None:
        """Use another configuration, with the same [fleet]: a running daemon keeps that."""
        self._config = config
        for name, member in self._members().items():
            self._admission.standings[name].member = member

    def outgoing(self, request: Mapping[str, Any]) -> Answers:
        """Yield our signed entries behind the number `after`."""
        self._require()
        yield from self._sender.outgoing(request)

    # --- in

    def incoming(self, request: Mapping[str, Any]) -> Answers:
        """Admit signed entries, in order; yield an answer for each."""
        items = request.get("entries")
        if not isinstance(items, list) or len(items) > MAX_ENTRIES:
            raise SentryError(f"entries is a list of at most {MAX_ENTRIES}")
        self._require()
        now, wall = time.monotonic(), time.time()
        self._follow_released()
        # Kept open: to close a socket that has changed a set takes the kernel 10 ms (measured).
        table = self._table = self._table or Table()
        try:
            yield from self._take(table, items, now, wall)
        except SentryError:  # an answer may be left on its socket
            self._table = None
            table.close()
            raise
        self._report(now)

    def _take(self, table: Table, items: list[Any], now: float, wall: float) -> Answers:
        admitted: list[Admitted] = []
        answers: list[Answer] = []
        for item in items:
            found = self._admit(table, item, now, wall)
            if isinstance(found, dict):
                answers.append(found)
            elif isinstance(found, Admitted):
                admitted.append(found)
                answers.append(
                    {"member": found.entry.member, "seq": found.entry.seq, "effect": found.effect}
                )
            else:
                self._refused += 1
                answers.append({"refused": found})
        standings = self._admission.standings
        faults = []
        try:
            self._effects.apply(table, admitted, standings, now)
        except KernelError as error:  # a full set; or a repair, which adds them again
            faults.append(f"the kernel did not take these entries: {error}")
            log.error("fleet: %s", faults[0])
            self._table = None
            table.close()
        faults.append(self._effects.store(admitted, standings, wall))
        for one in admitted:
            self._around.recorder.note(
                "fleet", member=one.entry.member, address=one.entry.address, effect=one.effect,
                evidence=one.entry.evidence, scan=one.entry.scan, reason=one.entry.reason,
                seconds=one.seconds, gap=one.gap,
            )  # fmt: skip
        yield from answers
        yield from ({"warning": fault} for fault in faults if fault)

    def _admit(
        self, table: Table, item: object, now: float, wall: float
    ) -> Admitted | Answer | str:
        """Return the admitted entry, the answer to elements, or the reason for no effect."""
        statement = self._statements.read(item)
        if isinstance(statement, str):
            return statement
        if isinstance(statement, Elements):
            return self._learner.admit(table, statement, wall)
        found = self._admission.admit(statement, now, wall)
        return found.reason if isinstance(found, Rejected) else found

    def _is_exempt(self, entry: Entry) -> bool:
        """Return whether a source is never touched by what other members say."""
        address = entry.network.network_address.packed
        engine = self._around.engine
        if not entry.is_host:
            never = (*engine.decider.policy.never_block, *ALWAYS)
            return any(
                n.version == entry.network.version and n.overlaps(entry.network) for n in never
            )
        if entry.network.prefixlen == 64 and address in engine.whole6:
            return True  # many sources here
        source = parse_source(entry.address)
        is_known = engine.decider.is_protected(source) or self._always.holds(source)
        if is_known or entry.network.is_multicast:
            return True
        return self._table is not None and self._table.sets.is_partner(source)

    def drop(self, request: Mapping[str, Any]) -> Answers:
        """Take back every entry of a member; yield their number."""
        name = str(request.get("member"))
        if name not in self._admission.standings:
            raise SentryError(f"{name!r} is not a member of [fleet]")
        now = time.monotonic()
        addresses = self._admission.forget(name)
        with closing(Table()) as table:
            for address in addresses:
                self._effects.lift(table, address, self._admission.standings, now)
        self._effects.forget(name, addresses)
        self._around.recorder.note("fleet-drop", member=name, count=len(addresses))
        yield {"count": len(addresses)}

    def _follow_released(self) -> None:
        """Forget what was unblocked by hand since: that is local."""
        for source in self._around.weighed.take_released():
            for standing in self._admission.standings.values():
                if source is None:
                    standing.alive.clear()
                    continue
                for address in list(standing.alive):
                    if not is_network(address) and parse_source(address) == source:
                        del standing.alive[address]

    def release(self, request: Mapping[str, Any]) -> Answers:
        """Follow an unblock of a network by hand; yield how many members had blocked it."""
        address = str(request.get("address"))
        standings = self._admission.standings.values()
        yield {"count": sum(s.alive.pop(address, None) is not None for s in standings)}

    # --- what it reports

    def _report(self, now: float) -> None:
        if self._refused and now - self._reported_at >= REPORT_INTERVAL_S:
            self._reported_at = now
            members = {
                name: dict(standing.refused)
                for name, standing in self._admission.standings.items()
                if standing.refused
            }
            self._around.recorder.note(
                "fleet-refused", count=self._refused, members=members,
                unreadable=dict(self._statements.unreadable),
            )  # fmt: skip
            log.warning(
                "fleet: %d entries refused: `sentryfw fleet members` shows why", self._refused
            )
            self._refused = 0

    def status(self) -> Answer:
        """Return the fleet's part of `status --json`. Any thread may call it."""
        now = time.monotonic()
        members = {}
        for name, standing in self._admission.standings.items():
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
        return {
            "name": self._config.fleet.name,
            "members": members,
            "unreadable": dict(self._statements.unreadable),
        }

    def positions(self) -> Answer:
        """Return the last number of each member, from which a transport goes on."""
        return {name: standing.last for name, standing in self._admission.standings.items()}

    def _require(self) -> None:
        if not self.is_on:
            raise SentryError(NO_FLEET)
