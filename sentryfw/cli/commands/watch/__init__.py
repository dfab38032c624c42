"""watch: kernel, ledger and daemon live in a terminal; or one frame, or JSON lines, without one."""

import os
import sys
import time
from contextlib import closing
from typing import Annotated, Final

import typer

from sentryfw.cli import output
from sentryfw.cli.arguments import Json, load_config, new_app
from sentryfw.cli.commands.watch.screen import Screen
from sentryfw.cli.commands.watch.state import READ_INTERVAL_S, StateReader
from sentryfw.config.model import Config
from sentryfw.errors import NoPrivilege, NotRunning
from sentryfw.netfilter.table import Table
from sentryfw.text import dumps

FRAME_SIZE: Final = (80, 60)
"""Columns and lines of a frame that is not printed to a terminal."""

app = new_app()


@app.command()
def watch(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Print one frame, and exit.")] = False,
    json: Json = False,
) -> None:
    """Show probes, sources and new blocks live. Keys unblock, allow and explain a source."""
    config = load_config(context)
    require_access(config)
    if once:
        raise typer.Exit(print_frame(config, json=json))
    if json:
        print_json_lines(config)
    else:
        # 60 ms of rich that --once and --json do without
        from sentryfw.cli.commands.watch.live import live  # noqa: PLC0415

        raise typer.Exit(live(config))


def require_access(config: Config) -> None:
    """Raise NoPrivilege if the caller may neither read the table nor ask the daemon."""
    with closing(Table()) as table:
        view = StateReader(config, table).read()
    if view.code == NoPrivilege.exit_code:
        raise NoPrivilege(view.fault)


def print_frame(config: Config, *, json: bool) -> int:
    """Print one frame, of two readings a second apart, and return the exit code of `status`."""
    with closing(Table()) as table:
        reader = StateReader(config, table)
        reader.read()
        time.sleep(READ_INTERVAL_S)
        view = reader.read()
    if json:
        output.print_json(vars(view))
    else:
        screen = Screen(history=False)
        screen.view = view
        width, height = _size()
        lines = [line.text.rstrip() for line in screen.lines(width, height + 1)[:-1]]
        while lines and not lines[-1]:
            lines.pop()
        sys.stdout.write("\n".join(lines) + "\n")
    if view.fault:
        return view.code
    return 0 if view.daemon else NotRunning.exit_code


def print_json_lines(config: Config) -> None:
    """Print the state as one object a line, once a second, until the process is interrupted. The
    first line has no rates."""
    with closing(Table()) as table:
        reader = StateReader(config, table)
        while True:
            sys.stdout.write(dumps(vars(reader.read())) + "\n")
            sys.stdout.flush()
            time.sleep(READ_INTERVAL_S)


def _size() -> tuple[int, int]:
    """Return the columns and lines of a printed frame: what a terminal shows above its prompt."""
    if not sys.stdout.isatty():
        return FRAME_SIZE
    columns, lines = os.get_terminal_size(sys.stdout.fileno())
    return columns or FRAME_SIZE[0], lines - 1 if lines > 1 else FRAME_SIZE[1]
