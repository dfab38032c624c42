"""Netlink messages: what is written is read back, and lengths that lie are named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw import nlmsg

PAIRS = st.lists(st.tuples(st.integers(1, nlmsg.NLA_TYPE_MASK), st.binary(max_size=40)), max_size=8)


def _message(kind: int, body: bytes) -> bytes:
    whole = nlmsg.HEADER.pack(nlmsg.HEADER.size + len(body), kind, 0, 7, 0) + body
    return whole + bytes(-len(whole) & 3)


@given(PAIRS)
def test_attributes_are_read_back_in_their_order(pairs: list[tuple[int, bytes]]) -> None:
    data = b"".join(nlmsg.attribute(kind, payload) for kind, payload in pairs)
    assert list(nlmsg.attribute_list(data)) == pairs
    assert nlmsg.attributes(data) == dict(pairs)


@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=40)), max_size=4))
def test_messages_are_read_back_in_their_order(messages: list[tuple[int, bytes]]) -> None:
    data = b"".join(_message(kind, body) for kind, body in messages)
    assert [(found.kind, found.body) for found in nlmsg.messages(data)] == messages


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x10", "1 bytes left"),
        (nlmsg.HEADER.pack(15, 0, 0, 0, 0), "message of 15 bytes"),
        (nlmsg.HEADER.pack(17, 0, 0, 0, 0), "16 are there"),
    ],
    ids=["no header", "too short", "too long"],
)
def test_a_message_that_lies_about_its_length_is_none(data: bytes, said: str) -> None:
    with pytest.raises(nlmsg.MalformedMessage, match=said):
        list(nlmsg.messages(data))
