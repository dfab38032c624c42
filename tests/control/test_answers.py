"""Answers of a daemon that was taken over: printable, bounded, and of the expected shape."""

import math
from typing import Any, Literal, NotRequired, TypedDict

import pytest

from sentryfw.control.answers import MAX_DEPTH, MAX_NUMBER, fits, harmless, known
from sentryfw.errors import SentryError


class Part(TypedDict):
    name: str
    size: float
    more: NotRequired[list[int]]


class Whole(TypedDict, total=False):
    part: Part | None
    kind: Literal["a", "b"]
    counts: dict[str, int]
    anything: Any


def _nested(depth: int) -> Any:
    value: Any = 1
    for number in range(depth):
        value = [value] if number % 2 else {"x": value}
    return value


def test_an_honest_answer_is_unchanged() -> None:
    honest = {"a": [1, 2.5, None, True, {"b": "x\ny"}], "ü": "ß", "big": 1 << 52}
    assert harmless(honest) == honest


def test_strings_lose_what_moves_a_cursor_also_in_keys() -> None:
    hostile = {"\x1b[2J": ["\x1b]0;title\x07", {"a": "\u202eabc\r\x9b1m"}]}
    assert harmless(hostile) == {"?[2J": ["?]0;title?", {"a": "?abc??1m"}]}


@pytest.mark.parametrize(
    "number",
    [math.inf, -math.inf, math.nan, 1e300, int(MAX_NUMBER) + 1, -(10**400)],
    ids=["inf", "-inf", "nan", "1e300", "one-more", "huge"],
)
def test_a_number_out_of_range_is_refused(number: float) -> None:
    with pytest.raises(SentryError, match="out of range"):
        harmless({"a": [number]})


def test_depth_is_bounded() -> None:
    assert harmless(_nested(MAX_DEPTH)) == _nested(MAX_DEPTH)
    with pytest.raises(SentryError, match="nested too deeply"):
        harmless(_nested(MAX_DEPTH + 1))


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1, int, True), (True, int, False), (1.0, int, False), ("1", int, False),
        (1, float, True), (1.5, float, True), (True, float, False),
        ("x", str, True), (None, str, False), (None, str | None, True), (1, str | None, False),
        (True, bool, True), (1, bool, False),
        ([1, 2], list[int], True), ([1, "2"], list[int], False), ("12", list[str], False),
        ({"a": 1}, dict[str, int], True), ({"a": "1"}, dict[str, int], False),
        ([], dict[str, int], False), ("a", Literal["a", "b"], True), ("c", Literal["a"], False),
        (["a"], Literal["a"], False), (object(), Any, True), (None, None, True), (0, None, False),
    ],
)  # fmt: skip
def test_a_value_fits_a_hint_or_not(value: object, hint: Any, *, expected: bool) -> None:
    assert fits(value, hint) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({}, True),
        ({"part": None, "kind": "a", "counts": {}, "anything": [[]]}, True),
        ({"part": {"name": "x", "size": 1}}, True),
        ({"part": {"name": "x", "size": 1, "more": [1]}, "unknown": 1}, True),
        ({"part": {"name": "x"}}, False),
        ({"part": {"name": "x", "size": 1, "more": ["1"]}}, False),
        ({"part": "name"}, False),
        ({"kind": "c"}, False),
        ({"counts": []}, False),
        ([], False),
        ("part", False),
    ],
)
def test_a_dict_fits_a_typed_dict_or_not(value: object, *, expected: bool) -> None:
    assert fits(value, Whole) is expected


def test_keys_that_a_command_does_not_know_are_left_out() -> None:
    assert known({"kind": "a", "other": object()}, Whole) == {"kind": "a"}
