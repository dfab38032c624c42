"""fleet join and leave: the files by which this firewall is a member of a fleet."""

import sys
from enum import StrEnum
from typing import Annotated, Final

import typer

from sentryfw.cli import output
from sentryfw.cli.arguments import config_path, load_config
from sentryfw.cli.commands.fleet.group import group
from sentryfw.host.privileges import require_root
from sentryfw.setup.fleet.invitation import MAX_CHARACTERS, decode
from sentryfw.setup.fleet.membership import Membership
from sentryfw.setup.fleet.signing_key import public_key

INSTALL: Final = "sudo sentryfw install"
"""It writes and starts the units that the configuration needs."""


class Trust(StrEnum):
    """Choices of --trust, as an enumeration: typer 0.15 takes no Literal."""

    FULL = "full"
    WEIGH = "weigh"
    SHOW = "show"


@group.command("join")
def join_command(
    context: typer.Context,
    trust: Annotated[
        Trust | None,
        typer.Option(help="What the members' word is worth; default weigh, or what it was."),
    ] = None,
) -> None:
    """Read an invitation of `fleet init` from standard input, and join that fleet."""
    require_root()
    invitation = decode(sys.stdin.read(MAX_CHARACTERS + 1))
    key = public_key(load_config(context))
    path = config_path(context)
    membership = Membership(path)
    fleet = membership.join(invitation, trust and trust.value)
    output.note(f"written to {membership.file}; the key of {fleet.name} is {key}")
    for name, member in sorted(fleet.members.items()):
        typer.echo(f"member {name}, trust {member.trust}, key {member.key}")
    output.note(f"to begin: {INSTALL}")


@group.command("leave")
def leave_command(context: typer.Context) -> None:
    """Remove what `fleet join` wrote. The daemon ends the members' blocks at its next start."""
    require_root()
    removed = Membership(config_path(context)).leave()
    for path in removed:
        typer.echo(f"removed {path}")
    if not removed:
        typer.echo("nothing to remove: this firewall did not join a fleet")
        return
    output.note(f"to end it: {INSTALL}")
