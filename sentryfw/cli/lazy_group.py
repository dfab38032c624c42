"""A group of commands whose modules are imported when a command is run.

click documents the pattern as LazyGroup. `--help`, the completion of names and the suggestion for a
mistyped name use a table, and import no command.
"""

import importlib
import sys
from pathlib import Path
from typing import Any, ClassVar, Final

import click
import typer
from typer.core import TyperGroup

from sentryfw.cli.help import SECTIONS, epilog
from sentryfw.config import plain
from sentryfw.errors import ConfigError
from sentryfw.host import last_good

COMMANDS: Final = "sentryfw.cli.commands"
FORM: Final = "sentryfw.config.form"


class LazyGroup(TyperGroup):
    """A group whose `commands` are stubs with a help of one line."""

    table: ClassVar[dict[str, tuple[str, str]]] = {}
    """Each command's module, which has it in `app`, and its help in one line."""
    by_checked_values: ClassVar[frozenset[str]] = frozenset()
    """Commands that read the configuration and do no more with it."""

    def __init__(self, **attributes: Any) -> None:  # noqa: ANN401 - TyperGroup's own
        super().__init__(**attributes)
        self.commands = {
            name: click.Command(name, help=line) for name, (_, line) in self.table.items()
        }

    @classmethod
    def load(cls, name: str) -> click.Command:
        """Import the module of a command, and return the command."""
        module = importlib.import_module(f"{COMMANDS}.{cls.table[name][0]}")
        command = typer.main.get_command(module.app)
        if isinstance(command, click.Group):
            command = command.commands[name]
        command.epilog = epilog(name)
        return command

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands in their groups; those of no group last."""
        grouped = {name for names in SECTIONS.values() for name in names}
        others = tuple(name for name in self.table if name not in grouped)
        limit = formatter.width - 6 - max(map(len, self.table))
        for title, names in {**SECTIONS, "Other": others}.items():
            rows = [
                (name, self.commands[name].get_short_help_str(limit))
                for name in names
                if name in self.commands
            ]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the global options; `-c FILE` is one after the command, too."""
        return super().parse_args(ctx, _config_first(args))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments name, imported."""
        name, command, rest = super().resolve_command(ctx, args)
        if name in self.by_checked_values:
            named = ctx.params.get("config_file")
            take_checked_values(None if named is None else Path(named))
        return name, command if name is None else self.load(name), rest


def take_checked_values(path: Path | None) -> None:
    """Let this process take the configuration without pydantic, if it was checked before: half of
    the time of a short command. Not where a module has imported the sections."""
    if FORM in sys.modules:
        return
    try:
        plain.known = last_good.checked(path)
    except ConfigError:  # the command reports it
        return
    plain.is_used = plain.known is not None


def _config_first(words: list[str]) -> list[str]:
    for index, word in enumerate(words[1:], 1):
        if word in {"-c", "--config"} and index + 1 < len(words):
            return [*words[index : index + 2], *words[:index], *words[index + 2 :]]
        if word.startswith("--config="):
            return [word, *words[:index], *words[index + 1 :]]
    return words
