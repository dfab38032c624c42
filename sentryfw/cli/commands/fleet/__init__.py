"""fleet: share blocks with other firewalls, over anything that carries lines of text.

`send` prints signed entries and `receive` reads them: the transport between both is not trusted.
The daemon signs, checks and bounds; [fleet] names the members (config/fleet.py).
"""

import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final

import typer

from sentryfw.cli import output
from sentryfw.cli.arguments import Json, load_config
from sentryfw.cli.commands.fleet import hub, membership, overview
from sentryfw.cli.commands.fleet.group import app, group
from sentryfw.config.model import Config
from sentryfw.control.client import ask, ask_stream
from sentryfw.errors import SentryError, UsageError
from sentryfw.fleet.entry import MAX_ENTRY_BYTES
from sentryfw.setup.fleet.signing_key import public_key

ENTRIES_BATCH: Final = 40
"""Entries in one request, which is a line of 64 KiB at most."""
MAX_LINE_CHARACTERS: Final = 2 * MAX_ENTRY_BYTES
NO_FLEET: Final = "there is no fleet: set [fleet] name and members, and restart the daemon"
COLUMNS: Final = ("member", "trust", "blocks", "weighed", "shown", "last", "refused")

__all__ = ["app", "hub", "membership", "overview"]


@group.command("key")
def key_command(context: typer.Context) -> None:
    """Print the public key of this firewall, and make its private key where it has none."""
    typer.echo(public_key(load_config(context)))


@group.command("send")
def send_command(
    context: typer.Context,
    after: Annotated[int, typer.Option(metavar="N", min=0, help="Only entries behind N.")] = 0,
) -> None:
    """Print our blocks and their ends as signed entries, one a line, oldest first."""
    config = load_config(context)
    for item in sent(config, after):
        typer.echo(json.dumps({"entry": item["entry"], "signature": item["signature"]}))


@group.command("receive")
def receive_command(context: typer.Context, json_: Json = False) -> None:
    """Read entries of other members from standard input, one a line, and apply them."""
    counts = received(load_config(context), sys.stdin)
    if json_:
        output.print_json(counts)
    else:
        typer.echo(", ".join(f"{name}: {number}" for name, number in counts.items()) or "nothing")


@group.command("members")
def members_command(context: typer.Context, json: Json = False) -> None:
    """List the members, what is in effect of each, and what was refused."""
    fleet = ask(load_config(context).paths.control, {"do": "status"}).get("fleet")
    if not isinstance(fleet, dict) or not fleet:
        raise SentryError(NO_FLEET)
    if json:
        output.print_json(fleet)
        return
    rows = [
        {"member": name, **member, "refused": _counts(member.get("refused"))}
        for name, member in fleet.get("members", {}).items()
    ]
    output.print_rows(rows, COLUMNS, overview.title(len(rows), str(fleet.get("name"))))
    if fleet.get("unreadable"):
        typer.echo(f"refused, of no member: {_counts(fleet['unreadable'])}")


@group.command("drop")
def drop_command(context: typer.Context, member: str) -> None:
    """Take back every entry of a member; its next one counts again."""
    config = load_config(context)
    for answer in ask_stream(config.paths.control, {"do": "fleet-drop", "member": member}):
        typer.echo(f"{answer.get('count')} sources of {member} dropped")


def sent(config: Config, after: int) -> Iterator[dict[str, Any]]:
    """Yield our entries behind a number."""
    while True:
        request = {"do": "fleet-outgoing", "after": after}
        part = list(ask_stream(config.paths.control, request))
        yield from part
        if not part:
            return
        after = int(part[-1]["seq"])


def received(config: Config, lines: Iterable[str]) -> dict[str, int]:
    """Pass entries on to the daemon; return how many had which effect, or were refused."""
    counts: dict[str, int] = {}
    items = (_item(line) for line in lines if line.strip())
    while batch := list(itertools.islice(items, ENTRIES_BATCH)):
        request = {"do": "fleet-incoming", "entries": batch}
        for answer in ask_stream(config.paths.control, request):
            if "warning" in answer:
                output.note(f"sentryfw: {answer['warning']}")
                continue
            word = str(answer.get("effect") or f"refused ({answer.get('refused')})")
            counts[word] = counts.get(word, 0) + 1
    return counts


def _item(line: str) -> Any:  # noqa: ANN401 - hostile JSON; the daemon checks it
    if len(line) > MAX_LINE_CHARACTERS:
        raise UsageError("a line is longer than an entry can be")
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise UsageError("a line is not JSON: give it what `sentryfw fleet send` prints") from None


def _counts(given: object) -> str:
    if not isinstance(given, dict):
        return ""
    return ", ".join(f"{name} {number}" for name, number in given.items())
