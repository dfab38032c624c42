"""Collect the never-block sources of this host, and apply what has changed.

A change goes into nft's sets in one transaction, into the engine's policy, and ends the blocks
of sources that are never blocked from now on. Files and blocks are read in a thread.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from sentryfw.config.model import Config
from sentryfw.config.types import IPNetwork
from sentryfw.engine.model import Source, source_of_key, source_text
from sentryfw.engine.networks import NetworkIndex
from sentryfw.errors import NotFound
from sentryfw.guard.block_index import BlockIndex
from sentryfw.guard.guard import Guard
from sentryfw.host.protected import (
    GATEWAY,
    RESOLVER,
    Address,
    Protected,
    ProtectedNetworks,
    gateways,
    index_of,
    never_block,
    remembered,
)
from sentryfw.host.whole6 import Neighbours, neighbours
from sentryfw.netfilter.block_sets import BlockSets
from sentryfw.record.ledger import Ledger
from sentryfw.record.recorder import Recorder

log: Final = logging.getLogger("sentryfwd")

CLAIMED: Final = frozenset((GATEWAY, RESOLVER))
"""Reasons that a neighbour can cause, by a router advertisement or a DHCP answer."""
MAX_NAMED: Final = 20
"""Networks or addresses that an event and the log name."""


class Applied(NamedTuple):
    """The daemon's parts that follow the never-block sources."""

    protect: Callable[[NetworkIndex], None]
    """Called with the networks that are never blocked from now on."""
    release: Callable[[Source], None]
    """Called with each source whose block was ended."""
    use_neighbours: Callable[[Neighbours], None]
    """Called with the networks of neighbours from now on."""


class Difference(NamedTuple):
    """How the never-block networks change."""

    networks: NetworkIndex
    """All of them, after the change."""
    added: set[IPNetwork]
    removed: set[IPNetwork]


