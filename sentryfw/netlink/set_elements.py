"""Elements of nf_tables sets: packed for transactions, read from replies. Pure.

elements_of() reads any element, attribute by attribute. In a dump nearly all elements differ in
their values only, so ElementReader learns their layout from the first element of a message and
reads the others at once (element_layout.py).
"""

import itertools
import struct
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, summarize_address_range
from typing import Final, NamedTuple, Self

from sentryfw.netlink import nftables as nl
from sentryfw.netlink.element_layout import ElementLayout, Values
from sentryfw.netlink.message import (
    HEADER,
    NLA_F_NESTED,
    NLM_F_CREATE,
    Message,
    attribute,
    attribute_list,
    attributes,
    raw_attributes,
)

PAYLOAD_PARTS_COUNT: Final = 400
"""Elements or intervals in one attribute, whose length is a u16: an interval of the longest keys,
of 40 bytes, takes 144."""


class Element(NamedTuple):
    """An element of a set, as the kernel reports it."""

    key: bytes
    timeout: float
    """Configured lifetime in seconds; 0: the element does not expire."""
    expires: float
    """Seconds left of the timeout."""
    packets: int
    """Packets and bytes that the element's own counter has counted."""
    bytes: int
    is_end: bool = False
    """In an interval set: the key is the first one after an interval."""


class Lifetime(NamedTuple):
    """The timeout of an element, and the time left. Seconds; timeout 0: it does not expire."""

    timeout: float
    left: float


PERMANENT: Final = Lifetime(0.0, 0.0)


# --- packing


def _key(key: bytes) -> bytes:
    return nl.nested(nl.NFTA_SET_ELEM_KEY, attribute(nl.NFTA_DATA_VALUE, key))


ELEMENT_KEY_BYTES: Final = (4, 16, 40)
"""Lengths of keys: an IPv4 address; an IPv6 address, or two IPv4 addresses, protocol and port; two
IPv6 addresses, protocol and port."""
_TIMEOUT: Final = nl.u64(nl.NFTA_SET_ELEM_TIMEOUT, 0)[:4]
_EXPIRATION: Final = nl.u64(nl.NFTA_SET_ELEM_EXPIRATION, 0)[:4]
_LIFE: Final = struct.Struct("!4sQ4sQ")
_ELEMENT_HEADERS: Final = {
    (size, timed): nl.nested(nl.NFTA_LIST_ELEM, _key(bytes(size)) + bytes(24 * timed))[: 4 + 8]
    for size in ELEMENT_KEY_BYTES
    for timed in (False, True)
}
"""The headers of an element and its key: equal for all keys of a length."""
_INTERVAL_END: Final = nl.u32(nl.NFTA_SET_ELEM_FLAGS, nl.NFT_SET_ELEM_INTERVAL_END)
_END_HEADERS: Final = {
    size: nl.nested(nl.NFTA_LIST_ELEM, _INTERVAL_END + _key(bytes(size)))[:-size]
    for size in ELEMENT_KEY_BYTES
}
"""Headers of an element that ends an interval, for all keys of a length."""


def set_element(table: str, name: str, key: bytes, timeout: float | None = None) -> bytes:
    """Pack the body of NFT_MSG_{NEW,DEL,GET}SETELEM for one key; `timeout` in seconds."""
    element = _key(key)
    if timeout is not None:
        element += nl.u64(nl.NFTA_SET_ELEM_TIMEOUT, max(1, round(timeout * 1000)))
    return nl.set_name(table, name) + nl.nested(
        nl.NFTA_SET_ELEM_LIST_ELEMENTS, nl.nested(nl.NFTA_LIST_ELEM, element)
    )


def key_list(keys: Sequence[bytes]) -> bytes:
    """Pack the end of a body of NFT_MSG_GETSETELEM for all keys, which have one length: 4, 16 or 40
    bytes. nl.set_name() is its start."""
    header = _ELEMENT_HEADERS[len(keys[0]), False]
    return attribute(nl.NFTA_SET_ELEM_LIST_ELEMENTS | NLA_F_NESTED, header.join((b"", *keys)))


_QUERY_HEADERS: Final = {size: key_list([bytes(size)])[:-size] for size in (4, 16)}
"""The bytes before the key in a query for one element."""


def key_queries(keys: Iterable[bytes]) -> list[bytes]:
    """Pack, for each key of 4 or 16 bytes, the end of a body of NFT_MSG_GETSETELEM.

    nl.set_name() is its start.
    """
    return [_QUERY_HEADERS[len(key)] + key for key in keys]


