"""Elements of sets: read at once as attribute by attribute, packed as the kernel takes them."""

import itertools
import random
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.config.model import Config
from sentryfw.netfilter.install import install
from sentryfw.netfilter.schema import TABLE
from sentryfw.netfilter.table import Table
from sentryfw.netlink import message as nlmsg
from sentryfw.netlink import nftables as nl
from sentryfw.netlink import set_elements
from sentryfw.netlink.set_elements import Element, ElementReader, Lifetime
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.tools.drill.namespace import Namespace

NUMBERS: Final = st.integers(0, (1 << 64) - 1)
KEYS: Final = {size: st.binary(min_size=size, max_size=size) for size in (4, 16)}


def _key(key: bytes) -> bytes:
    return nl.nested(nl.NFTA_SET_ELEM_KEY, nlmsg.attribute(nl.NFTA_DATA_VALUE, key))


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
    """An element of block4 or block6."""
    return (
        _key(draw(KEYS[size]))
        + _counter(draw(NUMBERS), draw(NUMBERS))
        + nl.u64(nl.NFTA_SET_ELEM_TIMEOUT, draw(NUMBERS))
        + nl.u64(nl.NFTA_SET_ELEM_EXPIRATION, draw(NUMBERS))
    )


@st.composite
def _odd(draw: st.DrawFn) -> bytes:
    """An element with missing, additional or repeated attributes, or values of another size."""
    parts = [
        _key(draw(st.binary(max_size=20))),
        _counter(draw(NUMBERS), draw(NUMBERS)),
        nlmsg.attribute(nl.NFTA_SET_ELEM_TIMEOUT, draw(st.binary(max_size=12))),
        nl.u64(nl.NFTA_SET_ELEM_TIMEOUT, draw(NUMBERS)),
        nl.u64(nl.NFTA_SET_ELEM_EXPIRATION, draw(NUMBERS)),
        nl.u32(nl.NFTA_SET_ELEM_FLAGS, draw(st.integers(0, 3))),
        nlmsg.attribute(9, draw(st.binary(max_size=9))),
    ]
    return b"".join(draw(st.permutations(parts))[: draw(st.integers(0, len(parts)))])


def _reply(elements: list[bytes]) -> nlmsg.Message:
    """A reply as the kernel builds it: struct nfgenmsg, the names, and the list."""
    items = (nl.nested(nl.NFTA_LIST_ELEM, element) for element in elements)
    body = nl.set_name(TABLE, "block4") + nl.nested(nl.NFTA_SET_ELEM_LIST_ELEMENTS, *items)
    return nlmsg.Message(nl.NFT_MSG_NEWSETELEM, 0, 1, bytes(4) + body)


replies = st.one_of(
    *(st.lists(_usual(size), max_size=6) for size in KEYS),
    st.lists(st.one_of(_odd(), *map(_usual, KEYS)), max_size=4),
).map(_reply)


def _slowly(reply: nlmsg.Message) -> list[Element] | str:
    try:
        return list(set_elements.elements_of(reply))
    except nlmsg.MalformedMessage as error:
        return str(error)


def _read(reader: ElementReader, reply: nlmsg.Message) -> list[Element] | str:
    try:
        return reader.read(reply)
    except nlmsg.MalformedMessage as error:
        return str(error)


@given(dump=st.lists(replies, max_size=4))
def test_the_reader_agrees_with_elements_of(dump: list[nlmsg.Message]) -> None:
    reader = ElementReader()
    assert [_read(reader, reply) for reply in dump] == [_slowly(reply) for reply in dump]


@given(
    reply=st.lists(_usual(4), min_size=1, max_size=3).map(_reply),
    at=st.integers(0),
    value=st.integers(0, 255),
)
def test_a_wrong_byte_is_read_as_elements_of_reads_it(
    reply: nlmsg.Message, at: int, value: int
) -> None:
    body = bytearray(reply.body)
    body[4 + at % (len(body) - 4)] = value
    spoilt = reply._replace(body=bytes(body))
    reader = ElementReader()
    reader.read(reply)
    assert _read(reader, spoilt) == _slowly(spoilt)


