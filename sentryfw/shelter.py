"""Whom this host depends on, kept up to date: the never-block sources follow the live host.

The kernel tells of addresses, default routes and links (netfilter/rtnetlink.py); resolv.conf, the
allowlist and [never_block] files are looked at every second, everything else once a minute. What
is looked at is looked at in a thread; what follows is done in the loop: nft's sets in one
transaction, the engine's policy, and the blocks of who must not be blocked from now on.
"""

import logging
import sqlite3
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Final

from sentryfw.config import Config
from sentryfw.engine.model import Source, parse_source, source_text
from sentryfw.errors import KernelError, NotFound, SentryError
from sentryfw.keeper import Keeper
from sentryfw.lean import asyncio
from sentryfw.memory import Ends, text
from sentryfw.netfilter import host
from sentryfw.netfilter.host import Address, Protected
from sentryfw.netfilter.rtnetlink import Change, HostMonitor
from sentryfw.netfilter.table import IPNetwork, Table
from sentryfw.record.ledger import Ledger
from sentryfw.record.recorder import Recorder

log: Final = logging.getLogger("sentryfwd")

SETTLE: Final = 0.05
"""Seconds to wait for what comes with a change: a second address, the route."""
EVERY: Final = 60.0
AGAIN: Final = 1.0
"""Seconds until what failed is tried again."""
NAMED: Final = 20

Changed = Callable[[list[IPNetwork]], None]
"""Told of the networks that are never blocked from now on."""


class Shelter:
    """Lives in the daemon's loop."""

    def __init__(
        self, settings: Config, table: Table, keeper: Keeper, recorder: Recorder,
        protected: Iterable[Protected], changed: Changed, released: Callable[[Source], None],
    ) -> None:  # fmt: skip
        self._config = settings
        self._table = table
        self._keeper = keeper
        self._recorder = recorder
        self._changed = changed
        self._released = released
        self._monitor = HostMonitor()
        self._worker = ThreadPoolExecutor(1, "shelter")
        self.protected = list(protected)
        self._gateways: list[Address] | None = None
        self._files = (
            *host.RESOLV_CONF, *settings.never_block.files, settings.paths.allowlist,
        )  # fmt: skip
        self._known = _states(self._files)
        self._pending = Change()
        self._task: asyncio.Task[None] | None = None
        self._due = time.monotonic() + EVERY
        self._again = False
        self._fault = ""
        self._newly: set[IPNetwork] = set()
        """Protected by a reload, and not yet spared."""
        self.refreshed = 0
        """Times that the sets were changed."""

    def start(self) -> None:
        asyncio.get_running_loop().add_reader(self._monitor.fileno(), self.readable)
        self._refresh(Change(routes=True))  # what changed since install looked

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._monitor.fileno())
        if self._task is not None:
            self._task.cancel()
        self._worker.shutdown(wait=False, cancel_futures=True)
        self._monitor.close()

    def status(self) -> dict[str, Any]:
        return {"never_block": len(self.protected), "refreshed": self.refreshed}

    def adopt(self, settings: Config, protected: Iterable[Protected]) -> None:
        """Another configuration, whose never-block sources are in the table already: who of them
        is blocked is spared, and what changed meanwhile is looked for."""
        self._config = settings
        before = {protected.network for protected in self.protected}
        self.protected = list(protected)
        self._newly |= {protected.network for protected in self.protected} - before
        self._refresh(Change(routes=True))

    def readable(self) -> None:
        """The kernel has told of something."""
        change = self._monitor.read()
        if change:
            self._refresh(change)

    def tick(self) -> None:
        """Once a second."""
        states = _states(self._files)
        if states != self._known or time.monotonic() >= self._due:
            self._known = states
            self._refresh(Change())

    def look_again(self) -> None:
        """Somebody changed a list, and waits for it to be followed."""
        self._known = _states(self._files)
        self._refresh(Change())

    def _refresh(self, change: Change) -> None:
        """Soon, and once for all that comes meanwhile."""
        self._pending = self._pending.also(change)
        self._due = time.monotonic() + EVERY
        if self._task is None or self._task.done():
            self._again = False
            self._task = asyncio.get_running_loop().create_task(self._run())
        else:
            self._again = True

    async def _run(self) -> None:
        delay = SETTLE
        while True:
            await asyncio.sleep(delay)
            self._again = False
            pending, self._pending = self._pending, Change()
            try:
                await self._look(routes=pending.routes)
            except (SentryError, OSError, sqlite3.Error) as error:
                self._complain(str(error))
                self._pending = self._pending.also(pending)
                delay = AGAIN
                if not isinstance(error, KernelError) and not self._again:
                    return  # a file that cannot be read: in a minute, or with the next change
            else:
                self._fault = ""
                delay = SETTLE
                if not self._again:
                    return

    def _complain(self, fault: str) -> None:
        if fault != self._fault:
            self._fault = fault
            self._recorder.note("never-block-stale", error=fault)
            log.error("never-block: %s; whoever was never blocked stays so", fault)

    async def _look(self, *, routes: bool) -> None:
        loop = asyncio.get_running_loop()
        known = None if routes else self._gateways
        found, self._gateways = await loop.run_in_executor(
            self._worker, lambda: gather(self._config, known)
        )
        before = {protected.network for protected in self.protected}
        after = {protected.network for protected in found}
        if before != after:
            networks = [protected.network for protected in found]
            if not await self._keeper.replace_never_block(networks, self._changed):
                return  # uninstalled: nobody is blocked
            self.refreshed += 1
            self._say(found, before, after)
        self.protected = found
        newly, self._newly = self._newly & after, set()
        await self._spare((after - before) | newly)

    def _say(self, found: list[Protected], before: set[IPNetwork], after: set[IPNetwork]) -> None:
        added = [f"{p.network} ({p.why})" for p in found if p.network not in before]
        removed = sorted(map(str, before - after))
        self._recorder.note("never-block", added=added[:NAMED], removed=removed[:NAMED])
        log.info(
            "never blocked from now on: %s; no longer so: %s",
            ", ".join(added[:NAMED]) or "-", ", ".join(removed[:NAMED]) or "-",
        )  # fmt: skip

    async def _spare(self, networks: set[IPNetwork]) -> None:
        """Unblock who is never blocked from now on."""
        if not networks:
            return
        ends = self._keeper.memory.ends
        loop = asyncio.get_running_loop()
        inside = await loop.run_in_executor(self._worker, lambda: _inside(ends, networks))
        spared = []
        for key in inside:
            source = parse_source(text(key))
            try:
                self._table.unblock(source)
            except NotFound:
                continue  # its time was over
            self._released(source)
            spared.append(source_text(source))
        if spared:
            self._keeper.spared(spared)
            self._recorder.note(
                "unblocked", count=len(spared), addresses=spared[:NAMED], by="sentryfwd",
                why="never blocked from now on",
            )  # fmt: skip
            log.info("unblocked, never blocked from now on: %s", ", ".join(spared[:NAMED]))


