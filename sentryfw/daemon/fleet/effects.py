"""The effects of what other members say: in the kernel's sets, the packet path, and the ledger."""

import itertools
import logging
import math
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from sentryfw.daemon.fleet.weighed import Weighed
from sentryfw.engine.model import Source, parse_source
from sentryfw.errors import SentryError
from sentryfw.fleet.admission import Admitted, Standing
from sentryfw.guard.block_index import KnownBlocks
from sentryfw.netfilter.schema import FLEET_SETS
from sentryfw.netfilter.sets.elements import key_of
from sentryfw.netfilter.table import Table
from sentryfw.record import learnt
from sentryfw.record.fleet import held
from sentryfw.record.ledger import Ledger

log: Final = logging.getLogger("sentryfwd")

REFILL_BATCH: Final = 500
"""Elements in one transaction: a block of our own waits for it a few milliseconds."""

Standings = Mapping[str, Standing]


class Effects:
    """Applies admitted entries. `standings` holds what each member blocks at this moment."""

    def __init__(self, memory: KnownBlocks, weighed: Weighed, ledger: Path) -> None:
        self._memory = memory
        self._weighed = weighed
        self._ledger = ledger

    def apply(
        self, table: Table, admitted: Iterable[Admitted], standings: Standings, now: float
    ) -> None:
        """Change the kernel, in one transaction, and what the packet path weighs. Raise
        KernelError."""
        blocks: dict[Source, float] = {}
        for one in admitted:
            source = parse_source(one.entry.address)
            if one.effect == "weigh":
                self._weighed.add(source, now + one.seconds)
            elif one.effect == "lift":
                blocks.pop(source, None)
                self.lift(table, one.entry.address, standings, now)
            elif one.effect == "block":
                left = _seconds_left(one.entry.address, standings, now)
                if left is not None:
                    blocks[source] = left
        table.decisions.block_for_fleet(blocks.items())

    def lift(self, table: Table, address: str, standings: Standings, now: float) -> None:
        """End the effect of an entry, unless that of another member goes on."""
        source = parse_source(address)
        self._weighed.discard(source)
        for standing in standings.values():
            other = standing.alive.get(address)
            if other is not None and other.effect == "weigh" and other.end > now:
                self._weighed.add(source, other.end)
        left = _seconds_left(address, standings, now)
        if left is not None:
            table.decisions.block_for_fleet([(source, left)])
            return
        key = key_of(source)
        self._memory.lifted[FLEET_SETS[len(key)], key] = now
        table.decisions.lift_for_fleet(source)

    def refill(self, table: Table, standings: Standings, now: float) -> None:
        """Add the blocks to the kernel's sets again: a flush, or a crash, may have emptied them.
        Raise KernelError."""
        addresses = {
            address
            for standing in standings.values()
            for address, held_now in list(standing.alive.items())
            if held_now.effect == "block"
        }
        lefts = ((name, _seconds_left(name, standings, now)) for name in addresses)
        blocks = ((parse_source(name), left) for name, left in lefts if left is not None)
        while part := list(itertools.islice(blocks, REFILL_BATCH)):
            table.decisions.block_for_fleet(part)

    def store(self, admitted: Iterable[Admitted], standings: Standings, wall: float) -> str:
        """Write the rows; return why that failed, or nothing. The entries have their effect then,
        and come once more after a restart."""
        try:
            with Ledger(self._ledger) as ledger, ledger.transaction():
                held.forget_ended(ledger, wall)
                for one in admitted:
                    if one.effect == "lift":
                        _forget(ledger, one.entry.member, one.entry.address)
                    else:
                        held.hold(ledger, [_row(one, wall)])
                for name, standing in standings.items():
                    if standing.last:
                        held.advance(ledger, name, standing.last)
        except (SentryError, sqlite3.Error) as error:
            log.error("fleet: entries are in effect, but not in the ledger: %s", error)
            return f"the ledger does not keep these entries: {error}"
        return ""

    def forget(self, member: str, addresses: Iterable[str]) -> None:
        """Delete all entries of a member from the ledger. Raise LedgerFault."""
        with Ledger(self._ledger) as ledger, ledger.transaction():
            for address in addresses:
                _forget(ledger, member, address)
            held.lift(ledger, None, member)


def _forget(ledger: Ledger, member: str, address: str) -> None:
    held.lift(ledger, address, member)
    key = key_of(parse_source(address))
    learnt.forget(ledger, [(FLEET_SETS[len(key)], key)])


def _row(one: Admitted, wall: float) -> held.Held:
    entry = one.entry
    return held.Held(
        member=entry.member, address=entry.address, effect=one.effect, evidence=entry.evidence,
        scan=entry.scan, reason=entry.reason, seq=entry.seq, at=wall,
        ends_at=wall + one.seconds if one.seconds else None,
    )  # fmt: skip


def _seconds_left(address: str, standings: Standings, now: float) -> float | None:
    """Return for how long a member still blocks a source; 0: without end; None: none does."""
    ends = [
        found.end
        for standing in standings.values()
        if (found := standing.alive.get(address)) and found.effect == "block" and found.end > now
    ]
    if not ends:
        return None
    end = max(ends)
    return 0.0 if end == math.inf else end - now
