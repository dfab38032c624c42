"""The effects of what other members say: in the kernel's sets, the packet path, and the ledger."""

import itertools
import logging
import math
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Final, NamedTuple

from sentryfw.config.types import IPNetwork
from sentryfw.daemon.fleet.weighed import Weighed
from sentryfw.engine.model import Source, parse_source
from sentryfw.errors import SentryError
from sentryfw.fleet.admission import Admitted, Standing
from sentryfw.guard.block_index import KnownBlocks
from sentryfw.guard.learnt_sets import record_unblock
from sentryfw.netfilter.schema import FLEET_SETS
from sentryfw.netfilter.sets.elements import key_of
from sentryfw.netfilter.sets.mirror import outer
from sentryfw.netfilter.table import Table
from sentryfw.record import learnt
from sentryfw.record.fleet import held
from sentryfw.record.ledger import Ledger

log: Final = logging.getLogger("sentryfwd")

REFILL_BATCH: Final = 500
"""Elements in one transaction: a block of our own waits for it a few milliseconds."""
SWEEP_INTERVAL_S: Final = 60.0
"""Seconds between two removals of the rows that have ended."""

Standings = Mapping[str, Standing]


class Left(NamedTuple):
    """The rest of a block by the word of other members."""

    seconds: float
    """0: without end."""
    cut: bool
    """Whether live flows end, too."""


class Effects:
    """Applies admitted entries. `standings` holds what each member blocks at this moment."""

    def __init__(
        self, memory: KnownBlocks, weighed: Weighed, ledger: Path, unblock: Callable[[str], None]
    ) -> None:
        """`unblock`: ends this host's own block of an address, if there is one."""
        self._unblock = unblock
        self._memory = memory
        self._weighed = weighed
        self._ledger = ledger
        self._swept_at = -math.inf
        self.networks_due_at = math.inf
        """Clock value at which a network ends that holds one that goes on."""
        self._kept: dict[str, int] = {}
        """The last number of each member in the ledger."""

    def apply(
        self, table: Table, admitted: Iterable[Admitted], standings: Standings, now: float
    ) -> None:
        """Change the kernel, sources in one transaction and networks in one, and what the packet
        path weighs. Raise KernelError."""
        blocks: dict[Source, Left] = {}
        has_networks = False
        for one in admitted:
            if one.effect == "unblock":
                self._unblock(one.entry.address)
            if not one.entry.is_host:
                has_networks = True
                continue
            source = one.entry.source
            if one.effect == "weigh":
                self._weighed.add(source, now + one.seconds, one.entry.member)
            elif one.effect in ("lift", "unblock"):
                blocks.pop(source, None)
                self.lift(table, one.entry.address, standings, now)
            elif one.effect == "block":
                left = left_of(one.entry.address, standings, now)
                if left is not None:
                    blocks[source] = left
        _block(table, blocks)
        if has_networks:
            self.block_networks(table, standings, now)

    def lift(self, table: Table, address: str, standings: Standings, now: float) -> None:
        """End the effect of an entry, unless that of another member goes on."""
        if is_network(address):
            self.block_networks(table, standings, now)
            return
        source = parse_source(address)
        self._weighed.discard(source)
        for name, standing in standings.items():
            other = standing.alive.get(address)
            if other is not None and other.effect == "weigh" and other.end > now:
                self._weighed.add(source, other.end, name)
        left = left_of(address, standings, now)
        if left is not None:
            _block(table, {source: left})
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
            if held_now.effect == "block" and not is_network(address)
        }
        lefts = ((name, left_of(name, standings, now)) for name in addresses)
        blocks = ((parse_source(name), left) for name, left in lefts if left is not None)
        while part := list(itertools.islice(blocks, REFILL_BATCH)):
            _block(table, dict(part))
        self.block_networks(table, standings, now)

    def block_networks(self, table: Table, standings: Standings, now: float) -> None:
        """Block the networks that members block now, and no other ones. Raise KernelError."""
        networks = {
            ip_network(address): left.seconds
            for standing in standings.values()
            for address in list(standing.alive)
            if is_network(address) and (left := left_of(address, standings, now)) is not None
        }
        self.networks_due_at = now + next_uncovered(networks)
        table.mirror.block_networks(networks)

    def store(self, admitted: Iterable[Admitted], standings: Standings, wall: float) -> str:
        """Write the rows; return why that failed, or nothing. The entries have their effect then,
        and come once more after a restart."""
        try:
            with Ledger(self._ledger) as ledger, ledger.transaction():
                if abs(wall - self._swept_at) >= SWEEP_INTERVAL_S:  # it reads every row
                    self._swept_at = wall
                    held.forget_ended(ledger, wall)
                for is_held, some in itertools.groupby(admitted, _is_held):
                    if is_held:
                        held.hold(ledger, (_row(one, wall) for one in some))
                    else:
                        for one in some:
                            _end(ledger, one, wall)
                for name, standing in standings.items():
                    if standing.last != self._kept.get(name, 0):
                        held.advance(ledger, name, standing.last)
            self._kept = {name: standing.last for name, standing in standings.items()}
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


def is_network(address: str) -> bool:
    """Return whether an entry's address is a network, not one source."""
    return "/" in address and not (":" in address and address.endswith("/64"))


def next_uncovered(networks: Mapping[IPNetwork, float]) -> float:
    """Return the seconds until a network ends that holds a smaller one which goes on, so that this
    has to be added; infinity if there is none. The values are seconds left; 0: without end."""
    due, last = math.inf, None
    outermost = set(outer(networks))
    for network in sorted(networks, key=lambda n: (n.version, int(n[0]), n.prefixlen)):
        if network in outermost:
            last = network
        elif last is not None and (left := networks[last]):
            goes_on = not networks[network] or networks[network] > left
            due = min(due, left) if goes_on else due
    return due


def left_of(address: str, standings: Standings, now: float) -> Left | None:
    """Return the rest of what members still block; None: none does."""
    found = [
        alive
        for standing in standings.values()
        if (alive := standing.alive.get(address)) and alive.effect == "block" and alive.end > now
    ]
    if not found:
        return None
    end = max(alive.end for alive in found)
    return Left(0.0 if end == math.inf else end - now, any(alive.cut for alive in found))


def _block(table: Table, blocks: Mapping[Source, Left]) -> None:
    seconds = ((source, left.seconds) for source, left in blocks.items())
    cut = {source for source, left in blocks.items() if left.cut}
    table.decisions.block_for_fleet(seconds, cut)


def _forget(ledger: Ledger, member: str, address: str) -> None:
    held.lift(ledger, address, member)
    if not is_network(address):
        key = key_of(parse_source(address))
        learnt.forget(ledger, [(FLEET_SETS[len(key)], key)])


def _is_held(one: Admitted) -> bool:
    return one.effect not in ("lift", "unblock")


def _end(ledger: Ledger, one: Admitted, wall: float) -> None:
    if one.effect == "lift":
        _forget(ledger, one.entry.member, one.entry.address)
    else:
        record_unblock(ledger, one.entry.address, wall)


def _row(one: Admitted, wall: float) -> held.Held:
    entry = one.entry
    return held.Held(
        member=entry.member, address=entry.address, effect=one.effect, evidence=entry.evidence,
        scan=entry.scan, reason=entry.reason, seq=entry.seq, at=wall,
        ends_at=wall + one.seconds if one.seconds else None,
    )  # fmt: skip
