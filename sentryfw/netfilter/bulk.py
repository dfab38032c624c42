"""Blocks by the hundred thousand: read and put back in few big messages.

What one element costs decides here, so keys and times are packed and read without the codec's
general way; tests/netfilter/test_blueprint.py holds both ways against each other.
"""

import itertools
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from sentryfw.netfilter import nfnetlink as nl
from sentryfw.netfilter.blueprint import Message, element_message
from sentryfw.netfilter.netlink import NfnetlinkSocket
from sentryfw.netfilter.table import TABLE

NFTA_SET_ELEM_FLAGS: Final = 3
NFT_SET_ELEM_INTERVAL_END: Final = 1

PAYLOAD: Final = 60_000
"""Bytes of elements in one attribute, whose length is a u16."""
SLICE: Final = 100_000
"""Elements in one transaction, 0.4 s: the kernel holds everybody else's back meanwhile. A
million in one takes 8 to 10 s, in slices 4 (measured)."""
BESIDE: Final = 2_000
"""The same while packets are judged: a block waits for the transaction, some milliseconds."""
ASKED: Final = 256
"""Keys that are asked for in one datagram."""
BUFFER: Final = 128 << 20
"""A transaction is one datagram: a million elements of 44 bytes fit, but are sent in slices."""


class Life(NamedTuple):
    """How long an element lives. Seconds; timeout 0: for ever."""

    timeout: float
    left: float


class Range(NamedTuple):
    """A blocked network, as an interval set holds it: up to, not including, `end`."""

    first: bytes
    end: bytes | None
    """None: up to the last address there is."""
    life: Life


Lives = dict[bytes, Life]
"""By the element's key: 4 bytes in block4, 16 in block6."""


def read(netlink: NfnetlinkSocket, name: str) -> Lives:
    """Every element of block4 or block6."""
    found: Lives = {}
    for part in read_parts(netlink, name):
        found.update(part)
    return found


def read_parts(netlink: NfnetlinkSocket, name: str) -> Iterator[Lives]:
    """The same in parts of some hundred, as they come."""
    for reply in netlink.dump(nl.NFT_MSG_GETSETELEM, nl.set_name(TABLE, name), f"set {name}"):
        yield {key: Life(timeout, left) for key, timeout, left, _ in _elements(reply.body)}


def find(
    netlink: NfnetlinkSocket, name: str, keys: list[bytes], pause: Callable[[], object] = bool
) -> Lives:
    """Those of the keys that are in block4 or block6, asked for one by one, 2 us each: a dump
    costs the square of what the set holds (0.4 s at 100,000, 60 s at a million, measured)."""
    netlink.grow(BUFFER)
    found: Lives = {}
    start = nl.set_name(TABLE, name)
    for low in range(0, len(keys), ASKED):
        part = keys[low : low + ASKED]
        wanted = [_WANTED[len(key)] + key for key in part]
        for index, reply in netlink.ask_each(
            nl.NFT_MSG_GETSETELEM, start, wanted, f"elements of {name}"
        ):
            found[part[index]] = _life(reply)
        pause()
    return found


def read_ranges(netlink: NfnetlinkSocket, name: str) -> list[Range]:
    """Every interval of block_net4 or block_net6."""
    replies = netlink.dump(nl.NFT_MSG_GETSETELEM, nl.set_name(TABLE, name), f"set {name}")
    elements = [element for reply in replies for element in _elements(reply.body)]
    # At one key an interval ends before the next begins.
    elements.sort(key=lambda element: (element[0], not element[3]))
    found: list[Range] = []
    for key, timeout, left, is_end in elements:
        if found and found[-1].end is None:
            found[-1] = found[-1]._replace(end=key)
        if not is_end:
            found.append(Range(key, None, Life(timeout, left)))
    return found


def put_back(netlink: NfnetlinkSocket, name: str, lives: Lives, size: int = SLICE) -> None:
    """Elements into block4 or block6, with what is left of their timeouts; so many at once."""
    netlink.grow(BUFFER)
    items = iter(lives.items())
    while batch := list(itertools.islice(items, size)):
        netlink.transact(element_messages(name, batch), f"{len(batch)} elements into {name}")


def element_messages(name: str, lives: Iterable[tuple[bytes, Life]]) -> list[Message]:
    packed = (_element(key, life) for key, life in lives)
    return [element_message(name, payload) for payload in _payloads(packed)]


def range_messages(name: str, ranges: Iterable[Range]) -> list[Message]:
    packed = (part for item in ranges for part in _range_elements(item))
    return [element_message(name, payload) for payload in _payloads(packed)]