def packed_element(key: bytes, life: Lifetime) -> bytes:
    """Pack one element with a key of 4, 16 or 40 bytes, in whole milliseconds.

    The kernel refuses an expiry later than the timeout, so the expiry is at most the timeout.
    """
    timeout, left = life
    if not timeout:
        return _ELEMENT_HEADERS[len(key), False] + key
    timeout_ms = round(timeout * 1000) or 1
    left_ms = timeout_ms if left >= timeout else round(left * 1000)
    header = _ELEMENT_HEADERS[len(key), True]
    return (
        header + key + _LIFE.pack(_TIMEOUT, timeout_ms, _EXPIRATION, left_ms if left_ms > 0 else 1)
    )


def packed_interval(first: bytes, end: bytes | None, life: Lifetime = PERMANENT) -> bytes:
    """Pack the one or two elements of an interval, as nft sends them.

    `end` is the first key after the interval; None if the interval holds the last key.
    """
    start = packed_element(first, life)
    return start if end is None else start + _END_HEADERS[len(end)] + end


def packed_range(first: int, last: int, size: int, life: Lifetime = PERMANENT) -> bytes:
    """Pack an interval of numbers of `size` bytes, both ends included."""
    return packed_interval(first.to_bytes(size), key_after(last, size), life)


def key_after(last: int, size: int) -> bytes | None:
    """Return the key after a number; None after the last number of `size` bytes."""
    return None if (last + 1) >> 8 * size else (last + 1).to_bytes(size)


def payloads(packed: Iterable[bytes]) -> Iterator[bytes]:
    """Join packed elements to payloads of NFTA_SET_ELEM_LIST_ELEMENTS that fit an attribute."""
    rest = iter(packed)
    while payload := b"".join(itertools.islice(rest, PAYLOAD_PARTS_COUNT)):
        yield payload


def new_elements(table: str, name: str, payload: bytes, set_id: int = 0) -> nl.NftRequest:
    """Return the request that adds a payload of elements to a set.

    `set_id` is the set's NFTA_SET_ID, for an anonymous set that the same transaction creates.
    """
    body = nl.set_name(table, name)
    if set_id:
        body += nl.u32(nl.NFTA_SET_ELEM_LIST_SET_ID, set_id)
    body += attribute(nl.NFTA_SET_ELEM_LIST_ELEMENTS | NLA_F_NESTED, payload)
    return nl.NFT_MSG_NEWSETELEM, NLM_F_CREATE, body


def old_elements(table: str, name: str, payload: bytes) -> nl.NftRequest:
    """Return the request that deletes a payload of elements from a set."""
    listed = attribute(nl.NFTA_SET_ELEM_LIST_ELEMENTS | NLA_F_NESTED, payload)
    return nl.NFT_MSG_DELSETELEM, 0, nl.set_name(table, name) + listed


# --- reading


def element_payload(reply: Message) -> bytes:
    """Return the payload of NFTA_SET_ELEM_LIST_ELEMENTS in a reply; empty without elements."""
    return attributes(reply.body[4:]).get(nl.NFTA_SET_ELEM_LIST_ELEMENTS, b"")


def count_elements(reply: Message) -> int:
    """Count the elements in a reply to NFT_MSG_GETSETELEM without reading their values."""
    return sum(1 for _ in attribute_list(element_payload(reply)))


def elements_of(reply: Message) -> Iterator[Element]:
    """Yield the elements in a reply to NFT_MSG_GETSETELEM. MalformedMessage if a size is wrong."""
    for _, item in attribute_list(element_payload(reply)):
        fields = attributes(item)
        key = attributes(fields.get(nl.NFTA_SET_ELEM_KEY, b"")).get(nl.NFTA_DATA_VALUE, b"")
        packets, size = _counter(fields)
        yield Element(
            key,
            nl.u64_of(fields.get(nl.NFTA_SET_ELEM_TIMEOUT)) / 1000,
            nl.u64_of(fields.get(nl.NFTA_SET_ELEM_EXPIRATION)) / 1000,
            packets,
            size,
            bool(
                int.from_bytes(fields.get(nl.NFTA_SET_ELEM_FLAGS, b""))
                & nl.NFT_SET_ELEM_INTERVAL_END
            ),
        )


def _counter(fields: dict[int, bytes]) -> tuple[int, int]:
    expression = fields.get(nl.NFTA_SET_ELEM_EXPR)
    if expression is None:
        listed = attributes(fields.get(nl.NFTA_SET_ELEM_EXPRESSIONS, b""))
        expression = listed.get(nl.NFTA_LIST_ELEM, b"")
    return nl.counter_of(attributes(expression).get(nl.NFTA_EXPR_DATA, b""))


