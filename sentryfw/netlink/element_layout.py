"""The layout of elements in a dump of a set: nearly all of them differ in their values only.

It is learnt from the first element of a message; the others are read at once, at 0.5 us an element
instead of 5.

See docs/decisions.md: element-layout.
"""

import operator
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final, Self, cast

from sentryfw.netlink import nftables as nl
from sentryfw.netlink.message import attribute_list

Values = tuple[bytes, int, int, int, int]
"""Key, timeout and time left in milliseconds, packets and bytes of an element."""

_VALUE_PATHS: Final = (
    (nl.NFTA_SET_ELEM_KEY, nl.NFTA_DATA_VALUE),
    (nl.NFTA_SET_ELEM_TIMEOUT,),
    (nl.NFTA_SET_ELEM_EXPIRATION,),
    (nl.NFTA_SET_ELEM_EXPR, nl.NFTA_EXPR_DATA, nl.NFTA_COUNTER_PACKETS),
    (nl.NFTA_SET_ELEM_EXPR, nl.NFTA_EXPR_DATA, nl.NFTA_COUNTER_BYTES),
)
"""Attributes that lead to the values of a timed, counted element, in the order of Values."""
_NUMBER_BYTES: Final = 8
_OTHERS: Final = (nl.NFTA_SET_ELEM_FLAGS, nl.NFTA_SET_ELEM_EXPRESSIONS)
"""Attributes of elements that are read one by one: the end of an interval, several expressions."""
_ATTRIBUTE_BYTES: Final = 4
"""struct nlattr."""
_SEQUENCE: Final = (8, 4)
"""Start and size of nlmsg_seq in a datagram."""
_GENERATION: Final = (18, 2)
"""Start and size of res_id of struct nfgenmsg, in which nf_tables counts its transactions."""


class ElementLayout:
    """The places of an element's values, and the other bytes, which must be equal."""

    def __init__(
        self,
        record: bytes,
        found: list[tuple[int, int] | None],
        varying: tuple[tuple[int, int], ...] = (),
    ) -> None:
        """`record`: the bytes that hold the element. `found`: start and size of each value there,
        in the order of Values; None: it has none, as a timeout that is the set's own.
        `varying`: other places whose bytes may differ."""
        places = [place for place in found if place is not None]
        self._size = len(record)
        mask = bytearray(b"\xff" * self._size)
        for start, size in (*places, *varying):
            mask[start : start + size] = bytes(size)
        self._mask = bytes(mask)
        self._fixed = bytes(byte & keep for byte, keep in zip(record, mask, strict=True))
        self._count = 0
        self._ints = 0, 0
        in_order = sorted(places)
        self._pick = _picker([place and in_order.index(place) for place in found])
        self._struct = struct.Struct(_format(in_order, self._size))

    @classmethod
    def of(cls, payload: bytes) -> Self | None:
        """Return the layout of the first element; None if elements like it are read one by one."""
        element = payload[: int.from_bytes(payload[:2], sys.byteorder)]
        places = _places(element)
        return None if places is None else cls(element, places)

    @classmethod
    def of_answer(cls, datagram: bytes, payload: bytes) -> Self | None:
        """Return the layout of a datagram that is the answer about one element.

        `payload`: the element in it. The numbers of message and generation are each answer's own.
        """
        start = len(datagram) - len(payload)
        places = _places(payload) if datagram.endswith(payload) else None
        if places is None:
            return None
        moved = [place and (start + place[0], place[1]) for place in places]
        return cls(datagram, moved, (_SEQUENCE, _GENERATION))

    def fits(self, payload: bytes) -> bool:
        """Return whether each element in a payload differs from the first in its values only."""
        count, rest = divmod(len(payload), self._size)
        if rest:
            return False
        if count != self._count:
            self._count = count
            self._ints = int.from_bytes(self._mask * count), int.from_bytes(self._fixed * count)
        mask, fixed = self._ints
        return int.from_bytes(payload) & mask == fixed

    def values(self, payload: bytes) -> Iterator[Values]:
        """Yield the values of each element in a payload that fits()."""
        return map(self._pick, self._struct.iter_unpack(payload))


def _picker(order: list[int | None]) -> Callable[[tuple[Any, ...]], Values]:
    """Return a function that puts what is read into the order of Values; None: 0."""
    places = [place for place in order if place is not None]
    if len(places) == len(order):
        return operator.itemgetter(*places)
    return lambda read: cast("Values", tuple(0 if at is None else read[at] for at in order))


def _places(element: bytes) -> list[tuple[int, int] | None] | None:
    """Return start and size of each value of an element; None if it is read attribute by attribute,
    or if the bytes are not one element."""
    size = int.from_bytes(element[:2], sys.byteorder)
    if not _ATTRIBUTE_BYTES < size == len(element) or size % 4:
        return None
    places = [_place(element, path) for path in _VALUE_PATHS]
    numbers = {place[1] for place in places[1:] if place is not None}
    if places[0] is None or places[0][1] in (0, _NUMBER_BYTES) or numbers != {_NUMBER_BYTES}:
        return None
    if any(_place(element, (kind,)) is not None for kind in _OTHERS):
        return None
    return places


def _format(places: list[tuple[int, int]], size: int) -> str:
    """Return the struct format of an element: keys as bytes, numbers in network order."""
    parts, end = ["!"], 0
    for start, length in places:
        parts.append(f"{start - end}x{'Q' if length == _NUMBER_BYTES else f'{length}s'}")
        end = start + length
    return "".join((*parts, f"{size - end}x"))


def _place(element: bytes, path: tuple[int, ...]) -> tuple[int, int] | None:
    """Return start and size of a value within an element; None without such a value.

    As in attributes(), the last attribute of a type counts.
    """
    start, size = _ATTRIBUTE_BYTES, len(element) - _ATTRIBUTE_BYTES
    for wanted in path:
        found = None
        at = start
        for kind, value in attribute_list(element[start : start + size]):
            if kind == wanted:
                found = at + _ATTRIBUTE_BYTES, len(value)
            at += _ATTRIBUTE_BYTES + len(value) + (-len(value) & 3)
        if found is None:
            return None
        start, size = found
    return start, size
