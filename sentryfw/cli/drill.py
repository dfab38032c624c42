"""drill: run it, show it."""

import signal
from pathlib import Path
from types import FrameType
from typing import Final

from sentryfw.cli import output
from sentryfw.config import Config
from sentryfw.drill import Result
from sentryfw.drill import run as run_drill
from sentryfw.privileges import require_root

COLUMNS: Final = Result._fields


def run(path: Path | None, config: Config, *, json: bool, forge: bool) -> int:
    """The drill's exit code: 0 if everything held, else 1."""
    require_root()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    output.note(f"configuration: {path or 'the default one'}")
    results = run_drill(config, output.note, forge=forge)
    ok = all(result.ok for result in results)
    rows = [result._asdict() for result in results]
    if json:
        output.print_json({"ok": ok, "attacks": rows})
    else:
        output.print_rows(rows, COLUMNS, "SentryFW drill")
    failed = sum(not result.ok for result in results)
    output.note("everything held" if ok else f"{failed} of {len(results)} attacks did not end well")
    return 0 if ok else 1


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Ctrl-C and kill -TERM end through every `finally`, which a second one does not disturb."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
