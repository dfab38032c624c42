"""allow: the allowlist, and its effect on the kernel's never-block sets.

The file is in [paths] state. The running daemon applies a change to the sets; without a daemon the
command does (cli/allow_apply.py). A name is asked for by the command first, then by the daemon.
"""

import re
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import typer

from sentryfw.cli import output
from sentryfw.cli.allow_apply import Change, Say, all_protected, apply
from sentryfw.cli.arguments import Json, each, load_config, new_app, new_group
from sentryfw.config.model import Config, Paths
from sentryfw.config.types import IPNetwork, is_within, parse_duration
from sentryfw.errors import NotFound, SentryError, UsageError
from sentryfw.host import address_list, allow_file, allowed_names, privileges
from sentryfw.host.allow_file import Allowed
from sentryfw.host.protected import ALLOWLIST
from sentryfw.netfilter.lock import TableLock
from sentryfw.netfilter.table import Table
from sentryfw.record.events import timestamp
from sentryfw.text import full_name

COLUMNS: Final = ("network", "why", "until", "comment")

Addresses = Annotated[list[str], typer.Argument(metavar="ADDR|CIDR|NAME...")]
Comment = Annotated[str, typer.Option(help="The reason; kept in the list.")]
Until = Annotated[
    str | None, typer.Option(metavar="TIME", help='The end: "7d" from now, or "2026-12-31 18:00".')
]

app = new_app()
group = new_group(
    "Edit the allowlist of sources that are never blocked. A change takes effect at once."
)
app.add_typer(group, name="allow")


@group.command("add")
def add_command(
    context: typer.Context,
    addresses: Addresses,
    comment: Comment = "",
    until: Until = None,
) -> None:
    """Never block addresses, networks, and the addresses of names, which are asked for again
    by their TTL; what is blocked of them is unblocked."""
    config, table, line = load_config(context), Table(), _line(comment, until)
    each(addresses, lambda text: add(config, table, text, line, typer.echo), _check)


@group.command("del")
def delete_command(context: typer.Context, addresses: Addresses) -> None:
    """Remove addresses, networks and names from the list."""
    config, table = load_config(context), Table()
    each(addresses, lambda text: delete(config, table, text, typer.echo), _check)


@group.command("list")
def list_command(
    context: typer.Context,
    json: Json = False,
    all_: Annotated[
        bool,
        typer.Option("--all", help="Also list sources that are never blocked for another reason."),
    ] = False,
) -> None:
    """List the allowlist."""
    rows = listing(load_config(context), everything=all_)
    if json:
        output.print_json(rows)
    else:
        shown = [r | {"network": " ".join([r["network"], *r.get("addresses", ())])} for r in rows]
        output.print_rows(shown, COLUMNS, f"{len(rows)} never blocked")


@group.command("import")
def import_command(
    context: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="File with one address or network a line; -: standard input."
        ),
    ],
    comment: Comment = "",
    until: Until = None,
) -> None:
    """Add every address and network in a file, with one reason and one end."""
    line = _line(comment, until)
    done = import_file(load_config(context), Table(), file, line, output.note)
    typer.echo(f"allowed {done.added} more; {done.known} were on the list already")


class Line(NamedTuple):
    """The part of a line that follows its network."""

    comment: str = ""
    until: datetime | None = None


class ImportCounts(NamedTuple):
    """The networks of an imported file: new ones, and those that were on the list already."""

    added: int
    known: int


def add(config: Config, table: Table, text: str, line: Line, say: Say) -> None:
    """Never block an address, a network, or the addresses of a name.

    Raise UsageError if it is none of them, or is /0; NotFound if a name has no address.
    """
    privileges.require_root()
    what = _subject(text, say)
    networks = _ask_for(config.paths, what, say) if isinstance(what, str) else [what]
    fresh = _extend(config, [what], line)
    apply(config, table, Change(added=networks), say)
    known = f" ({', '.join(map(_plain, networks))})" if isinstance(what, str) and networks else ""
    shown = f"{what}{known}"
    end = f" until {line.until:%Y-%m-%d %H:%M %Z}" if line.until is not None else ""
    say(f"allowed {shown}{end}" if fresh else f"{shown} was on the allowlist already")


def parse_end(text: str) -> datetime:
    """Return a time in the future: a duration from now, or a date and time, local without a zone.
    Raise UsageError."""
    now = datetime.now().astimezone()
    try:
        end = datetime.fromisoformat(text.strip()).astimezone()
    except ValueError:
        try:
            end = now + timedelta(seconds=parse_duration(text))
        except (ValueError, OverflowError):
            raise UsageError(
                f'--until: {text!r} is neither a duration ("7d") nor a time ("2026-12-31 18:00")'
            ) from None
    if end <= now:
        raise UsageError(f"--until: {text!r} is over")
    return end


def delete(config: Config, table: Table, text: str, say: Say) -> None:
    """Remove a network or a name from the list. Raise NotFound if no line has exactly it."""
    privileges.require_root()
    what = _subject(text, say)
    with TableLock(config.paths.runtime).held():
        before = allow_file.read(config.paths.allowlist)
        listed = [entry.what for entry in allow_file.entries(before)]
        if what not in listed:
            raise NotFound(_why_not_found(config, what, listed))
        allow_file.write(config.paths.allowlist, allow_file.without(before, what))
    networks = _addresses(config.paths, what) if isinstance(what, str) else [what]
    apply(config, table, Change(removed=networks), say)
    say(f"no longer allowed: {what}")
    for other in all_protected(config):
        for network in networks:
            if is_within(network, other.network):
                say(f"{network} is still never blocked: {other.why} ({other.network})")


