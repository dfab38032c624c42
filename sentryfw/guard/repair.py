"""Repair the table: its rules, its sets and their blocks, in one transaction.

Runs in the guard's thread and under the table lock (worker.py), while packets are judged.
"""

import logging
import time
from collections.abc import Iterable
from typing import Final, NamedTuple

from sentryfw.errors import KernelError, SentryError
from sentryfw.guard.block_index import KnownBlocks, by_set
from sentryfw.guard.compare import compare
from sentryfw.guard.moment import Pauses
from sentryfw.guard.table_reader import BlockSetReader
from sentryfw.netfilter import block_sets, snapshot
from sentryfw.netfilter.block_sets import BlockedRange
from sentryfw.netfilter.schema import BLOCK_SETS, NETWORK_SETS, TABLE
from sentryfw.netfilter.sets import elements
from sentryfw.netfilter.snapshot import TableSnapshot
from sentryfw.netlink import nftables as nl
from sentryfw.netlink.message import NLM_F_CREATE
from sentryfw.netlink.nftables import NftRequest
from sentryfw.netlink.set_elements import Lifetime, new_elements, set_element
from sentryfw.netlink.socket import NfnetlinkSocket

log: Final = logging.getLogger("sentryfwd")

UNBLOCKED: Final = (1.0, 0.0)
"""The Expiry of a block that was removed while it was about to be restored: it has ended."""


class Repair(NamedTuple):
    """A repair that was made."""

    missing: list[str]
    """Parts of the table that were missing or altered, for people to read."""
    blocks: int
    seconds: float


class _Damage(NamedTuple):
    """The difference between the table that should be and the one that is."""

    parts: list[str]
    """Chains, sets, rules that are missing or altered."""
    blocks: dict[bytes, Lifetime]
    ranges: dict[str, list[BlockedRange]]

    def __bool__(self) -> bool:
        return bool(self.parts or self.blocks or self.ranges)


