"""Sources with one target, the many of a forged flood, packed into a ring of records.

The rules of this file.
1. Records are written one behind the other, so a flood touches as much memory as it has sources; a
   full ring overwrites the oldest record.
2. The hash of a source, which depends on a secret of the process, leads to two buckets of seven
   slots. A slot has the number of a record. A bucket's tags, a byte of the hash for each slot, are
   one number: most sources of a flood are new, and two numbers show that.
3. The slots of a bucket are filled in turn: the next one has its oldest record. Where that is in
   use in both buckets, the older of the two is given up.

See docs/decisions.md: full-source-table.
"""

from mmap import MAP_ANONYMOUS, MAP_POPULATE, MAP_PRIVATE, mmap
from struct import Struct
from typing import Final, NamedTuple

from sentryfw.engine.model import KINDS, Kind, Source, Target

MAX_IN_BUCKET: Final = 7
"""Slots of a bucket; their tags are the low bytes of a number, and its highest byte is the slot
whose turn it is."""
_RECORDS_PER_BUCKET: Final = 8
"""Records of the ring for each bucket; its numbers take eight places, and one is not used."""
_TAG_BITS: Final = 56
_TAGS: Final = (1 << _TAG_BITS) - 1
_ONES: Final = 0x01010101010101
"""1 in the byte of each tag."""
_IN_EACH_BYTE: Final = tuple(tag * _ONES for tag in range(256))
"""Tags in each byte; the index is the tag."""
_OTHERS: Final = tuple(_TAGS & ~(0xFF << slot * 8) for slot in range(MAX_IN_BUCKET))
"""Bits of the other slots' tags; the index is the slot."""
_NEXT_TURN: Final = tuple((slot + 1) % MAX_IN_BUCKET << _TAG_BITS for slot in range(MAX_IN_BUCKET))
_HIGH: Final = 0x80808080808080
_TICKS_PER_S: Final = 16
_NUMBERS: Final[dict[Kind, int]] = {kind: number for number, kind in enumerate(KINDS)}
_LISTED: Final = 0x80
"""Bit beside the number of the kind."""
_HASH_MASK: Final = 0x3FFFFFFFFFFFFFFF
"""The bits of a hash that fit an int of the compiled engine."""
_MAX_U32: Final = 0xFFFFFFFF
_MAX_U16: Final = 0xFFFF
_MAX_TICKS: Final = 0x7FFFFFFF
"""Four years after the epoch of a buffer, which is two years before its first source."""
_EPOCH_BEFORE_S: Final = 1 << 26
"""Two years: the probes that are restored after a restart may be older than the first source."""
_TICKS_BITS: Final = 31
_HASH_AND_TIMES: Final = Struct("=QQ")
_REMOVED: Final = bytes(8)
"""The hash of a record that is not in use."""


class PackedSource(NamedTuple):
    """A source with one target."""

    target: Target
    kind: Kind
    listed: bool
    probes: int
    first_seen: float
    """Clock value, to a sixteenth of a second."""
    last_seen: float


