"""Kernel, memory and ledger held against each other, a part at a time: none of the three is copied.

What we know the kernel is asked for by key, which costs as much for each block whatever their
number. What we do not know a dump would tell; it costs the square of the number, so a large set
is dumped only where the kernel counts more than we found.
"""

import errno
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from ipaddress import ip_address, summarize_address_range
from typing import Final, NamedTuple

from sentryfw.errors import KernelError
from sentryfw.memory import PARTS, SETS, End, Ends, by_set, text
from sentryfw.netfilter import bulk
from sentryfw.netfilter.bulk import Life, Range
from sentryfw.netfilter.netlink import NfnetlinkSocket
from sentryfw.netfilter.table import IPNetwork, count_elements
from sentryfw.record.lives import Alive

log: Final = logging.getLogger("sentryfwd")

TOLERANCE: Final = 5.0
"""Seconds by which kernel and ledger may differ."""
GRACE: Final = 10.0
"""Seconds in which whoever added an element has time to tell the ledger."""
DUMPED: Final = 20_000
"""Elements that are dumped at every look: 20 ms."""
MOST: Final = 200_000
"""The same where the kernel does not count (Linux 6.1): beyond, what only it knows is not seen."""
UNCOLLECTED: Final = 60.0
"""Seconds in which the kernel may still count what has ended: twice the sets' gc-interval."""
ROWS: Final = 2_000
"""Rows of the ledger between two questions, or two pauses."""
TIMEOUTS: Final = 1_000

TOLD: Final = 20_000
"""Elements in one transaction of ours of which we need not hear: the notifications of more would
push out those of others, and cost as much as adding them."""

Pause = Callable[[], object]
Quietly = Callable[[], AbstractContextManager[None]]
"""Keeps the kernel from telling us what is done meanwhile."""


class Kernel:
    """The sets block4 and block6. `gone`: those that are not there."""

    def __init__(
        self, netlink: NfnetlinkSocket, pause: Pause, gone: frozenset[str] = frozenset()
    ) -> None:
        self._netlink = netlink
        self._pause = pause
        self._counts = {
            name: 0 if name in gone else count_elements(netlink, name) for name in SETS.values()
        }

    def find(self, name: str, keys: list[bytes]) -> dict[bytes, End]:
        """Those of the keys that are in the set now."""
        if self._counts[name] == 0:
            return {}
        now = time.monotonic()
        found = bulk.find(self._netlink, name, keys, self._pause)
        return {key: (life.timeout, now + life.left) for key, life in found.items()}

    def dumped(self) -> Iterator[tuple[bytes, End]]:
        """All of the sets that are small."""
        for name, count in self._counts.items():
            if count is None:
                yield from self._first(name)
            elif 0 < count <= DUMPED:
                yield from self.dump(name)

    def dump(self, name: str) -> Iterator[tuple[bytes, End]]:
        """All of a set, however large."""
        yield from _dump(self._netlink, name, self._pause)

    def _first(self, name: str) -> list[tuple[bytes, End]]:
        """The set, where nobody knows how large it is; nothing if it is too large."""
        found = []
        with NfnetlinkSocket() as own:  # the rest of a dump goes with its socket
            for item in _dump(own, name, self._pause):
                found.append(item)
                if len(found) > MOST:
                    return []
        return found

    def outnumbers(self, known: Mapping[str, int], ended: int) -> list[str]:
        """Sets too large to be dumped that hold more than so many, and those that have ended but
        are still counted (UNCOLLECTED)."""
        return [
            name
            for name, count in self._counts.items()
            if count is not None and count > max(DUMPED, known[name] + ended)
        ]


def _dump(netlink: NfnetlinkSocket, name: str, pause: Pause) -> Iterator[tuple[bytes, End]]:
    for part in bulk.read_parts(netlink, name):
        now = time.monotonic()
        yield from ((key, (life.timeout, now + life.left)) for key, life in part.items())
        pause()


