"""The kernel's sets, our memory of them and the ledger: compare the three, and put back.

Everything here runs in the keeper's one thread, with a netlink socket and a ledger connection
of its own, while the packet path goes on; long looks pause between messages.
"""

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from ipaddress import ip_network
from pathlib import Path
from typing import Final, NamedTuple

from sentryfw import compare
from sentryfw.compare import (
    GRACE,
    TOLERANCE,
    UNCOLLECTED,
    Book,
    Kernel,
    Look,
    Quietly,
    Restoring,
    alive,
    alive_networks,
)
from sentryfw.errors import KernelError, SentryError
from sentryfw.memory import SETS, End, Ends, Memory, by_set
from sentryfw.netfilter import blueprint, bulk
from sentryfw.netfilter import nfnetlink as nl
from sentryfw.netfilter.blueprint import Blueprint, Message
from sentryfw.netfilter.bulk import Life, Lives, Pauses, Range
from sentryfw.netfilter.netlink import NfnetlinkSocket
from sentryfw.netfilter.table import TABLE, IPNetwork
from sentryfw.record import lives
from sentryfw.record.ledger import Ledger
from sentryfw.record.lives import Alive

log: Final = logging.getLogger("sentryfwd")

NETWORK_SETS: Final = ("block_net4", "block_net6")
PARTNER_SETS: Final = ("partner4", "partner6")
WRITTEN: Final = 2_000
"""Rows of the ledger that one transaction changes; the recorder waits for it."""


class Healed(NamedTuple):
    """A repair that was made."""

    lacked: list[str]
    blocks: int
    seconds: float


class Compared(NamedTuple):
    """What a reconciliation found and did."""

    kernel: int = 0
    ledger: int = 0
    restored: int = 0
    """In the ledger or our memory, not in the kernel: put back."""
    adopted: int = 0
    """In the kernel, not in the ledger."""
    corrected: int = 0
    """In both, with ends that differ: the kernel's is right."""
    ended: int = 0
    """Alive by the ledger's clock, over by the kernel's."""
    seconds: float = 0.0
    fault: str = ""


