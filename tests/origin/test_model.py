"""Values out of foreign databases, and an origin in words and in JSON."""

import pytest

from sentryfw.origin.model import (
    MAX_NAME_CHARS,
    NOWHERE,
    Origin,
    as_number,
    country,
    name,
    origin_text,
)
from support.origins import ITEM, WORDS

HERE = Origin("DE", 64500, "Example Net", ("Research scanner",))


def test_an_origin_in_words_and_in_json() -> None:
    assert str(HERE) == WORDS
    assert HERE.item() == ITEM
    assert origin_text(HERE.item()) == WORDS
    assert str(NOWHERE) == origin_text(NOWHERE.item()) == ""
    assert str(Origin(as_number=64500)) == "AS64500"


def test_number_and_name_of_a_system_are_of_one_database() -> None:
    other = Origin("FR", 64501, "Other")
    assert Origin("DE", 64500, "").or_else(other) == Origin("DE", 64500, "")
    assert Origin("DE").or_else(other) == Origin("DE", 64501, "Other")
    assert NOWHERE.or_else(other) == other
    assert HERE.is_complete
    assert not Origin("DE", 64500).is_complete


@pytest.mark.parametrize("value", ["de", "DEU", "", None, 5, "D\x1b", "\u0414\u0415", ["DE"]])
def test_other_texts_are_not_a_country(value: object) -> None:
    assert country(value) == ""


@pytest.mark.parametrize(
    ("value", "number"),
    [(64500, 64500), ("AS64500", 64500), ("64500", 64500), (0, None), (2**32, None), (True, None),
     ("AS", None), ("AS" + "9" * 5000, None), (-1, None), (None, None), ("\u0664", 4)],
)  # fmt: skip
def test_numbers_of_systems(value: object, number: int | None) -> None:
    assert as_number(value) == number


def test_names_are_printable_and_short() -> None:
    assert name("Example\x1b[2J\u202e\nNet\t of  all") == "Example?[2J? Net of all"
    assert len(name("x" * 10_000_000)) == MAX_NAME_CHARS
    assert name(b"bytes") == name(None) == ""
