"""The two tables of docs/portsentry.md, made of what the tests run, between markers."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from support.beside import ROWS, Shown
from support.portsentry import SYSTEM_TESTS

PAGE: Final = Path(__file__).resolve().parent.parent.parent / "docs" / "portsentry.md"


def check_page() -> None:
    """Compare the committed tables with those of the tests. SENTRYFW_DOCS=write writes them."""
    page = PAGE.read_text()
    made = filled(page)
    if os.environ.get("SENTRYFW_DOCS") == "write":
        PAGE.write_text(made)
    assert PAGE.read_text() == made, "write it again: SENTRYFW_DOCS=write"


def filled(page: str) -> str:
    """Return the page with both tables as the tests make them."""
    for name, table in TABLES.items():
        begin, end = f"<!-- BEGIN {name} -->\n", f"<!-- END {name} -->\n"
        assert page.count(begin) == page.count(end) == 1, name
        before, _, rest = page.partition(begin)
        page = before + begin + table() + end + rest.partition(end)[2]
    return page


def options() -> dict[str, set[str]]:
    """Return the page's map of options: each option, and the keys beside it."""
    section = PAGE.read_text().partition("## Options\n")[2].partition("\n## ")[0]
    found: dict[str, set[str]] = {}
    for first, second in re.findall(r"^\| (`.*?) \| (.*?) \|", section, re.MULTILINE):
        for option in re.findall(r"`([A-Z_]+)`", first):
            found.setdefault(option, set()).update(re.findall(r"`(\[[a-z_.]+\] [a-z_]+)`", second))
    return found


def _equivalents() -> str:
    lines = [_row("no.", "test of PortSentry 2.x", "asserted here"), "|---|---|---|"]
    lines += [_row(number, name, what) for number, (name, what) in sorted(SYSTEM_TESTS.items())]
    return "\n".join(lines) + "\n"


def _comparison() -> str:
    columns = ("`nmap`", "PortSentry 1.2 reports", "and stops", "SentryFW reports", "and stops")
    lines = [_row(*columns), "|---|---|---|---|---|"]
    lines += [
        _row(f"`{row.options}`", *_cells(row.portsentry), *_cells(row.sentryfw)) for row in ROWS
    ]
    return "\n".join(lines) + "\n"


def _cells(shown: Shown) -> tuple[str, str]:
    return shown.name, shown.stopped


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


TABLES: Final[dict[str, Callable[[], str]]] = {
    "comparison": _comparison,
    "system tests": _equivalents,
}
