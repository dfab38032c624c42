"""docs/faults.md: what was broken, how often, what was lost, how long healing took.

The tests that break things tell what came of it. With SENTRYFW_DOCS=write their figures are
written to the table; without it nothing is.
"""

import os
from pathlib import Path
from typing import Final, NamedTuple

DOCUMENT: Final = Path(__file__).resolve().parents[2] / "docs" / "faults.md"
HEAD: Final = """\
# Faults survived

Made by `SENTRYFW_DOCS=write .venv/bin/pytest tests/netns/test_heal.py tests/netns/test_survival.py
tests/netns/test_faults.py`: the tests break the thing on a real kernel and tell what came of it.
Times are of two shared cores; to heal is from the fault's end to the whole table with all its
blocks.

| what was broken | times | what was lost | time to heal |
|---|---|---|---|
"""


class Fault(NamedTuple):
    what: str
    times: int
    lost: str
    heal: str


def survived(
    what: str, times: int = 1, lost: str = "nothing", seconds: float | None = None
) -> None:
    """One line of the table; the line of that name is replaced."""
    if os.environ.get("SENTRYFW_DOCS") != "write":
        return
    heal = "-" if seconds is None else f"{seconds * 1000:.0f} ms"
    rows = {fault.what: fault for fault in _read()}
    rows[what] = Fault(what, times, lost, heal)
    lines = (f"| {row.what} | {row.times} | {row.lost} | {row.heal} |\n" for row in rows.values())
    DOCUMENT.write_text(HEAD + "".join(lines))


def _read() -> list[Fault]:
    if not DOCUMENT.exists():
        return []
    lines = DOCUMENT.read_text().partition("|---|---|---|---|\n")[2].splitlines()
    cells = (line.strip("|").split("|") for line in lines)
    return [Fault(a.strip(), int(b), c.strip(), d.strip()) for a, b, c, d in cells]
