"""Sources on their way to the trigger, the nearest first: for `watch`.

The tracker holds up to 70,000 sources, most of them of a flood. The loop only copies two lists of
references; the rest is done in the control socket's thread, which releases the interpreter between
batches, so that no packet waits for it.
"""

import heapq
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple, NotRequired, TypedDict

from sentryfw.engine.model import Source, source_text
from sentryfw.engine.table import SourceState
from sentryfw.engine.track import Horizons, Tracker
from sentryfw.errors import SentryError
from sentryfw.record.lookup import OptionalLedger, newest_refusal
from sentryfw.record.records import target_text

MAX_COUNT: Final = 100
DEFAULT_COUNT: Final = 20
MAX_CANDIDATES: Final = 256
"""Sources that are weighed exactly: those seen within the window first, by number of targets."""
SCAN_BATCH: Final = 1024
PAUSE_S: Final = 0.0005
"""Seconds between two batches."""

_Tracked = tuple[Source, SourceState]


class Snapshot(NamedTuple):
    """References to what the tracker holds; taken in the loop, read in another thread."""

    sources: list[Source]
    states: list[SourceState]
    horizons: Horizons
    now: float
    """Clock value."""
    zone: str = ""
    """The tracker's zone; empty: the default zone."""


class SourceItem(TypedDict):
    """One source below the trigger, as JSON."""

    address: str
    progress: float
    """Share of the trigger, 0 to 1."""
    horizon: str
    """The horizon that is nearer to its trigger: "window" or "slow_window"."""
    targets: int
    probes: int
    kinds: list[str]
    last: str
    """The target of the last probe."""
    first_s: float
    """Seconds since the first probe."""
    idle_s: float
    """Seconds since the last probe."""
    zone: str
    """The zone where it was seen; empty: the default zone."""
    refused: NotRequired[str]
    """Why it was not blocked at the trigger, by the ledger; empty below the trigger."""


def snapshot(tracker: Tracker, now: float, zone: str = "") -> Snapshot:
    """Copy the tracker's references.

    To be called in the loop, where packets wait for it: 10 ms at 70,000 sources, measured; only a
    forged flood makes that many.
    """
    return Snapshot(*tracker.everything(), tracker.horizons, now, zone)


def requested_count(value: object) -> int:
    """Return the requested number of sources. Raise SentryError if it is not in 1..MAX_COUNT."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_COUNT:
        raise SentryError(f"top is a number from 1 to {MAX_COUNT}")
    return value


def nearest(tracked: Snapshot, count: int) -> Iterator[SourceItem]:
    """Yield the `count` sources nearest to their trigger."""
    since = tracked.now - tracked.horizons.window
    best: list[tuple[bool, int, float, int, _Tracked]] = []
    pairs = enumerate(zip(tracked.sources, tracked.states, strict=True))
    while batch := list(islice(pairs, SCAN_BATCH)):
        keyed = (
            (state.last_seen >= since, len(state.targets), state.last_seen, index, (source, state))
            for index, (source, state) in batch
        )
        best = heapq.nlargest(MAX_CANDIDATES, [*best, *keyed])
        time.sleep(PAUSE_S)
    weighed = [_item(source, state, tracked) for *_, (source, state) in best]
    weighed.sort(key=lambda item: (-item["progress"], item["idle_s"]))
    yield from weighed[:count]


def nearest_of(zones: Iterable[Snapshot], count: int) -> Iterator[SourceItem]:
    """Yield the `count` sources nearest to their trigger, over all zones."""
    items = [item for tracked in zones for item in nearest(tracked, count)]
    items.sort(key=lambda item: (-item["progress"], item["idle_s"]))
    yield from items[:count]


def with_refusals(items: Iterable[SourceItem], ledger: Path) -> Iterator[SourceItem]:
    """Yield the sources; those at their trigger with the reason why they are not blocked."""
    with closing(OptionalLedger(ledger, lambda _: None)) as book:  # `list` and `explain` warn
        for item in items:
            address, reason = item["address"], ""
            if item["progress"] >= 1:
                reason = book.ask(partial(newest_refusal, address=address), "")
            yield {**item, "refused": reason}


def _item(source: Source, state: SourceState, tracked: Snapshot) -> SourceItem:
    horizons, now = tracked.horizons, tracked.now
    targets = list(state.targets.items())  # in one step: packets are judged at the same time
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
        "zone": tracked.zone,
    }
