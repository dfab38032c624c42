"""Compare the blocks that the daemon knows with those in the kernel, a part at a time.

Pure: the kernel and the clock are arguments. Neither side is copied: known blocks are looked up
by key, some hundred at once.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from sentryfw.guard.block_index import BlockIndex, Expiry, by_set
from sentryfw.netfilter.schema import BLOCK_SETS
from sentryfw.netfilter.sets.elements import KEYS_PER_DATAGRAM

END_TOLERANCE_S: Final = 1.0
"""Seconds by which the daemon's and the kernel's end of a block may differ."""


class KeyLookup(Protocol):
    """The kernel's block sets, asked by key."""

    def find(self, name: str, keys: list[bytes]) -> dict[bytes, Expiry]:
        """Return those of the keys that are in the set now."""


@dataclass(slots=True)
class Comparison:
    """The known blocks, as the kernel has them."""

    missing: list[bytes] = field(default_factory=list)
    """Active, but not in the kernel."""
    moved: dict[bytes, tuple[Expiry, Expiry]] = field(default_factory=dict)
    """The daemon's Expiry and the kernel's, where they differ."""
    ended: list[bytes] = field(default_factory=list)
    """Not in the kernel, because they have ended."""
    unknown: dict[bytes, Expiry] = field(default_factory=dict)
    """In the kernel alone."""
    found: dict[str, int] = field(default_factory=lambda: dict.fromkeys(BLOCK_SETS.values(), 0))
    """The number of known blocks that each set holds."""

    def add(
        self, name: str, known: Mapping[bytes, Expiry], kernel: Mapping[bytes, Expiry], now: float
    ) -> None:
        """Add the known blocks of one set, and what the kernel answered about them at `now`."""
        self.found[name] += len(kernel)
        for key, ours in known.items():
            theirs = kernel.get(key)
            if theirs is None:
                if not ours[0] or ours[1] > now + END_TOLERANCE_S:
                    self.missing.append(key)
                elif ours[1] <= now:
                    self.ended.append(key)
            elif theirs[0] != ours[0] or abs(theirs[1] - ours[1]) > END_TOLERANCE_S:
                self.moved[key] = ours, theirs


def compare(
    ends: BlockIndex,
    kernel: KeyLookup,
    pause: Callable[[], object],
    clock: Callable[[], float] = time.monotonic,
) -> Comparison:
    """Look up each known block in the kernel; call `pause` between two lookups."""
    found = Comparison()
    for part in ends.parts():
        for name, keys in by_set(part).items():
            for low in range(0, len(keys), KEYS_PER_DATAGRAM):
                known = {key: part[key] for key in keys[low : low + KEYS_PER_DATAGRAM]}
                found.add(name, known, kernel.find(name, list(known)), clock())
                pause()
    return found