def import_file(config: Config, table: Table, path: str, new: Line, say: Say) -> ImportCounts:
    """Add every network in a file ("-": standard input), and report faulty lines. Raise SentryError
    if there is no network in it."""
    privileges.require_root()
    parsed = address_list.parse(_bytes(path))
    for line, fault in parsed.warnings:
        say(f"{path}:{line}: {fault}")
    networks = list(dict.fromkeys(entry.network for entry in parsed.entries))
    if not networks:
        raise SentryError(f"{path}: contains no address; nothing was changed")
    fresh = _extend(config, networks, new)
    apply(config, table, Change(added=networks), say)
    return ImportCounts(len(fresh), len(networks) - len(fresh))


def listing(config: Config, *, everything: bool) -> list[dict[str, Any]]:
    """Return the rows of the list; with `everything` all never-block sources and their reasons."""
    text = allow_file.read(config.paths.allowlist)
    rows = [
        _row(entry.what, ALLOWLIST, Line(entry.comment, entry.until))
        for entry in allow_file.entries(text)
    ]
    for row in rows:
        if full_name(row["network"]):
            row["addresses"] = list(map(_plain, _addresses(config.paths, row["network"])))
    if everything:
        others = (p for p in all_protected(config) if not p.why.startswith(ALLOWLIST))
        rows += [_row(p.network, p.why, Line()) for p in others]
    return rows


def _row(what: Allowed, why: str, line: Line) -> dict[str, Any]:
    until = None if line.until is None else timestamp(line.until.timestamp())
    return {"network": str(what), "why": why, "comment": line.comment, "until": until}


def _line(comment: str, until: str | None) -> Line:
    return Line(comment, None if until is None else parse_end(until))


def _subject(text: str, say: Say) -> Allowed:
    network, remark = address_list.read_network(text.strip())
    if network is None:
        name = full_name(text.strip())
        if name:
            return name
        fault = remark.removesuffix(address_list.IGNORED)
        is_like_name = re.fullmatch(r"[A-Za-z][\w.-]*", text.strip()) is not None
        raise UsageError(f"{fault}, nor a name with a dot" if is_like_name else fault)
    if remark:
        say(remark)
    return network


def _check(text: str) -> None:
    """Raise UsageError if a text is neither an address, nor a network, nor a name."""
    _subject(text, lambda _remark: None)


def _bytes(path: str) -> bytes:
    """Read the file, up to one byte more than the parser accepts."""
    if path == "-":
        return sys.stdin.buffer.read(address_list.MAX_BYTES + 1)
    try:
        with Path(path).open("rb") as file:
            return file.read(address_list.MAX_BYTES + 1)
    except OSError as error:
        raise SentryError(f"{path}: {error.strerror}") from None


def _extend(config: Config, subjects: Sequence[Allowed], line: Line) -> list[Allowed]:
    """Add what is not on the list yet, and return it. A line that has ended, or
    whose end is given now, is replaced."""
    with TableLock(config.paths.runtime).held():
        before = allow_file.read(config.paths.allowlist)
        listed = {entry.what: entry.until for entry in allow_file.entries(before)}
        replaced = {
            what for what in subjects if what in listed and _is_replaced(listed[what], line)
        }
        fresh = [item for item in subjects if item not in listed or item in replaced]
        for what in replaced:
            before = allow_file.without(before, what)
        if fresh:
            after = allow_file.with_added(before, fresh, line.comment, line.until)
            allow_file.write(config.paths.allowlist, after)
    return fresh


def _is_replaced(until: datetime | None, line: Line) -> bool:
    if line.until is not None:
        return True
    return until is not None and until <= datetime.now(UTC)


def _why_not_found(config: Config, what: Allowed, listed: list[Allowed]) -> str:
    if isinstance(what, str):
        return f"{what} is not on the allowlist"
    around = [n for n in listed if not isinstance(n, str) and is_within(what, n)]
    if around:
        return f"{what} is on the allowlist only as part of {around[0]}: remove that"
    for other in all_protected(config):
        if is_within(what, other.network):
            return f"{what} is not on the allowlist; it is never blocked as {other.why}"
    return f"{what} is not on the allowlist"


def _ask_for(paths: Paths, name: str, say: Say) -> list[IPNetwork]:
    """Ask the resolvers for a name, and return its addresses. Raise NotFound if they deny it."""
    listed = allow_file.names(allow_file.read(paths.allowlist))
    if name not in listed and len(listed) >= allowed_names.MAX_NAMES:
        raise SentryError(
            f"the allowlist has {allowed_names.MAX_NAMES} names, and more are not asked for"
        )
    found = allowed_names.refresh(paths.allowlist_names, [*listed, name], time.time())
    networks = [network for _, network in allowed_names.networks(found, [name])]
    reasons = {answer.fault for answer in found[name].values()}
    if not networks and name not in listed and reasons == {allowed_names.DENIED}:
        raise NotFound(f"{name}: the resolvers know no address of it; nothing was changed")
    fault = allowed_names.faults(found).get(name)
    if fault:
        say(f"{name}: {fault}: the daemon asks again every minute")
    return networks


def _addresses(paths: Paths, name: str) -> list[IPNetwork]:
    """Return the addresses of a name, as they were answered last."""
    found = allowed_names.read(paths.allowlist_names)
    return [network for _, network in allowed_names.networks(found, [name])]


def _plain(network: IPNetwork) -> str:
    return str(network.network_address)
