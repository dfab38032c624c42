"""Apply a change of the allowlist to the kernel: the daemon does it, without one the command."""

import time
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_network
from typing import Final, NamedTuple

from sentryfw.cli.by_hand import unblock_address, unblockable
from sentryfw.config.model import Config
from sentryfw.config.types import IPNetwork
from sentryfw.control.client import ask
from sentryfw.engine.networks import NetworkIndex
from sentryfw.errors import NotRunning, SentryError
from sentryfw.host.protected import Protected, index_of, never_block, remembered
from sentryfw.netfilter.lock import TableLock
from sentryfw.netfilter.table import Table
from sentryfw.record.ledger import Ledger

APPLY_TIMEOUT_S: Final = 5.0
"""Seconds that the daemon has to apply a change."""
POLL_S: Final = 0.02

Say = Callable[[str], None]


class Change(NamedTuple):
    """A change of the list."""

    added: Sequence[IPNetwork] = ()
    removed: Sequence[IPNetwork] = ()


def all_protected(config: Config) -> list[Protected]:
    """Return every never-block source of this host, with its reason."""
    if not config.paths.ledger.exists():
        return never_block(config)
    with Ledger(config.paths.ledger) as ledger:
        return never_block(config, remembered(ledger.protected()))


def apply(config: Config, table: Table, change: Change, say: Say) -> None:
    """Apply the list to the kernel. Raise SentryError if the daemon does not do it in time."""
    if not table.is_installed():
        say("SentryFW is not installed: `sentryfw install` applies the list")
        return
    try:
        ask(config.paths.control, {"do": "protect"})
    except NotRunning:
        _apply_alone(config, table, change, say)
        return
    gone = _unwanted(config, change)
    deadline = time.monotonic() + APPLY_TIMEOUT_S
    while not _is_applied(table, change.added, gone):
        if time.monotonic() > deadline:
            raise SentryError(
                f"{config.paths.allowlist} is written, but the daemon has not applied it within"
                f" {APPLY_TIMEOUT_S:g} s: see its log, or `sentryfw status`"
            )
        time.sleep(POLL_S)


def _unwanted(config: Config, change: Change) -> list[IPNetwork]:
    """Return what was removed and has no other reason."""
    if not change.removed:
        return []  # all of 100,000 networks are read else
    wanted = NetworkIndex(protected.network for protected in all_protected(config))
    return [network for network in change.removed if not wanted.covers(network)]


def _is_applied(table: Table, added: Iterable[IPNetwork], gone: Iterable[IPNetwork]) -> bool:
    """Return whether the never-block sets hold what was added, and nothing of what is gone. They
    are asked by key: a dump of 100,000 networks takes a second."""
    holds = table.sets.is_never_blocked
    return all(map(holds, added)) and not any(map(holds, gone))


def _apply_alone(config: Config, table: Table, change: Change, say: Say) -> None:
    with TableLock(config.paths.runtime).held():
        networks = [protected.network for protected in all_protected(config)]
        table.replace_never_block(index_of(networks))
        inside = NetworkIndex(change.added)
        allowed = [a for a in unblockable(table) if inside.covers(ip_network(a))]
    for address in allowed:
        unblock_address(config, table, address)
        say(f"unblocked {address}")
