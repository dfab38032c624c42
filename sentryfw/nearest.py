"""Sources on their way to the trigger, the nearest first: for who watches.

The tracker holds up to 70,000 sources, most of them of a flood. The loop only copies two lists of
references; the rest is done in the control socket's thread, which lets go of the interpreter
between batches, so that no packet waits for it.
"""

import heapq
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

from sentryfw.engine.model import Source, source_text
from sentryfw.engine.track import Horizons, SourceState, Tracker
from sentryfw.errors import SentryError
from sentryfw.record.entry import target_text

MAX_TOP: Final = 100
DEFAULT_TOP: Final = 20
CANDIDATES: Final = 256
"""Sources that are weighed exactly: those with the most targets, seen within the window first."""
BATCH: Final = 1024
BREATH: Final = 0.0005
"""Seconds between two batches."""

_Held = tuple[Source, SourceState]


class Snapshot(NamedTuple):
    """References to what the tracker holds; taken in the loop, read beside it."""

    sources: list[Source]
    states: list[SourceState]
    horizons: Horizons
    now: float
    """Clock value."""


def snapshot(tracker: Tracker, now: float) -> Snapshot:
    """To be called where packets are judged, which waits for it: 10 ms at 70,000 sources, measured;
    so many there are in a forged flood only."""
    return Snapshot(*tracker.everything(), tracker.horizons, now)


def wanted(top: object) -> int:
    """How many are asked for. SentryError if that is no number from 1 to MAX_TOP."""
    if isinstance(top, bool) or not isinstance(top, int) or not 1 <= top <= MAX_TOP:
        raise SentryError(f"top is a number from 1 to {MAX_TOP}")
    return top


def items(seen: Snapshot, top: int) -> Iterator[dict[str, Any]]:
    """The `top` sources nearest to their trigger."""
    since = seen.now - seen.horizons.window
    best: list[tuple[bool, int, float, int, _Held]] = []
    held = enumerate(zip(seen.sources, seen.states, strict=True))
    while batch := list(islice(held, BATCH)):
        keyed = (
            (state.last_seen >= since, len(state.targets), state.last_seen, index, (source, state))
            for index, (source, state) in batch
        )
        best = heapq.nlargest(CANDIDATES, [*best, *keyed])
        time.sleep(BREATH)
    weighed = [_item(source, state, seen) for *_, (source, state) in best]
    weighed.sort(key=lambda item: (-item["progress"], item["idle_s"]))
    yield from weighed[:top]


def _item(source: Source, state: SourceState, seen: Snapshot) -> dict[str, Any]:
    horizons, now = seen.horizons, seen.now
    targets = list(state.targets.items())  # in one step: packets go on being judged meanwhile
    fast = sum(share for _, (at, share, _, _) in targets if at >= now - horizons.window)
    slow = sum(share for _, (at, share, _, _) in targets if at >= now - horizons.slow_window)
    slow *= horizons.trigger / max(horizons.slow_trigger, horizons.trigger)
    return {
        "address": source_text(source),
        "progress": round(max(fast, slow), 3),
        "horizon": "window" if fast >= slow else "slow_window",
        "targets": len(targets),
        "probes": state.probes,
        "kinds": list(state.kinds),
        "last": target_text(targets[-1][0]) if targets else "",
        "first_s": round(now - state.first_seen, 1),
        "idle_s": round(max(0.0, now - state.last_seen), 1),
    }
