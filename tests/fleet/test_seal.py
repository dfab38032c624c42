"""Seals: one form alone, of exactly these texts, and hostile bytes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.fleet.entry import MAX_SEQUENCE, UnreadableEntry, parse
from sentryfw.fleet.seal import SEAL_COUNT, Seal, parse_seal, seal
from support.fleet_entries import made

TEXTS = [made(number).entry for number in (1, 2, 5)]
SEAL = seal("fw2", (1, 2, 5), TEXTS)


def changed(**fields: object) -> bytes:
    given_fields = json.loads(SEAL.encode()) | fields
    return json.dumps(given_fields, sort_keys=True, separators=(",", ":")).encode()


def test_a_seal_survives_its_bytes_and_names_its_part() -> None:
    assert parse_seal(SEAL.encode()) == SEAL
    assert SEAL[:4] == ("fw2", 1, 5, 3)
    assert SEAL.covers(TEXTS)


def test_its_bytes_are_what_the_documentation_shows() -> None:
    assert seal("fw1", (4609, 4736), ["a", "b"]).encode() == (
        b'{"count":2,"digest":"911169ddaaf146aff539f58c26c489af3b892dff0fe283c1c264c65ae5aa59a2",'
        b'"first":4609,"last":4736,"member":"fw1","op":"seal","v":3}'
    )


def test_a_member_that_knows_entries_alone_refuses_it_by_its_version() -> None:
    with pytest.raises(UnreadableEntry, match=r"^unknown-version$"):
        parse(SEAL.encode())


@pytest.mark.parametrize(
    "texts",
    [
        TEXTS[:2], TEXTS[1:], [TEXTS[0], TEXTS[2]], [*TEXTS, TEXTS[0]], [*TEXTS, ""],
        [TEXTS[1], TEXTS[0], TEXTS[2]], [*TEXTS[:2], made(5, reason="whu").entry],
        [*TEXTS[:2], TEXTS[2] + " "], [TEXTS[0] + "\n" + TEXTS[1], TEXTS[2], ""],
        ["\n".join(TEXTS)], [],
    ],
)  # fmt: skip
def test_one_forged_missing_or_moved_text_is_enough_that_it_does_not_hold(
    texts: list[str],
) -> None:
    assert not SEAL.covers(texts)


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"[]", b"\xff", b"[" * 1000, b" " * 2000, SEAL.encode() + b" ", changed(v=1),
        changed(op="block"), changed(more=1), changed(member="FW"), changed(count=0),
        changed(count=SEAL_COUNT + 1), changed(count=True), changed(first=6), changed(first=-1),
        changed(last=MAX_SEQUENCE + 1), changed(last=5.0), changed(digest=7),
        made(1).entry.encode(),
    ],
)  # fmt: skip
def test_hostile_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(UnreadableEntry, match=r"^bad-seal$"):
        parse_seal(raw)


@given(st.binary(max_size=300) | st.builds(lambda t: t.encode(), st.text(max_size=60)))
def test_any_bytes_are_a_seal_or_refused(raw: bytes) -> None:
    try:
        found = parse_seal(raw)
    except UnreadableEntry:
        return
    assert isinstance(found, Seal)
    assert found.encode() == raw