@pytest.mark.parametrize("size", KEYS)
def test_elements_of_one_layout_are_read_at_once(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    elements = [
        _key(bytes([number] * size)) + _counter(number, 2 * number)
        + nl.u64(nl.NFTA_SET_ELEM_TIMEOUT, 3_600_000)
        + nl.u64(nl.NFTA_SET_ELEM_EXPIRATION, number)
        for number in range(200)
    ]  # fmt: skip
    expected = list(set_elements.elements_of(_reply(elements)))
    monkeypatch.delattr(set_elements, "elements_of")
    assert ElementReader().read(_reply(elements)) == expected


# --- one element


def _answer(key: bytes, timeout: int, left: int) -> bytes:
    """The datagram with one element of a set, as the kernel builds it."""
    element = (
        _key(key) + _counter(1, 40)
        + nl.u64(nl.NFTA_SET_ELEM_TIMEOUT, timeout) + nl.u64(nl.NFTA_SET_ELEM_EXPIRATION, left)
    )  # fmt: skip
    return bytes(16) + _reply([element]).body


def _numbered(answer: bytes, sequence: int, generation: int) -> bytes:
    """The datagram with another number of its message and of the ruleset's generation."""
    return (
        answer[:8] + sequence.to_bytes(4, "little") + answer[12:18]
        + generation.to_bytes(2) + answer[20:]
    )  # fmt: skip


@pytest.mark.parametrize("size", [size for size in KEYS if size != 40])
def test_answers_of_one_layout_are_read_at_once(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [
        _numbered(_answer(bytes([number] * size), 3_600_000, number * 1000), number, number % 3)
        for number in range(1, 200)
    ]
    monkeypatch.delattr(set_elements, "elements_of")
    assert list(ElementReader().read_answers(answers)) == [
        (bytes([number] * size), 3_600_000, number * 1000, 1, 40) for number in range(1, 200)
    ]


def test_answers_of_other_layouts_are_read_as_well() -> None:
    timed, permanent = _answer(b"\1" * 4, 5000, 4000), bytes(16) + _reply([_key(bytes(4))]).body
    counted = bytes(16) + _reply([_key(b"\2" * 4) + _counter(1, 40)]).body
    six = _answer(b"\6" * 16, 7000, 6000)
    found = ElementReader().read_answers([timed, permanent, six, counted, timed])
    assert sorted(found) == sorted([
        (b"\1" * 4, 5000, 4000, 1, 40), (b"\1" * 4, 5000, 4000, 1, 40), (bytes(4), 0, 0, 0, 0),
        (b"\2" * 4, 0, 0, 1, 40), (b"\6" * 16, 7000, 6000, 1, 40),
    ])  # fmt: skip


def test_an_answer_as_long_as_the_others_with_other_attributes_is_not_misread() -> None:
    element = (
        _counter(9, 80) + _key(b"\7" * 4)
        + nl.u64(nl.NFTA_SET_ELEM_TIMEOUT, 5000) + nl.u64(nl.NFTA_SET_ELEM_EXPIRATION, 4000)
    )  # fmt: skip
    other = bytes(16) + _reply([element]).body
    usual = _answer(b"\1" * 4, 3000, 2000)
    assert len(other) == len(usual)
    assert list(ElementReader().read_answers([usual, other])) == [
        (b"\1" * 4, 3000, 2000, 1, 40), (b"\7" * 4, 5000, 4000, 9, 80),
    ]  # fmt: skip


# --- packing


def _added(packed: Iterable[bytes]) -> list[Element]:
    """The elements that the kernel would read in the requests that add packed elements."""
    requests = [set_elements.new_elements("t", "s", part) for part in set_elements.payloads(packed)]
    replies = (nlmsg.Message(kind, 0, 1, bytes(4) + body) for kind, _, body in requests)
    return [element for reply in replies for element in set_elements.elements_of(reply)]


@given(
    keys=st.one_of(*(st.lists(key, max_size=200) for key in KEYS.values())),
    timeout=st.integers(0, 10 * 365 * 86_400_000),
    left=st.integers(1, 10 * 365 * 86_400_000),
)
def test_packed_elements_are_read_back(keys: list[bytes], timeout: int, left: int) -> None:
    life = Lifetime(timeout / 1000, left / 1000)
    read = _added(set_elements.packed_element(key, life) for key in keys)
    expected = Lifetime(life.timeout, min(life)) if timeout else Lifetime(0.0, 0.0)
    assert [element.key for element in read] == keys
    assert {(element.timeout, element.expires) for element in read} <= {expected}


def test_payloads_fit_an_attribute() -> None:
    end = b"\xff" * 40  # the longest key, in an interval
    packed = [set_elements.packed_interval(n.to_bytes(40), end, Lifetime(9, 9)) for n in range(900)]
    parts = list(set_elements.payloads(packed))
    assert len(parts) == 3
    assert all(len(nl.nested(nl.NFTA_SET_ELEM_LIST_ELEMENTS, part)) < 1 << 16 for part in parts)
    assert b"".join(parts) == b"".join(packed)


@given(key=st.one_of(*KEYS.values()))
def test_a_key_query_is_the_end_of_a_query_for_one_element(key: bytes) -> None:
    [query] = set_elements.key_queries([key])
    whole = nl.set_name("sentryfw", "block") + query
    assert whole == set_elements.set_element("sentryfw", "block", key)


@given(keys=st.one_of(*(st.lists(keys, min_size=1, max_size=9) for keys in KEYS.values())))
def test_a_key_list_has_the_elements_of_all_queries(keys: list[bytes]) -> None:
    head = len(nl.set_name("t", "s")) + 4  # and the header of the list
    elements = [set_elements.set_element("t", "s", key)[head:] for key in keys]
    expected = nl.nested(nl.NFTA_SET_ELEM_LIST_ELEMENTS, b"".join(elements))
    assert set_elements.key_list(keys) == expected


# --- intervals


@given(
    starts=st.sets(st.integers(0, (1 << 32) - 1), min_size=1, max_size=12),
    gaps=st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_packed_intervals_are_read_back(starts: set[int], gaps: list[bool]) -> None:
    """Disjoint ranges between sorted numbers; where there is not a gap, two are adjacent."""
    bounds = [*sorted(starts), 1 << 32]
    ranges = [
        (first, after - 1)
        for (first, after), gap in zip(itertools.pairwise(bounds), gaps, strict=False)
        if not gap
    ]
    elements = _added(set_elements.packed_range(first, last, 4) for first, last in ranges)
    read = [
        (int.from_bytes(start.key), (1 << 32) - 1 if end is None else int.from_bytes(end) - 1)
        for start, end in set_elements.intervals(reversed(elements))
    ]
    assert read == ranges


def _as_the_kernel_reports(start: bytes, end: bytes | None) -> list[bytes]:
    """Return the elements of an interval, each with its key before its flags."""

    def key(value: bytes) -> bytes:
        return nl.nested(nl.NFTA_SET_ELEM_KEY, nlmsg.attribute(nl.NFTA_DATA_VALUE, value))

    made = [nl.nested(nl.NFTA_LIST_ELEM, key(start))]
    if end is not None:
        flags = nl.u32(nl.NFTA_SET_ELEM_FLAGS, nl.NFT_SET_ELEM_INTERVAL_END)
        made.append(nl.nested(nl.NFTA_LIST_ELEM, key(end) + flags))
    return made


@given(
    starts=st.sets(st.integers(0, 40) | st.integers(0, (1 << 32) - 1), max_size=12),
    gaps=st.lists(st.booleans(), min_size=12, max_size=12),
    size=st.sampled_from([4, 16]),
    is_ours=st.lists(st.booleans(), min_size=12, max_size=12),
    chance=st.randoms(use_true_random=False),
)
def test_ranges_of_an_interval_set_are_read_in_any_order_and_layout(
    starts: set[int], gaps: list[bool], size: int, is_ours: list[bool], chance: random.Random
) -> None:
    bounds = [first << 8 * (size - 4) for first in (*sorted(starts), 1 << 32)]
    ranges = [
        (first, after - 1)
        for (first, after), gap in zip(itertools.pairwise(bounds), gaps, strict=False)
        if not gap
    ]
    elements: list[bytes] = []
    for (first, last), ours in zip(ranges, is_ours, strict=False):
        if ours:
            elements.append(set_elements.packed_range(first, last, size))
        else:
            end = set_elements.key_after(last, size)
            elements += _as_the_kernel_reports(first.to_bytes(size), end)
    chance.shuffle(elements)
    assert set_elements.ranges_in(set_elements.payloads(elements)) == ranges


@pytest.mark.parametrize(
    ("first", "last", "networks"),
    [
        ("198.18.0.0", "198.18.15.255", ["198.18.0.0/20"]),
        ("198.18.0.5", "198.18.0.7", ["198.18.0.5/32", "198.18.0.6/31"]),
        ("128.0.0.0", "255.255.255.255", ["128.0.0.0/1"]),
        ("2001:2::", "2001:2::", ["2001:2::/128"]),
        ("8000::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ["8000::/1"]),
    ],
    ids=["network", "range", "last4", "address6", "last6"],
)
def test_an_interval_is_split_into_networks(first: str, last: str, networks: list[str]) -> None:
    start, final = ip_address(first).packed, ip_address(last)
    end = set_elements.key_after(int(final), len(start))
    assert list(map(str, set_elements.networks_of(start, end))) == networks


# --- the kernel


@pytest.mark.netns
def test_the_reader_agrees_with_elements_of_on_the_kernel_s_dumps(namespace: Namespace) -> None:
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
            reader = ElementReader()
            read = [element for reply in dump for element in reader.read(reply)]
            assert read == [
                element for reply in dump for element in set_elements.elements_of(reply)
            ]
            assert len(read) == count
    table.close()