class NeverBlockUpdater:
    """Applies the never-block sources to the table and to the daemon."""

    def __init__(
        self,
        config: Config,
        guard: Guard,
        sets: BlockSets,
        recorder: Recorder,
        protected: ProtectedNetworks,
        applied: Applied,
    ) -> None:
        """`protected`: the sources that are in the table already."""
        self._config = config
        self._guard = guard
        self._sets = sets
        self._recorder = recorder
        self._applied = applied
        self._executor = ThreadPoolExecutor(1, "never-block")
        self._gateways: list[Address] | None = None
        self._neighbours = Neighbours()
        self._added: set[IPNetwork] = set()
        """Added by a reload; their blocks are ended with the next update."""
        self.protected, self._networks = protected
        self.refreshed = 0
        """Times that the sets were changed."""

    @property
    def gateways(self) -> list[Address]:
        """The gateways when routes were read last."""
        return self._gateways or []

    def close(self) -> None:
        """Stop, without waiting for the thread."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def reconfigure(self, config: Config, protected: ProtectedNetworks) -> None:
        """Use another configuration, whose never-block sources are in the table already."""
        self._config = config
        before = {item.network for item in self.protected}
        self.protected, self._networks = protected
        self._added |= {item.network for item in self.protected} - before

    async def update(self, *, routes: bool) -> None:
        """Collect the sources and apply what has changed. `routes`: routes may have changed.

        Raise SentryError, OSError or sqlite3.Error; the previous sources stay in effect then.
        """
        loop = asyncio.get_running_loop()
        known = None if routes else self._gateways
        found, self._gateways = await loop.run_in_executor(
            self._executor, lambda: collect_protected(self._config, known)
        )
        if not await self._follow_neighbours():
            return  # uninstalled
        claims = {item for item in found if item.why in CLAIMED and self._is_claim(item)}
        found = [item for item in found if item not in claims] if claims else found
        before, held = self.protected, self._networks
        change = await loop.run_in_executor(self._executor, lambda: difference(before, found, held))
        added: set[IPNetwork] = set()
        removed: set[IPNetwork] = set()
        if change is not None:
            if not await self._guard.replace_never_block(change.networks, self._applied.protect):
                return  # uninstalled: nothing is blocked
            self.refreshed += 1
            self._report(found, change)
            self._networks = change.networks
            added, removed = change.added, change.removed
        self.protected = found
        reloaded, self._added = self._added - removed, set()
        await self._end_blocks(added | reloaded)

    def _is_claim(self, item: Protected) -> bool:
        """Return whether a blocked source is a gateway or resolver: an advertisement of its own,
        which any host on the link can send, does not end its block."""
        address = item.network.network_address.packed
        keys = {address, address[:8].ljust(len(address), b"\0")}
        return any(self._guard.memory.ends.get(key) is not None for key in keys)

    async def _follow_neighbours(self) -> bool:
        """Apply a change of the networks of neighbours. Return False after an uninstall.

        The /64 blocks of networks whose addresses are sources by themselves are ended.
        """
        now = await asyncio.get_running_loop().run_in_executor(
            self._executor, lambda: neighbours(self._config)
        )
        if now == self._neighbours:
            return True
        if not await self._guard.replace_neighbours(now, self._applied.use_neighbours):
            return False
        self._neighbours = now
        shared = NetworkIndex(
            n if n.prefixlen < 64 else n.supernet(new_prefix=64) for n in now.whole6
        )
        await self._unblock_all(
            lambda key: len(key) == 16 and key[8:] == bytes(8) and shared.holds(key[:8]),
            "its /64 is shared: addresses there are sources by themselves from now on",
        )
        return True

    def _report(self, found: list[Protected], change: Difference) -> None:
        added = [f"{p.network} ({p.why})" for p in found if p.network in change.added]
        removed = sorted(map(str, change.removed))
        self._recorder.note("never-block", added=added[:MAX_NAMED], removed=removed[:MAX_NAMED])
        log.info(
            "never-block: added %s; removed %s",
            ", ".join(added[:MAX_NAMED]) or "-", ", ".join(removed[:MAX_NAMED]) or "-",
        )  # fmt: skip

    async def _end_blocks(self, networks: set[IPNetwork]) -> None:
        """Unblock the sources that are never blocked from now on."""
        if networks:
            index = NetworkIndex(networks)
            await self._unblock_all(
                lambda key: index.holds(source_of_key(key)), "never blocked from now on"
            )

    async def _unblock_all(self, chosen: Callable[[bytes], bool], why: str) -> None:
        """End the blocks and confinements whose keys are chosen."""
        ends = self._guard.memory.ends
        loop = asyncio.get_running_loop()
        keys = await loop.run_in_executor(self._executor, lambda: chosen_keys(ends, chosen))
        confined = await self._guard.confined()
        keys += sorted({*filter(chosen, confined)}.difference(keys))
        unblocked = []
        for key in keys:
            source = source_of_key(key)
            try:
                self._sets.unblock(source)
            except NotFound:
                continue  # the block has ended
            self._applied.release(source)
            unblocked.append(source_text(source))
        if unblocked:
            self._guard.record_unblocked(unblocked)
            self._recorder.note(
                "unblocked", count=len(unblocked), addresses=unblocked[:MAX_NAMED],
                by="sentryfwd", why=why,
            )  # fmt: skip
            log.info("unblocked (%s): %s", why, ", ".join(unblocked[:MAX_NAMED]))


def collect_protected(
    config: Config, known_gateways: list[Address] | None = None
) -> tuple[list[Protected], list[Address]]:
    """Return the present never-block sources, and the gateways among them.

    Routes are read only without `known_gateways`: a router may have a million.
    """
    hops = gateways() if known_gateways is None else known_gateways
    rows: list[tuple[str, str]] = []
    if config.paths.ledger.exists():
        with Ledger(config.paths.ledger) as ledger:
            rows = ledger.protected()
    return never_block(config, remembered(rows), hops), hops


def difference(
    before: list[Protected], after: list[Protected], held: NetworkIndex
) -> Difference | None:
    """Return how the networks change; None if they do not. `held`: the networks before."""
    there, wanted = ({item.network for item in items} for items in (before, after))
    added, removed = wanted - there, there - wanted
    if removed:
        return Difference(index_of(wanted), added, removed)
    if added:
        return Difference(held.joined(NetworkIndex(added)), added, removed)
    return None


def chosen_keys(ends: BlockIndex, chosen: Callable[[bytes], bool]) -> list[bytes]:
    """Return the keys of the chosen blocks, in order."""
    found: list[bytes] = []
    for part in ends.parts():
        found += filter(chosen, part)
        time.sleep(0)  # for other threads
    return sorted(found)
