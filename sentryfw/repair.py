"""The kernel's sets, our memory of them and the ledger: compare the three, and put back.

Everything here runs in the keeper's one thread, with a netlink socket and a ledger connection
of its own, while the packet path goes on; long looks pause between messages.
"""

import errno
import logging
import time
from collections.abc import Callable, Iterable
from ipaddress import ip_address, ip_network, summarize_address_range
from pathlib import Path
from typing import Final, NamedTuple

from sentryfw.engine.model import Source, source_text
from sentryfw.errors import KernelError, SentryError
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

SETS: Final = {4: "block4", 16: "block6"}
"""By the length of a key."""
NETWORK_SETS: Final = ("block_net4", "block_net6")
PARTNER_SETS: Final = ("partner4", "partner6")
TOLERANCE: Final = 5.0
"""Seconds by which kernel and ledger may differ."""
GRACE: Final = 10.0
"""Seconds in which whoever added an element has time to tell the ledger."""
MOST: Final = 200_000
"""Elements that are compared: the kernel's dump costs their square (0.7 s at 100,000, 60 s at a
million, measured). Beyond it a restart puts back all that the ledger knows, unseen."""
CONFIRMED: Final = 10_000
"""Elements that are asked for one by one, because a dump missed them: it does, for a moment,
while the kernel's hash table grows (measured)."""


class Memory(NamedTuple):
    """What is in the block sets, by all we did and were told; ends on the monotonic clock."""

    ends: dict[bytes, tuple[float, float]]
    """(timeout, end) by key."""
    ranges: dict[str, list[Range]]
    """By set; `life.left` is the end here."""

    def lives(self, now: float) -> Lives:
        """What is alive, with what is left of it."""
        return {
            key: Life(timeout, end - now)
            for key, (timeout, end) in self.ends.items()
            if not timeout or end > now
        }

    def live_ranges(self, name: str, now: float) -> list[Range]:
        return [
            item._replace(life=Life(item.life.timeout, item.life.left - now))
            for item in self.ranges.get(name, ())
            if not item.life.timeout or item.life.left > now
        ]


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
    missing: tuple[bytes, ...] = ()
    """Not in the kernel, though our memory says so; to be put back under the lock."""


