"""Blocks of lists that are imported: which entries become blocks, and how a list is replaced.

A list has a name, an end, and bounds. Never-block sources win, and blocks that something else made
stay as they are.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from ipaddress import ip_network
from typing import Final, NamedTuple

from sentryfw.cli.arguments import parse_address, subject_text
from sentryfw.config.model import Config
from sentryfw.config.types import IPNetwork
from sentryfw.engine.model import Source, parse_source
from sentryfw.engine.networks import NetworkIndex, Whole6
from sentryfw.errors import NotFound, UsageError
from sentryfw.host.protected import never_block, remembered
from sentryfw.host.signals import held
from sentryfw.host.whole6 import neighbours
from sentryfw.netfilter.block_sets import LIVE_BATCH
from sentryfw.netfilter.table import Table
from sentryfw.record.active_blocks import ListedBlock, listed_blocks
from sentryfw.record.ledger import Ledger
from sentryfw.record.records import list_entry
from sentryfw.setup.process import exclusive
from sentryfw.tools.lists.entries import ListEntry

HOSTS_SHARE: Final = 4
"""All lists together hold a quarter of [block] max_elements at most: the daemon needs the rest."""
MAX_NETWORKS: Final = 4096
"""Networks of all lists together: the kernel searches an interval set in a tree."""


class ListChange(NamedTuple):
    """The replacement of a list."""

    hosts: dict[str, tuple[Source, float]]
    """Sources by their text, with the seconds of each block."""
    networks: dict[str, tuple[IPNetwork, float]]
    removed: list[str]
    """Blocks of the list that are not in it any more."""
    left_out: Counter[str]
    """Reasons for which entries are left out, with their number."""


def replace_list(
    config: Config, table: Table, name: str, entries: Iterable[ListEntry], seconds: float,
    *, dry_run: bool = False,
) -> ListChange:  # fmt: skip
    """Make the blocks of a list those of its entries, for `seconds` at most; change nothing with
    `dry_run`. Raise UsageError if the lists become too large."""
    with exclusive(config, table), held(), Ledger(config.paths.ledger) as ledger:
        now = time.time()
        blocks = list(listed_blocks(ledger, now))
        old = {block.address: block for block in blocks if block.name == name}
        whole = Whole6(neighbours(config).whole6)
        protected = never_block(config, remembered(ledger.protected()))
        chosen = _Choice(table, {p.network for p in protected}, old, whole)
        change = chosen.change(entries, seconds)
        others = [block for block in blocks if block.name != name]
        _check_size(config, change, others)
        if not dry_run:
            _apply(table, ledger, name, change, old, now)
    return change


def remove_list(config: Config, table: Table, name: str) -> int:
    """Unblock every block of a list; return how many. Raise NotFound if there is none."""
    change = replace_list(config, table, name, (), 1.0)
    if not change.removed:
        raise NotFound(f"no block is of a list named {name}: `sentryfw import` shows the lists")
    return len(change.removed)


def lists(config: Config) -> list[ListedBlock]:
    """Return the active blocks of all lists."""
    if not config.paths.ledger.exists():
        return []
    with Ledger(config.paths.ledger) as ledger:
        return list(listed_blocks(ledger, time.time()))


class ListSummary(NamedTuple):
    """The active blocks of one list."""

    name: str
    hosts: int
    networks: int
    left: float
    """Seconds until the last one ends."""


def summaries(blocks: Iterable[ListedBlock]) -> list[ListSummary]:
    """Return the lists that have active blocks, by name."""
    hosts, networks, left = Counter[str](), Counter[str](), dict[str, float]()
    for block in blocks:
        (networks if block.is_network else hosts)[block.name] += 1
        left[block.name] = max(left.get(block.name, 0.0), block.left)
    return [ListSummary(name, hosts[name], networks[name], left[name]) for name in sorted(left)]


class _Choice:
    """The entries that become blocks."""

    def __init__(
        self, table: Table, protected: set[IPNetwork], old: dict[str, ListedBlock], whole: Whole6
    ) -> None:
        self._table, self._old, self._whole = table, old, whole
        self._protected = NetworkIndex(protected)
        networks = (ip_network(blocked.address) for blocked in table.sets.blocked_networks())
        self._blocked = NetworkIndex(network for network in networks if str(network) not in old)

    def change(self, entries: Iterable[ListEntry], limit: float) -> ListChange:
        """Return the change that makes the list these entries."""
        change = ListChange({}, {}, [], Counter())
        for entry in _widest_first(entries, change.left_out):
            seconds = limit if entry.seconds is None else min(limit, entry.seconds)
            why = self._add(change, entry.network, seconds)
            if why:
                change.left_out[why] += 1
        new = change.hosts.keys() | change.networks.keys()
        change.removed.extend(sorted(self._old.keys() - new))
        return change

    def _add(self, change: ListChange, network: IPNetwork, seconds: float) -> str:
        """Add a block; return why it is left out, or an empty text."""
        text = str(network)
        if network.prefixlen == network.max_prefixlen:
            text = str(network.network_address)
        what = parse_address(text, self._whole)
        address = subject_text(what)
        if self._protected.overlaps(ip_network(address)):
            return "never blocked, or around sources that are"
        if not isinstance(what, bytes):
            if self._blocked.overlaps(what):
                return "overlap a network that is blocked"
            change.networks[address] = what, seconds
            return ""
        if address in change.hosts:
            return "within another entry"
        if address not in self._old and self._table.sets.is_blocked(what):
            return "blocked already"
        change.hosts[address] = what, seconds
        return ""


def _widest_first(entries: Iterable[ListEntry], left_out: Counter[str]) -> Iterator[ListEntry]:
    """Yield the entries that are within no other one."""
    ends = {4: -1, 6: -1}
    order = sorted(entries, key=lambda e: (int(e.network[0]), e.network.prefixlen))
    for entry in order:
        network = entry.network
        if int(network[-1]) <= ends[network.version]:
            left_out["within another entry"] += 1
        else:
            ends[network.version] = int(network[-1])
            yield entry


def _check_size(config: Config, change: ListChange, others: list[ListedBlock]) -> None:
    """Raise UsageError if all lists together become too large."""
    networks = sum(block.is_network for block in others)
    most = config.block.max_elements // HOSTS_SHARE
    for count, limit, what, more in (
        (len(change.hosts) + len(others) - networks, most, "sources",
         f" (a quarter of [block] max_elements = {config.block.max_elements})"),
        (len(change.networks) + networks, MAX_NETWORKS, "networks", ""),
    ):  # fmt: skip
        if count > limit:
            problem = f"all lists together would have {count} {what}, and may have {limit}{more}"
            raise UsageError(f"{problem}; nothing was changed")


def _apply(
    table: Table, ledger: Ledger, name: str, change: ListChange, old: dict[str, ListedBlock],
    now: float,
) -> None:  # fmt: skip
    blocked = {found.address for found in table.sets.blocked_networks()}
    gone = [ip_network(a) for a, block in old.items() if block.is_network and a in blocked]
    table.sets.change_networks(gone, change.networks.values())
    for address in change.removed:
        if not old[address].is_network:
            with suppress(NotFound):  # it has ended in this second
                table.sets.unblock(parse_source(address))
    added = [list_entry(name, a, seconds, now) for a, (_, seconds) in change.networks.items()]
    with ledger.transaction():
        for address in change.removed:
            ledger.unblocked(address, now)
    ledger.add(added)
    hosts = list(change.hosts.items())
    for start in range(0, len(hosts), LIVE_BATCH):
        batch = hosts[start : start + LIVE_BATCH]
        table.sets.block(block for _, block in batch)
        ledger.add(list_entry(name, address, seconds, now) for address, (_, seconds) in batch)
