"""allow: the list of who is never blocked, kept by commands; kernel and daemon follow at once.

The file is in [paths] state. What is said to be allowed is in the kernel's never-block sets: the
running daemon puts it there, without one this does.
"""

import bisect
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final, NamedTuple

from sentryfw import allowlist, privileges
from sentryfw.allowlist import IPNetwork
from sentryfw.cli import allowfile, blocks
from sentryfw.config import Config
from sentryfw.control import ask
from sentryfw.errors import NotFound, NotRunning, SentryError, UsageError
from sentryfw.fields import merged
from sentryfw.netfilter import host
from sentryfw.netfilter.host import Protected
from sentryfw.netfilter.table import Table
from sentryfw.netfilter.tablelock import TableLock
from sentryfw.record.ledger import Ledger

COLUMNS: Final = ("network", "why", "comment")
PATIENCE: Final = 5.0
"""Seconds that the daemon has to follow."""
POLL: Final = 0.02

Say = Callable[[str], None]


class Change(NamedTuple):
    """What becomes of the list."""

    added: Sequence[IPNetwork] = ()
    removed: Sequence[IPNetwork] = ()


class Imported(NamedTuple):
    added: int
    known: int
    """Were on the list before."""


def add(config: Config, table: Table, text: str, comment: str, say: Say) -> None:
    """Never block an address or a network. UsageError if it is neither, or everybody."""
    privileges.require_root()
    network = _network(text, say)
    fresh = _extend(config, [network], comment)
    _apply(config, table, Change(added=[network]), say)
    say(f"allowed {network}" if fresh else f"{network} was on the allowlist already")


def delete(config: Config, table: Table, text: str, say: Say) -> None:
    """Take one off the list. NotFound if it is not there by itself."""
    privileges.require_root()
    network = _network(text, say)
    with TableLock(config.paths.runtime).held():
        before = allowfile.read(config.paths.allowlist)
        listed = [line.network for line in allowfile.entries(before)]
        if network not in listed:
            raise NotFound(_not_there(config, network, listed))
        allowfile.write(config.paths.allowlist, allowfile.without(before, network))
    _apply(config, table, Change(removed=[network]), say)
    say(f"no longer allowed: {network}")
    for other in _protected(config):
        if _within(network, other.network):
            say(f"{network} is still never blocked: {other.why} ({other.network})")


def import_file(config: Config, table: Table, path: str, say: Say) -> Imported:
    """Add every network in a file ("-": standard input); what is wrong with a line is said."""
    privileges.require_root()
    parsed = allowlist.parse(_bytes(path))
    for line, said in parsed.warnings:
        say(f"{path}:{line}: {said}")
    networks = list(dict.fromkeys(entry.network for entry in parsed.entries))
    if not networks:
        raise SentryError(f"{path}: no address in it; nothing was changed")
    fresh = _extend(config, networks, "")
    _apply(config, table, Change(added=networks), say)
    return Imported(len(fresh), len(networks) - len(fresh))


def listing(config: Config, *, everything: bool) -> list[dict[str, Any]]:
    """What is on the list; `everything`: and who else is never blocked, with why."""
    text = allowfile.read(config.paths.allowlist)
    rows = [_row(line.network, host.ALLOWLIST, line.comment) for line in allowfile.entries(text)]
    if everything:
        others = (p for p in _protected(config) if p.why != host.ALLOWLIST)
        rows += [_row(p.network, p.why, "") for p in others]
    return rows


def _row(network: IPNetwork, why: str, comment: str) -> dict[str, Any]:
    return {"network": str(network), "why": why, "comment": comment}


def _network(text: str, say: Say) -> IPNetwork:
    network, said = allowlist.read_network(text.strip())
    if network is None:
        raise UsageError(said.removesuffix(": left out"))
    if said:
        say(said)
    return network


