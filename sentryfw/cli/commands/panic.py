"""panic: remove every effect of SentryFW at once."""

import typer

from sentryfw.cli.arguments import config_path, faultless_config, new_app, warn
from sentryfw.errors import ConfigError
from sentryfw.query.working_config import first_fault
from sentryfw.setup.panic import panic as remove_everything

app = new_app()


@app.command()
def panic(context: typer.Context) -> None:
    """Remove every effect at once, even if much is broken. It needs no configuration or ledger."""
    remove_everything(config_path(context), typer.echo)
    try:
        faultless_config(context)
    except ConfigError as error:
        warn(f"warning: {first_fault(error)}; the last good configuration was used")