class Workshop:
    """The thread's tools."""

    def __init__(self, ledger: Path) -> None:
        self.netlink = NfnetlinkSocket()
        self._ledger = ledger
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
        missing = self._missing(memory.lives(now), there)
        nets = self._missing_ranges(memory, there, now)
        if not lacked and not missing and not nets:
            return None
        messages = plan.messages() if lacked else []
        if lacked:
            messages += self._partner_messages(there)
        try:
            self._send(messages, missing, nets)
        except KernelError as error:
            log.error("table: it does not mend (%s); made anew", error)
            alive = {name: memory.live_ranges(name, now) for name in NETWORK_SETS}
            anew = [*_anew(), *plan.messages(), *self._partner_messages(None)]
            self._send(anew, memory.lives(now), alive)
        made = blueprint.take(self.netlink)
        still = plan.lacks(made)
        if still or made is None:
            raise SentryError(f"repaired, but not there when read back: {', '.join(still)}")
        if missing:
            lacked.append(f"{len(missing)} blocks")
        return made, Healed(lacked, len(missing), time.monotonic() - started)

    def _send(self, messages: list[Message], missing: Lives, nets: dict[str, list[Range]]) -> None:
        """One transaction, where the blocks are no more than fit one."""
        first, rest = _split(missing, bulk.SLICE)
        for name, part in _by_set(first):
            messages = messages + bulk.element_messages(name, part.items())
        for name, ranges in nets.items():
            messages = messages + bulk.range_messages(name, ranges)
        self.netlink.grow(bulk.BUFFER)
        self.netlink.transact(messages, "repair")
        for name, part in _by_set(rest):
            bulk.put_back(self.netlink, name, part)

    def _missing(self, wanted: Lives, there: Blueprint | None) -> Lives:
        found: Lives = {}
        for name, part in _by_set(wanted):
            if there is None or name not in there.sets:
                found.update(part)
            elif len(part) <= MOST:
                kernel = bulk.read(self.netlink, name)
                absent = {key: life for key, life in part.items() if key not in kernel}
                found.update(absent)  # one that the dump missed is put where it is
        return found

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

    def look(self, now: float, pause: Callable[[], object]) -> Memory | None:
        """What the kernel holds; None where it is too much to be read."""
        found: dict[bytes, tuple[float, float]] = {}
        for name in SETS.values():
            part = _read_some(self.netlink, name, pause)
            if part is None:
                self.netlink.close()  # the rest of the dump goes with the socket
                self.netlink = NfnetlinkSocket()
                return None
            found.update((key, (life.timeout, now + life.left)) for key, life in part.items())
        return Memory(found, self.look_at_ranges(now))

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
        """At start: what the ledger knows to be alive and the kernel has not comes back, what
        only the kernel knows is adopted. `upto`: see lives.alive()."""
        started = time.monotonic()
        kernel = self.look(now, bool)
        memory = kernel or Memory({}, self.look_at_ranges(now))
        try:
            with Ledger(self._ledger) as ledger:
                return self._restore(ledger, memory, kernel, now, wall, upto, started)
        except SentryError as error:
            log.error("blocks are not restored: %s", error)
            return memory, Compared(len(memory.ends), fault=str(error))

    def restore_from(self, ledger: Ledger, now: float, wall: float) -> tuple[Memory, Compared]:
        """The same, from a ledger that is open, perhaps in memory."""
        kernel = self.look(now, bool)
        memory = kernel or Memory({}, self.look_at_ranges(now))
        return self._restore(ledger, memory, kernel, now, wall, None, time.monotonic())

    def _restore(
        self, ledger: Ledger, memory: Memory, kernel: Memory | None, now: float, wall: float,
        upto: tuple[int, float] | None, started: float,
    ) -> tuple[Memory, Compared]:  # fmt: skip
        missing: Lives = {}
        networks: list[tuple[IPNetwork, Life]] = []
        # Only what was there before us can be new to the ledger: after a reboot, nothing.
        before = Memory(dict(memory.ends), dict(memory.ranges))
        known: dict[str, Alive] = {}
        rows = 0
        for item in lives.alive(ledger, wall, upto):
            rows += 1
            if before.ends or before.ranges:
                known[item.address] = item
            life = Life(item.timeout, item.left)
            try:
                if item.is_network:
                    networks.append((ip_network(item.address), life))
                elif item.key not in memory.ends:
                    missing[item.key] = life
            except ValueError:
                log.warning("ledger: %r is no address", item.address)
        for name, part in _by_set(missing):
            bulk.put_back(self.netlink, name, part)
        memory.ends.update((k, (life.timeout, now + life.left)) for k, life in missing.items())
        back = self._restore_networks(memory, networks)
        memory.ranges.update(self.look_at_ranges(now))
        found = Compared(len(memory.ends), rows, len(missing) + back)
        if kernel is not None and upto is None:
            adopted, corrected = self._tell(ledger, before, now, wall, grace=0.0, alive=known)
            found = found._replace(adopted=adopted, corrected=corrected)
        return memory, found._replace(seconds=time.monotonic() - started)

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

    def reconcile(self, memory: Memory, now: float, wall: float) -> tuple[Memory | None, Compared]:
        """Kernel against memory and ledger, both directions. The ledger is put right here; what
        is missing in the kernel is for the caller to confirm and put back under the lock."""
        started = time.monotonic()
        pause = Pauses()
        kernel = self.look(now, pause)
        if kernel is None:
            return None, Compared(len(memory.ends), fault=f"more than {MOST} blocks: not compared")
        self._partners = {
            name: blueprint.element_lists(self.netlink, name) for name in PARTNER_SETS
        }
        missing = tuple(
            key
            for key, (timeout, end) in memory.ends.items()
            if key not in kernel.ends and (not timeout or end > now + 1)
        )
        found = Compared(len(kernel.ends), missing=missing)
        try:
            with Ledger(self._ledger) as ledger:
                alive = _ledger_rows(ledger, wall, pause)
                ended = _ended(alive, kernel, frozenset(missing))
                if ended:
                    lives.correct(ledger, ((address, wall) for address in ended))
                adopted, corrected = self._tell(ledger, kernel, now, wall, grace=GRACE, alive=alive)
                found = found._replace(
                    ledger=len(alive), adopted=adopted, corrected=corrected, ended=len(ended)
                )
        except SentryError as error:
            found = found._replace(fault=str(error))
        return kernel, found._replace(seconds=time.monotonic() - started)

    def _tell(
        self, ledger: Ledger, kernel: Memory, now: float, wall: float, *, grace: float,
        alive: dict[str, Alive],
    ) -> tuple[int, int]:  # fmt: skip
        """The ledger what only the kernel knows: (adopted, corrected)."""
        strangers: list[Alive] = []
        ends: list[tuple[str, float]] = []
        for item in _alive_in(kernel, now):
            row = alive.get(item.address)
            if row is not None:
                if item.timeout and abs(row.left - item.left) > TOLERANCE:
                    ends.append((item.address, wall + item.left))
            elif item.timeout and lives.known(ledger, item.address):
                ends.append((item.address, wall + item.left))
            elif not item.timeout or item.timeout - item.left >= grace:
                strangers.append(item)
        adopted = lives.adopt(ledger, strangers, wall)
        return adopted, lives.correct(ledger, ends) if ends else 0

    def confirm(self, missing: Iterable[bytes]) -> list[bytes]:
        """Those that are not in the kernel, asked for one by one."""
        found = []
        for number, key in enumerate(missing):
            if number >= CONFIRMED or not self._is_there(key):
                found.append(key)
        return found

    def _is_there(self, key: bytes) -> bool:
        body = nl.set_element(TABLE, SETS[len(key)], key)
        try:
            return any(self.netlink.request(nl.NFT_MSG_GETSETELEM, body, "get element"))
        except KernelError as error:
            if error.code == errno.ENOENT:
                return False
            raise

    def put_back(self, wanted: Lives) -> None:
        for name, part in _by_set(wanted):
            bulk.put_back(self.netlink, name, part)

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


