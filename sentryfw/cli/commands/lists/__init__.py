"""import: the addresses of a list of others, blocked until the list's end."""

from sentryfw.cli.commands.lists.command import app

__all__ = ["app"]