class RepairWorker:
    """Changes the table through one netlink socket."""

    def __init__(self, netlink: NfnetlinkSocket) -> None:
        self._netlink = netlink

    def repair(
        self, plan: TableSnapshot, memory: KnownBlocks, now: float
    ) -> tuple[TableSnapshot, Repair] | None:
        """Make the table as it is planned and known; return it as it is then.

        Return None if there was nothing to repair. Raise KernelError if the kernel refuses, and
        SentryError if the repair is not there when the table is read again.
        """
        started = time.monotonic()
        there = snapshot.read(self._netlink)
        is_large = len(memory.ends) > block_sets.RESTORE_BATCH
        damage = self._damage(plan, there, memory, now, all_sets=not is_large)
        blocks = len(damage.blocks)
        if damage:
            try:
                self._transact(plan, there, memory, damage)
            except KernelError as error:
                log.error("cannot repair the table (%s): deleting it and making it again", error)
                blocks = self._make_again(plan, memory, now)
        if is_large:
            blocks += self._restore_large(memory)
        if not damage and not blocks:
            return None
        made = snapshot.read(self._netlink)
        still = plan.missing_from(made)
        if still or made is None:
            raise SentryError(f"repaired, but still missing when read back: {', '.join(still)}")
        missing = [*damage.parts, f"{blocks} blocks"] if blocks else damage.parts
        return made, Repair(missing, blocks, time.monotonic() - started)

    def is_damaged(self, plan: TableSnapshot, memory: KnownBlocks, now: float) -> bool:
        """Return whether the table lacks a part or a block."""
        there = snapshot.read(self._netlink)
        is_large = len(memory.ends) > block_sets.RESTORE_BATCH
        if self._damage(plan, there, memory, now, all_sets=not is_large):
            return True
        return is_large and bool(self._find_missing(memory))

    def restore_missing(self, memory: KnownBlocks, keys: Iterable[bytes]) -> int:
        """Add the blocks of these keys, in small transactions, with the time that is left.

        Return how many there were; those that were unblocked since are left out.
        """
        done = 0
        for name, part in by_set(keys).items():
            for low in range(0, len(part), block_sets.LIVE_BATCH):
                now = time.monotonic()
                wanted = {}
                for key in part[low : low + block_sets.LIVE_BATCH]:
                    timeout, end = memory.ends.get(key) or UNBLOCKED
                    if not timeout or end > now:
                        wanted[key] = Lifetime(timeout, end - now)
                block_sets.add_elements(self._netlink, name, wanted)
                done += len(wanted)
        return done

    def _damage(
        self,
        plan: TableSnapshot,
        there: TableSnapshot | None,
        memory: KnownBlocks,
        now: float,
        *,
        all_sets: bool,
    ) -> _Damage:
        missing_sets = frozenset(
            name for name in BLOCK_SETS.values() if there is None or name not in there.sets
        )
        return _Damage(
            plan.missing_from(there),
            self._missing_blocks(memory, missing_sets, now, all_sets=all_sets),
            self._missing_ranges(memory, there, now),
        )

    def _missing_blocks(
        self, memory: KnownBlocks, missing_sets: frozenset[str], now: float, *, all_sets: bool
    ) -> dict[bytes, Lifetime]:
        """Return missing blocks, at most one transaction of them: those of sets that are
        missing, and with `all_sets` those of the others too."""
        kernel = BlockSetReader(self._netlink, bool, missing_sets)
        found: dict[bytes, Lifetime] = {}
        for part in memory.ends.parts():
            for name, keys in by_set(part).items():
                if all_sets or name in missing_sets:
                    there = kernel.find(name, keys)
                    for key in keys:
                        timeout, end = part[key]
                        if key not in there and (not timeout or end > now):
                            found[key] = Lifetime(timeout, end - now)
            if len(found) >= block_sets.RESTORE_BATCH:
                break
        return found

    def _missing_ranges(
        self, memory: KnownBlocks, there: TableSnapshot | None, now: float
    ) -> dict[str, list[BlockedRange]]:
        found = {}
        for name in NETWORK_SETS:
            wanted = memory.active_ranges(name, now)
            if wanted and there is not None and name in there.sets:
                kernel = {item.first for item in block_sets.read_ranges(self._netlink, name)}
                wanted = [item for item in wanted if item.first not in kernel]
            if wanted:
                found[name] = wanted
        return found

    def _transact(
        self,
        plan: TableSnapshot,
        there: TableSnapshot | None,
        memory: KnownBlocks,
        damage: _Damage,
        first: Iterable[NftRequest] = (),
    ) -> None:
        """Repair the damage in one transaction that begins with the requests of `first`."""
        requests = list(first)
        if damage.parts:
            requests += plan.requests()
            requests += _learnt_requests(memory, there)
        for name, keys in by_set(damage.blocks).items():
            part = ((key, damage.blocks[key]) for key in keys)
            requests += block_sets.element_requests(name, part)
        for name, ranges in damage.ranges.items():
            requests += block_sets.range_requests(name, ranges)
        self._netlink.grow(elements.TRANSACTION_BUFFER_BYTES)
        self._netlink.transact(requests, "repair")

    def _make_again(self, plan: TableSnapshot, memory: KnownBlocks, now: float) -> int:
        """Delete the table and make it, in one transaction; return the number of its blocks."""
        damage = self._damage(plan, None, memory, now, all_sets=True)
        self._transact(plan, None, memory, damage, first=_delete_requests())
        return len(damage.blocks)

    def _restore_large(self, memory: KnownBlocks) -> int:
        """Restore blocks by the hundred thousand, in transactions that others need not wait for."""
        return self.restore_missing(memory, self._find_missing(memory))

    def _find_missing(self, memory: KnownBlocks) -> list[bytes]:
        pause = Pauses()
        return compare(memory.ends, BlockSetReader(self._netlink, pause), pause).missing


def flush_blocks(netlink: NfnetlinkSocket) -> None:
    """Empty the block sets. One transaction, so the table lock is not needed."""
    names = (*BLOCK_SETS.values(), *NETWORK_SETS)
    requests = [(nl.NFT_MSG_DELSETELEM, 0, nl.set_name(TABLE, name)) for name in names]
    netlink.transact(requests, "flush of the block sets")


def _learnt_requests(memory: KnownBlocks, there: TableSnapshot | None) -> list[NftRequest]:
    """Return requests that fill the sets that rules fill, without what was lifted since."""
    lost = [name for name in memory.learnt if there is None or name not in there.sets]
    requests = [
        new_elements(TABLE, name, payload) for name in lost for payload in memory.learnt[name]
    ]
    for name, key in list(memory.lifted):
        if name in lost:  # added, so that there is one to delete
            body = set_element(TABLE, name, key)
            requests += [
                (nl.NFT_MSG_NEWSETELEM, NLM_F_CREATE, body),
                (nl.NFT_MSG_DELSETELEM, 0, body),
            ]
    return requests


def _delete_requests() -> list[NftRequest]:
    """Return requests that delete the table whether it exists or not."""
    name = nl.text(nl.NFTA_TABLE_NAME, TABLE)
    return [
        (nl.NFT_MSG_NEWTABLE, NLM_F_CREATE, name),
        (nl.NFT_MSG_DELTABLE, 0, name),
    ]
