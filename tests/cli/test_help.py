"""Groups and examples of `--help`: complete, true, and 80 columns wide."""

import inspect
import re
import shlex
from pathlib import Path
from typing import get_type_hints

import click
import pytest
from typer.testing import CliRunner

from sentryfw.cli.app import COMMANDS, Commands, app
from sentryfw.cli.help import EXAMPLES, SECTIONS, epilog
from sentryfw.config import parse

RUNNER = CliRunner()


def test_every_command_is_in_one_group() -> None:
    grouped = [name for names in SECTIONS.values() for name in names]
    assert sorted(grouped) == sorted(COMMANDS)


def test_the_help_has_the_groups_and_fits_80_columns() -> None:
    shown = RUNNER.invoke(app, ["--help"], terminal_width=80).output
    assert max(map(len, shown.splitlines())) <= 80
    assert [f"{title}:" in shown for title in SECTIONS] == [True] * len(SECTIONS)
    for name in COMMANDS:
        assert len(re.findall(rf"^  {name} ", shown, re.MULTILINE)) == 1, name


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_has_its_examples(name: str) -> None:
    shown = RUNNER.invoke(app, [name, "--help"], terminal_width=80).output
    assert max(map(len, shown.splitlines())) <= 90
    for line in EXAMPLES.get(name, ()):
        assert f"    {line}\n" in shown
    assert (epilog(name) is not None) == ("Examples:" in shown)


@pytest.mark.parametrize(
    "line", [line for lines in EXAMPLES.values() for line in lines if line.startswith("sentryfw ")]
)
def test_an_example_has_options_that_exist(line: str) -> None:
    words = shlex.split(re.split(r" [|>&#]", line)[0])[1:]
    words = words[2:] if words[0] == "-c" else words
    command = Commands.load(words.pop(0))
    if isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    known = {text for parameter in command.params for text in parameter.opts}
    assert [word for word in words if word.startswith("--") and word not in known] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_no_parameter_is_of_a_kind_that_debians_typer_lacks(name: str) -> None:
    """typer 0.15 of Debian 13 takes enumerations for choices, and no Literal."""
    command = Commands.load(name)
    every = command.commands.values() if isinstance(command, click.Group) else [command]
    for one in every:
        # typer keeps the function behind its wrapper.
        function = inspect.unwrap(one.callback) if one.callback else None
        hints = get_type_hints(function, include_extras=True) if function else {}
        assert "Literal" not in str(hints), one.name


DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
PAGES = ("first-day.md", "troubleshooting.md")


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_in_a_page_exist(page: str) -> None:
    text = (DOCS / page).read_text()
    lines = re.findall(r"(?:^    |`)(sentryfw [a-z-][^`\n]*)", text, re.MULTILINE)
    assert len(lines) > 5
    for line in lines:
        name, *words = shlex.split(line)[1:]
        assert name in COMMANDS, line
        command = Commands.load(name)
        if isinstance(command, click.Group) and words:
            command = command.commands[words[0]]
        known = {text for parameter in command.params for text in parameter.opts}
        options = {word for word in words if word.startswith("--")}
        assert options <= known, line


def test_the_pages_of_the_first_day_link_to_what_exists() -> None:
    for page in (*PAGES, "glossary.md", "coexistence.md"):
        for target in re.findall(r"\]\(([^)#]+)", (DOCS / page).read_text()):
            assert target.startswith("http") or (DOCS / target).exists(), (page, target)


def test_the_configuration_of_the_first_day_is_valid() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", (DOCS / "first-day.md").read_text(), re.DOTALL)
    assert [parse(block.encode(), "first-day.md").detect.mode for block in blocks] == ["observe"]
