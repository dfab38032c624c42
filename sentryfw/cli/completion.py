"""Values that a shell completes: addresses that are blocked, kinds of probes, timeouts.

A completion prints nothing but its answers: without rights, or with a fault, there are none.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final, get_args

import typer

from sentryfw.cli.answers import ask_stream
from sentryfw.cli.phrases import FOREVER, finding
from sentryfw.config import load
from sentryfw.config.model import Config
from sentryfw.engine.model import Kind, Scan
from sentryfw.errors import NoPrivilege, SentryError
from sentryfw.netfilter.table import Table
from sentryfw.query.blocks import BlockItem
from sentryfw.query.newest import Request, newest
from sentryfw.record.lookup import Wanted

MAX_ADDRESSES: Final = 50
TIMEOUTS: Final = ("1h", "4h", "1d", "7d", FOREVER)

Answers = list[tuple[str, str]]
"""Values, each with a remark, which zsh and fish show."""


def blocked_addresses(context: typer.Context, incomplete: str) -> Answers:
    """Return the newest blocked addresses that begin so, each with its reason."""
    with contextlib.suppress(SentryError, OSError, sqlite3.Error, ValueError):
        return [
            (str(item["address"]), finding(item))
            for item in _newest(load(_config_path(context)), incomplete)
            if str(item["address"]).startswith(incomplete)
        ]
    return []


def kinds(incomplete: str) -> list[str]:
    """Return the kinds of probes, and the kinds of scans, that begin so."""
    return [name for name in (*get_args(Kind), *get_args(Scan)) if name.startswith(incomplete)]


def timeouts(incomplete: str) -> list[str]:
    """Return usual lengths of a block that begin so."""
    return [text for text in TIMEOUTS if text.startswith(incomplete)]


def _newest(config: Config, text: str) -> Iterator[BlockItem | dict[str, object]]:
    request = Request(Wanted(text=text), MAX_ADDRESSES)
    with contextlib.closing(Table()) as table:
        try:
            yield from newest(table, config.paths.ledger, request, lambda _: None)
        except NoPrivilege:
            found = ask_stream(config.paths.control, {"do": "list", **request.as_dict()})
            yield from ({**item} for item in found if "address" in item)


def _config_path(context: typer.Context) -> Path | None:
    """Return the path that `-c` names; click does not run the group's callback to complete."""
    parent = context.parent
    named = parent.params.get("config_file") if parent is not None else None
    return Path(named) if named else None
