"""list, block, unblock: the kernel's sets and the ledger, with or without the daemon."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_network
from typing import Annotated, Any, Final

import typer

from sentryfw.cli import completion, output
from sentryfw.cli.answers import collect
from sentryfw.cli.arguments import (
    Json,
    address_or_none,
    each,
    load_config,
    new_app,
    parse_block_timeout,
    parse_timeout,
)
from sentryfw.cli.by_hand import block_by_hand, unblock_address, unblock_all
from sentryfw.cli.commands.would_block import would_block as find_would_block
from sentryfw.cli.origins import with_origins
from sentryfw.cli.phrases import finding, left
from sentryfw.config.model import Config
from sentryfw.errors import NoPrivilege, SentryError, UsageError
from sentryfw.netfilter.table import Table
from sentryfw.origin.model import origin_text
from sentryfw.query import listing
from sentryfw.query.newest import MAX_LIMIT, Request, newest
from sentryfw.query.newest import count as count_newest
from sentryfw.query.notices import notices
from sentryfw.record.lookup import Wanted
from sentryfw.text import counted, duration, local_clock, zone

COLUMNS: Final = (
    "address", "scan", "kinds", "targets", "probes", "blocked_at", "expires_in_s", "offence",
    "dropped_packets", "reason", "origin", "zone",
)  # fmt: skip
SHORT_COLUMNS: Final = ("address", "left", "dropped", "why")
"""The columns that fit a terminal of 80 characters."""
WOULD_COLUMNS: Final = ("address", "at", "for", "why")

KindOption = Annotated[
    str,
    typer.Option(
        help="Only with this kind of probe, or this scan.", autocompletion=completion.kinds
    ),
]

app = new_app()


@app.command("list")
def list_(
    context: typer.Context,
    json: Json = False,
    would_block: Annotated[
        bool,
        typer.Option(
            "--would-block", help='List the sources that mode = "observe" would have blocked.'
        ),
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="List only the newest.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help='Only blocks made since, e.g. "1h" ago.')
    ] = None,
    kind: KindOption = "",
    search: Annotated[
        str,
        typer.Option(metavar="TEXT", help="Only with this in address, scan, tool, reason or name."),
    ] = "",
    count: Annotated[bool, typer.Option("--count", help="Print only their number.")] = False,
) -> None:
    """List what is blocked, why, and for how long."""
    config = load_config(context)
    chosen = choice(limit, since, kind, search)
    if would_block and (count or chosen is not None):
        raise UsageError("--would-block lists everything: it takes no other option but --json")
    if count:
        number = count_blocks(config, Table(), (chosen or Request()).wanted, output.note)
        output.print_json({"count": number}) if json else typer.echo(number)
        return
    if would_block:
        _print_would_block(_would_block(config), json=json)
        return
    table = Table()
    for text in notices(config.paths, table):
        output.note(text)
    items = with_origins(config, list_blocks(config, table, output.note, chosen), output.note)
    if json:
        output.print_json_list(items)
        return
    _print_blocks(items)
    if config.detect.mode == "observe" and chosen is None:
        _add_would_block(_would_block(config))


@app.command()
def block(
    context: typer.Context,
    addresses: Annotated[list[str], typer.Argument(metavar="ADDR|CIDR...", help="What to block.")],
    timeout: Annotated[
        str | None,
        typer.Option(
            help='How long, e.g. "90s", "4h", "1d", "forever"; default: the first timeout.',
            autocompletion=completion.timeouts,
        ),
    ] = None,
    comment: Annotated[str, typer.Option(help="The reason; `list` and `explain` show it.")] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Block a network that covers never-block sources, too.")
    ] = False,
) -> None:
    """Block addresses and networks by hand."""
    config = load_config(context)
    seconds = config.block.timeouts[0] if timeout is None else parse_block_timeout(timeout)

    def one(address: str) -> None:
        made = block_by_hand(config, Table(), address, seconds, force=force, comment=comment)
        typer.echo(f"blocked {made.address}{made_note(address, made.address)}")
        for protected in made.exceptions:
            output.note(
                f"{protected.network} is not affected: {protected.why}; it is accepted before the"
                " block as long as it is never blocked ([never_block] in the configuration)"
            )

    each(addresses, one)


@app.command()
def unblock(
    context: typer.Context,
    addresses: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ADDR|CIDR...",
            help="What to unblock.",
            autocompletion=completion.blocked_addresses,
        ),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Unblock everything.")] = False,
) -> None:
    """Unblock addresses, all within networks, or everything."""
    if all_ == bool(addresses):
        raise UsageError("name an address or a network, or give --all")
    config = load_config(context)

    def one(address: str) -> None:
        ended = unblock_address(config, Table(), address)
        typer.echo(f"unblocked {ended}")
        if ended.within:
            raise typer.Exit(SentryError.exit_code)

    if all_:
        typer.echo(f"unblocked {unblock_all(config, Table())}")
    else:
        each(addresses or [], one)


# --- list


def choice(limit: int | None, since: str | None, kind: str, search: str) -> Request | None:
    """Return what the options of `list` choose; None: everything."""
    if limit is None and since is None and not kind and not search:
        return None
    began = time.time() - parse_timeout(since, "--since") if since is not None else 0.0
    return Request(Wanted(began, kind, search), min(limit or MAX_LIMIT, MAX_LIMIT))


def list_blocks(
    config: Config, table: Table, warn: Callable[[str], None], chosen: Request | None = None
) -> Iterator[Any]:
    """Return the blocks with their reasons, the newest first. Without CAP_NET_ADMIN the daemon
    answers."""
    request = {"do": "list", **(chosen.as_dict() if chosen else {})}
    try:
        if chosen is None:
            return listing.active(table, config.paths.ledger, warn)
        return iter(list(newest(table, config.paths.ledger, chosen, warn)))
    except NoPrivilege:
        items = collect(config.paths.control, request, warn)
    return iter(sorted(items, key=lambda item: item["blocked_at"] or "", reverse=True))


def count_blocks(config: Config, table: Table, wanted: Wanted, warn: Callable[[str], None]) -> int:
    """Return the number of blocks and confinements. Without CAP_NET_ADMIN the daemon answers."""
    try:
        return count_newest(table, config.paths.ledger, wanted, warn)
    except NoPrivilege:
        request = {"do": "count", **wanted._asdict()}
        [answer] = collect(config.paths.control, request, warn)
        return int(answer["count"])


def _print_blocks(items: Iterator[dict[str, Any]]) -> None:
    """Print the blocks: to a pipe as they come, a million of them take no room."""
    rows = _with_origin_text(items)
    if not sys.stdout.isatty():
        output.print_rows(rows, COLUMNS, "")
        return
    shown = list(rows)
    output.print_rows(shown, COLUMNS, _title(shown), short=(map(_shortly, shown), SHORT_COLUMNS))


def _with_origin_text(items: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Replace each item's origin by its text; most share one."""
    last, text = None, ""
    for item in items:
        if item["origin"] is not last:
            last = item["origin"]
            text = origin_text(last)
        item["origin"] = text
        yield item


