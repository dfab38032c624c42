"""The sources of one address family, in places that forged sources cannot take from scanners.

The rules of this file.
1. A source has a place by its number of distinct targets: one, two, or more. Only sources of the
   same place push others out of it, those that were quiet longest first.
2. Sources with one target are the many of a forged flood. The last of them are kept whole; older
   ones are packed (packed.py), up to a million.

See docs/decisions.md: full-source-table.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from sentryfw.engine.model import Group, Kind, Probe, Source, Target
from sentryfw.engine.packed import PackedSource, PackedSources

MAX_SOURCES: Final = 65536
"""Sources with two targets or more."""
_ONCE_SHARE: Final = 8
"""One target: an eighth as many sources are kept whole. The buffer has the others."""
_PACKED_SHARE: Final = 16
"""Sixteen times as many sources are packed, a million: five minutes of as many new ones as the
ruleset lets through."""
_PUSH_BATCH: Final = 64
"""Sources that leave a full place together, at most."""


class SourceState:
    """State of one source."""

    __slots__ = ("first_seen", "group", "kinds", "last_seen", "new_at", "probes", "targets")

    def __init__(self, now: float) -> None:
        self.first_seen = now
        self.last_seen = now
        self.new_at = now
        """Time of the last new target of track.RETURNING."""
        self.probes = 0
        self.kinds: tuple[Kind, ...] = ()
        self.targets: dict[Target, tuple[float, float, Kind, bool]] = {}
        """Target -> time of its last probe, its share of a trigger, kind, whether it is listed."""
        self.group: Group | None = None
        """Decoy group this source belongs to (one object shared by all members), or None."""


class SourceTable:
    """The sources of one family, by their number of targets."""

    def __init__(self, address_bytes: int, max_sources: int = MAX_SOURCES) -> None:
        """`max_sources`: sources with two targets or more; the other places follow it."""
        self._max_once = max(max_sources // _ONCE_SHARE, 1)
        self._batch = min(_PUSH_BATCH, max(max_sources // 16, 1))
        self._max_two = max(max_sources * 3 // 4, 1)
        self._max_more = max(max_sources // 4, 1)
        self._once: dict[Source, SourceState] = {}
        self._two: dict[Source, SourceState] = {}
        self._more: dict[Source, SourceState] = {}
        self._packed = PackedSources(address_bytes, max_sources * _PACKED_SHARE)
        self.pushed_out = 0
        """Sources that were forgotten for want of a place: of several targets, or seen within the
        window."""

    def __len__(self) -> int:
        return len(self._once) + len(self._two) + len(self._more) + self._packed.count

    def take(self, source: Source) -> SourceState | None:
        """Remove a source from its place and return it."""
        state = self._once.get(source)  # not by pop(), which costs a method call each
        if state is not None:
            del self._once[source]
            return state
        state = self._two.get(source)
        if state is not None:
            del self._two[source]
            return state
        state = self._more.get(source)
        if state is not None:
            del self._more[source]
        return state

    def take_packed(self, source: Source) -> PackedSource | None:
        """Remove a source from the packed ones and return it."""
        return self._packed.take(source)

    @property
    def packs_newcomers(self) -> bool:
        """Whether the place of sources with one target is full."""
        return len(self._once) >= self._max_once

    def pack(self, probe: Probe, now: float, window: float) -> None:
        """Pack a source that was seen for the first time."""
        self.pushed_out += self._packed.add(
            probe.source, probe.target, probe.kind, now, now, window, listed=probe.listed, probes=1
        )

    def put(
        self, source: Source, state: SourceState, window: float, *, is_lone: bool = False
    ) -> None:
        """Give a source that was just seen its place; `is_lone`: one with one target
        is packed where the place is full."""
        count = len(state.targets)
        if count > 2:
            self._more[source] = state
            if len(self._more) > self._max_more:
                self._push_out(self._more)
        elif count == 2:
            self._two[source] = state
            if len(self._two) > self._max_two:
                self._push_out(self._two)
        elif is_lone and count == 1 and self.packs_newcomers:
            self._pack_state(source, state, window)
        else:
            self._once[source] = state
            if len(self._once) >= self._max_once + self._batch:
                self._pack_oldest(window)

    def get(self, source: Source) -> SourceState | None:
        """Return a source that is kept whole, or None."""
        return self._once.get(source) or self._two.get(source) or self._more.get(source)

    def forget(self, source: Source) -> None:
        """Remove a source."""
        if self.take(source) is None:
            self._packed.take(source)

    def whole(self) -> Iterator[dict[Source, SourceState]]:
        """Yield the sources that are kept whole, the nearest to a trigger first."""
        yield from (self._more, self._two, self._once)

    def expire(self, horizon: float, budget: int) -> None:
        """Forget sources that were not seen since `horizon`, at most `budget` of a place."""
        for place in self.whole():
            stale: list[Source] = []
            for source, state in place.items():
                if state.last_seen > horizon or len(stale) >= budget:
                    break
                stale.append(source)
            for source in stale:
                del place[source]
        self._packed.expire(horizon)

    def _pack_oldest(self, window: float) -> None:
        """Pack the sources with one target that were quiet longest."""
        for source in list(islice(self._once, self._batch)):
            state = self._once.pop(source)
            if state.targets:
                self._pack_state(source, state, window)

    def _pack_state(self, source: Source, state: SourceState, window: float) -> None:
        target, (_, _, kind, listed) = next(iter(state.targets.items()))
        self.pushed_out += self._packed.add(
            source, target, kind, state.first_seen, state.last_seen, window, listed=listed,
            probes=state.probes,
        )  # fmt: skip

    def _push_out(self, place: dict[Source, SourceState]) -> None:
        for source in list(islice(place, self._batch)):
            del place[source]
            self.pushed_out += 1
