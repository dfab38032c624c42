"""import: the addresses of a list of others, blocked until the list's end."""

import re
import time
from typing import Annotated, Any, Final, NamedTuple

import typer

from sentryfw.cli import output
from sentryfw.cli.arguments import Json, load_config, new_app
from sentryfw.cli.commands.lists.replace import (
    ListChange,
    lists,
    remove_list,
    replace_list,
    summaries,
)
from sentryfw.cli.commands.lists.source import end_of, read
from sentryfw.config.model import Config
from sentryfw.errors import UsageError
from sentryfw.host import privileges
from sentryfw.netfilter.table import Table
from sentryfw.record.events import timestamp
from sentryfw.text import counted, duration
from sentryfw.tools.lists.parse import FORMATS

NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}", re.ASCII)
COLUMNS: Final = ("name", "hosts", "networks", "until")

app = new_app()


class ListRequest(NamedTuple):
    """The options of an import."""

    file: str
    form: str
    name: str
    seconds: float
    dry_run: bool
    skip_bad: bool


@app.command("import")
def import_(
    context: typer.Context,
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE", show_default=False,
            help="The list; -: standard input. Without it the lists are shown.",
        ),
    ] = None,
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Name of the list; an earlier one is replaced.")
    ] = "",
    form: Annotated[
        str, typer.Option("--format", help=f"{', '.join(FORMATS)}.")
    ] = "plain",
    for_: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help='Its end from now, e.g. "1d".')
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help='Its end, e.g. "2026-12-31 18:00".')
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would do, and change nothing.")
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Import the rest of a list that has bad lines.")
    ] = False,
    remove: Annotated[
        str | None, typer.Option(metavar="NAME", help="Unblock everything that a list blocked.")
    ] = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Block the addresses of a list until its end. Without a file, show the lists."""
    config = load_config(context)
    if remove is not None:
        _remove(config, remove, is_alone=file is None and not name)
    elif file is None:
        _show(config, json=json)
    else:
        wanted = ListRequest(file, form, name, end_of(for_, until), dry_run, skip_bad)
        _import(config, wanted, json=json)


def _import(config: Config, wanted: ListRequest, *, json: bool) -> None:
    privileges.require_root()
    name, seconds, dry_run = wanted.name, wanted.seconds, wanted.dry_run
    if not NAME.fullmatch(name):
        raise UsageError("--name: write 1 to 32 of a-z 0-9 . _ -, like spamhaus-drop")
    parsed = read(wanted.file, wanted.form, skip_bad=wanted.skip_bad)
    change = replace_list(config, Table(), name, parsed.entries, seconds, dry_run=dry_run)
    change.left_out.update(parsed.left_out)
    if parsed.bad:
        change.left_out["cannot be read"] = len(parsed.bad)
    result = _result(name, change, seconds, dry_run=dry_run)
    output.print_json(result) if json else _report(name, change, seconds, dry_run=dry_run)


def _remove(config: Config, name: str, *, is_alone: bool) -> None:
    if not is_alone:
        raise UsageError("--remove NAME takes no file and no --name")
    privileges.require_root()
    typer.echo(f"unblocked {remove_list(config, Table(), name)} of the list {name}")


def _show(config: Config, *, json: bool) -> None:
    rows = [_row(one._asdict()) for one in summaries(lists(config))]
    output.print_json(rows) if json else output.print_rows(rows, COLUMNS, f"{len(rows)} lists")


def _row(found: dict[str, Any]) -> dict[str, Any]:
    left = found.pop("left")
    return {**found, "until": timestamp(time.time() + left)}


def _result(name: str, change: ListChange, seconds: float, *, dry_run: bool) -> dict[str, Any]:
    return {
        "name": name, "hosts": len(change.hosts), "networks": len(change.networks),
        "removed": len(change.removed), "left_out": dict(change.left_out),
        "until": timestamp(time.time() + seconds), "dry_run": dry_run,
    }  # fmt: skip


def _report(name: str, change: ListChange, seconds: float, *, dry_run: bool) -> None:
    verb = "would block" if dry_run else "blocked"
    what = f"{counted(len(change.hosts), 'source')} and {counted(len(change.networks), 'network')}"
    typer.echo(f"{verb} {what} of the list {name} for {duration(seconds)} at most")
    if change.removed:
        ended = "would unblock" if dry_run else "unblocked"
        typer.echo(f"{ended} {len(change.removed)} that are not in it any more")
    for why, count in sorted(change.left_out.items()):
        output.note(f"left out: {count} ({why})")
