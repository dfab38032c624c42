"""The commands of the group."""

from sentryfw.cli.app import Commands
from sentryfw.cli.commands.fleet.group import app, group


def test_every_command_of_a_fleet_is_there_with_a_help() -> None:
    command = Commands.load("fleet")
    commands = command.commands  # type: ignore[attr-defined]
    assert set(commands) == {
        "key", "send", "receive", "members", "drop", "init", "join", "leave", "status",
    }  # fmt: skip
    assert all(one.help for one in commands.values())
    assert app.registered_groups[0].typer_instance is group
