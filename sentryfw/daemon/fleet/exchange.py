"""The daemon's side of a fleet: signed entries out, and what others send, in.

The transport of entries is not trusted: signatures, caps and exemptions are
checked here. All of it runs in the thread of the control socket, one request after another, off the
packet path.

See docs/decisions.md: fleet-outbox, fleet-trust.
"""

import logging
import math
import time
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, cast

from sentryfw.config.model import Config
from sentryfw.daemon.fleet.intake import Intake, Surroundings, members_of
from sentryfw.daemon.fleet.learner import Learner
from sentryfw.daemon.fleet.outbox_wait import NO_FLEET, OutboxWait
from sentryfw.daemon.fleet.sender import MAX_ENTRIES, Sender
from sentryfw.daemon.fleet.statements import Statements
from sentryfw.engine.model import parse_source
from sentryfw.errors import SentryError
from sentryfw.fleet.admission import Admitted, Alive, Effect, Rejected
from sentryfw.fleet.entry import Elements, Entry, Statement
from sentryfw.fleet.seal import SEAL_COUNT
from sentryfw.netfilter.table import Table
from sentryfw.record.fleet import held, outbox
from sentryfw.record.ledger import Ledger

if TYPE_CHECKING:
    from sentryfw.daemon.fleet.crowdsec_member import CrowdsecMember

log: Final = logging.getLogger("sentryfwd")

Answer = dict[str, Any]
Answers = Generator[Answer, None, None]


