"""Cells, durations, tab-separated lines: what is printed, with any data."""

import contextlib
import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.cli import output
from sentryfw.text import cell, counted, duration

HOSTILE = "\x1b[31mred\x1b]0;title\x07\x9b2J\u202etfel\u2028\r\n\tcolumn"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param(None, "-", id="nothing"),
        pytest.param("", "-", id="no text"),
        pytest.param([], "-", id="no items"),
        pytest.param(True, "yes", id="true"),
        pytest.param(False, "no", id="false"),
        pytest.param(0, "0", id="zero"),
        pytest.param(3600.0, "3600", id="whole number"),
        pytest.param(31536000.0, "31536000", id="a year of seconds"),
        pytest.param(0.803, "0.803", id="fraction"),
        pytest.param(["syn", "fin"], "syn,fin", id="items"),
        pytest.param("2001:db8:1234:5678::/64", "2001:db8:1234:5678::/64", id="address"),
        pytest.param("a\tb\nc", "a?b?c", id="tab and newline"),
        pytest.param("é漢", "é漢", id="letters of other scripts"),
    ],
)
def test_cell(value: object, text: str) -> None:
    assert cell(value) == text


@given(st.text() | st.lists(st.text()))
def test_a_cell_is_one_printable_word_or_more_and_never_empty(value: object) -> None:
    text = cell(value)
    assert text
    assert text.isprintable()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (0.4, "0s"), (59.6, "1m"), (61, "1m1s"), (3600, "1h"), (3661, "1h1m"),
        (86399, "23h59m"), (90061, "1d1h"), (86400 * 365, "365d"),
    ],
)  # fmt: skip
def test_duration_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_rows_to_a_pipe_are_tab_separated(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"a": 1, "b": "x" * 300, "unasked": 2}, {"a": None, "b": HOSTILE}]
    output.print_rows(rows, ("a", "b"), "title")
    header, first, second, rest = capsys.readouterr().out.split("\n")
    assert (header, first, rest) == ("a\tb", "1\t" + "x" * 300, "")
    assert second.split("\t")[0] == "-"
    assert second.replace("\t", "").isprintable()


def test_pairs_to_a_pipe_have_dotted_names(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_pairs({"on": True, "queue": {"number": 7, "deep": {"er": None}}}, "title")
    assert capsys.readouterr().out == "on\tyes\nqueue.number\t7\nqueue.deep.er\t-\n"


def test_pairs_on_a_terminal_stand_under_no_empty_heading(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    output.print_pairs({"a": {"b": 1}}, "title")
    title, pair, rest = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).split("\n")
    assert (title.rstrip(), pair.rstrip(), rest) == ("title", "a.b   1", "")


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 blocks"), (1, "1 block"), (2000, "2,000 blocks")]
)
def test_what_is_counted_is_one_or_many(number: int, text: str) -> None:
    assert counted(number, "block") == text


def test_json_is_read_back_as_it_was_and_has_no_control_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.print_json({"reason": HOSTILE})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"reason": HOSTILE}
    assert printed.replace("\n", "").isprintable()


@pytest.mark.parametrize("count", [0, 1, output.ROWS_BATCH, 2 * output.ROWS_BATCH + 1])
def test_many_items_are_printed_as_json_has_them(
    count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    items = [
        {"n": n, "kinds": ["syn", "fin"][: n % 3], "more": {"text": "]\n,"}} for n in range(count)
    ]
    output.print_json(items)
    assert capsys.readouterr().out == json.dumps(items, indent=2) + "\n"


@pytest.mark.parametrize("count", [0, 1, output.ROWS_BATCH, 2 * output.ROWS_BATCH + 1])
def test_many_rows_are_a_line_each(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    output.print_rows([{"a": n} for n in range(count)], ("a", "b"), "title")
    assert capsys.readouterr().out == "a\tb\n" + "".join(f"{n}\t-\n" for n in range(count))


def test_a_note_stands_beside_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    output.note("a word")
    assert capsys.readouterr() == ("", "a word\n")


@pytest.mark.parametrize("text", ["2001:db8:0:100::", ":warning: [bold]", "fd00::cat:1", ":100:"])
def test_a_terminal_gets_text_as_it_is(text: str) -> None:
    """rich would find emoji and markup in it: ":100:" is one."""
    shown = io.StringIO()
    shown.isatty = lambda: True  # type: ignore[method-assign]
    with contextlib.redirect_stdout(shown):
        output.print_rows([{"address": text, "why": text}], ["address", "why"], text)
        output.print_pairs({text: text}, text)
    assert re.sub(r"\x1b\[[0-9;]*m", "", shown.getvalue()).count(text) == 6
