"""The allowlist's file: its lines as people and `sentryfw allow` write them.

Comments and lines of others are kept; a change is a new file in the old one's place, so a reader
sees the old list or the new one.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from sentryfw import allowlist
from sentryfw.account import acting_as_owner
from sentryfw.allowlist import IPNetwork
from sentryfw.errors import NoPrivilege, SentryError
from sentryfw.plain import plain
from sentryfw.record.files import open_private, private_directory

MAX_COMMENT = 200
"""Characters."""


class Line(NamedTuple):
    """One network of the list, and what stands behind it."""

    network: IPNetwork
    comment: str


def read(path: Path) -> str:
    """The text; empty where there is no file. SentryError if it cannot be read."""
    try:
        with acting_as_owner(path.parent):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(allowlist.MAX_BYTES + 1)
    except FileNotFoundError:
        return ""
    except PermissionError as error:
        raise NoPrivilege(f"{path}: {error.strerror}: run it with sudo") from None
    except OSError as error:
        raise SentryError(f"{path}: {error.strerror}") from None
    if len(data) > allowlist.MAX_BYTES:
        raise SentryError(f"{path}: larger than {allowlist.MAX_BYTES} bytes; nothing was changed")
    return "\n".join(allowlist.lines(data))


def write(path: Path, text: str) -> None:
    """In the old one's place, on the disk when this returns. SentryError if it is too large."""
    data = text.encode()
    if len(data) > allowlist.MAX_BYTES:
        raise SentryError(
            f"{path} would be larger than {allowlist.MAX_BYTES} bytes; nothing was changed: name"
            " whole networks, or use [never_block] files"
        )
    with acting_as_owner(path.parent):
        private_directory(path.parent)
        made = path.with_name(f"{path.name}.new")
        with os.fdopen(open_private(made, os.O_WRONLY | os.O_TRUNC), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        made.replace(path)


def entries(text: str) -> list[Line]:
    """Every network, in its order."""
    found = []
    for line in text.split("\n"):
        comment = _comment(line)
        found += [Line(network, comment) for network in _networks(line)]
    return found


def with_added(text: str, networks: Iterable[IPNetwork], comment: str) -> str:
    """The text with these at its end, one a line."""
    said = plain(comment.strip())[:MAX_COMMENT].replace(";", ",")
    tail = f"  # {said}" if said else ""
    head = text if not text or text.endswith("\n") else f"{text}\n"
    return head + "".join(f"{_short(network)}{tail}\n" for network in networks)


def without(text: str, network: IPNetwork) -> str:
    """The text without this one; what else stands on its line stays."""
    kept = []
    for line in text.split("\n"):
        there = _networks(line)
        rest = [other for other in there if other != network]
        if len(rest) == len(there):
            kept.append(line)
        elif rest:
            comment = _comment(line)
            words = " ".join(map(_short, rest))
            kept.append(f"{words}  # {comment}" if comment else words)
    return "\n".join(kept)


def _networks(line: str) -> list[IPNetwork]:
    return [entry.network for entry in allowlist.parse(line.encode()).entries]


def _comment(line: str) -> str:
    starts = [at for at in (line.find("#"), line.find(";")) if at >= 0]
    return line[min(starts) + 1 :].strip() if starts else ""


def _short(network: IPNetwork) -> str:
    """An address without its /32 or /128: as people write it."""
    alone = network.prefixlen == network.max_prefixlen
    return str(network.network_address if alone else network)
