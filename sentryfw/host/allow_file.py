"""Read and change the allowlist's file, which people and `sentryfw allow` write.

A line has networks or names of hosts. Comments and other lines are kept. A change replaces the
file, so a reader sees the old list or the new one.

See docs/decisions.md: allowlist-place.
"""

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from sentryfw.config.types import IPNetwork
from sentryfw.errors import SentryError
from sentryfw.host import address_list
from sentryfw.host.account import acting_as_owner
from sentryfw.host.private_files import open_private, private_directory, read_as_owner
from sentryfw.text import plain

MAX_COMMENT = 200
"""Characters of a comment that are kept."""
_UNTIL: Final = "until "
"""Begins a comment whose next word is the end of its line, in ISO 8601."""


Allowed = IPNetwork | str
"""A network, or the name of a host."""


class AllowedEntry(NamedTuple):
    """A network or a name of the list, and the comment behind it."""

    what: Allowed
    comment: str
    until: datetime | None
    """The end; None: until it is removed."""


def read(path: Path) -> str:
    """Return the text; empty where the file is missing. Raise SentryError if it is unreadable."""
    try:
        data = read_as_owner(path, address_list.MAX_BYTES + 1)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise SentryError(f"{path}: {error.strerror}") from None
    if len(data) > address_list.MAX_BYTES:
        raise SentryError(
            f"{path}: larger than {address_list.MAX_BYTES} bytes; nothing was changed"
        )
    return "\n".join(address_list.lines(data))


def write(path: Path, text: str) -> None:
    """Replace the file, and flush it to disk. Raise SentryError if the text is too large."""
    data = text.encode()
    if len(data) > address_list.MAX_BYTES:
        raise SentryError(
            f"{path} would be larger than {address_list.MAX_BYTES} bytes; nothing was changed: add"
            " whole networks, or use [never_block] files"
        )
    replace(path, data)


def replace(path: Path, data: bytes) -> None:
    """Replace a file of the state directory as its owner, and flush it to disk."""
    with acting_as_owner(path.parent):
        private_directory(path.parent)
        made = path.with_name(f"{path.name}.new")
        with os.fdopen(open_private(made, os.O_WRONLY | os.O_TRUNC), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        made.replace(path)


def entries(text: str) -> list[AllowedEntry]:
    """Return the networks and names of a list, in the order of their lines."""
    found = []
    for line in text.split("\n"):
        until, comment = _end_and_comment(line)
        found += [AllowedEntry(what, comment, until) for what in _subjects(line)]
    return found


def names(text: str) -> list[str]:
    """Return the names of a list that have not ended."""
    now = datetime.now(UTC)
    return [
        entry.what
        for entry in entries(text)
        if isinstance(entry.what, str) and (entry.until is None or entry.until > now)
    ]


def has_ended(line: str, now: datetime) -> bool:
    """Return whether a line of the list has an end that is over."""
    until, _ = _end_and_comment(line)
    return until is not None and until <= now


def with_added(
    text: str, subjects: Iterable[Allowed], comment: str, until: datetime | None = None
) -> str:
    """Return the text with these networks and names at its end, one a line."""
    shown = plain(comment.strip())[:MAX_COMMENT].replace(";", ",")
    if until is not None:
        end = until.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        shown = f"{_UNTIL}{end} {shown}".rstrip()
    tail = f"  # {shown}" if shown else ""
    head = text if not text or text.endswith("\n") else f"{text}\n"
    return head + "".join(f"{_short(what)}{tail}\n" for what in subjects)


def without(text: str, what: Allowed) -> str:
    """Return the text without this network or name; others of its line are kept."""
    kept = []
    for line in text.split("\n"):
        there = _subjects(line)
        rest = [other for other in there if other != what]
        if len(rest) == len(there):
            kept.append(line)
        elif rest:
            comment = _comment(line)
            words = " ".join(map(_short, rest))
            kept.append(f"{words}  # {comment}" if comment else words)
    return "\n".join(kept)


def _subjects(line: str) -> list[Allowed]:
    parsed = address_list.parse(line.encode(), names=True)
    return [*(entry.network for entry in parsed.entries), *(name for name, _ in parsed.names or ())]


def _comment(line: str) -> str:
    starts = [at for at in (line.find("#"), line.find(";")) if at >= 0]
    return line[min(starts) + 1 :].strip() if starts else ""


def _end_and_comment(line: str) -> tuple[datetime | None, str]:
    """Return the end of a line, and its comment without it. Another text after "until" is only a
    comment, and so is a time without its zone."""
    comment = _comment(line)
    word, _, rest = comment.removeprefix(_UNTIL).partition(" ")
    if comment.startswith(_UNTIL):
        try:
            until = datetime.fromisoformat(word)
        except ValueError:
            return None, comment
        if until.tzinfo is not None:
            return until, rest.strip()
    return None, comment


def _short(what: Allowed) -> str:
    """Return the network as people write it: an address without its /32 or /128."""
    if isinstance(what, str):
        return what
    alone = what.prefixlen == what.max_prefixlen
    return str(what.network_address if alone else what)
