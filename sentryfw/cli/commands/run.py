"""run: the daemon in the foreground."""

import os
import sys

import typer

from sentryfw.cli.arguments import config_path, new_app

app = new_app()


@app.command()
def run(context: typer.Context) -> None:
    """Run the daemon in the foreground, as sentryfwd does."""
    arguments = [sys.executable, "-I", "-m", "sentryfw.daemon.main"]
    path = config_path(context)
    if path is not None:
        arguments += ["--config", str(path)]
    os.execv(sys.executable, arguments)  # noqa: S606 - the memory of the command line is released
