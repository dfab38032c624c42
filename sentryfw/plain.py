"""Text that others may have had a hand in, made harmless for a terminal, a log, a line of JSON.

Names of hosts and processes, what lies in the ledger, what a program complains about: none of it
may move a cursor, end a line, or turn the direction of writing.
"""

import json
import logging


def plain(text: str, keep: str = "") -> str:
    """The text with "?" for what is not printable; `keep`: characters that are meant."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else "?" for char in text)


def dumps(data: object, *, indent: int | None = None) -> str:
    """JSON in printable ASCII; json.dumps leaves one control character as it is."""
    separators = None if indent else (",", ":")
    return json.dumps(data, indent=indent, separators=separators).replace("\x7f", "\\u007f")


class PlainFormatter(logging.Formatter):
    """One line a record; only our own tracebacks have more."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return plain(super().formatMessage(record).replace("\n", "; "))

    def formatException(self, ei: object) -> str:  # noqa: N802 - logging's name
        return plain(super().formatException(ei), keep="\n")  # type: ignore[arg-type]