class ElementReader:
    """Reads the replies about one set. Where the layout differs it reads as elements_of()."""

    def __init__(self) -> None:
        self._layout: ElementLayout | None = None
        self._answers: dict[int, ElementLayout | None] = {}
        """The layout of a datagram about one element, by the datagram's size."""

    def read(self, reply: Message) -> list[Element]:
        """Return the elements of one reply of a dump. MalformedMessage as elements_of()."""
        payload = element_payload(reply)
        if self._layout is None or not self._layout.fits(payload):
            self._layout = ElementLayout.of(payload)
            if self._layout is None or not self._layout.fits(payload):
                return list(elements_of(reply))
        return list(map(element_of, self._layout.values(payload)))

    def read_answers(self, datagrams: Sequence[bytes]) -> Iterator[Values]:
        """Yield the values of each element, of datagrams that are each about one element.

        In the order of the datagrams, if they have one size.
        """
        for size in set(map(len, datagrams)):
            same = [datagram for datagram in datagrams if len(datagram) == size]
            layout = self._answers.get(size)
            together = b"".join(same)
            if layout is None or not layout.fits(together):
                layout = ElementLayout.of_answer(same[0], element_payload(_reply(same[0])))
                self._answers[size] = layout
            if layout is not None and layout.fits(together):
                yield from layout.values(together)
            else:
                yield from map(_values, same)


def element_of(values: Values) -> Element:
    """Return the values of an element as one of a set without intervals."""
    key, timeout, left, packets, size = values
    return Element(key, timeout / 1000, left / 1000, packets, size)


def _values(datagram: bytes) -> Values:
    [(key, timeout, expires, packets, size, _)] = elements_of(_reply(datagram))
    return key, round(timeout * 1000), round(expires * 1000), packets, size


def _reply(datagram: bytes) -> Message:
    """Return a datagram as the message whose body it has."""
    return Message(0, 0, 0, datagram[HEADER.size :])


# --- intervals


def intervals(elements: Iterable[Element]) -> Iterator[tuple[Element, bytes | None]]:
    """Yield each interval of an interval set: its first element, and the first key after it.

    The key is None if the interval holds the last key.
    """
    # At one key an interval ends before the next begins.
    ordered = sorted(elements, key=lambda element: (element.key, not element.is_end))
    for position, element in enumerate(ordered):
        if not element.is_end:
            after = ordered[position + 1].key if position + 1 < len(ordered) else None
            yield element, after


def ranges_in(payloads: Iterable[bytes]) -> list[tuple[int, int]]:
    """Return the intervals of payloads of an interval set as numbers, both ends included, in order.

    An element is a number here: twice its key, and one more where an interval begins, so that at
    one key an interval ends before the next begins. Elements of one length differ by their key
    alone, nearly always: only the first of each length is parsed.
    """
    bounds: list[int] = []
    shapes: dict[int, _Shape] = {}
    bits = 0
    for payload in payloads:
        for _, item in attribute_list(payload):
            known = shapes.get(len(item))
            if known and known.before == item[: known.at] and known.after == item[known.end :]:
                shape = known
            else:
                shape = shapes[len(item)] = _Shape.of(item)
                bits = 8 * (shape.end - shape.at)
            bounds.append(2 * int.from_bytes(item[shape.at : shape.end]) + shape.begins)
    bounds.sort()
    bounds.append(2 << bits)  # behind an interval that holds the last key
    return [(bound >> 1, (end >> 1) - 1) for bound, end in itertools.pairwise(bounds) if bound & 1]


class _Shape(NamedTuple):
    """The bytes of an element of an interval set, but for its key."""

    before: bytes
    after: bytes
    at: int
    """Place of the key, and the place behind it."""
    end: int
    begins: bool
    """Whether an interval begins with the key, or has ended before it."""

    @classmethod
    def of(cls, item: bytes) -> Self:
        fields = attributes(item)
        key = attributes(fields[nl.NFTA_SET_ELEM_KEY])[nl.NFTA_DATA_VALUE]
        flags = int.from_bytes(fields.get(nl.NFTA_SET_ELEM_FLAGS, b""))
        at = next(place for kind, place in _places(item) if kind == nl.NFTA_SET_ELEM_KEY) + 4
        end = at + len(key)
        return cls(item[:at], item[end:], at, end, begins=not flags & nl.NFT_SET_ELEM_INTERVAL_END)


def _places(item: bytes) -> Iterator[tuple[int, int]]:
    """Yield the type of each attribute, and the place of its payload."""
    place = 0
    for kind, whole, _ in raw_attributes(item):
        yield kind, place + 4
        place += len(whole)


def networks_of(first: bytes, end: bytes | None) -> Iterator[IPv4Network | IPv6Network]:
    """Yield the networks that make up an interval of addresses; one, if it is a network.

    `end` is the first address after the interval; None if the interval holds the last address.
    """
    size = len(first)
    last = b"\xff" * size if end is None else (int.from_bytes(end) - 1).to_bytes(size)
    return summarize_address_range(ip_address(first), ip_address(last))
