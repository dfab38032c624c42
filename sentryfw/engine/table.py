"""The sources of one address family, in places that forged sources cannot take from scanners.

The rules of this file.
1. A source has a place by its number of distinct targets: one, two, or more. Only sources of the
   same place push others out of it, those that were quiet longest first.
2. Sources with one target are the many of a forged flood. The last of them are kept whole; older
   ones are packed into one buffer, which is allocated when it is needed first and holds a million.
3. In the buffer a source is found by its hash, which depends on a secret of the process, in one
   of two buckets of eight. Full buckets give up the one that was quiet longest.
4. A byte of each hash lies apart, as a tag: most sources of a flood are new, and sixteen tags
   show that.

See docs/decisions.md: full-source-table.
"""

from collections.abc import Iterator
from itertools import islice
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from struct import Struct
from typing import Final

from sentryfw.engine.model import KINDS, Group, Kind, Source, Target

MAX_SOURCES: Final = 65536
"""Sources with two targets or more."""
_ONCE_SHARE: Final = 8
"""One target: an eighth as many sources are kept whole. The buffer has the others."""
_PACKED_SHARE: Final = 16
"""Sixteen times as many sources are packed, a million: five minutes of as many new ones as the
ruleset lets through."""
_PUSH_BATCH: Final = 64
"""Sources that leave a full place together, at most."""
MAX_IN_BUCKET: Final = 8
"""Slots of a bucket."""
_TICKS_PER_S: Final = 16
_NUMBERS: Final[dict[Kind, int]] = {kind: number for number, kind in enumerate(KINDS)}
_LISTED: Final = 0x80
"""Bit beside the number of the kind."""
_HASH_MASK: Final = 0x3FFFFFFFFFFFFFFF
"""The bits of a hash that fit an int of the compiled engine."""
_MAX_U32: Final = 0xFFFFFFFF


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