def gather(
    config: Config, gateways: list[Address] | None = None
) -> tuple[list[Protected], list[Address]]:
    """The never-block sources as of now; routes are looked through only where they changed."""
    hops = host.gateways() if gateways is None else gateways
    rows: list[tuple[str, str]] = []
    if config.paths.ledger.exists():
        with Ledger(config.paths.ledger) as ledger:
            rows = ledger.protected()
    return host.never_block(config, host.remembered(rows), hops), hops


def _inside(ends: Ends, networks: set[IPNetwork]) -> list[bytes]:
    """The keys of block4 and block6 whose sources lie in one of the networks."""
    found: set[bytes] = set()
    ranges: list[tuple[int, int, int]] = []
    for network in networks:
        size = network.max_prefixlen // 8
        first = network.network_address.packed
        if network.prefixlen == network.max_prefixlen:
            if first in ends and (size == 4 or network.is_link_local):
                found.add(first)
        elif isinstance(network, IPv4Network) or network.prefixlen <= 64:
            last = int(network.broadcast_address)
            ranges.append((size, int.from_bytes(first), last))
    for part in ends.parts() if ranges else ():
        found.update(
            key
            for key in part
            if any(
                len(key) == size and first <= int.from_bytes(key) <= last
                for size, first, last in ranges
            )
        )
        time.sleep(0)  # others have their turn
    return sorted(found)


def _states(paths: Iterable[Path]) -> list[tuple[int, int, int] | None]:
    """What tells a file from its next version."""
    found: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return found
