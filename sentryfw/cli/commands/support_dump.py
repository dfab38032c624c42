"""support-dump: the state of an installation in one text file, without secrets.

Each part is collected by itself: a part that fails contains the error, and the others are complete.
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
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import typer

from sentryfw import __version__
from sentryfw.cli import output
from sentryfw.cli.arguments import config_path, new_app
from sentryfw.cli.commands.doctor import doctor
from sentryfw.cli.commands.redact import (
    personal_words,
    redact_config,
    remove_secrets,
    replace_addresses,
)
from sentryfw.cli.commands.status import status
from sentryfw.config import load
from sentryfw.config.model import Config
from sentryfw.errors import ConfigError, SentryError
from sentryfw.host.account import acting_as_owner
from sentryfw.host.private_files import open_no_link
from sentryfw.netfilter.schema import TABLE
from sentryfw.netfilter.table import Table
from sentryfw.record.events import timestamp
from sentryfw.text import plain

MAX_PART_LENGTH: Final = 256 << 10
"""Characters of one part; the rest is cut, with a remark."""
MAX_EVENTS: Final = 200
EVENTS_TAIL_BYTES: Final = 1 << 20
"""Bytes at the end of the event file that are searched for the last events."""
COMMAND_TIMEOUT_S: Final = 20.0
PACKAGES: Final = ("netfilterqueue", "pydantic", "typer", "rich", "oxl-libnftables")
ADDRESS_KEYS: Final = frozenset({"id", "host", "hosts"})
"""Keys of events that disclose an address in another form."""
FOREIGN_KEYS: Final = frozenset({"payload", "detail"})
"""Keys of events with text of others: first bytes sent to decoys, the output of commands."""

Row = dict[str, Any]

app = new_app()


@app.command("support-dump")
def support_dump(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="A new file; -: standard output; default: a name with the time.",
            show_default=False,
        ),
    ] = None,
    redact: Annotated[
        bool, typer.Option("--redact", help="Replace addresses and host names by placeholders.")
    ] = False,
) -> None:
    """Collect what support needs in one file, no secrets. On request no addresses."""
    text = dump(config_path(context), hide=redact)
    if file is not None and str(file) == "-":
        sys.stdout.write(text)
        return
    path = file or default_name()
    write(text, path)
    output.note(f"{path}: {len(text)} characters; read it before you send it")


def dump(path: Path | None, *, hide: bool) -> str:
    """Return the whole text. `path`: the configuration's, which may have faults."""
    config, faults = _load(path)
    parts: list[tuple[str, Callable[[], str]]] = [
        ("versions", _versions),
        ("configuration", lambda: _configuration(config, faults, hide=hide)),
        ("status", lambda: _json(_status(config))),
        ("doctor", lambda: "\n".join("\t".join(f) for f in doctor(config))),
        ("ruleset", _ruleset),
        ("ledger", lambda: _ledger(config)),
        ("events", lambda: "\n".join(_events(config, hide=hide))),
    ]
    head = f"SentryFW support dump, {timestamp(time.time())}"
    kept = "addresses are replaced" if hide else "addresses are in it: --redact replaces them"
    text = f"{head}\nSecrets are removed; {kept}. Read it before you send it.\n"
    text += "".join(f"\n=== {name}\n{_part(gather)}\n" for name, gather in parts)
    known = _known_secrets(config)
    if hide:
        known += personal_words(config.model_dump(mode="json"))
    text = remove_secrets(plain(text, keep="\n\t"), known)
    return replace_addresses(text) if hide else text


