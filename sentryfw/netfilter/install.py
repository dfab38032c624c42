"""Install and uninstall the table of a configuration, in this process.

See docs/decisions.md: update-in-place.
"""

from collections.abc import Iterable

from sentryfw.config.model import Config
from sentryfw.host.protected import Protected, index_of
from sentryfw.host.whole6 import onlink
from sentryfw.netfilter.load import Installed, Plan, load, make_plan, unload
from sentryfw.netfilter.ruleset import render
from sentryfw.netfilter.script import Ruleset
from sentryfw.netfilter.table import Table

__all__ = ["Installed", "install", "plan", "uninstall"]

uninstall = unload


def plan(table: Table, config: Config, never_block: Iterable[Protected]) -> Plan:
    """Render and check the table, change nothing. Raise SentryError if it is not ours."""
    return make_plan(table, _render(config, never_block))


def install(table: Table, config: Config, never_block: Iterable[Protected]) -> Installed:
    """Make the table, or update it; active blocks are kept."""
    return load(table, _render(config, never_block))


def _render(config: Config, never_block: Iterable[Protected]) -> Ruleset:
    return render(config, index_of(protected.network for protected in never_block), onlink())