def text(key: bytes) -> str:
    """The key of an element, as an operator writes it."""
    if len(key) == 4 or (key[0] == 0xFE and key[1] & 0xC0 == 0x80):
        return source_text(Source(key))
    return source_text(Source(key[:8]))


def networks_of(item: Range) -> list[IPNetwork]:
    """An interval as networks: one, unless somebody added a range by hand."""
    last = (
        b"\xff" * len(item.first)
        if item.end is None
        else (int.from_bytes(item.end) - 1).to_bytes(len(item.first))
    )
    return list(summarize_address_range(ip_address(item.first), ip_address(last)))


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


def _by_set(wanted: Lives) -> list[tuple[str, Lives]]:
    parts: dict[str, Lives] = {}
    for key, life in wanted.items():
        parts.setdefault(SETS[len(key)], {})[key] = life
    return list(parts.items())


def _split(wanted: Lives, count: int) -> tuple[Lives, Lives]:
    if len(wanted) <= count:
        return wanted, {}
    items = list(wanted.items())
    return dict(items[:count]), dict(items[count:])


def _read_some(netlink: NfnetlinkSocket, name: str, pause: Callable[[], object]) -> Lives | None:
    found: Lives = {}
    for part in bulk.read_parts(netlink, name):
        found.update(part)
        if len(found) > MOST:
            return None
        pause()
    return found


def _ledger_rows(ledger: Ledger, wall: float, pause: Callable[[], object]) -> dict[str, Alive]:
    found = {}
    for item in lives.alive(ledger, wall):
        found[item.address] = item
        pause()
    return found


def _ended(alive: dict[str, Alive], kernel: Memory, missing: frozenset[bytes]) -> list[str]:
    """Alive by the ledger alone."""
    networks = {
        str(network)
        for ranges in kernel.ranges.values()
        for item in ranges
        for network in networks_of(item)
    }
    found = []
    for item in alive.values():
        if item.is_network:
            there = item.address in networks
        else:
            there = item.key in kernel.ends or item.key in missing
        if not there:
            found.append(item.address)
    return found


def _alive_in(kernel: Memory, now: float) -> Iterable[Alive]:
    for key, life in kernel.lives(now).items():
        yield Alive(text(key), 4 if len(key) == 4 else 6, life.timeout, life.left)
    for name in NETWORK_SETS:
        for item in kernel.live_ranges(name, now):
            for network in networks_of(item):
                yield Alive(str(network), network.version, item.life.timeout, item.life.left)
