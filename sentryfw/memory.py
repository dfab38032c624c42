"""What is blocked until when, as the daemon remembers it: up to a million blocks, 0.2 KB each.

The loop that gives the verdicts writes it, other threads look through it. One big dict would be
copied, grown and freed in one go, with Python's lock held for tens of milliseconds; this one is
in parts, of which each takes less than one.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from sentryfw.engine.model import Source, source_text
from sentryfw.netfilter.bulk import Life, Range

PARTS: Final = 256
SETS: Final = {4: "block4", 16: "block6"}
"""By the length of a key."""

End = tuple[float, float]
"""(timeout, end): seconds, and on the monotonic clock. A timeout of 0 has no end."""


class Ends:
    """The end of each block, by the key of its element."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[dict[bytes, End]] = [{} for _ in range(PARTS)]

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __contains__(self, key: bytes) -> bool:
        return key in self._parts[hash(key) % PARTS]

    def __setitem__(self, key: bytes, end: End) -> None:
        self._parts[hash(key) % PARTS][key] = end

    def get(self, key: bytes) -> End | None:
        return self._parts[hash(key) % PARTS].get(key)

    def pop(self, key: bytes) -> End | None:
        return self._parts[hash(key) % PARTS].pop(key, None)

    def parts(self) -> Iterator[dict[bytes, End]]:
        """Copies of the parts, each as it is when its turn comes; for any thread."""
        return (part.copy() for part in self._parts)

    def items(self) -> Iterator[tuple[bytes, End]]:
        """All of it, part by part."""
        return (item for part in self.parts() for item in part.items())

    def alive(self, now: float) -> dict[int, int]:
        """How many have not ended, of each family."""
        counts = {4: 0, 6: 0}
        for key, (timeout, end) in self.items():
            counts[4 if len(key) == 4 else 6] += not timeout or end > now
        return counts

    def clear(self) -> list[dict[bytes, End]]:
        """Forget all; what was there, to be freed part by part where nobody waits for it."""
        old, self._parts = self._parts, [{} for _ in range(PARTS)]
        return old


class Memory(NamedTuple):
    """What is in the block sets, by all we did and were told; ends on the monotonic clock."""

    ends: Ends
    ranges: dict[str, list[Range]]
    """By set; `life.left` is the end here."""

    def live_ranges(self, name: str, now: float) -> list[Range]:
        return [
            item._replace(life=Life(item.life.timeout, item.life.left - now))
            for item in self.ranges.get(name, ())
            if not item.life.timeout or item.life.left > now
        ]


def by_set(keys: Iterable[bytes]) -> dict[str, list[bytes]]:
    """Keys, by the set that they belong to."""
    found: dict[str, list[bytes]] = {}
    for key in keys:
        found.setdefault(SETS[len(key)], []).append(key)
    return found


def text(key: bytes) -> str:
    """The key of an element, as an operator writes it."""
    if len(key) == 4 or (key[0] == 0xFE and key[1] & 0xC0 == 0x80):
        return source_text(Source(key))
    return source_text(Source(key[:8]))
