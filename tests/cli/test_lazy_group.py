"""The table of commands, and the import of a command when it is run."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from sentryfw.cli.app import COMMANDS, Commands, app
from sentryfw.config import DEFAULT_PATH

RUNNER = CliRunner()


def test_help_imports_no_command() -> None:
    code = (
        "import sys; from sentryfw.cli.app import app;"
        " app(['--help'], standalone_mode=False); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    loaded = done.stdout.split()
    assert "sentryfw.cli.lazy_group" in loaded
    assert [name for name in loaded if name.startswith(("sentryfw.cli.commands", "pydantic"))] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_has_the_first_sentence_of_a_commands_help(name: str) -> None:
    command = Commands.load(name)
    _, line = COMMANDS[name]
    assert command.name == name
    assert command.get_short_help_str(limit=100).rstrip(".") == line.rstrip(".")


def test_a_help_of_the_table_fits_80_columns() -> None:
    shown = RUNNER.invoke(app, ["--help"], terminal_width=80).output
    assert [line for line in shown.splitlines() if line.endswith("...")][1:] == []


def test_help_names_the_default_path() -> None:
    assert str(DEFAULT_PATH) in " ".join(RUNNER.invoke(app, ["--help"]).output.split())


def test_a_mistyped_name_has_a_suggestion() -> None:
    done = RUNNER.invoke(app, ["lst"])
    assert done.exit_code == 2
    assert "Did you mean 'list'?" in done.output


@pytest.mark.parametrize(
    "words",
    [
        ["-c", "/nowhere/x.toml", "check"],
        ["check", "-c", "/nowhere/x.toml"],
        ["config", "show", "--config=/nowhere/x.toml"],
        ["list", "--config", "/nowhere/x.toml", "--json"],
    ],
    ids=" ".join,
)
def test_the_configuration_is_named_before_or_after_the_command(words: list[str]) -> None:
    done = RUNNER.invoke(app, words)
    assert "/nowhere/x.toml" in done.output + str(done.exception)
