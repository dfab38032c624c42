"""The answers of a hub: entries of known members in order, or a fault; nothing else passes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.fleet.link.stream_items import MAX_ID, HubFault, MemberStream, id_of, streams
from support.fleet_entries import as_item, made

NAMES = {b"sentryfw:fw2": "fw2", b"sentryfw:fw3": "fw3"}
AFTER = {"fw2": 4, "fw3": 0}


def one(items: list[Any]) -> MemberStream:
    [found] = streams([[b"sentryfw:fw2", items]], NAMES, AFTER)
    return found


@pytest.mark.parametrize("as_map", [False, True], ids=["resp2", "resp3"])
def test_entries_of_known_members_come_in_order(as_map: bool) -> None:  # noqa: FBT001
    pairs: list[list[Any]] = [
        [b"sentryfw:fw2", [as_item(made(5)), as_item(made(9))]],
        [b"sentryfw:fw3", [as_item(made(1, "fw3"))]],
    ]
    found = streams(dict(pairs) if as_map else pairs, NAMES, AFTER)
    assert [(item.member, [one.seq for one in item.items], item.cursor) for item in found] == [
        ("fw2", [5, 9], 9), ("fw3", [1], 1),
    ]  # fmt: skip
    assert found[0].items[0] == made(5)


def test_without_news_the_answer_is_empty() -> None:
    assert streams(None, NAMES, AFTER) == []


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (as_item(made(6), number=7), "wrong-id"),
        (as_item(made(7, "fw3")), "wrong-id"),
        (as_item(made(7), part=1), "wrong-id"),
        ([b"7-0", [b"entry", b"{}", b"signature", b"0" * 128]], "bad-v"),
        ([b"7-0", [b"entry", b"x" * 5000, b"signature", b"0" * 128]], "too-long"),
        ([b"7-0", [b"entry", b"[]", b"signature", b"0" * 4096]], "too-long"),
        ([b"7-0", [b"entry", b"[", b"signature", b"0" * 128]], "not-json"),
        ([b"7-0", [b"entry", b"[]"]], "not-an-entry"),
        ([b"7-0", [b"signature", b"", b"entry", b""]], "not-an-entry"),
        ([b"7-0", [b"entry", 7, b"signature", b"0" * 128]], "not-an-entry"),
        ([b"7-0", None], "not-an-entry"),
    ],
)
def test_an_item_that_cannot_be_an_entry_of_its_member_is_counted_and_passed(
    item: list[Any], reason: str
) -> None:
    """The member harms its own stream alone, and what follows is read."""
    found = one([as_item(made(5)), item, as_item(made(8))])
    assert [entry.seq for entry in found.items] == [5, 8]
    assert found.refused == {reason: 1}
    assert found.cursor == 8


def test_two_items_of_one_number_do_not_stop_the_others() -> None:
    found = one([as_item(made(7)), as_item(made(7), part=1), as_item(made(8))])
    assert [entry.seq for entry in found.items] == [7, 8]
    assert found.refused == {"wrong-id": 1}


@pytest.mark.parametrize(
    "answer",
    [
        b"OK", 7, [b"sentryfw:fw2"], [[b"sentryfw:fw9", []]], [["sentryfw:fw2", []]],
        [[b"sentryfw:fw2", None]], [[b"sentryfw:fw2", []], [b"sentryfw:fw2", []]],
        [[b"sentryfw:fw2", [as_item(made(5)), as_item(made(5), number=3)]]],
        [[b"sentryfw:fw2", [as_item(made(4))]]],
        [[b"sentryfw:fw2", [[b"7"]]]], [[b"sentryfw:fw2", [[b"seven-0", []]]]],
        [[b"sentryfw:fw2", [[7, []]]]],
        [[b"sentryfw:fw2", [[b"99999999999999999999-0", []]]]],
    ],
)  # fmt: skip
def test_an_answer_that_cannot_be_one_is_a_fault(answer: object) -> None:
    with pytest.raises(HubFault, match="the hub"):
        streams(answer, NAMES, AFTER)


def test_an_id_has_two_numbers_of_64_bits() -> None:
    assert id_of(f"{MAX_ID}-{MAX_ID}".encode()) == (MAX_ID, MAX_ID)


ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | st.binary(max_size=40)
    | st.sampled_from([b"sentryfw:fw2", b"5-0", b"6-0", b"entry", b"signature"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.binary(max_size=12), inner),
    max_leaves=20,
)  # fmt: skip


@given(ANYTHING)
def test_no_answer_ends_in_another_error(answer: object) -> None:
    try:
        found = streams(answer, NAMES, AFTER)
    except HubFault:
        return
    assert all(item.items == [] for item in found), "no entry was in it"