def _bytes(path: str) -> bytes:
    """What there is, and a byte more than is read of it."""
    if path == "-":
        return sys.stdin.buffer.read(allowlist.MAX_BYTES + 1)
    try:
        with Path(path).open("rb") as file:
            return file.read(allowlist.MAX_BYTES + 1)
    except OSError as error:
        raise SentryError(f"{path}: {error.strerror}") from None


def _extend(config: Config, networks: list[IPNetwork], comment: str) -> list[IPNetwork]:
    """Write down those that are not there yet; which."""
    with TableLock(config.paths.runtime).held():
        before = allowfile.read(config.paths.allowlist)
        listed = {line.network for line in allowfile.entries(before)}
        fresh = [network for network in networks if network not in listed]
        if fresh:
            after = allowfile.with_added(before, fresh, comment)
            allowfile.write(config.paths.allowlist, after)
    return fresh


def _not_there(config: Config, network: IPNetwork, listed: list[IPNetwork]) -> str:
    around = [other for other in listed if _within(network, other)]
    if around:
        return f"{network} is on the allowlist only within {around[0]}: take that off"
    for other in _protected(config):
        if _within(network, other.network):
            return f"{network} is not on the allowlist; never blocked as {other.why}"
    return f"{network} is not on the allowlist"


def _within(network: IPNetwork, other: IPNetwork) -> bool:
    return network.version == other.version and network.subnet_of(other)  # type: ignore[arg-type]


def _protected(config: Config) -> list[Protected]:
    if not config.paths.ledger.exists():
        return host.never_block(config)
    with Ledger(config.paths.ledger) as ledger:
        return host.never_block(config, host.remembered(ledger.protected()))


# --- kernel and daemon


def _apply(config: Config, table: Table, change: Change, say: Say) -> None:
    """Make the list hold. SentryError if it is written, and not followed."""
    if not table.is_installed():
        say("SentryFW is not installed: the list holds from `sentryfw install` on")
        return
    try:
        ask(config.paths.control, {"do": "protect"})
    except NotRunning:
        _apply_alone(config, table, change, say)
        return
    deadline = time.monotonic() + PATIENCE
    while not _is_followed(config, table, change):
        if time.monotonic() > deadline:
            raise SentryError(
                f"{config.paths.allowlist} is written, but the daemon has not followed within"
                f" {PATIENCE:g} s: see its log, or `sentryfw status`"
            )
        time.sleep(POLL)


def _is_followed(config: Config, table: Table, change: Change) -> bool:
    """Whether the kernel spares who was added, and who was removed only for another reason."""
    held = Ranges(table.never_blocked())
    if not all(map(held.covers, change.added)):
        return False
    meant = Ranges(protected.network for protected in _protected(config))
    return all(meant.covers(n) or not held.covers(n) for n in change.removed)


def _apply_alone(config: Config, table: Table, change: Change, say: Say) -> None:
    with TableLock(config.paths.runtime).held():
        networks = [protected.network for protected in _protected(config)]
        table.replace_never_block([*networks, *host.ALWAYS])
        inside = Ranges(change.added)
        spared = [
            blocked.address
            for blocked in table.blocked_sources()
            if inside.covers(ip_network(blocked.address))
        ]
    for address in spared:
        blocks.unblock(config, table, address)
        say(f"unblocked {address}")


class Ranges:
    """Networks, to be asked whether they hold another one; many of them, often."""

    def __init__(self, networks: Iterable[IPNetwork]) -> None:
        self._ranges: dict[int, list[tuple[int, int]]] = {4: [], 6: []}
        for network in networks:
            ends = int(network.network_address), int(network.broadcast_address)
            self._ranges[network.version].append(ends)
        self._ranges = {family: merged(ranges) for family, ranges in self._ranges.items()}

    def covers(self, network: IPNetwork) -> bool:
        ranges = self._ranges[network.version]
        first, last = int(network.network_address), int(network.broadcast_address)
        at = bisect.bisect_right(ranges, first, key=lambda ends: ends[0]) - 1
        return at >= 0 and last <= ranges[at][1]
