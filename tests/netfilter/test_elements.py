"""Dumps read in one go: what comes out is what reading attribute by attribute gives."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.config import Config
from sentryfw.netfilter import nfnetlink as nl
from sentryfw.netfilter.elements import Reader
from sentryfw.netfilter.install import install
from sentryfw.netfilter.netlink import NfnetlinkSocket
from sentryfw.netfilter.table import TABLE, Table
from sentryfw.netns import Namespace

NUMBERS: Final = st.integers(0, (1 << 64) - 1)
KEYS: Final = {size: st.binary(min_size=size, max_size=size) for size in (4, 16)}


def _key(key: bytes) -> bytes:
    return nl.nested(nl.NFTA_SET_ELEM_KEY, nl.attribute(nl.NFTA_DATA_VALUE, key))


def _counter(packets: int, size: int) -> bytes:
    return nl.nested(
        nl.NFTA_SET_ELEM_EXPR,
        nl.text(nl.NFTA_EXPR_NAME, "counter"),
        nl.nested(
            nl.NFTA_EXPR_DATA,
            nl.u64(nl.NFTA_COUNTER_BYTES, size),
            nl.u64(nl.NFTA_COUNTER_PACKETS, packets),
        ),
    )


@st.composite
def _usual(draw: st.DrawFn, size: int) -> bytes:
    """An element as block4 and block6 have them."""
    return (
        _key(draw(KEYS[size]))
        + _counter(draw(NUMBERS), draw(NUMBERS))
        + nl.u64(nl.NFTA_SET_ELEM_TIMEOUT, draw(NUMBERS))
        + nl.u64(nl.NFTA_SET_ELEM_EXPIRATION, draw(NUMBERS))
    )


@st.composite
def _odd(draw: st.DrawFn) -> bytes:
    """One with attributes too few, too many, twice, or of another size."""
    parts = [
        _key(draw(st.binary(max_size=20))),
        _counter(draw(NUMBERS), draw(NUMBERS)),
        nl.attribute(nl.NFTA_SET_ELEM_TIMEOUT, draw(st.binary(max_size=12))),
        nl.u64(nl.NFTA_SET_ELEM_TIMEOUT, draw(NUMBERS)),
        nl.u64(nl.NFTA_SET_ELEM_EXPIRATION, draw(NUMBERS)),
        nl.u32(nl.NFTA_SET_ELEM_FLAGS, draw(st.integers(0, 3))),
        nl.attribute(9, draw(st.binary(max_size=9))),
    ]
    return b"".join(draw(st.permutations(parts))[: draw(st.integers(0, len(parts)))])


def _reply(elements: list[bytes]) -> nl.Message:
    """As the kernel's: struct nfgenmsg, the names, and the list."""
    items = (nl.nested(nl.NFTA_LIST_ELEM, element) for element in elements)
    body = nl.set_name(TABLE, "block4") + nl.nested(nl.NFTA_SET_ELEM_LIST_ELEMENTS, *items)
    return nl.Message(nl.NFT_MSG_NEWSETELEM, 0, 1, bytes(4) + body)


replies = st.one_of(
    *(st.lists(_usual(size), max_size=6) for size in KEYS),
    st.lists(st.one_of(_odd(), *map(_usual, KEYS)), max_size=4),
).map(_reply)


def _slowly(reply: nl.Message) -> list[nl.Element] | str:
    try:
        return list(nl.elements_of(reply))
    except nl.MalformedMessage as error:
        return str(error)


def _read(reader: Reader, reply: nl.Message) -> list[nl.Element] | str:
    try:
        return reader.read(reply)
    except nl.MalformedMessage as error:
        return str(error)


@given(dump=st.lists(replies, max_size=4))
def test_any_elements_are_read_as_one_by_one(dump: list[nl.Message]) -> None:
    reader = Reader()
    assert [_read(reader, reply) for reply in dump] == [_slowly(reply) for reply in dump]


@given(
    reply=st.lists(_usual(4), min_size=1, max_size=3).map(_reply),
    at=st.integers(0),
    value=st.integers(0, 255),
)
def test_any_byte_may_be_wrong(reply: nl.Message, at: int, value: int) -> None:
    body = bytearray(reply.body)
    body[4 + at % (len(body) - 4)] = value
    spoilt = reply._replace(body=bytes(body))
    reader = Reader()
    reader.read(reply)
    assert _read(reader, spoilt) == _slowly(spoilt)


@pytest.mark.parametrize("size", KEYS)
def test_like_elements_are_read_in_one_go(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    elements = [
        _key(bytes([number] * size)) + _counter(number, 2 * number)
        + nl.u64(nl.NFTA_SET_ELEM_TIMEOUT, 3_600_000)
        + nl.u64(nl.NFTA_SET_ELEM_EXPIRATION, number)
        for number in range(200)
    ]  # fmt: skip
    expected = list(nl.elements_of(_reply(elements)))
    monkeypatch.delattr(nl, "elements_of")
    assert Reader().read(_reply(elements)) == expected


@pytest.mark.netns
def test_the_kernels_own_dumps_are_read_as_one_by_one(namespace: Namespace) -> None:
    table = namespace.call(Table)
    namespace.call(lambda: install(table, Config(), []))
    many = ", ".join(f"203.0.{n >> 8}.{n & 255} timeout {n + 1}h" for n in range(1000))
    for command in (
        f"add element inet {TABLE} block4 {{ {many} }}",
        f"add element inet {TABLE} block6 {{ 2001:db8:: timeout 1h, fe80::1 timeout 1d }}",
        f'add element inet {TABLE} block4 {{ 192.0.2.1, 192.0.2.2 timeout 1h comment "x" }}',
        f"add element inet {TABLE} block_net4 {{ 198.51.100.0/24 timeout 1h, 255.0.0.0/8 }}",
    ):
        assert namespace.run("nft", command).returncode == 0, command
    with namespace.call(NfnetlinkSocket) as netlink:
        for name, count in (("block4", 1002), ("block6", 2), ("block_net4", 4)):
            body = nl.set_name(TABLE, name)
            dump = list(netlink.dump(nl.NFT_MSG_GETSETELEM, body, name))
            reader = Reader()
            read = [element for reply in dump for element in reader.read(reply)]
            assert read == [element for reply in dump for element in nl.elements_of(reply)]
            assert len(read) == count
    table.close()
