"""fleet init: the files of a hub, and an invitation for each member."""

import grp
from pathlib import Path
from typing import Annotated, Final

import typer

from sentryfw.cli import output
from sentryfw.cli.arguments import Json
from sentryfw.cli.commands.fleet.group import group
from sentryfw.errors import UsageError
from sentryfw.host.privileges import require_root
from sentryfw.setup.fleet import hub_files
from sentryfw.setup.fleet.hub_files import GROUPS, HUB_TLS_PORT, HubFiles, HubPlan

DIRECTORY: Final = Path("/etc/sentryfw/hub")


@group.command("init")
def init_command(
    address: Annotated[
        list[str],
        typer.Option(metavar="HOST", help="Address or name of the hub, for members; the first is"
                     " in the invitations."),
    ],
    member: Annotated[
        list[str],
        typer.Option(metavar="NAME=KEY", help="A member, and the key that `sentryfw fleet key`"
                     " printed there."),
    ],
    port: Annotated[int, typer.Option(min=1, max=65535)] = HUB_TLS_PORT,
    directory: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the hub's files are.")
    ] = DIRECTORY,
    data: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the server keeps the entries.")
    ] = Path("/var/lib/redis"),
    memory: Annotated[str, typer.Option(metavar="SIZE", help="Memory of the server.")] = "512mb",
    json: Json = False,
) -> None:  # fmt: skip
    """Write the files of a hub (Redis or Valkey), and print what each member runs to join it."""
    require_root()
    keys = dict(map(_named_key, member))
    plan = HubPlan(tuple(address), port, data=str(data.absolute()), memory=memory)
    files = HubFiles(directory.absolute(), _group())
    invitations = files.write(plan, keys, hub_files.today())
    if json:
        output.print_json({name: made.encode() for name, made in invitations.items()})
        return
    server = files.directory / "redis.conf"
    output.note(
        f"the hub's files are in {files.directory}. Start it on Debian with:\n"
        f"  ln -sf {server} /etc/redis/redis-sentryfw.conf\n"
        "  systemctl enable redis-server@sentryfw; systemctl restart redis-server@sentryfw\n"
        f"or elsewhere: redis-server {server}\n"
        "Each line below is secret; run it on the member that it names."
    )
    for name, made in invitations.items():
        typer.echo(f"# {name}")
        typer.echo(f"echo {made.encode()} | sudo sentryfw fleet join")


def _named_key(text: str) -> tuple[str, str]:
    name, equals, key = text.partition("=")
    if not equals:
        raise UsageError(
            f"--member {text[:60]}: write NAME=KEY, with the key that `sentryfw fleet key` prints"
            " there"
        )
    return name, key


def _group() -> int:
    """Return the group of the server's user; -1 where there is none."""
    for name in GROUPS:
        try:
            return grp.getgrnam(name).gr_gid
        except KeyError:
            continue
    return -1
