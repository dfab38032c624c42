"""The blocks that the daemon knows, and until when each lasts: up to a million, 0.15 KB each.

The event loop writes them, the guard's thread reads them. One big dict would be copied, grown
and freed in one go, with Python's global lock held for tens of milliseconds; a BlockIndex is
divided into parts, each of which takes less than one.

See docs/decisions.md: block-index.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

from sentryfw.config.types import IPNetwork
from sentryfw.engine.model import Source, source_of_key, source_text
from sentryfw.netfilter.block_sets import BlockedRange
from sentryfw.netfilter.schema import (
    BLOCK_SETS,
    CONFINE_SETS,
    CUT_SETS,
    FLEET_SETS,
    LIFTED_SETS,
)
from sentryfw.netlink.set_elements import Lifetime, networks_of

PART_COUNT: Final = 256

Expiry = tuple[float, float]
"""(timeout in seconds, end on the monotonic clock). A timeout of 0 has no end."""


class BlockIndex:
    """The Expiry of each block, by the key of its set element.

    An Expiry is kept as a complex number: one object of 32 bytes, where a tuple with its floats
    takes 80 to 104. The garbage collector visits neither.
    """

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[dict[bytes, complex]] = [{} for _ in range(PART_COUNT)]

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __contains__(self, key: bytes) -> bool:
        return key in self._parts[hash(key) % PART_COUNT]

    def __setitem__(self, key: bytes, expiry: Expiry) -> None:
        self._parts[hash(key) % PART_COUNT][key] = complex(*expiry)

    def update(self, blocks: Iterable[tuple[bytes, Expiry]]) -> None:
        """Set many blocks, each as by an assignment."""
        parts = self._parts
        for key, (timeout, end) in blocks:
            parts[hash(key) % PART_COUNT][key] = complex(timeout, end)

    def get(self, key: bytes) -> Expiry | None:
        found = self._parts[hash(key) % PART_COUNT].get(key)
        return None if found is None else (found.real, found.imag)

    def pop(self, key: bytes) -> Expiry | None:
        found = self._parts[hash(key) % PART_COUNT].pop(key, None)
        return None if found is None else (found.real, found.imag)

    def parts(self) -> Iterator[dict[bytes, Expiry]]:
        """Yield a copy of each part, made when it is yielded. Safe in any thread."""
        for part in self._parts:
            yield {key: (kept.real, kept.imag) for key, kept in part.copy().items()}

    def items(self) -> Iterator[tuple[bytes, Expiry]]:
        """Yield each key and its Expiry, part by part. Safe in any thread."""
        return (item for part in self.parts() for item in part.items())

    def alive(self, now: float) -> dict[int, int]:
        """Count the blocks that have not ended, by address family (4 or 6)."""
        counts = {4: 0, 6: 0}
        for key, (timeout, end) in self.items():
            counts[4 if len(key) == 4 else 6] += not timeout or end > now
        return counts

    def clear(self) -> list[dict[bytes, complex]]:
        """Remove all blocks and return the old parts, for another thread to free one by one."""
        old, self._parts = self._parts, [{} for _ in range(PART_COUNT)]
        return old


class KnownRange(NamedTuple):
    """A blocked network, or a range that an operator added through nft, as the daemon knows it."""

    first: bytes
    after: bytes | None
    """The first address behind the range; None where it reaches the last address there is."""
    timeout: float
    """Seconds; 0: until it is unblocked."""
    ends_at: float
    """On the monotonic clock; without a meaning where the timeout is 0."""

    @classmethod
    def from_kernel(cls, found: BlockedRange, now: float) -> Self:
        """Return a range as the kernel reported it at `now`."""
        return cls(found.first, found.end, found.life.timeout, now + found.life.left)

    def is_active(self, now: float) -> bool:
        """Return whether the range has not ended."""
        return not self.timeout or self.ends_at > now

    def left(self, now: float) -> float:
        """Return the seconds until the range ends; 0 where it never does."""
        return self.ends_at - now if self.timeout else 0.0

    def to_kernel(self, now: float) -> BlockedRange:
        """Return the range with the seconds that are left of it."""
        return BlockedRange(self.first, self.after, Lifetime(self.timeout, self.ends_at - now))

    def networks(self) -> list[IPNetwork]:
        """Return the networks of the range: one, unless an operator added an odd range."""
        return list(networks_of(self.first, self.after))


Ranges = dict[str, list[KnownRange]]
"""The blocked ranges of each interval set, by its name."""


@dataclass(slots=True)
class KnownBlocks:
    """The blocks that the table should hold, by the daemon's own changes and by notifications."""

    ends: BlockIndex = field(default_factory=BlockIndex)
    ranges: Ranges = field(default_factory=dict)
    learnt: dict[str, tuple[bytes, ...]] = field(default_factory=dict)
    """Elements of the sets that rules fill, as of the last reconciliation, for a repair."""
    lifted: dict[tuple[str, bytes], float] = field(default_factory=dict)
    """Elements of LIFTED_SETS that were deleted since `learnt` was read, by set and key, and when:
    neither a repair nor a restart restores them."""
    may_be_incomplete: bool = False
    """Whether the kernel may hold blocks that are not here: the next reconciliation then dumps
    large sets as well."""
    is_unverified: bool = False
    """Whether blocks of a large set are the ledger's, and were not looked up in the kernel."""
    own_ports: set[int] = field(default_factory=set)
    """Netlink ports of the fleet's sockets: the guard does not follow what these change."""
    deleted: set[bytes] | None = None
    """Keys that other processes deleted since a comparison began; None while none runs."""

    def add(self, source: Source, timeout: float, now: float) -> None:
        """Add a block of `timeout` seconds that the kernel acknowledged at `now`."""
        self.ends[element_key(source)] = (timeout, now + timeout)

    def delete(self, key: bytes) -> bool:
        """Remove a block that another process deleted; return whether it was known."""
        if self.deleted is not None:
            self.deleted.add(key)
        return self.ends.pop(key) is not None

    def lift(self, key: bytes) -> None:
        """Restore no confinement of a source that was unblocked."""
        now = time.monotonic()
        for names in (CONFINE_SETS, CUT_SETS, FLEET_SETS):
            self.lifted[names[len(key)], key] = now

    def lift_all(self) -> None:
        """Restore no confinement: everything was unblocked."""
        for name in (*LIFTED_SETS, *FLEET_SETS.values()):
            self.learnt.pop(name, None)

    def forget_lifted(self, before: float) -> None:
        """Forget what was lifted before `learnt` was read. Any thread may call it."""
        for item in [item for item, at in list(self.lifted.items()) if at < before]:
            self.lifted.pop(item, None)

    def active_ranges(self, name: str, now: float) -> list[BlockedRange]:
        """Return the ranges of an interval set that have not ended, with the seconds left."""
        return [item.to_kernel(now) for item in self.ranges.get(name, ()) if item.is_active(now)]

    def active_networks(self, now: float) -> set[str]:
        """Return the blocked networks that have not ended, as text."""
        return {
            str(network)
            for ranges in self.ranges.values()
            for item in ranges
            if item.is_active(now)
            for network in item.networks()
        }

    def __len__(self) -> int:
        return len(self.ends) + sum(map(len, self.ranges.values()))


def element_key(source: Source) -> bytes:
    """Return the key of a source's element: 4 bytes in block4, 16 in block6."""
    return bytes(source) if len(source) == 4 else bytes(source).ljust(16, b"\0")


def by_set(keys: Iterable[bytes]) -> dict[str, list[bytes]]:
    """Group keys by the name of the set that holds them."""
    listed = list(keys)
    found = {name: [key for key in listed if len(key) == size] for size, name in BLOCK_SETS.items()}
    return {name: part for name, part in found.items() if part}


def key_text(key: bytes) -> str:
    """Return the source of an element's key, as an operator writes it."""
    return source_text(source_of_key(key))
