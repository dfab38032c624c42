"""The elements of a set as the kernel dumps them, some hundred in a message.

nfnetlink.elements_of() reads any element, attribute by attribute. In a dump nearly all are alike
but for their values, so their layout is learnt from the first one of a message, and a message whose
every other byte is the same is read in one go: 0.5 us an element instead of 5.
"""

import struct
import sys
from typing import Final, Self

from sentryfw.netfilter import nfnetlink as nl
from sentryfw.netfilter.nfnetlink import Element, Message

_PATHS: Final = (
    (nl.NFTA_SET_ELEM_KEY, nl.NFTA_DATA_VALUE),
    (nl.NFTA_SET_ELEM_TIMEOUT,),
    (nl.NFTA_SET_ELEM_EXPIRATION,),
    (nl.NFTA_SET_ELEM_EXPR, nl.NFTA_EXPR_DATA, nl.NFTA_COUNTER_PACKETS),
    (nl.NFTA_SET_ELEM_EXPR, nl.NFTA_EXPR_DATA, nl.NFTA_COUNTER_BYTES),
)
"""Where a timed element with a counter has its values, in the order of Element's fields."""
_NUMBER: Final = 8
_USUAL: Final = tuple((key, *[_NUMBER] * 4) for key in (4, 16))
"""Sizes of these values, by the family of the key."""
_HEADER: Final = 4
"""Bytes of struct nlattr."""


class Reader:
    """Reads the replies to one dump."""

    def __init__(self) -> None:
        self._layout: _Layout | None = None

    def read(self, reply: Message) -> list[Element]:
        """The elements of one reply. MalformedMessage as of nfnetlink.elements_of()."""
        payload = nl.attributes(reply.body[4:]).get(nl.NFTA_SET_ELEM_LIST_ELEMENTS, b"")
        if self._layout is None or not self._layout.fits(payload):
            self._layout = _Layout.of(payload)
            if self._layout is None or not self._layout.fits(payload):
                return list(nl.elements_of(reply))
        return self._layout.elements(payload)


class _Layout:
    """Where an element has its values, and the bytes of it that are none."""

    def __init__(self, element: bytes, places: list[tuple[int, int]]) -> None:
        """`places`: start and size of each value, in the order of Element's fields."""
        self._size = len(element)
        mask = bytearray(b"\xff" * self._size)
        for start, size in places:
            mask[start : start + size] = bytes(size)
        self._mask = bytes(mask)
        self._fixed = bytes(byte & keep for byte, keep in zip(element, mask, strict=True))
        self._count = 0
        self._ints = 0, 0
        in_order = sorted(places)
        self._order = [in_order.index(place) for place in places]
        self._struct = struct.Struct(_format(in_order, self._size))

    @classmethod
    def of(cls, payload: bytes) -> Self | None:
        """By the first of the elements; None where that is not of the usual kind."""
        size = int.from_bytes(payload[:2], sys.byteorder)
        if not _HEADER < size <= len(payload) or size % 4:
            return None
        element = payload[:size]
        places = [place for path in _PATHS if (place := _place(element, path)) is not None]
        if tuple(size for _, size in places) not in _USUAL:
            return None
        if _place(element, (nl.NFTA_SET_ELEM_FLAGS,)) is not None:  # it may end an interval
            return None
        return cls(element, places)

    def fits(self, payload: bytes) -> bool:
        """Whether every element in it differs from the first in its values only."""
        count, rest = divmod(len(payload), self._size)
        if rest:
            return False
        if count != self._count:
            self._count = count
            self._ints = int.from_bytes(self._mask * count), int.from_bytes(self._fixed * count)
        mask, fixed = self._ints
        return int.from_bytes(payload) & mask == fixed

    def elements(self, payload: bytes) -> list[Element]:
        key, timeout, expires, packets, size = self._order
        return [
            Element(values[key], values[timeout] / 1000, values[expires] / 1000, values[packets],
                    values[size])
            for values in self._struct.iter_unpack(payload)
        ]  # fmt: skip


def _format(places: list[tuple[int, int]], size: int) -> str:
    """For struct: keys as bytes, numbers in network order, the rest is passed over."""
    parts, end = ["!"], 0
    for start, length in places:
        parts.append(f"{start - end}x{'Q' if length == _NUMBER else f'{length}s'}")
        end = start + length
    return "".join((*parts, f"{size - end}x"))


def _place(element: bytes, path: tuple[int, ...]) -> tuple[int, int] | None:
    """Start and size of a value within an element; of types that come twice the last, as
    nfnetlink.attributes() has it. None where there is none; MalformedMessage on a lying length."""
    start, size = _HEADER, len(element) - _HEADER
    for wanted in path:
        found = None
        at = start
        for kind, value in nl.attribute_list(element[start : start + size]):
            if kind == wanted:
                found = at + _HEADER, len(value)
            at += _HEADER + len(value) + (-len(value) & 3)
        if found is None:
            return None
        start, size = found
    return start, size
