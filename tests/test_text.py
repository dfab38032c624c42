"""Printed text cannot move a cursor, end a line or reverse the writing direction."""

import io
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.text import PlainFormatter, clean_name, dumps, full_name, plain

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egpj.exe\u2028\r\nforged: line\x7f\udc80"


@given(st.text())
def test_printable_characters_stay_and_others_are_replaced(text: str) -> None:
    shown = plain(text)
    assert shown.isprintable()
    assert len(shown) == len(text)
    assert all(new in (old, "?") for old, new in zip(text, shown, strict=True))


def test_allowed_characters_are_kept() -> None:
    assert plain("a\nb\x1b[2J\tc", keep="\n") == "a\nb?[2J?c"


@given(st.recursive(st.text() | st.floats(allow_nan=False) | st.none(), st.lists, max_leaves=5))
def test_json_is_printable_ascii_with_the_same_data(data: object) -> None:
    line = dumps(data)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line) == data


def _logged(log: logging.Logger) -> io.StringIO:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PlainFormatter("%(name)s: %(levelname)s: %(message)s"))
    log.handlers, log.propagate = [handler], False
    return stream


@pytest.mark.parametrize("text", [HOSTILE, "line\nforged: ERROR: line"])
def test_a_record_is_one_line_of_the_log(text: str) -> None:
    log = logging.getLogger("test_plain")
    stream = _logged(log)
    log.error("process %s said %r", text, text)
    [line, rest] = stream.getvalue().split("\n")
    assert (line.isprintable(), rest) == (True, "")
    assert line.startswith("test_plain: ERROR: process ")


def test_a_traceback_keeps_its_lines_only() -> None:
    log = logging.getLogger("test_plain")
    stream = _logged(log)
    try:
        [].index(HOSTILE)
    except ValueError:
        log.exception("fault")
    lines = stream.getvalue().splitlines()
    assert len(lines) > 3
    assert all(line.isprintable() for line in lines)


# --- host names


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("a.example.", "a.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("a..example", ""),
        ("a b.example", ""),
        ("a.example\n", ""),
        ("<script>.example", ""),
        ("a" * 64, ""),
        (".".join(["a" * 60] * 5), ""),
        ("", ""),
    ],
)
def test_names_are_letters_digits_and_hyphens(name: str, clean: str) -> None:
    assert clean_name(name) == clean


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("office.example.org", "office.example.org"), ("Office.Example.ORG.", "office.example.org"),
        ("office", ""), ("192.0.2.300", ""), ("192.0.2", ""), ("10.example.4", ""),
        ("4.example", "4.example"), ("a_b.example", ""), ("", ""), (".", ""),
        ("b\u00fccher.example", ""),
        ("2001:db8::1", ""), ("*.example.org", ""), ("-c.example.org", ""),
    ],
)  # fmt: skip
def test_a_full_name_has_a_domain(word: str, name: str) -> None:
    assert full_name(word) == name
