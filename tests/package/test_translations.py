"""The translations of LuCI's view: complete, without leftovers, found as LuCI looks for them."""

import re
import struct
from pathlib import Path

import pytest
import translations
from translations import CATALOGUES, PO, TEMPLATE, VIEW, catalogues, hash_of, lmo, parse, template

LANGUAGES = sorted(path.parent.name for path in PO.glob("*/*.po"))
PLACES = re.compile(r"%[a-z]")
LITERAL = re.compile(r"'((?:[^'\\\n]|\\.)*)'")
SHOWN = re.compile(r"[A-Z][a-z]+\b|[a-z]+ [a-z]+")
"""A text that a person reads: a word with a capital, or two words."""


def found(data: bytes, text: str) -> str | None:
    """Return the translation in a catalogue as LuCI's lmo_translate() finds it."""
    [start] = struct.unpack(">I", data[-4:])
    index = list(struct.iter_unpack(">4I", data[start:-4]))
    assert index == sorted(index)
    for key, _, offset, length in index:
        if key == hash_of(text.encode()):
            return data[offset : offset + length].decode()
    return None


def test_there_is_german() -> None:
    assert LANGUAGES == ["de"]


def test_the_template_has_every_text_of_the_view() -> None:
    assert TEMPLATE.read_text() == template(), "make translations"


def test_every_text_of_the_view_is_translatable() -> None:
    """Assert that all others are markup, words of the command line, or classes."""
    source = re.sub(r"//.*", "", VIEW.read_text())
    source = re.sub(r"\b_\('(?:[^'\\\n]|\\.)*'\)", "", source)
    others = {text for text in LITERAL.findall(source) if SHOWN.search(text)}
    allowed = {
        "use strict", "require view", "require fs", "require ui", "require dom", "require poll",
        "tr table-titles", "alert-message warning", "alert-message ", "btn cbi-button-action",
        "btn cbi-button-negative", "LuCI",
    }  # fmt: skip
    assert others - allowed == set()


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_is_complete_and_has_nothing_else(language: str) -> None:
    found = parse((PO / language / "sentryfw.po").read_text())
    assert list(found) == translations.texts()
    assert [text for text, translation in found.items() if not translation.strip()] == []
    for text, translation in found.items():
        assert PLACES.findall(text) == PLACES.findall(translation), text


@pytest.mark.parametrize("language", LANGUAGES)
def test_luci_finds_each_translation(language: str) -> None:
    data = catalogues()[f"sentryfw.{language}.lmo"]
    for text, translation in parse((PO / language / "sentryfw.po").read_text()).items():
        expected = None if text == translation else translation
        assert found(data, text) == expected


@pytest.mark.parametrize(
    ("text", "number"),
    [("", 0), ("a", 291415938), ("ab", 1366002500), ("abc", 3535673738), ("abcd", 3671636187),
     ("Unblock", 3337201954), ("\u00fc", 2021526727), ("a\u00fc", 1477532817),
     ("xyz\u00fc", 2796082012)],
)  # fmt: skip
def test_the_hash_is_that_of_luci(text: str, number: int) -> None:
    """The numbers are those of a C program with LuCI's function (luci-base, src/lib/lmo.c)."""
    assert hash_of(text.encode()) == number


def test_a_catalogue_without_translations_is_an_index_of_nothing() -> None:
    assert lmo({"a": "", "b": "b"}) == bytes(4)


def test_the_package_has_the_catalogues(tmp_path: Path) -> None:
    import build  # noqa: PLC0415 - it reads the wheels' lock

    build._luci(tmp_path)
    assert (tmp_path / CATALOGUES / "sentryfw.de.lmo").read_bytes() == catalogues()[
        "sentryfw.de.lmo"
    ]
    assert not list(tmp_path.rglob("*.po"))


@pytest.mark.parametrize("line", ['msgid "a', "text", 'msgctxt "a"'])
def test_a_line_with_a_fault_is_named(line: str) -> None:
    with pytest.raises(ValueError, match="line 1"):
        parse(line)


def test_a_text_can_have_several_lines() -> None:
    assert parse('# c\nmsgid "a"\n"b"\nmsgstr ""\n"c\\n"\n"d"\n') == {"ab": "c\nd"}