class Workshop:
    """The thread's tools."""

    def __init__(self, ledger: Path) -> None:
        self.netlink = NfnetlinkSocket()
        self._ledger = ledger
        self.look_closer = False
        """Whether blocks of which nobody told us are likely: a large set is dumped for them."""
        self._partners: dict[str, tuple[bytes, ...]] = {}
        """A minute old at most: who finished a handshake is not forgotten by a flush."""

    def close(self) -> None:
        self.netlink.close()

    # --- the table

    def repair(
        self, plan: Blueprint, memory: Memory, now: float
    ) -> tuple[Blueprint, Healed] | None:
        """Make the table whole, in one transaction with the blocks. None if nothing was amiss."""
        started = time.monotonic()
        there = blueprint.take(self.netlink)
        lacked = plan.lacks(there)
        many = len(memory.ends) > bulk.SLICE
        gone = _gone(there)
        missing = self._first_missing(memory, gone, now, whole=not many)
        nets = self._missing_ranges(memory, there, now)
        messages = plan.messages() if lacked else []
        if lacked:
            messages += self._partner_messages(there)
        if lacked or missing or nets:
            try:
                self._send(messages, missing, nets)
            except KernelError as error:
                log.error("table: it does not mend (%s); made anew", error)
                nets = {name: memory.live_ranges(name, now) for name in NETWORK_SETS}
                anew = [*_anew(), *plan.messages(), *self._partner_messages(None)]
                missing = self._first_missing(memory, frozenset(SETS.values()), now, whole=True)
                self._send(anew, missing, nets)
        blocks = len(missing) + (self._put_back_missing(memory) if many else 0)
        if not lacked and not blocks and not nets:
            return None
        made = blueprint.take(self.netlink)
        still = plan.lacks(made)
        if still or made is None:
            raise SentryError(f"repaired, but not there when read back: {', '.join(still)}")
        if blocks:
            lacked.append(f"{blocks} blocks")
        return made, Healed(lacked, blocks, time.monotonic() - started)

    def _send(self, messages: list[Message], missing: Lives, nets: dict[str, list[Range]]) -> None:
        """One transaction."""
        for name, keys in by_set(missing).items():
            part = ((key, missing[key]) for key in keys)
            messages = messages + bulk.element_messages(name, part)
        for name, ranges in nets.items():
            messages = messages + bulk.range_messages(name, ranges)
        self.netlink.grow(bulk.BUFFER)
        self.netlink.transact(messages, "repair")

    def _first_missing(
        self, memory: Memory, gone: frozenset[str], now: float, *, whole: bool
    ) -> Lives:
        """As many missing blocks as one transaction takes: of sets that are gone, and where the
        whole is no more than that, of the others too."""
        kernel = Kernel(self.netlink, bool, gone)
        found: Lives = {}
        for part in memory.ends.parts():
            for name, keys in by_set(part).items():
                if whole or name in gone:
                    there = kernel.find(name, keys)
                    for key in keys:
                        timeout, end = part[key]
                        if key not in there and (not timeout or end > now):
                            found[key] = Life(timeout, end - now)
            if len(found) >= bulk.SLICE:
                break
        return found

    def _put_back_missing(self, memory: Memory) -> int:
        """Blocks by the hundred thousand, in many small transactions: others wait for each."""
        pause = Pauses()
        found = compare.look(memory.ends, Kernel(self.netlink, pause), pause)
        return self.put_back(memory, found.missing)

    def _missing_ranges(
        self, memory: Memory, there: Blueprint | None, now: float
    ) -> dict[str, list[Range]]:
        found = {}
        for name in NETWORK_SETS:
            wanted = memory.live_ranges(name, now)
            if wanted and there is not None and name in there.sets:
                kernel = {item.first for item in bulk.read_ranges(self.netlink, name)}
                wanted = [item for item in wanted if item.first not in kernel]
            if wanted:
                found[name] = wanted
        return found

    def _partner_messages(self, there: Blueprint | None) -> list[Message]:
        return [
            blueprint.element_message(name, payload)
            for name, payloads in self._partners.items()
            if there is None or name not in there.sets
            for payload in payloads
        ]

    # --- the blocks

    def look_at_ranges(self, now: float) -> dict[str, list[Range]]:
        return {
            name: [
                item._replace(life=Life(item.life.timeout, now + item.life.left))
                for item in bulk.read_ranges(self.netlink, name)
            ]
            for name in NETWORK_SETS
        }

    def restore(
        self, now: float, wall: float, *, upto: tuple[int, float] | None = None
    ) -> tuple[Memory, Compared]:
        """What the ledger knows to be alive and the kernel has not comes back, what only the
        kernel knows is adopted; while packets are judged. `upto`: see lives.alive()."""
        try:
            with Ledger(self._ledger) as ledger:
                return self.restore_from(ledger, now, wall, upto, size=bulk.BESIDE)
        except SentryError as error:
            log.error("blocks are not restored: %s", error)
            memory = self.learn(now)
            return memory, Compared(len(memory.ends), fault=str(error))

    def restore_from(
        self, ledger: Ledger, now: float, wall: float, upto: tuple[int, float] | None = None,
        *, quietly: Quietly = nullcontext, size: int = bulk.SLICE,
    ) -> tuple[Memory, Compared]:  # fmt: skip
        """The same at start, from a ledger that is open, perhaps in memory; so many blocks in a
        transaction."""
        started = time.monotonic()
        restoring = Restoring(self.netlink, quietly, size)
        networks: list[tuple[IPNetwork, Life]] = []
        for row in lives.alive(ledger, wall, upto):
            try:
                if row.is_network:
                    networks.append((ip_network(row.address), Life(row.timeout, row.left)))
                else:
                    restoring.add(row.key, row.address, row.timeout, now + row.left)
            except ValueError:
                log.warning("ledger: %r is no address", row.address)
        restoring.finish(lives.ended(ledger, wall - UNCOLLECTED, wall))
        memory = Memory(restoring.ends, self.look_at_ranges(now))
        before = dict(memory.ranges)
        back = restoring.restored + self._restore_networks(memory, networks)
        memory.ranges.update(self.look_at_ranges(now))
        found = Compared(len(memory.ends), restoring.rows + len(networks), back)
        if upto is None:
            self.look_closer = restoring.has_strangers
            strangers = [*alive(restoring.strangers, now), *alive_networks(before, now)]
            rows = {str(network): life for network, life in networks}
            adopted, corrected = self._tell(ledger, strangers, rows, wall, grace=0.0)
            ends = ((address, wall - now + end) for address, end in restoring.moved)
            corrected += _correct(ledger, ends, bool)
            found = found._replace(adopted=adopted, corrected=corrected)
        return memory, found._replace(seconds=time.monotonic() - started)

    def learn(self, now: float) -> Memory:
        """What the kernel holds, where that is little enough to be dumped."""
        ends = Ends()
        for key, end in Kernel(self.netlink, bool).dumped():
            ends[key] = end
        return Memory(ends, self.look_at_ranges(now))

    def _restore_networks(self, memory: Memory, networks: list[tuple[IPNetwork, Life]]) -> int:
        back = 0
        there = {item.first for ranges in memory.ranges.values() for item in ranges}
        for network, life in networks:
            item = _range(network, life)
            if item.first in there:
                continue
            name = f"block_net{network.version}"
            try:
                self.netlink.transact(bulk.range_messages(name, [item]), f"{network}")
            except KernelError as error:  # it overlaps one that is there
                log.warning("block of %s is not restored: %s", network, error)
            else:
                back += 1
        return back

    def reconcile(self, memory: Memory, now: float, wall: float) -> tuple[Look, Compared]:
        """Kernel against memory and ledger, both directions. The ledger is put right here; what
        follows for memory and kernel is for the caller to do, under the lock."""
        started = time.monotonic()
        pause = Pauses()
        kernel = Kernel(self.netlink, pause)
        look = compare.look(memory.ends, kernel, pause)
        self._partners = {
            name: blueprint.element_lists(self.netlink, name) for name in PARTNER_SETS
        }
        dumps = [kernel.dumped()]
        if self.look_closer:
            self.look_closer = False
            dumps += map(kernel.dump, kernel.outnumbers(look.there, self._just_ended(wall)))
        for key, end in itertools.chain.from_iterable(dumps):
            if key not in memory.ends:
                look.strangers[key] = end
        ranges = self.look_at_ranges(now)
        there = sum(look.there.values()) + len(look.strangers)
        found = Compared(there)
        try:
            with Ledger(self._ledger) as ledger:
                found = self._agree(ledger, memory, look, ranges, found, now, wall, pause)
        except SentryError as error:
            found = found._replace(fault=str(error))
        return look, found._replace(seconds=time.monotonic() - started)

    def _just_ended(self, wall: float) -> int:
        try:
            with Ledger(self._ledger) as ledger:
                return lives.ended(ledger, wall - UNCOLLECTED, time.time())
        except SentryError:
            return 0  # it is said with the comparison

    def _agree(
        self, ledger: Ledger, memory: Memory, look: Look, ranges: dict[str, list[Range]],
        found: Compared, now: float, wall: float, pause: Callable[[], object],
    ) -> Compared:  # fmt: skip
        """Make the ledger say what the kernel does."""
        book = Book(memory.ends, look, now, pause)
        book.read(lives.alive(ledger, wall))
        networks = {item.address: item for item in alive_networks(ranges, now)}
        ended = [*book.ended, *(name for name in book.networks if name not in networks)]
        _correct(ledger, ((address, wall) for address in ended), pause)
        strangers = [*alive(look.strangers, now), *networks.values()]
        if book.lacks_some():
            strangers += book.strangers(lives.alive(ledger, wall))
        adopted, corrected = self._tell(
            ledger, strangers, book.networks | book.known, wall, grace=GRACE
        )
        ends = ((address, wall - now + end) for address, end in book.moved)
        return found._replace(
            ledger=book.rows, adopted=adopted, ended=len(ended),
            corrected=corrected + _correct(ledger, ends, pause),
        )  # fmt: skip

    def _tell(
        self, ledger: Ledger, strangers: Iterable[Alive], rows: Mapping[str, Life], wall: float,
        *, grace: float,
    ) -> tuple[int, int]:  # fmt: skip
        """The ledger what only the kernel knows, or knows better: (adopted, corrected)."""
        new: list[Alive] = []
        ends: list[tuple[str, float]] = []
        for item in strangers:
            row = rows.get(item.address)
            if row is not None:
                if item.timeout and abs(row.left - item.left) > TOLERANCE:
                    ends.append((item.address, wall + item.left))
            elif item.timeout and lives.known(ledger, item.address):
                ends.append((item.address, wall + item.left))
            elif not item.timeout or item.timeout - item.left >= grace:
                new.append(item)
        return lives.adopt(ledger, new, wall), _correct(ledger, ends, bool)

    def find(self, keys: Iterable[bytes]) -> dict[bytes, End]:
        """Those that are in the kernel now."""
        kernel = Kernel(self.netlink, bool)
        return {
            key: end
            for name, part in by_set(keys).items()
            for key, end in kernel.find(name, part).items()
        }

    def put_back(self, memory: Memory, keys: Iterable[bytes]) -> int:
        """What is left of these blocks of ours, while packets are judged; how many there were."""
        done = 0
        for name, part in by_set(keys).items():
            for low in range(0, len(part), bulk.BESIDE):
                now = time.monotonic()
                wanted = {}
                for key in part[low : low + bulk.BESIDE]:
                    timeout, end = memory.ends.get(key) or (1.0, 0.0)  # unblocked meanwhile
                    if not timeout or end > now:
                        wanted[key] = Life(timeout, end - now)
                bulk.put_back(self.netlink, name, wanted)
                done += len(wanted)
        return done

    def flush_blocks(self) -> None:
        """Everything was unblocked."""
        self.netlink.transact(
            [
                (nl.NFT_MSG_DELSETELEM, 0, nl.set_name(TABLE, name))
                for name in (*SETS.values(), *NETWORK_SETS)
            ],
            "flush of the block sets",
        )  # fmt: skip

    def unblocked(self, addresses: Iterable[str], wall: float) -> None:
        """Tell the ledger; LedgerFault where it does not take it."""
        with Ledger(self._ledger) as ledger, ledger.transaction():
            for address in addresses:
                ledger.unblocked(address, wall)


def _range(network: IPNetwork, life: Life) -> Range:
    last = int(network.broadcast_address) + 1
    size = network.max_prefixlen // 8
    end = None if last >> network.max_prefixlen else last.to_bytes(size)
    return Range(network.network_address.packed, end, life)


def _anew() -> list[Message]:
    name = nl.text(nl.NFTA_TABLE_NAME, TABLE)
    return [
        (nl.NFT_MSG_NEWTABLE, nl.NLM_F_CREATE, name),
        (nl.NFT_MSG_DELTABLE, 0, name),
    ]


def _gone(there: Blueprint | None) -> frozenset[str]:
    return frozenset(name for name in SETS.values() if there is None or name not in there.sets)


def _correct(ledger: Ledger, ends: Iterable[tuple[str, float]], pause: Callable[[], object]) -> int:
    """lives.correct(), by the thousand."""
    items, done = iter(ends), 0
    while part := list(itertools.islice(items, WRITTEN)):
        done += lives.correct(ledger, part)
        pause()
    return done
