"""install, confirm, uninstall: SentryFW on this host, for good or on trial."""

import sys
from contextlib import suppress
from typing import Annotated

import typer

from sentryfw.cli import output
from sentryfw.cli.arguments import (
    config_path,
    keep_last_good,
    load_config,
    load_faultless,
    new_app,
    parse_timeout,
)
from sentryfw.errors import ConfigError
from sentryfw.host import inhibit
from sentryfw.netfilter.table import Table
from sentryfw.setup import trial as trials
from sentryfw.setup.install import preview, run_install, run_uninstall

app = new_app()


@app.command()
def install(
    context: typer.Context,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the ruleset, and in words the rest; no change."),
    ] = False,
    no_service: Annotated[
        bool, typer.Option("--no-service", help="Do not install the systemd service.")
    ] = False,
    trial: Annotated[
        str | None,
        typer.Option(metavar="TIME", help='Uninstall after e.g. "5m", unless confirmed.'),
    ] = None,
) -> None:
    """Load the table, or update it; active blocks are kept."""
    loaded, path = load_faultless(context), config_path(context)
    config = loaded.config
    if dry_run:
        found = preview(config, Table(), path, service=not no_service)
        sys.stdout.write(found.script)
        sys.stdout.flush()  # the sentences come last, on a terminal, too
        for text in found.sentences:
            output.note(output.wrapped(text, "  "))
    elif trial is not None:
        seconds = parse_timeout(trial, "--trial")
        trials.begin(config, path, seconds, typer.echo, with_service=not no_service)
    else:
        run_install(config, Table(), path, typer.echo, service=not no_service)
        keep_last_good(context, loaded)


@app.command()
def confirm(context: typer.Context) -> None:
    """Keep an install that is on trial."""
    trials.confirm(load_config(context))
    with suppress(ConfigError):  # load_config() has warned
        keep_last_good(context, load_faultless(context))
    typer.echo("confirmed: the install stays")


@app.command()
def uninstall(
    context: typer.Context,
    purge: Annotated[
        bool, typer.Option("--purge", help="Delete state, events and configuration, too.")
    ] = False,
) -> None:
    """Remove SentryFW from the kernel."""
    config = load_config(context)
    run_uninstall(config, Table(), config_path(context), typer.echo, purge=purge)
    inhibit.end_trial(config.paths.state)