def write(text: str, path: Path) -> None:
    """Create a file that its owner alone can read. Raise SentryError if it exists."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        with os.fdopen(open_no_link(path, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise SentryError(f"{path}: {error.strerror}") from None


def default_name() -> Path:
    return Path(time.strftime("sentryfw-support-%Y%m%d-%H%M%S.txt"))


def _part(gather: Callable[[], str]) -> str:
    try:
        text = gather()
    except (SentryError, OSError, sqlite3.Error, ValueError, subprocess.SubprocessError) as error:
        return f"not available: {error}"
    if len(text) > MAX_PART_LENGTH:
        return f"{text[:MAX_PART_LENGTH]}\n... cut: {len(text) - MAX_PART_LENGTH} characters more"
    return text


def _load(path: Path | None) -> tuple[Config, list[str]]:
    """Return the configuration and no faults; or the defaults and the faulty keys, without their
    values: a value may be a secret in the wrong place."""
    try:
        return load(path), []
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
            [nft, "--version"],
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_TIMEOUT_S,
        )
        rows["nft"] = done.stdout.strip()
    return "\n".join(f"{name}\t{version}" for name, version in rows.items())


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return "?"


def _configuration(config: Config, faults: list[str], *, hide: bool) -> str:
    if faults:
        return "faulty, so the parts below use the defaults:\n" + "\n".join(faults)
    return _json(redact_config(config.model_dump(mode="json"), hide=hide))


def _status(config: Config) -> Row:
    table = Table()
    try:
        return status(config, table)
    finally:
        table.close()


def _ruleset() -> str:
    """Return the names of all tables, and SentryFW's own table without elements."""
    nft = shutil.which("nft")
    if nft is None:
        return "nft(8) is not installed"
    parts = []
    for words in (["list", "tables"], ["-s", "-t", "list", "table", "inet", TABLE]):
        done = subprocess.run(
            [nft, *words], capture_output=True, text=True, check=False, timeout=COMMAND_TIMEOUT_S
        )
        parts.append(done.stdout if done.returncode == 0 else done.stderr)
    return "\n".join(parts)


def _ledger(config: Config) -> str:
    """Return the sizes of the files in the state directory; their contents are not included."""
    directory = config.paths.state
    with acting_as_owner(directory):
        found = {
            entry.name: entry.stat(follow_symlinks=False)
            for entry in os.scandir(directory)
            if entry.is_file(follow_symlinks=False)
        }
    return "\n".join(f"{name}\t{status.st_size}" for name, status in sorted(found.items()))


def _events(config: Config, *, hide: bool) -> Iterator[str]:
    """Yield the last events, without text of others."""
    path = config.paths.events
    with acting_as_owner(path.parent):
        descriptor = open_no_link(path, os.O_RDONLY)
    with os.fdopen(descriptor, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - EVENTS_TAIL_BYTES))
        lines = deque(file.read(EVENTS_TAIL_BYTES).split(b"\n"), maxlen=MAX_EVENTS + 1)
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):  # the first line may be cut
            event = json.loads(line)
            if isinstance(event, dict):
                yield json.dumps(_without(event, FOREIGN_KEYS | (ADDRESS_KEYS if hide else set())))


def _without(event: Row, keys: frozenset[str]) -> Row:
    """Return an event without some keys, at any depth."""
    return {
        key: _without(value, keys) if isinstance(value, dict) else value
        for key, value in event.items()
        if key not in keys
    }


def _known_secrets(config: Config) -> list[str]:
    """Return the secrets in the configuration, the paths of webhooks too, and in the credentials
    files."""
    found = list(config.respond.command.argv[1:])
    webhooks = config.respond.webhook
    found += [path for webhook in webhooks if (path := urlsplit(webhook.url or "").path.strip("/"))]
    places = [config.respond.mail.credentials, *(webhook.credentials for webhook in webhooks)]
    for place in filter(None, places):
        with contextlib.suppress(OSError):
            text = place.read_text(errors="replace")[:MAX_PART_LENGTH]
            found += _values(text)
    return found


def _values(text: str) -> list[str]:
    """Return the values in a credentials file; every word of it, if it is not TOML."""
    try:
        return [str(value) for value in tomllib.loads(text).values()]
    except ValueError:
        return re.findall(r"[^\s\"'=]+", text)


def _json(value: object) -> str:
    return json.dumps(value, indent=1, default=str)
