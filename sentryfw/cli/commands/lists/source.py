"""The list that is imported: its lines, its end."""

import os
import sys
import time
from pathlib import Path
from typing import Final

from sentryfw.cli import output
from sentryfw.cli.arguments import parse_timeout
from sentryfw.errors import SentryError, UsageError
from sentryfw.tools.lists.entries import MAX_BYTES, ParsedList
from sentryfw.tools.lists.parse import FORMATS, Format, parse

MAX_SHOWN: Final = 10
"""Bad lines that are shown with --skip-bad."""


def end_of(for_: str | None, until: str | None) -> float:
    """Return the seconds until a list's end. Raise UsageError unless one of both is given."""
    if (for_ is None) == (until is None):
        raise UsageError("a list needs an end: give --for or --until")
    if for_ is not None:
        return parse_timeout(for_, "--for")
    from sentryfw.cli.commands.allow import parse_end  # noqa: PLC0415 - rarely needed

    return max(1.0, parse_end(until or "").timestamp() - time.time())


def read(file: str, form: str, *, skip_bad: bool) -> ParsedList:
    """Read a list. Raise UsageError for a format that does not exist, and SentryError for the first
    line that cannot be read, unless `skip_bad`: then the first ones are reported."""
    formats: dict[str, Format] = {known: known for known in FORMATS}
    if form not in formats:
        raise UsageError(f"--format: {form!r} is none of {', '.join(FORMATS)}")
    parsed = parse(formats[form], _data(file), time.time())
    if parsed.bad and not skip_bad:
        more = f" (and {len(parsed.bad) - 1} more)" if len(parsed.bad) > 1 else ""
        raise SentryError(
            f"{_shown(file)}: {parsed.bad[0]}{more}; nothing was imported: correct it, or give"
            " --skip-bad"
        )
    for bad in parsed.bad[:MAX_SHOWN]:
        output.note(f"{_shown(file)}: {bad}")
    return parsed


def _data(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    with Path(file).open("rb") as opened:
        return opened.read(MAX_BYTES + 1)


def _shown(file: str) -> str:
    return "standard input" if file == "-" else os.fspath(file)