class PackedSources:
    """Sources with one target, each in a slot of one buffer.

    Times are kept to a sixteenth of a second; kinds other than the target's last are forgotten.
    """

    def __init__(self, address_bytes: int, slots: int) -> None:
        self._slot = Struct(f"=QI{address_bytes}sIHBBH")
        """Hash, last time, target's address, first time, probes, kind, protocol, port."""
        self._size = self._slot.size
        self._lasts = Struct("=" + f"8xI{self._size - 12}x" * MAX_IN_BUCKET)
        self._buckets = max(slots // MAX_IN_BUCKET, 1)
        self._bytes: bytearray | mmap = bytearray()
        """The slots: a mapping, whose pages take no memory until they are written."""
        self._tags = bytearray()
        """_tag() of the hash in each slot, 0 where the slot is free."""
        self._epoch = 0.0
        self._newest = 0.0
        self.count = 0

    def add(self, source: Source, state: SourceState, window: float) -> bool:
        """Pack a source; return whether one was given up that was seen within `window`."""
        if not self._tags:
            self._allocate()
            self._epoch = state.last_seen - (1 << 26)  # 2 years: restored probes may be older
        self._newest = max(self._newest, state.last_seen)
        target = next(iter(state.targets))
        address, protocol, port = target
        _, _, kind, listed = state.targets[target]
        spread = hash(source) & _HASH_MASK
        last = self._ticks(state.last_seen)
        recent = last - int(window * _TICKS_PER_S)
        slot, oldest = self._place(spread, recent)
        self._tags[slot] = _tag(spread)
        self._slot.pack_into(
            self._bytes, slot * self._size, spread, last, address, self._ticks(state.first_seen),
            min(state.probes, 0xFFFF), _NUMBERS[kind] | (_LISTED if listed else 0), protocol, port,
        )  # fmt: skip
        self.count += oldest == 0
        return oldest > max(recent, 0)

    def take(self, source: Source) -> SourceState | None:
        """Remove a source and return it; the share of its target is 0."""
        if not self._tags:
            return None
        slot = self._find(source)
        if slot < 0:
            return None
        fields = self._slot.unpack_from(self._bytes, slot * self._size)
        _, last, address, first, probes, kind, protocol, port = fields
        self._tags[slot] = 0
        self.count -= 1
        state = SourceState(first / _TICKS_PER_S + self._epoch)
        state.last_seen = last / _TICKS_PER_S + self._epoch
        state.probes = probes
        name = KINDS[kind & ~_LISTED]
        state.kinds = (name,)
        state.targets[address, protocol, port] = (
            state.last_seen, 0.0, name, kind & _LISTED != 0,
        )  # fmt: skip
        return state

    def expire(self, horizon: float) -> None:
        """Free the buffer if no source of it was seen since `horizon`."""
        if self._tags and self._newest <= horizon:
            self._bytes, self._tags = bytearray(), bytearray()
            self.count = 0

    def _allocate(self) -> None:
        slots = self._buckets * MAX_IN_BUCKET
        self._bytes = mmap(-1, slots * self._size, MAP_PRIVATE | MAP_ANONYMOUS)
        self._tags = bytearray(slots)

    def _find(self, source: Source) -> int:
        """Return the number of a source's slot, or -1."""
        spread = hash(source) & _HASH_MASK
        slot = self._find_in(spread, spread % self._buckets)
        return slot if slot >= 0 else self._find_in(spread, _second(spread) % self._buckets)

    def _find_in(self, spread: int, bucket: int) -> int:
        tag, end = _tag(spread), (bucket + 1) * MAX_IN_BUCKET
        slot = self._tags.find(tag, end - MAX_IN_BUCKET, end)
        while slot >= 0 and self._slot.unpack_from(self._bytes, slot * self._size)[0] != spread:
            slot = self._tags.find(tag, slot + 1, end)
        return slot

    def _place(self, spread: int, recent: int) -> tuple[int, int]:
        """Return the slot for a hash, and the last time in it; 0: it is free.

        The second bucket is searched if all sources in the first one were seen after `recent`.
        """
        slot, oldest = self._oldest(spread % self._buckets)
        if oldest > recent:
            other, oldest_there = self._oldest(_second(spread) % self._buckets)
            if oldest_there < oldest:
                return other, oldest_there
        return slot, oldest

    def _oldest(self, bucket: int) -> tuple[int, int]:
        """Return a bucket's free slot and 0, or else its oldest slot and the last time in it."""
        start = bucket * MAX_IN_BUCKET
        free = self._tags.find(0, start, start + MAX_IN_BUCKET)
        if free >= 0:
            return free, 0
        lasts = self._lasts.unpack_from(self._bytes, start * self._size)
        oldest: int = min(lasts)
        return start + lasts.index(oldest), oldest

    def _ticks(self, seconds: float) -> int:
        return min(max(int((seconds - self._epoch) * _TICKS_PER_S), 1), _MAX_U32)


def _tag(spread: int) -> int:
    """Return the tag of a hash, 1 to 255: bits that neither bucket depends on."""
    return spread >> 54 or 1


def _second(spread: int) -> int:
    """Return the hash for the second bucket."""
    return spread >> 31


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
        state = self._once.pop(source, None)
        if state is None:
            state = self._two.pop(source, None)
            if state is None:
                state = self._more.pop(source, None)
        return state

    def take_packed(self, source: Source) -> SourceState | None:
        """Do as take() for a source in the buffer: the share of its target is 0."""
        return self._packed.take(source)

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
        elif is_lone and count == 1 and len(self._once) >= self._max_once:
            self.pushed_out += self._packed.add(source, state, window)
        else:
            self._once[source] = state
            if len(self._once) >= self._max_once + self._batch:
                self._pack(window)

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

    def _pack(self, window: float) -> None:
        """Move the sources with one target that were quiet longest into the buffer."""
        for source in list(islice(self._once, self._batch)):
            state = self._once.pop(source)
            if state.targets:
                self.pushed_out += self._packed.add(source, state, window)

    def _push_out(self, place: dict[Source, SourceState]) -> None:
        for source in list(islice(place, self._batch)):
            del place[source]
            self.pushed_out += 1
