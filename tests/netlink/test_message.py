"""Netlink messages: packed ones are read back, wrong lengths are reported."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.netlink import message
from support.headers import header_numbers, numbers_of

PAIRS = st.lists(
    st.tuples(st.integers(1, message.NLA_TYPE_MASK), st.binary(max_size=40)), max_size=8
)


def _message(kind: int, body: bytes) -> bytes:
    whole = message.HEADER.pack(message.HEADER.size + len(body), kind, 0, 7, 0) + body
    return whole + bytes(-len(whole) & 3)


@given(PAIRS)
def test_attributes_are_read_back_in_their_order(pairs: list[tuple[int, bytes]]) -> None:
    data = b"".join(message.attribute(kind, payload) for kind, payload in pairs)
    assert list(message.attribute_list(data)) == pairs
    assert message.attributes(data) == dict(pairs)


@given(PAIRS)
def test_raw_attributes_are_the_bytes_of_the_whole(pairs: list[tuple[int, bytes]]) -> None:
    data = b"".join(message.attribute(kind, payload) for kind, payload in pairs)
    raw = list(message.raw_attributes(data))
    assert [(kind, payload) for kind, _, payload in raw] == pairs
    assert b"".join(whole for _, whole, _ in raw) == data


def test_the_last_attribute_may_lack_its_padding() -> None:
    data = message.attribute(1, b"abcde")
    assert list(message.raw_attributes(data[:-3])) == [(1, data, b"abcde")]


@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=40)), max_size=4))
def test_messages_are_read_back_in_their_order(messages: list[tuple[int, bytes]]) -> None:
    data = b"".join(_message(kind, body) for kind, body in messages)
    assert [(found.kind, found.body) for found in message.messages(data)] == messages


@pytest.mark.parametrize(
    ("data", "reported"),
    [
        (b"\x10", "1 bytes left"),
        (message.HEADER.pack(15, 0, 0, 0, 0), "message of 15 bytes"),
        (message.HEADER.pack(17, 0, 0, 0, 0), "16 are there"),
    ],
    ids=["no header", "too short", "too long"],
)
def test_a_wrong_length_is_malformed(data: bytes, reported: str) -> None:
    with pytest.raises(message.MalformedMessage, match=reported):
        list(message.messages(data))


def test_the_numbers_are_those_of_the_kernel_s_headers(tmp_path: Path) -> None:
    numbers = numbers_of(message, r"NLM|NLA_F_")
    assert len(numbers) == 10
    assert header_numbers(numbers, ("linux/netlink.h",), tmp_path) == numbers
