"""The table of commands, and the import of a command when it is run."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from typer.testing import CliRunner

from sentryfw.cli.app import BY_CHECKED_VALUES, COMMANDS, Commands, app
from sentryfw.config import DEFAULT_PATH, load_with_sources
from sentryfw.host import last_good

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


ARGUMENTS: Final[dict[str, list[str]]] = {"status": [], "list": [], "allow": ["list"]}
PROBE: Final = """\
import sys
from sentryfw.cli import app
app.stdio.finish = lambda code: print("CODE", code, "pydantic" in sys.modules)
app.main()
"""


def _run(*words: str) -> str:
    """Return the exit code of a command in a process, and whether pydantic was imported."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROBE, *words], capture_output=True, text=True, check=False
    )
    return done.stdout.partition("CODE ")[2].strip()


@pytest.mark.parametrize("name", sorted(BY_CHECKED_VALUES))
def test_a_command_takes_checked_values_of_files_that_are_the_same(
    tmp_path: Path, name: str
) -> None:
    """The exit code is the same: all but `allow list` fail without a table."""
    path = tmp_path / "sentryfw.toml"
    for directory in ("state", "run", "log"):
        (tmp_path / directory).mkdir()
    path.write_text(
        f'[paths]\nstate = "{tmp_path}/state"\nruntime = "{tmp_path}/run"\nlog = "{tmp_path}/log"\n'
    )
    words = ["-c", str(path), name, *ARGUMENTS.get(name, ["192.0.2.1"])]
    code, with_pydantic = _run(*words).split()
    assert with_pydantic == "True"
    last_good.save(path, load_with_sources(path))
    assert _run(*words) == f"{code} False"
    path.write_text(path.read_text() + "[detect]\ntrigger = 4\n")
    assert _run(*words) == f"{code} True"


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
