"""sentryfw(8): the table of commands, the global options, and the exit code of every error.

The module of a command is imported when the command is run.
"""

import gc
import os
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from sentryfw import __version__
from sentryfw.cli import output, stdio
from sentryfw.cli.lazy_group import LazyGroup
from sentryfw.errors import NoPrivilege, SentryError
from sentryfw.host import signals

COMMANDS: Final = {
    "install": ("install", "Load the table, or update it; active blocks are kept."),
    "confirm": ("install", "Keep an install that is on trial."),
    "panic": ("panic", "Remove every effect at once, even if much is broken."),
    "uninstall": ("install", "Remove SentryFW from the kernel."),
    "run": ("run", "Run the daemon in the foreground, as sentryfwd does."),
    "status": (
        "status",
        "Show whether it guards, and what needs attention.",
    ),
    "list": ("blocks", "List what is blocked, why, and for how long."),
    "block": ("blocks", "Block addresses and networks by hand."),
    "unblock": ("blocks", "Unblock addresses, all within networks, or everything."),
    "explain": ("explain", "Explain why an address is or was blocked, or is not."),
    "watch": ("watch", "Show probes, sources and new blocks live."),
    "report": ("report", "Report who scanned, what, when, and what was dropped."),
    "import": ("lists", "Block the addresses of a list until its end."),
    "export": ("export", "Print the blocks for other firewalls and abuse desks."),
    "check": ("config", "Check the configuration and report every fault."),
    "metrics": ("config", "Print the daemon's metrics in Prometheus' text format."),
    "reload": ("config", "Make the daemon load its configuration again."),
    "doctor": ("doctor", "Check what SentryFW needs."),
    "support-dump": ("support_dump", "Collect what support needs in one file, no secrets."),
    "drill": ("drill", "Attack a daemon with your configuration, in namespaces."),
    "replay": ("replay", "Judge a capture as the daemon would have."),
    "import-portsentry": ("import_portsentry", "Convert PortSentry's configuration."),
    "allow": ("allow", "Edit the allowlist of sources that are never blocked."),
    "fleet": ("fleet", "Share blocks with other firewalls."),
    "config": ("config", "Show and change the configuration."),
}
"""The module of each command in commands/, and its help in one line."""
BY_CHECKED_VALUES: Final = frozenset({"status", "list", "block", "unblock", "explain", "allow"})
HELP: Final = (
    "Find port scans and stop them inside nftables. The first steps: drill shows what it does"
    " without changing this host, doctor checks what it needs, install --trial 5m begins."
)
EPILOG: Final = "sentryfw COMMAND --help shows the options of a command, and examples."
GC_THRESHOLD: Final = 100_000
"""Allocations between two collections: `list` makes a million objects and no cycle."""


class Commands(LazyGroup):
    """The commands of sentryfw(8)."""

    table = COMMANDS
    by_checked_values = BY_CHECKED_VALUES


app = typer.Typer(
    cls=Commands, name="sentryfw", help=HELP, epilog=EPILOG,
    no_args_is_help=True, add_completion=False, rich_markup_mode=None,
    pretty_exceptions_enable=False,
)  # fmt: skip


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback
    if wanted:
        typer.echo(f"sentryfw {__version__}")
        raise typer.Exit


@app.callback()
def _global(
    context: typer.Context,
    config_file: Annotated[
        Path | None,
        typer.Option(
            "-c", "--config", envvar="SENTRYFW_CONFIG", metavar="FILE",
            help="Configuration; default /etc/sentryfw/sentryfw.toml, which may be missing.",
        ),
    ] = None,
    _version: Annotated[  # noqa: FBT002 - typer's flag
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version."
        ),
    ] = False,
) -> None:  # fmt: skip
    context.obj = config_file


def main() -> None:
    """Run sentryfw(8), and exit with the code of the error, if there is one."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # decisions.md, pydantic-plugins
    gc.freeze()  # imported objects stay: neither a collection nor the exit visits them
    gc.set_threshold(GC_THRESHOLD)
    signals.leave_to_kernel()
    stdio.prepare()
    sys.exit(stdio.finish(_exit_code()))


def _exit_code() -> int:
    """Run the command that the arguments name, and return its exit code."""
    try:
        app()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except SentryError as error:
        output.note(f"sentryfw: {error}")
        return error.exit_code
    except PermissionError as error:
        output.note(f"sentryfw: {_shown(error)}: run it with sudo")
        return NoPrivilege.exit_code
    except OSError as error:
        if not stdio.is_broken():  # which finish() reports
            output.note(f"sentryfw: {_shown(error)}")
            return 1
    return 0


def _shown(error: OSError) -> str:
    """Return an error of the system without its number."""
    place = "" if error.filename is None else f"{error.filename}: "
    return f"{place}{error.strerror or error}"


if __name__ == "__main__":
    main()
