"""Text that is safe to print, and values as text for one field of a line.

Names of hosts and processes, the contents of the ledger, the error output of a program: other
people write them. Printed, they must not move a cursor, end a line, or reverse the writing
direction.
"""

import json
import logging
import re
import time
from datetime import datetime
from typing import Final

_GO_DURATION: Final = re.compile(
    r"(-?)(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9}(?:\.\d{1,9})?)s)?(?:\d{1,9}(?:\.\d+)?[mµn]s)?",
    re.ASCII,
)
_LABEL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)


def plain(text: str, keep: str = "") -> str:
    """Replace characters that are not printable by "?"; `keep`: characters that are allowed."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else "?" for char in text)


def one_line(text: str) -> str:
    """Return printable text of one line, with "; " between the lines of the original."""
    return plain(text.replace("\n", "; "))


def dumps(data: object, *, indent: int | None = None) -> str:
    """Return JSON in printable ASCII; json.dumps() does not escape DEL."""
    separators = None if indent else (",", ":")
    return json.dumps(data, indent=indent, separators=separators).replace("\x7f", "\\u007f")


EMPTY: Final = "-"
"""A field with nothing to show."""


def cell(value: object) -> str:
    """Return a value as one field of a line: no tab, no newline, no control character."""
    return plain(field_text(value))


def field_text(value: object) -> str:
    """Return a value as text; "-" if there is nothing to show. The commonest types come first."""
    if isinstance(value, str):
        return value or EMPTY
    if type(value) is int:
        return str(value)
    if value is None:
        return EMPTY
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or EMPTY
    return (
        f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)
    ) or EMPTY


def counted(number: int, what: str) -> str:
    """Return a number with a noun: 1 block, 2 blocks."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def duration(seconds: float) -> str:
    """Return a duration in its two largest units: 3d4h, 59m58s."""
    left = round(seconds)
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2]) or "0s"


def local_time(moment: float | str) -> str:
    """Return a moment in this host's time zone, which is named: 2026-11-22 10:00:00 CET.

    `moment`: seconds since the epoch, or ISO 8601; other text, which a stranger wrote, is returned
    as it is.
    """
    try:
        return _local(moment).strftime("%Y-%m-%d %H:%M:%S %Z")
    except (ValueError, OverflowError, OSError):
        return plain(str(moment))


def local_clock(moment: float | str) -> str:
    """Return local_time() without the zone's name: for a column whose heading has it (zone())."""
    try:
        return _local(moment).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return plain(str(moment))


def seconds_since(moment: str) -> float:
    """Return the seconds since a moment in ISO 8601; 0 if it is in the future, or not a time."""
    try:
        return max(0.0, time.time() - _local(moment).timestamp())
    except (ValueError, OverflowError, OSError):
        return 0.0


def _local(moment: float | str) -> datetime:
    if isinstance(moment, str):
        return datetime.fromisoformat(moment).astimezone()
    return datetime.fromtimestamp(moment).astimezone()


def zone() -> str:
    """Return the name of this host's time zone at present."""
    return time.strftime("%Z")


def nft_duration(seconds: float) -> str:
    """Return a duration, at least a second, as nft reads it: nft 1.0.6 reads eight digits at most,
    three years of seconds."""
    days, rest = divmod(max(1, round(seconds)), 86400)
    return f"{days}d{rest}s" if days else f"{rest}s"


class PlainFormatter(logging.Formatter):
    """Formats a record as one printable line; only our own tracebacks have more lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the message on one line."""
        return one_line(super().formatMessage(record))

    def formatException(self, ei: object) -> str:  # noqa: N802 - logging's name
        """Return the traceback, with its lines."""
        return plain(super().formatException(ei), keep="\n")  # type: ignore[arg-type]


def clean_name(name: str) -> str:
    """Return a host name without its last dot; empty for other text. It has letters, digits and
    hyphens (RFC 952, RFC 1123 section 2.1)."""
    name = name.removesuffix(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        return ""
    return name


def full_name(word: str) -> str:
    """Return a host name with a domain, in lower case; empty for other text. The last label of a
    name is never a number (RFC 3696, section 2): 192.0.2.300 is a mistyped address."""
    name = clean_name(word).lower()
    return name if "." in name and not name.rpartition(".")[2].isdigit() else ""


def in_zone(name: str) -> str:
    """Return the zone of a finding for a sentence; nothing for the default zone."""
    return f" in zone {name}" if name else ""


def go_seconds(text: str) -> float | None:
    """Return the seconds of a duration as Go writes it, such as 3h59m12.5s; None for other text."""
    match = _GO_DURATION.fullmatch(text)
    if match is None or not text.strip("-"):
        return None
    sign, hours, minutes, seconds = match.groups(default="")
    total = int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds or 0)
    return -total if sign else total
