"""Make the texts that a package ships with the program: manual pages from docs/man, the commented
configuration from docs/operations.md, completions from the commands."""

import inspect
import re
import time
from pathlib import Path
from typing import Final

import click
from click.shell_completion import get_completion_class
from typer.main import get_command

from sentryfw import __version__
from sentryfw.cli.app import Commands, app
from sentryfw.cli.help import EXAMPLES, SECTIONS

ROOT: Final = Path(__file__).resolve().parent.parent
PROGRAM: Final = "sentryfw"
PAGES: Final = ("sentryfw.8", "sentryfwd.8", "sentryfw.toml.5")
COMPLETIONS: Final = {
    "bash": "usr/share/bash-completion/completions/sentryfw",
    "zsh": "usr/share/zsh/vendor-completions/_sentryfw",
    "fish": "usr/share/fish/vendor_completions.d/sentryfw.fish",
}
"""Place of each shell's script, below the root."""
HEADER: Final = """\
# SentryFW's configuration, see sentryfw.toml(5): every key with its default. Take the # off a key
# to change it, then: sentryfw check, sentryfw reload.

"""


def keys() -> str:
    """Return the TOML of docs/operations.md: every key with its default."""
    page = (ROOT / "docs" / "operations.md").read_text()
    section = page.partition("\n## Configuration\n")[2].partition("\n## ")[0]
    [block] = re.findall(r"^```toml\n(.*?)^```\n", section, re.DOTALL | re.MULTILINE)
    return str(block)


def configuration(**paths: str) -> str:
    """Return the keys as a configuration file in which all are comments, except these [paths]."""
    lines = []
    for line in keys().splitlines():
        name = line.partition(" ")[0]
        if name in paths:
            line = f'{name} = "{paths[name]}"'  # noqa: PLW2901
        elif line and line[0] not in "[#":
            line = f"# {line}"  # noqa: PLW2901
        lines.append(line)
    return HEADER + "\n".join(lines) + "\n"


def page(name: str, when: float) -> str:
    """Return a manual page with a date, given in seconds since the epoch."""
    text = (ROOT / "docs" / "man" / f"{name}.in").read_text()
    values = {
        "COMMANDS": _commands(),
        "DATE": time.strftime("%Y-%m-%d", time.gmtime(when)),
        "KEYS": roff(keys().rstrip()),
        "VERSION": __version__,
    }
    return re.sub(r"@([A-Z]+)@", lambda match: values[match[1]], text)


def completion(shell: str) -> str:
    """Return the script by which a shell asks `sentryfw` itself for completions."""
    complete = get_completion_class(shell)
    if complete is None:
        raise ValueError(f"click has no completion for {shell}")
    asked = complete(get_command(app), {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE")
    text = asked.source_template % asked.source_vars()
    # typer expects the instruction's words in the opposite order.
    return text.strip().replace(f"{shell}_complete", f"complete_{shell}") + "\n"


def roff(text: str) -> str:
    """Return text escaped for roff, so that it contains neither requests nor escapes."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return re.sub(r"^(?=[.\\(])", r"\\&", text, flags=re.MULTILINE)


def _commands() -> str:
    parts = []
    for title, names in SECTIONS.items():
        parts.append(f".SS {title}")
        parts += [_with_subcommands(name, Commands.load(name)) for name in names]
    return "\n".join(parts)


def _with_subcommands(name: str, command: click.Command) -> str:
    """Return a command, the commands in it, and its examples."""
    parts = [_command(name, command)]
    if isinstance(command, click.Group):
        parts += [_command(f"{name} {sub}", command.commands[sub]) for sub in command.commands]
    if name in EXAMPLES:
        lines = [roff(line) for line in EXAMPLES[name]]
        parts.append("\n".join([".IP", ".nf", *lines, ".fi"]))
    return "\n".join(parts)


def metavar(argument: click.Argument, context: click.Context) -> str:
    """Return the name of an argument. Before click 8.2, and in typer 0.15, make_metavar() takes no
    context."""
    takes_context = bool(inspect.signature(argument.make_metavar).parameters)
    return argument.make_metavar(context) if takes_context else argument.make_metavar()  # type: ignore[call-arg]


def _command(name: str, command: click.Command) -> str:
    words, options = [f"\\fB{roff(name)}\\fR"], []
    context = click.Context(command, info_name=name)
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            words.append(f"\\fI{roff(metavar(parameter, context))}\\fR")
        elif record := parameter.get_help_record(context):
            options.append((roff(record[0].strip()), roff(record[1])))
    lines = [".TP", " ".join(words), roff(" ".join((command.help or "").split()))]
    if options:
        lines.append(".RS")
        for flags, text in options:
            lines += [".TP", f"\\fB{flags}\\fR", text]
        lines.append(".RE")
    return "\n".join(lines)