class Restoring:
    """The ledger's blocks on their way into memory and, where they are not there, the kernel."""

    def __init__(
        self, netlink: NfnetlinkSocket, quietly: Quietly = nullcontext, size: int = bulk.SLICE
    ) -> None:
        """`size`: blocks in one transaction."""
        self._netlink = netlink
        self._size = size
        self._quietly = quietly
        self._kernel = Kernel(netlink, bool)
        self._there = dict.fromkeys(SETS.values(), 0)
        self._rows: list[tuple[bytes, str, End]] = []
        self._back: dict[str, dict[bytes, End]] = {name: {} for name in SETS.values()}
        self._full: set[str] = set()
        self._timeouts: dict[float, float] = {}
        self.ends = Ends()
        self.rows = 0
        self.restored = 0
        self.strangers = dict(self._kernel.dumped())
        """In the kernel; those of which no row has come yet."""
        self.moved: list[tuple[str, float]] = []
        """Addresses whose end the kernel knows better."""

    def add(self, key: bytes, address: str, timeout: float, end: float) -> None:
        """A row. Blocks share the few timeouts there are: a number of its own takes 24 bytes."""
        if len(self._timeouts) < TIMEOUTS:
            timeout = self._timeouts.setdefault(timeout, timeout)
        self._rows.append((key, address, (timeout, end)))
        if len(self._rows) >= ROWS:
            self._look()

    def finish(self, ended: int = 0) -> None:
        """What is left of it. `ended`: blocks that have just done so; `has_strangers`: the kernel
        holds some that nobody knows."""
        self._look()
        for name in self._back:
            self._put_back(name)
        self.has_strangers = bool(self._kernel.outnumbers(self._there, ended))
        for key, end in self.strangers.items():
            self.ends[key] = end

    def _look(self) -> None:
        rows, self._rows = self._rows, []
        self.rows += len(rows)
        there = {key: self.strangers.pop(key) for key, _, _ in rows if key in self.strangers}
        for name, keys in by_set(key for key, _, _ in rows if key not in there).items():
            there.update(self._kernel.find(name, keys))
        for key, address, (timeout, end) in rows:
            name = SETS[len(key)]
            found = there.get(key)
            if found is None:
                self._back[name][key] = (timeout, end)
                if len(self._back[name]) >= self._size:
                    self._put_back(name)
                continue
            self._there[name] += 1
            self.ends[key] = found
            if found[0] and abs(found[1] - end) > TOLERANCE:
                self.moved.append((address, found[1]))

    def _put_back(self, name: str) -> None:
        wanted, self._back[name] = self._back[name], {}
        fit = self._put(name, list(wanted.items()))
        self.restored += len(fit)
        for key, end in fit:
            self.ends[key] = end
        if len(fit) < len(wanted):
            lost = len(wanted) - len(fit)
            log.error("%s is full: %d blocks of the ledger are not restored", name, lost)

    def _put(self, name: str, wanted: list[tuple[bytes, End]]) -> list[tuple[bytes, End]]:
        """Those for which the set has room."""
        if name in self._full:
            return []
        now = time.monotonic()
        lives = {key: Life(timeout, end - now) for key, (timeout, end) in wanted}
        try:
            with self._quietly() if len(lives) > TOLD else nullcontext():
                bulk.put_back(self._netlink, name, lives)
        except KernelError as error:
            if error.code != errno.ENFILE:
                raise
        else:
            return wanted
        if len(wanted) == 1:
            self._full.add(name)
            return []
        half = len(wanted) // 2
        return self._put(name, wanted[:half]) + self._put(name, wanted[half:])


class Look(NamedTuple):
    """What we remember, looked for in the kernel."""

    missing: list[bytes]
    """Not in the kernel, though they should be."""
    moved: dict[bytes, tuple[End, End]]
    """Our end and the kernel's, where they differ."""
    over: list[bytes]
    """Not in the kernel, and rightly so."""
    strangers: dict[bytes, End]
    """In the kernel alone."""
    there: dict[str, int]
    """How many of ours each set holds."""


def look(ends: Ends, kernel: Kernel, pause: Pause) -> Look:
    """Each block that we remember, in the kernel."""
    found = Look([], {}, [], {}, dict.fromkeys(SETS.values(), 0))
    for part in ends.parts():
        for name, keys in by_set(part).items():
            for low in range(0, len(keys), bulk.ASKED):
                _look_for(keys[low : low + bulk.ASKED], name, part, kernel, found)
                pause()
    return found


