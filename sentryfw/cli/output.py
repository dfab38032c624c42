"""The output of data: JSON on request, a table on a terminal, tab-separated lines to a pipe."""

import itertools
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

from sentryfw.cli import stdio
from sentryfw.text import EMPTY, cell, dumps, field_text, plain

ROWS_BATCH: Final = 512
"""Rows per write: fewer calls, and no copy of the whole text in memory."""
TEXT_COLUMNS: Final = 79
"""Columns of a sentence: those of the narrowest terminal that counts, 80, less its last."""

T = TypeVar("T")
Row = dict[str, Any]


def print_json(data: object) -> None:
    """Print a value as JSON, a list piece by piece."""
    if isinstance(data, list):
        print_json_list(data)
    else:
        sys.stdout.write(dumps(data, indent=2) + "\n")


def print_json_list(items: Iterable[object]) -> None:
    """Print items as a JSON list, piece by piece as they come."""
    before, end = "[", "[]\n"
    for chunk in _chunks(items):
        sys.stdout.write(before + dumps(chunk, indent=2)[1:-2])  # without the outer brackets
        before, end = ",", "\n]\n"
    sys.stdout.write(end)


def print_rows(
    rows: Iterable[Row],
    columns: Sequence[str],
    title: str,
    short: tuple[Iterable[Row], Sequence[str]] | None = None,
) -> None:
    """Print the columns of the rows, in their order. `short`: rows and columns for a terminal."""
    if sys.stdout.isatty():
        _print_table(*(short or (rows, columns)), title)
        return
    lines = (_line(map(row.get, columns)) for row in rows)
    chunks = _chunks(lines)
    first = next(chunks, [])  # if that is an error, nothing is printed
    sys.stdout.write("\n".join(["\t".join(columns), *first]) + "\n")
    for chunk in chunks:
        sys.stdout.write("\n".join(chunk) + "\n")


def print_pairs(pairs: Row, title: str) -> None:
    """Print the properties of one thing, nested ones with dotted names."""
    flat = _flatten(pairs)
    if sys.stdout.isatty():
        rows = [{"name": name, "value": value} for name, value in flat.items()]
        _print_table(rows, ("name", "value"), title, head=False)
        return
    for key, value in flat.items():
        sys.stdout.write(f"{key}\t{cell(value)}\n")


def print_lines(lines: Sequence[tuple[str, str]], title: str) -> None:
    """Print named sentences: below each other, wrapped, on a terminal; else a name and a tab."""
    if not sys.stdout.isatty():
        sys.stdout.write("".join(f"{name}\t{cell(text)}\n" for name, text in lines))
        return
    width = max(len(name) for name, _ in lines) + 2
    sys.stdout.write(f"{title}\n")
    for name, text in lines:
        sys.stdout.write(wrapped(f"{name:<{width}}{plain(text)}", " " * width) + "\n")


def wrapped(text: str, indent: str = "") -> str:
    """Return sentences as lines; `indent`: before all lines but the first."""
    return textwrap.fill(
        text, TEXT_COLUMNS, subsequent_indent=indent, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def note(text: str) -> None:
    """Print a remark for the operator on standard error."""
    stdio.complain(plain(text, keep="\n"))


def _line(values: Iterable[object]) -> str:
    """Return a row as a line. Nearly all rows are printable, so the row is checked as a whole."""
    texts = [
        (value or EMPTY) if type(value) is str else field_text(value) for value in values
    ]  # most are texts: a call for each of them is a third of the time
    if not "".join(texts).isprintable():
        texts = list(map(plain, texts))
    return "\t".join(texts)


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while chunk := list(itertools.islice(rest, ROWS_BATCH)):
        yield chunk


def _flatten(pairs: Row, prefix: str = "") -> Row:
    flat: Row = {}
    for key, value in pairs.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def _print_table(
    rows: Iterable[Row], columns: Sequence[str], title: str, *, head: bool = True
) -> None:
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415 - 60 ms that a pipe does without
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    shown = list(rows)
    if not shown:
        sys.stdout.write(f"{plain(title)}\n")
        return
    # Text, not str: in a str rich finds markup, and emoji in addresses (2001:db8:0:100::).
    table = Table(
        header_style="bold",
        show_header=head,
        box=SIMPLE_HEAD,  # two columns between fields: what 80 columns have room for
        show_edge=False,
        pad_edge=False,
    )
    for column in columns:
        table.add_column(
            Text(column.replace("_", " ")), overflow="fold", no_wrap=column == "address"
        )
    for row in shown:
        table.add_row(*(Text(cell(row.get(column))) for column in columns))
    Console().print(Text(title, "bold italic"), table, sep="\n")