def _title(items: list[dict[str, Any]]) -> str:
    confined = sum(item["decision"] == "confine" for item in items)
    return f"{len(items) - confined:,} blocked" + (f", {confined:,} confined" if confined else "")


def _shortly(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "left": left(item), "dropped": item["dropped_packets"], "why": _why(item)}


def _why(item: dict[str, Any]) -> str:
    return finding(item) + (f" ({item['origin']})" if item["origin"] else "")


def _would_block(config: Config) -> list[dict[str, Any]]:
    return list(with_origins(config, find_would_block(config), output.note))


def _add_would_block(items: list[dict[str, Any]]) -> None:
    """Show what is not blocked because of mode = "observe": on a terminal all of it."""
    if sys.stdout.isatty():
        _print_would_block(items, json=False)
    elif items:
        many = counted(len(items), "source")
        output.note(f'{many} would be blocked, were it not for mode = "observe": --would-block')


def _print_would_block(items: list[dict[str, Any]], *, json: bool) -> None:
    if json:
        output.print_json(items)
        return
    rows = [{**item, "origin": origin_text(item["origin"])} for item in items]
    short = ({**row, "at": local_clock(row["blocked_at"]), "for": duration(row["timeout_s"]),
              "why": _why(row)} for row in rows)  # fmt: skip
    title = f'{len(items):,} would be blocked, were it not for mode = "observe" (times in {zone()})'
    output.print_rows(rows, COLUMNS, title, short=(short, WOULD_COLUMNS))


# --- block


def made_note(text: str, address: str) -> str:
    """Return the remark for a block that is larger than what was typed; else an empty text."""
    typed, slash, _ = text.partition("/")
    found = address_or_none(typed)
    if found is None or text == address:
        return ""
    if slash and "/" in address:
        is_changed = found != ip_network(address).network_address
        return f" ({text} has host bits: its network is blocked)" if is_changed else ""
    return "" if str(found) == address else f" (an IPv6 source is its /64: {text})"