def _look_for(
    keys: list[bytes], name: str, part: Mapping[bytes, End], kernel: Kernel, found: Look
) -> None:
    there = kernel.find(name, keys)
    found.there[name] += len(there)
    now = time.monotonic()
    for key in keys:
        ours, theirs = part[key], there.get(key)
        if theirs is None:
            if not ours[0] or ours[1] > now + 1:
                found.missing.append(key)
            elif ours[1] <= now:
                found.over.append(key)
        elif theirs[0] != ours[0] or abs(theirs[1] - ours[1]) > 1:
            found.moved[key] = ours, theirs


class Book:
    """The ledger's rows, held against what we remember and have looked for."""

    def __init__(self, ends: Ends, found: Look, now: float, pause: Pause) -> None:
        self._ends = ends
        self._found = found
        self._over = frozenset(found.over)
        self._now = now
        self._pause = pause
        self._settled = 0
        self.rows = 0
        self.ended: list[str] = []
        """Alive by the ledger alone."""
        self.moved: list[tuple[str, float]] = []
        """Whose end the kernel knows better, with that end."""
        self.networks: dict[str, Life] = {}
        self.known: dict[str, Life] = {}
        """The same of strangers."""

    def read(self, rows: Iterable[Alive]) -> None:
        """Each row of what is alive by the ledger."""
        for row in self._paused(rows):
            self.rows += 1
            if row.is_network:
                self.networks[row.address] = Life(row.timeout, row.left)
            elif (key := _key(row)) is not None:
                self._read(row, key)

    def _read(self, row: Alive, key: bytes) -> None:
        ours = self._ends.get(key)
        if ours is None or key in self._over:
            if key in self._found.strangers:
                self.known[row.address] = Life(row.timeout, row.left)
            else:
                self.ended.append(row.address)
            return
        timeout, end = self._found.moved[key][1] if key in self._found.moved else ours
        self._settled += self._is_settled(ours)
        if timeout and abs(min(end - self._now, timeout) - row.left) > TOLERANCE:
            self.moved.append((row.address, end))

    def _is_settled(self, end: End) -> bool:
        """Whether the ledger has had time to hear of the block."""
        return not end[0] or GRACE <= end[0] - (end[1] - self._now) < end[0]

    def lacks_some(self) -> bool:
        """Whether we remember blocks of which no row has come; only then it is read once more."""
        count = 0
        for part in self._ends.parts():
            count += sum(map(self._is_settled, part.values()))
            self._pause()
        return count > self._settled

    def strangers(self, rows: Iterable[Alive]) -> Iterator[Alive]:
        """They; from the rows again."""
        seen: list[set[bytes]] = [set() for _ in range(PARTS)]
        for row in self._paused(rows):
            if not row.is_network and (key := _key(row)) is not None:
                seen[hash(key) % PARTS].add(key)
        gone = frozenset(self._found.missing)
        for part in self._ends.parts():
            for key, end in part.items():
                if key not in seen[hash(key) % PARTS] and key not in gone:
                    yield from alive({key: end}, self._now)
            self._pause()

    def _paused(self, rows: Iterable[Alive]) -> Iterator[Alive]:
        for number, row in enumerate(rows):
            if number % 64 == 0:
                self._pause()
            yield row


def _key(row: Alive) -> bytes | None:
    try:
        return row.key
    except ValueError:  # said at the start
        return None


def alive(ends: Mapping[bytes, End], now: float) -> Iterator[Alive]:
    """Blocks of sources that have not ended."""
    for key, (timeout, end) in ends.items():
        if not timeout or end > now:
            left = end - now if timeout else 0.0
            yield Alive(text(key), 4 if len(key) == 4 else 6, timeout, left)


def alive_networks(ranges: Mapping[str, list[Range]], now: float) -> Iterator[Alive]:
    """The same of networks."""
    for items in ranges.values():
        for item in items:
            timeout, left = item.life.timeout, item.life.left - now
            if not timeout or left > 0:
                for network in networks_of(item):
                    yield Alive(str(network), network.version, timeout, left if timeout else 0.0)


def networks_of(item: Range) -> list[IPNetwork]:
    """An interval as networks: one, unless somebody added a range by hand."""
    last = (
        b"\xff" * len(item.first)
        if item.end is None
        else (int.from_bytes(item.end) - 1).to_bytes(len(item.first))
    )
    return list(summarize_address_range(ip_address(item.first), ip_address(last)))
