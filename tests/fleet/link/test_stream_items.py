"""The answers of a hub: entries of known members in order, or a fault; nothing else passes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.fleet.link.stream_items import (
    MAX_ID,
    HubFault,
    MemberStream,
    Signed,
    id_of,
    streams,
)
from support.fleet_entries import as_item, made, sealed

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


def seal_item(signed: Signed, number: int | None = None) -> list[Any]:
    """Return the seal of a part as a hub sends it, behind the last entry of the part."""
    assert signed.seal is not None
    name = f"{signed.seq if number is None else number}-1".encode()
    fields = [b"seal", signed.seal.text.encode(), b"signature", signed.seal.signature.encode()]
    return [name, fields]


PART = sealed([made(5), made(6), made(9)])


def test_a_seal_is_with_the_last_entry_of_its_part() -> None:
    found = one([*map(as_item, PART), seal_item(PART[-1]), as_item(made(10))])
    assert found.items == [*PART, made(10)]
    assert (found.cursor, found.refused) == (10, {})


@pytest.mark.parametrize(
    "item",
    [
        seal_item(PART[-1], number=10),
        seal_item(sealed([made(5), made(8)])[-1], number=9),
        [b"9-1", [b"seal", b"{}", b"signature", b"0" * 128]],
        [b"9-1", [b"seal", 7, b"signature", b"0" * 128]],
        [b"9-1", [b"seal", seal_item(PART[-1])[1][1], b"signature", b"0" * 9999]],
        [b"9-1", [b"seal", seal_item(PART[-1])[1][1], b"signature", b"\xff" * 128]],
    ],
)
def test_a_seal_that_is_none_is_counted_and_its_entries_stay(item: list[Any]) -> None:
    found = one([*map(as_item, PART), item, as_item(made(11))])
    assert [signed._replace(seal=None) for signed in found.items] == [
        made(5), made(6), made(9), made(11),
    ]  # fmt: skip
    assert all(signed.seal is None for signed in found.items)
    assert found.refused == {"bad-seal": 1}


def test_an_answer_with_as_many_items_as_were_asked_for_ends_with_a_seal() -> None:
    items = [*map(as_item, PART), seal_item(PART[-1]), as_item(made(10)), as_item(made(11))]

    def cursor(count: int, given: list[Any] = items) -> int:
        [found] = streams([[b"sentryfw:fw2", given]], NAMES, AFTER, count)
        return found.cursor

    assert cursor(6) == 9, "the rest comes with its seal next time"
    assert cursor(7) == cursor(0) == 11, "there is no more"
    assert cursor(3, items[:3]) == 9, "without a seal everything is taken"


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
