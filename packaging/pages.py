"""What a package ships beside the program, made of what is here already: manual pages of docs/man,
the commented configuration of docs/operations.md, completions of the commands."""

import re
import time
from pathlib import Path
from typing import Final

import click
from click.shell_completion import get_completion_class
from typer.main import get_command

from sentryfw import __version__
from sentryfw.cli.app import app

ROOT: Final = Path(__file__).resolve().parent.parent
PROGRAM: Final = "sentryfw"
PAGES: Final = ("sentryfw.8", "sentryfwd.8", "sentryfw.toml.5")
COMPLETIONS: Final = {
    "bash": "usr/share/bash-completion/completions/sentryfw",
    "zsh": "usr/share/zsh/vendor-completions/_sentryfw",
    "fish": "usr/share/fish/vendor_completions.d/sentryfw.fish",
}
"""Where each shell looks, below the root."""
HEADER: Final = """\
# SentryFW's configuration, see sentryfw.toml(5): every key with its default. Take the # off a key
# to change it, then: sentryfw check, sentryfw install, systemctl restart sentryfw.

"""


def keys() -> str:
    """The TOML of docs/operations.md: every key, with its default."""
    page = (ROOT / "docs" / "operations.md").read_text()
    section = page.partition("\n## Configuration\n")[2].partition("\n## ")[0]
    [block] = re.findall(r"^```toml\n(.*?)^```\n", section, re.DOTALL | re.MULTILINE)
    return str(block)


def configuration(**paths: str) -> str:
    """The same as a file in which nothing is set, but for these [paths]."""
    lines = []
    for line in keys().splitlines():
        name = line.partition(" ")[0]
        if name in paths:
            line = f'{name} = "{paths[name]}"'  # noqa: PLW2901 - the one that is set
        elif line and line[0] not in "[#":
            line = f"# {line}"  # noqa: PLW2901
        lines.append(line)
    return HEADER + "\n".join(lines) + "\n"


def page(name: str, when: float) -> str:
    """A manual page, as of a moment."""
    text = (ROOT / "docs" / "man" / f"{name}.in").read_text()
    values = {
        "COMMANDS": _commands(),
        "DATE": time.strftime("%Y-%m-%d", time.gmtime(when)),
        "KEYS": roff(keys().rstrip()),
        "VERSION": __version__,
    }
    return re.sub(r"@([A-Z]+)@", lambda match: values[match[1]], text)


def completion(shell: str) -> str:
    """What asks `sentryfw` itself for the words that fit."""
    complete = get_completion_class(shell)
    if complete is None:
        raise ValueError(f"click completes nothing in {shell}")
    asked = complete(get_command(app), {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE")
    text = asked.source_template % asked.source_vars()
    # typer reads the words of the instruction the other way round.
    return text.strip().replace(f"{shell}_complete", f"complete_{shell}") + "\n"


def roff(text: str) -> str:
    """Text as it is: nothing in it is a request or an escape."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return re.sub(r"^(?=[.\\(])", r"\\&", text, flags=re.MULTILINE)


def _commands() -> str:
    group = get_command(app)
    if not isinstance(group, click.Group):
        raise TypeError("sentryfw has commands")
    return "\n".join(_command(name, command) for name, command in group.commands.items())


def _command(name: str, command: click.Command) -> str:
    words, options = [f"\\fB{roff(name)}\\fR"], []
    context = click.Context(command, info_name=name)
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            words.append(f"\\fI{roff(parameter.make_metavar(context))}\\fR")
        elif record := parameter.get_help_record(context):
            options.append((roff(record[0].strip()), roff(record[1])))
    lines = [".TP", " ".join(words), roff((command.help or "").strip())]
    if options:
        lines.append(".RS")
        for flags, said in options:
            lines += [".TP", f"\\fB{flags}\\fR", said]
        lines.append(".RE")
    return "\n".join(lines)
