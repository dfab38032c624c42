"""Write docs/faults.md: each fault, how often it was caused, the loss, the time to repair.

The tests that cause the faults report them here. The document is written with SENTRYFW_DOCS=write
alone.
"""

import os
from pathlib import Path
from typing import Final, NamedTuple

DOCUMENT: Final = Path(__file__).resolve().parents[2] / "docs" / "faults.md"
HEAD: Final = """\
# Faults survived

Made by `SENTRYFW_DOCS=write .venv/bin/pytest tests/kernel/test_heal.py
tests/kernel/test_survival.py tests/kernel/test_faults.py`: the tests break the thing on a real
kernel and report the outcome. Times are of two shared cores, from the end of the fault to the
repaired table with all its blocks.

| fault | times | lost | time to repair |
|---|---|---|---|
"""


class Fault(NamedTuple):
    """A row of the table."""

    what: str
    times: int
    lost: str
    repair_time: str


def survived(
    what: str, times: int = 1, lost: str = "nothing", seconds: float | None = None
) -> None:
    """Add a row to the table, or replace the row of that name."""
    if os.environ.get("SENTRYFW_DOCS") != "write":
        return
    repair_time = "-" if seconds is None else f"{seconds * 1000:.0f} ms"
    rows = {fault.what: fault for fault in _read()}
    rows[what] = Fault(what, times, lost, repair_time)
    lines = (
        f"| {row.what} | {row.times} | {row.lost} | {row.repair_time} |\n" for row in rows.values()
    )
    DOCUMENT.write_text(HEAD + "".join(lines))


def _read() -> list[Fault]:
    if not DOCUMENT.exists():
        return []
    lines = DOCUMENT.read_text().partition("|---|---|---|---|\n")[2].splitlines()
    cells = (line.strip("|").split("|") for line in lines)
    return [Fault(a.strip(), int(b), c.strip(), d.strip()) for a, b, c, d in cells]
