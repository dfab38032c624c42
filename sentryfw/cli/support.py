"""support-dump: what somebody who helps needs to see, in one text file, without secrets.

Each part is gathered by itself: what cannot be had says why, and the rest is there all the same.
"""

import contextlib
import json
import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import tomllib
from collections import deque
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from sentryfw import __version__, config
from sentryfw.account import acting_as_owner
from sentryfw.cli import redact
from sentryfw.cli.doctor import doctor
from sentryfw.cli.status import status
from sentryfw.config import Config
from sentryfw.errors import ConfigError, SentryError
from sentryfw.netfilter.table import TABLE, Table
from sentryfw.record.events import timestamp

MAX_PART: Final = 256 << 10
"""Characters of one part; more is cut, which is said."""
LAST_EVENTS: Final = 200
TAIL: Final = 1 << 20
"""Bytes at the end of the event file that are looked through for them."""
NFT_SECONDS: Final = 20.0
PACKAGES: Final = ("netfilterqueue", "pydantic", "typer", "rich", "scapy", "oxl-libnftables")
ABOUT_ADDRESSES: Final = frozenset({"id", "host", "hosts"})
"""Keys of events that tell an address in another form."""
UNTOLD: Final = frozenset({"payload", "detail"})
"""Keys of events with what others said: first bytes to decoys, the output of commands."""

Row = dict[str, Any]


def dump(path: Path | None, *, hide: bool) -> str:
    """The whole text. `path`: of the configuration, which may be wrong."""
    settings, faults = _load(path)
    parts: list[tuple[str, Callable[[], str]]] = [
        ("versions", _versions),
        ("configuration", lambda: _configuration(settings, faults, hide=hide)),
        ("status", lambda: _json(_status(settings))),
        ("doctor", lambda: "\n".join("\t".join(f) for f in doctor(settings))),
        ("ruleset", _ruleset),
        ("ledger", lambda: _ledger(settings)),
        ("events", lambda: "\n".join(_events(settings, hide=hide))),
    ]
    head = f"SentryFW support dump, {timestamp(time.time())}"
    said = "addresses are replaced" if hide else "addresses are in it: --redact replaces them"
    text = f"{head}\nSecrets are left out; {said}. Look through it before you send it.\n"
    text += "".join(f"\n=== {name}\n{_part(gather)}\n" for name, gather in parts)
    known = _known_secrets(settings)
    if hide:
        known += redact.personal(settings.model_dump(mode="json"))
    text = redact.secrets(text, known)
    return redact.addresses(text) if hide else text


def write(text: str, path: Path) -> None:
    """A new file, for its owner alone. SentryError if there is one already."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise SentryError(f"{path}: {error.strerror}") from None


def default_name() -> Path:
    return Path(time.strftime("sentryfw-support-%Y%m%d-%H%M%S.txt"))


def _part(gather: Callable[[], str]) -> str:
    try:
        text = gather()
    except (SentryError, OSError, sqlite3.Error, ValueError, subprocess.SubprocessError) as error:
        return f"not to be had: {error}"
    if len(text) > MAX_PART:
        return f"{text[:MAX_PART]}\n... cut: {len(text) - MAX_PART} characters more"
    return text


def _load(path: Path | None) -> tuple[Config, list[str]]:
    """A configuration that is wrong: the defaults, and the keys that are wrong. What was given
    there may be a secret in the wrong place."""
    try:
        return config.load(path), []
    except ConfigError as error:
        return Config(), [fault.partition(":")[0] for fault in error.faults]


def _versions() -> str:
    rows = {
        "sentryfw": __version__,
        "python": sys.version.split()[0],
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "system": _os_name(),
    }
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            rows[name] = metadata.version(name)
    nft = shutil.which("nft")
    if nft is not None:
        done = subprocess.run(
            [nft, "--version"], capture_output=True, text=True, check=False, timeout=NFT_SECONDS
        )
        rows["nft"] = done.stdout.strip()
    return "\n".join(f"{name}\t{version}" for name, version in rows.items())


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return "?"


def _configuration(settings: Config, faults: list[str], *, hide: bool) -> str:
    if faults:
        return "wrong, so the defaults stand below:\n" + "\n".join(faults)
    return _json(redact.configuration(settings.model_dump(mode="json"), hide=hide))


def _status(settings: Config) -> Row:
    table = Table()
    try:
        return status(settings, table)
    finally:
        table.close()


def _ruleset() -> str:
    """Our table as nft tells it, without elements; of other tables the names alone."""
    nft = shutil.which("nft")
    if nft is None:
        return "nft(8) is not there"
    said = []
    for words in (["list", "tables"], ["-s", "-t", "list", "table", "inet", TABLE]):
        done = subprocess.run(
            [nft, *words], capture_output=True, text=True, check=False, timeout=NFT_SECONDS
        )
        said.append(done.stdout if done.returncode == 0 else done.stderr)
    return "\n".join(said)


def _ledger(settings: Config) -> str:
    """Sizes of what is in the state directory; the ledger itself is not in here."""
    directory = settings.paths.state
    with acting_as_owner(directory):
        found = {entry.name: entry.stat() for entry in os.scandir(directory) if entry.is_file()}
    return "\n".join(f"{name}\t{status.st_size}" for name, status in sorted(found.items()))


def _events(settings: Config, *, hide: bool) -> Iterator[str]:
    """The last ones, without what others said."""
    path = settings.paths.events
    with acting_as_owner(path.parent):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - TAIL))
        lines = deque(file.read(TAIL).split(b"\n"), maxlen=LAST_EVENTS + 1)
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):  # the first one may be half a line
            event = json.loads(line)
            if isinstance(event, dict):
                yield json.dumps(_without(event, UNTOLD | (ABOUT_ADDRESSES if hide else set())))


def _without(event: Row, keys: frozenset[str]) -> Row:
    """Without these keys, in every depth."""
    return {
        key: _without(value, keys) if isinstance(value, dict) else value
        for key, value in event.items()
        if key not in keys
    }


def _known_secrets(settings: Config) -> list[str]:
    """What is secret and known: never to be printed, wherever it turns up."""
    found = list(settings.respond.command.argv[1:])
    place = settings.respond.mail.credentials
    if place is not None:
        with contextlib.suppress(OSError):
            text = place.read_text(errors="replace")[:MAX_PART]
            found += _values(text)
    return found


def _values(text: str) -> list[str]:
    """What a file of credentials says; of one that is no TOML every word."""
    try:
        return [str(value) for value in tomllib.loads(text).values()]
    except ValueError:
        return re.findall(r"[^\s\"'=]+", text)


def _json(value: object) -> str:
    return json.dumps(value, indent=1, default=str)
