"""Lines and routes of reactions that were switched off while no daemon ran."""

import os
from pathlib import Path

from sentryfw.config.model import Config
from sentryfw.respond.undo import remove_routes, undo_unwanted, wanted_tables


def remove_leftovers(config: Config, path: Path | None) -> None:
    """Remove what the configuration does not ask for, for the daemon at its start. Lines that need
    root are removed by root's helper, where it is installed. Raise ReactionFailed.

    `path`: that of the configuration.
    """
    respond, helper = config.respond, config.paths.helper
    if os.geteuid() == 0:
        undo_unwanted(path, respond)
        return
    remove_routes(None, wanted_tables(respond))
    if not respond.hosts_deny.enabled and helper.exists():
        from sentryfw.respond.helper import HelperClient  # noqa: PLC0415 - where it is installed

        HelperClient(helper, respond).sync(set())