def _range_elements(item: Range) -> Iterator[bytes]:
    yield _element(item.first, item.life)
    if item.end is not None:
        flag = nl.u32(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END)
        yield nl.nested(nl.NFTA_LIST_ELEM, flag + _key(item.end))


def _payloads(packed: Iterable[bytes]) -> Iterator[bytes]:
    parts: list[bytes] = []
    size = 0
    for part in packed:
        if size + len(part) > PAYLOAD:
            yield b"".join(parts)
            parts, size = [], 0
        parts.append(part)
        size += len(part)
    if parts:
        yield b"".join(parts)


def _key(key: bytes) -> bytes:
    return nl.nested(nl.NFTA_SET_ELEM_KEY, nl.attribute(nl.NFTA_DATA_VALUE, key))


_TIMEOUT: Final = nl.u64(nl.NFTA_SET_ELEM_TIMEOUT, 0)[:4]
_EXPIRATION: Final = nl.u64(nl.NFTA_SET_ELEM_EXPIRATION, 0)[:4]
_STARTS: Final = {
    (size, timed): nl.nested(nl.NFTA_LIST_ELEM, _key(bytes(size)) + bytes(24 * timed))[: 4 + 8]
    for size in (4, 16)
    for timed in (False, True)
}
"""The headers of an element and its key: the same for all keys of a length."""


_WANTED: Final = {
    size: nl.nested(
        nl.NFTA_SET_ELEM_LIST_ELEMENTS, nl.nested(nl.NFTA_LIST_ELEM, _key(bytes(size)))
    )[:-size]
    for size in (4, 16)
}
"""What stands before the key where one element is asked for."""
_LIFE: Final = struct.Struct("!4sQ4sQ")
_places: dict[int, int] = {}
"""Where an answer of a length has its timeout: all of one length are alike, but for values."""


def _life(reply: bytes) -> Life:
    """Timeout and what is left of it, in an answer about one element."""
    place = _places.get(len(reply))
    if place is not None:
        head, timeout, next_head, left = _LIFE.unpack_from(reply, place)
        if head == _TIMEOUT and next_head == _EXPIRATION:
            return Life(timeout / 1000, left / 1000)
    [(_, life_timeout, life_left, _)] = _elements(reply[16:])
    place = reply.rfind(_TIMEOUT, 0, len(reply) - 20)
    if place >= 0 and reply[place + 12 :].startswith(_EXPIRATION):
        _places[len(reply)] = place
    return Life(life_timeout, life_left)


def _element(key: bytes, life: Life) -> bytes:
    """One element, in whole milliseconds; never longer than its timeout."""
    if not life.timeout:
        return _STARTS[len(key), False] + key
    timeout = max(1, round(life.timeout * 1000))
    left = min(timeout, max(1, round(life.left * 1000)))
    return (
        _STARTS[len(key), True] + key
        + _TIMEOUT + timeout.to_bytes(8) + _EXPIRATION + left.to_bytes(8)
    )  # fmt: skip


def _elements(body: bytes) -> list[tuple[bytes, float, float, bool]]:
    """(key, timeout, left, ends an interval) of each element in a reply."""
    found = []
    outer = nl.attributes(body[4:])
    for _, item in nl.attribute_list(outer.get(nl.NFTA_SET_ELEM_LIST_ELEMENTS, b"")):
        # What the kernel always writes first (nf_tables_fill_setelem): the key.
        size = int.from_bytes(item[4:6], _ORDER) - 4
        fields = dict(nl.attribute_list(item))
        timeout = fields.get(nl.NFTA_SET_ELEM_TIMEOUT)
        left = fields.get(nl.NFTA_SET_ELEM_EXPIRATION)
        flags = fields.get(NFTA_SET_ELEM_FLAGS)
        found.append(
            (
                item[8 : 8 + size],
                int.from_bytes(timeout) / 1000 if timeout else 0.0,
                int.from_bytes(left) / 1000 if left else 0.0,
                flags is not None and bool(flags[-1] & NFT_SET_ELEM_INTERVAL_END),
            )
        )
    return found


_ORDER: Final = "little" if nl.attribute(1, b"")[0] == 4 else "big"


class Pauses:
    """Lets other threads run, so that a long look costs the packet path a moment at a time."""

    def __init__(self, every: float = 0.001, length: float = 0.0005) -> None:
        self._every = every
        self._length = length
        self._next = time.monotonic() + every

    def __call__(self) -> None:
        if time.monotonic() >= self._next:
            time.sleep(self._length)
            self._next = time.monotonic() + self._every
