"""How data is printed: JSON on request, a rich table to a terminal, tab-separated to a pipe."""

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

from sentryfw.plain import dumps, plain

CHUNK: Final = 512
"""Rows that are written at once: fewer calls, and no copy of the whole in memory."""

T = TypeVar("T")
Row = dict[str, Any]


def print_json(data: object) -> None:
    if not isinstance(data, list) or not data:
        sys.stdout.write(dumps(data, indent=2) + "\n")
        return
    before = "["
    for chunk in _chunks(data):
        sys.stdout.write(before + dumps(chunk, indent=2)[1:-2])  # without the outer brackets
        before = ","
    sys.stdout.write("\n]\n")


def print_rows(
    rows: Sequence[Row],
    columns: Sequence[str],
    title: str,
    short: tuple[Iterable[Row], Sequence[str]] | None = None,
) -> None:
    """A table of the columns, in their order; `short`: what a terminal is shown instead."""
    if sys.stdout.isatty():
        _print_table(*(short or (rows, columns)), title)
        return
    lines = (_line(map(row.get, columns)) for row in rows)
    sys.stdout.write("\t".join(columns) + "\n")
    for chunk in _chunks(lines):
        sys.stdout.write("\n".join(chunk) + "\n")


def print_pairs(pairs: Row, title: str) -> None:
    """One thing's properties, nested ones under dotted names."""
    flat = _flatten(pairs)
    if sys.stdout.isatty():
        rows = [{"name": name, "value": value} for name, value in flat.items()]
        _print_table(rows, ("name", "value"), title, head=False)
        return
    for key, value in flat.items():
        sys.stdout.write(f"{key}\t{cell(value)}\n")


def counted(number: int, what: str) -> str:
    """1 block, 2 blocks."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def note(text: str) -> None:
    """A word to the operator, beside the data."""
    sys.stderr.write(plain(text, keep="\n") + "\n")


def cell(value: object) -> str:
    """A value in one field of a line: no tab, no newline, no control character."""
    return plain(_text(value))


def _line(values: Iterable[object]) -> str:
    """The cells of a row. Nearly all rows are printable, so they are looked at as a whole."""
    texts = list(map(_text, values))
    if not "".join(texts).isprintable():
        texts = list(map(plain, texts))
    return "\t".join(texts)


def _text(value: object) -> str:
    """Never empty. First what there is most of."""
    if isinstance(value, str):
        return value or "-"
    if type(value) is int:
        return str(value)
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "-"
    return (
        f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)
    ) or "-"


def duration(seconds: float) -> str:
    """Whole units, the two largest: 3d4h, 59m58s."""
    left = round(seconds)
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2]) or "0s"


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while chunk := list(itertools.islice(rest, CHUNK)):
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
    from rich.console import Console  # noqa: PLC0415 - 60 ms that a pipe need not pay
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(title=title, header_style="bold", title_justify="left", show_header=head)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold", no_wrap=column == "address")
    for row in rows:
        table.add_row(*(escape(cell(row.get(column))) for column in columns))
    Console().print(table)