class Exchange:
    """Signs our entries, and admits those of other members."""

    def __init__(self, config: Config, around: Surroundings) -> None:
        self._config = config
        self._around = around
        self._sender = Sender(config)
        self.outbox = OutboxWait(config, self._sender)
        self._statements = Statements(config)
        self._repairs = 0
        self._is_repaired = False
        self.intake = Intake(config, around)
        self._learner = Learner(config.paths.ledger, self.intake.admission)
        self.crowdsec = self._crowdsec() if config.fleet.crowdsec.url else None

    def _crowdsec(self) -> "CrowdsecMember":
        from sentryfw.daemon.fleet.crowdsec_member import CrowdsecMember  # noqa: PLC0415 - few

        return CrowdsecMember(self._config.fleet.crowdsec, self.intake)

    @property
    def is_on(self) -> bool:
        """Whether the word of others counts here, or ours elsewhere."""
        return bool(self._config.fleet.name) or self.crowdsec is not None

    def start(self, table: Table, now: float, wall: float) -> None:
        """Continue with what the ledger remembers; end the entries of members that the
        configuration names no longer. Raise SentryError or sqlite3.Error."""
        standings = self.intake.standings
        self._around.weighed.agree = self._config.fleet.agree
        with Ledger(self._config.paths.ledger) as ledger:
            if self._config.fleet.name:
                outbox.enable(ledger, wall, mirrors=self._config.fleet.mirrors)
            else:
                outbox.disable(ledger)
            rows = held.active(ledger, wall)
            self._restore([row for row in rows if row.member in standings], now, wall)
            for name, last in held.numbers(ledger).items():
                self.intake.admission.restore(name, last, {}, now)
        for name in {row.member for row in rows} - standings.keys():
            addresses = [row.address for row in rows if row.member == name]
            for address in addresses:
                self.intake.effects.lift(table, address, standings, now)
            self.intake.effects.forget(name, addresses)
        self.intake.effects.refill(table, standings, now)

    def repaired(self, repairs: int) -> bool:
        """Return whether the fleet's sets have to be filled again: the table was repaired since the
        last call (`repairs`: their number), or a network has ended that held another one."""
        before, self._repairs = self._repairs, repairs
        self._is_repaired |= repairs != before
        is_due = self.intake.effects.networks_due_at <= time.monotonic()
        return self.is_on and (repairs != before or is_due)

    def refill(self) -> None:
        """Add what the fleet blocks to a table that was repaired, or its networks where one has
        ended. Runs in a thread of its own."""
        is_whole, self._is_repaired = self._is_repaired, False
        effects = self.intake.effects
        fill = effects.refill if is_whole else effects.block_networks
        try:
            with closing(Table()) as table:
                fill(table, self.intake.standings, time.monotonic())
        except SentryError as error:
            log.warning("fleet: the repaired table lacks blocks of other members: %s", error)

    def _restore(self, rows: list[held.Held], now: float, wall: float) -> None:
        for row in rows:
            end = math.inf if row.ends_at is None else now + row.ends_at - wall
            cut = row.evidence != "forgeable"
            kept = {row.address: Alive(cast(Effect, row.effect), end, cut)}
            self.intake.admission.restore(row.member, 0, kept, now)
            if row.effect == "weigh":
                self._around.weighed.add(parse_source(row.address), end, row.member)

    def reconfigure(self, config: Config) -> None:
        """Use another configuration, with the same [fleet]: a running daemon keeps that."""
        self._config = config
        for name, member in members_of(config).items():
            self.intake.standings[name].member = member

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
        self.intake.follow_released()
        with self.intake.open() as table:
            found = [self._statements.read(item) for item in items]
            yield from self._take(table, found, now, wall)
        self.intake.report(now, self._statements.unreadable)

    def part(self, request: Mapping[str, Any]) -> Answers:
        """Admit the texts of a part by its seal; yield how many had which effect. Or `unsealed`:
        nothing is admitted, and each has to come with its own signature."""
        texts = request.get("entries")
        if not isinstance(texts, list) or len(texts) > SEAL_COUNT:
            raise SentryError(f"entries is a list of at most {SEAL_COUNT}")
        self._require()
        now, wall = time.monotonic(), time.time()
        self.intake.follow_released()
        found = self._statements.read_part(texts, request.get("seal"))
        if found is None:
            yield {"unsealed": "the seal is not that of these entries"}
            return
        with self.intake.open() as table:
            answers = list(self._take(table, found, now, wall))
        words = (one.get("effect") or f"refused: {one['refused']}"
                 for one in answers if "warning" not in one)  # fmt: skip
        yield {"effects": dict(Counter(words))}
        yield from (one for one in answers if "warning" in one)
        self.intake.report(now, self._statements.unreadable)

    def _take(
        self, table: Table, statements: list[Statement | str], now: float, wall: float
    ) -> Answers:
        admitted: list[Admitted] = []
        answers: list[Answer] = []
        self.intake.look_up(table, (one for one in statements if isinstance(one, Entry)))
        for statement in statements:
            found = self._admit(table, statement, now, wall)
            if isinstance(found, dict):
                answers.append(found)
            elif isinstance(found, Admitted):
                admitted.append(found)
                answers.append(
                    {"member": found.entry.member, "seq": found.entry.seq, "effect": found.effect}
                )
            else:
                self.intake.refused += 1
                answers.append({"refused": found})
        faults = list(self.intake.apply(table, admitted, now, wall))
        yield from answers
        yield from ({"warning": fault} for fault in faults)

    def _admit(
        self, table: Table, statement: Statement | str, now: float, wall: float
    ) -> Admitted | Answer | str:
        """Return the admitted entry, the answer to elements, or the reason for no effect."""
        if isinstance(statement, str):
            return statement
        if isinstance(statement, Elements):
            return self._learner.admit(table, statement, wall)
        found = self.intake.admission.admit(statement, now, wall)
        return found.reason if isinstance(found, Rejected) else found

    def drop(self, request: Mapping[str, Any]) -> Answers:
        """Take back every entry of a member; yield their number."""
        name = str(request.get("member"))
        if name not in self.intake.standings:
            raise SentryError(f"{name!r} is not a member of [fleet]")
        now = time.monotonic()
        addresses = self.intake.admission.forget(name)
        with closing(Table()) as table:
            for address in addresses:
                self.intake.effects.lift(table, address, self.intake.standings, now)
        self.intake.effects.forget(name, addresses)
        self._around.recorder.note("fleet-drop", member=name, count=len(addresses))
        yield {"count": len(addresses)}

    def release(self, request: Mapping[str, Any]) -> Answers:
        """Follow an unblock of a network by hand; yield how many members had blocked it."""
        address = str(request.get("address"))
        standings = self.intake.standings.values()
        yield {"count": sum(s.alive.pop(address, None) is not None for s in standings)}

    # --- what it reports

    def status(self) -> Answer:
        """Return the fleet's part of `status --json`. Any thread may call it."""
        return {
            "name": self._config.fleet.name,
            "members": self.intake.counts(time.monotonic()),
            "unreadable": dict(self._statements.unreadable),
            **({"crowdsec": self.crowdsec.status()} if self.crowdsec else {}),
        }

    def positions(self) -> Answer:
        """Return the last number of each firewall, from which a transport goes on."""
        members = self._config.fleet.members
        return {name: one.last for name, one in self.intake.standings.items() if name in members}

    def _require(self) -> None:
        if not self._config.fleet.name:
            raise SentryError(NO_FLEET)