class PackedSources:
    """The packed sources of one address family."""

    def __init__(self, address_bytes: int, records: int) -> None:
        """`records`: sources that are kept at most, rounded up to a power of two."""
        self._record = Struct(f"=QQQ{address_bytes}s")
        """Hash; last and first time; probes, kind, protocol and port; target's address."""
        self._size = self._record.size
        records = max(records, 2 * _RECORDS_PER_BUCKET)
        self._mask = (1 << (records - 1).bit_length()) - 1
        """Highest place of the ring."""
        self._bucket_mask = (self._mask + 1) // _RECORDS_PER_BUCKET - 1
        self._ring: bytearray | mmap = bytearray()
        """The records: a mapping, whose pages take no memory until they are written."""
        self._numbers = memoryview(b"")
        """u32 by slot: the number of its record; modulo the length of the ring its place."""
        self._tags = memoryview(b"")
        """u64 by bucket: the _tag() of each slot, 0 where it is free, and the turn."""
        self._next = 0
        """Number of the next record, modulo 1 << 32."""
        self._is_full = False
        self._epoch = 0.0
        self._newest = 0.0
        self.count = 0

    def add(
        self, source: Source, target: Target, kind: Kind, first_seen: float, last_seen: float,
        window: float, *, listed: bool, probes: int,
    ) -> int:  # fmt: skip
        """Pack a source; return how many were given up that were seen within `window` seconds."""
        if not self._ring:
            self._allocate(last_seen)
        self._newest = max(self._newest, last_seen)
        spread = hash(source) & _HASH_MASK or 1
        last = self._ticks(last_seen)
        first = last if first_seen == last_seen else self._ticks(first_seen)
        recent = last - int(window * _TICKS_PER_S)
        place = (self._next & self._mask) * self._size
        lost = int(self._give_up(place, recent)) if self._is_full else 0
        lost += self._index(spread, recent)
        address, protocol, port = target
        what = _NUMBERS[kind] | (_LISTED if listed else 0) | protocol << 8 | port << 16
        what |= min(probes, _MAX_U16) << 32
        self._record.pack_into(
            self._ring, place, spread, last << _TICKS_BITS | first, what, address
        )
        self._is_full = self._is_full or self._next == self._mask
        self._next = (self._next + 1) & _MAX_U32
        self.count += 1
        return lost

    def take(self, source: Source) -> PackedSource | None:
        """Remove a source and return it."""
        if not self._ring:
            return None
        spread = hash(source) & _HASH_MASK or 1
        place = self._find(spread, spread & self._bucket_mask)
        if place < 0:
            place = self._find(spread, _second(spread) & self._bucket_mask)
            if place < 0:
                return None
        _, times, what, address = self._record.unpack_from(self._ring, place)
        self._ring[place : place + len(_REMOVED)] = _REMOVED
        self.count -= 1
        return PackedSource(
            (address, what >> 8 & 0xFF, what >> 16 & _MAX_U16), KINDS[what & ~_LISTED & 0xFF],
            what & _LISTED != 0, what >> 32, self._seconds(times & _MAX_TICKS),
            self._seconds(times >> _TICKS_BITS),
        )  # fmt: skip

    def expire(self, horizon: float) -> None:
        """Free the memory if no source was seen since `horizon`."""
        if self._ring and self._newest <= horizon:
            self._ring, self._numbers, self._tags = bytearray(), memoryview(b""), memoryview(b"")
            self.count = 0

    def _allocate(self, now: float) -> None:
        records = self._mask + 1
        self._ring = _mapping(records * self._size)
        # The index is touched all over by a flood's first thousands: its pages are made at once.
        self._numbers = memoryview(_mapping(records * 4, MAP_POPULATE)).cast("I")
        self._tags = memoryview(_mapping(records // _RECORDS_PER_BUCKET * 8, MAP_POPULATE)).cast(
            "Q"
        )
        self._next = 0
        self._is_full = False
        self._epoch = now - _EPOCH_BEFORE_S

    def _find(self, spread: int, bucket: int) -> int:
        """Return the place of a source's record by one bucket, and free its slot; or -1."""
        tags: int = self._tags[bucket]
        differ = (tags & _TAGS) ^ _IN_EACH_BYTE[_tag(spread)]
        if not (differ - _ONES) & ~differ & _HIGH:  # no byte is 0: Warren, Hacker's Delight, 6-1
            return -1
        for slot in range(MAX_IN_BUCKET):
            if differ >> slot * 8 & 0xFF:
                continue
            number: int = self._numbers[bucket * _RECORDS_PER_BUCKET + slot]
            place = (number & self._mask) * self._size
            if _HASH_AND_TIMES.unpack_from(self._ring, place)[0] == spread:
                self._tags[bucket] = tags & (_OTHERS[slot] | ~_TAGS)
                return place
        return -1

    def _index(self, spread: int, recent: int) -> int:
        """Note the next record in a slot; return 1 if one was given up that is recent, or 0."""
        bucket = spread & self._bucket_mask
        tags: int = self._tags[bucket]
        age = self._age(bucket, tags)
        if age <= self._mask:
            other = _second(spread) & self._bucket_mask
            tags_there: int = self._tags[other]
            age_there = self._age(other, tags_there)
            if age_there > age:
                bucket, tags, age = other, tags_there, age_there
        turn = tags >> _TAG_BITS
        slot = bucket * _RECORDS_PER_BUCKET + turn
        lost = 0
        if age <= self._mask:
            lost = int(self._give_up((self._numbers[slot] & self._mask) * self._size, recent))
        self._numbers[slot] = self._next
        others = tags & _OTHERS[turn]
        self._tags[bucket] = others | _tag(spread) << turn * 8 | _NEXT_TURN[turn]
        return lost

    def _age(self, bucket: int, tags: int) -> int:
        """Return how many records ago a bucket's next slot was filled; above the ring's highest
        place: it is free, or its record is overwritten."""
        turn = tags >> _TAG_BITS
        if not tags & ~_OTHERS[turn] & _TAGS:
            return _MAX_U32
        number: int = self._numbers[bucket * _RECORDS_PER_BUCKET + turn]
        return (self._next - number) & _MAX_U32

    def _give_up(self, place: int, recent: int) -> bool:
        """Remove the record at a place of the ring; return whether it was seen after `recent`."""
        spread, times = _HASH_AND_TIMES.unpack_from(self._ring, place)
        if not spread:
            return False
        self._ring[place : place + len(_REMOVED)] = _REMOVED
        self.count -= 1
        last: int = times >> _TICKS_BITS
        return last > recent

    def _ticks(self, seconds: float) -> int:
        return min(max(int((seconds - self._epoch) * _TICKS_PER_S), 0), _MAX_TICKS)

    def _seconds(self, ticks: int) -> float:
        return ticks / _TICKS_PER_S + self._epoch


def _mapping(size: int, flags: int = 0) -> mmap:
    return mmap(-1, size, MAP_PRIVATE | MAP_ANONYMOUS | flags)


def _tag(spread: int) -> int:
    """Return the tag of a hash, 1 to 255: bits that neither bucket depends on."""
    return spread >> 54 or 1


def _second(spread: int) -> int:
    """Return the hash for the second bucket."""
    return spread >> 31
