"""Limit a flood of new sources before connection tracking, where the destination is known there.

Behind connection tracking, where new sources are limited, a packet costs twice as much.
While the limit drops TCP, the daemon moves it to the first hook, for seconds at a time. It does not
where something may give a packet another destination: a published port has no socket.

See docs/decisions.md: early-limit.
"""

import asyncio
import logging
import time
from pathlib import Path
from typing import Final

from sentryfw.errors import SentryError
from sentryfw.netfilter.schema import TABLE
from sentryfw.netfilter.table import Table
from sentryfw.netlink.links import links
from sentryfw.netlink.redirections import redirecting_table
from sentryfw.netlink.socket import NfnetlinkSocket

log: Final = logging.getLogger("sentryfwd")
clock: Final = time.monotonic

MIN_DROPPED: Final = 2000
"""Packets dropped by the limit since the last tick from which on it is moved."""
LIMIT_S: Final = 10.0
"""Seconds for which it stays moved after a search took no time."""
MAX_LIMIT_S: Final = 20.0
"""Longest time for which it stays moved: a port may be published while it does."""
SEARCH_SHARE: Final = 0.02
"""Share of a core that the searches for redirections may take."""

NET: Final = Path("/proc/self/net")
_LEGACY_TABLES: Final = ("ip_tables_names", "ip6_tables_names")
_LEGACY_REDIRECTS: Final = frozenset({"nat", "mangle"})
"""Tables of iptables-legacy that may redirect: DNAT; TPROXY."""


class EarlyLimit:
    """Moves the limit to the first hook during a flood. Runs in the event loop."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._dropped: int | None = None
        self._due = float("-inf")
        self._search: asyncio.Task[None] | None = None
        self._reported = ""

    def tick(self) -> None:
        """Move the limit if it dropped packets since the last tick; called once a second."""
        before, self._dropped = self._dropped, self._read()
        if before is None or self._dropped is None or self._dropped - before < MIN_DROPPED:
            return
        if clock() >= self._due and (self._search is None or self._search.done()):
            self._search = asyncio.get_running_loop().create_task(self._move())

    def _read(self) -> int | None:
        """Return the packets that the limit has dropped; None during a repair."""
        try:
            counter = self._table.counter("over_limit")
        except SentryError:
            return None
        return counter.packets if counter else None

    async def _move(self) -> None:
        start = clock()
        try:
            found = await asyncio.get_running_loop().run_in_executor(None, redirection)
        except (SentryError, OSError) as error:
            found = f"the search for redirections failed: {error}"
        pause = (clock() - start) / SEARCH_SHARE
        self._due = clock() + pause
        if not found:
            try:
                self._table.decisions.limit_early(min(LIMIT_S + pause, MAX_LIMIT_S))
            except SentryError as error:  # the table is being repaired
                found = str(error)
        self._report(found)

    def _report(self, found: str) -> None:
        if found != self._reported:
            self._reported = found
            log.info("a flood is limited behind connection tracking only: %s", found or "no longer")


def redirection() -> str:
    """Return what may give a packet another destination, or hide sockets from the first hook; empty
    if there is nothing. Raise SentryError or OSError if that cannot be found out."""
    for name in _LEGACY_TABLES:
        if _LEGACY_REDIRECTS & frozenset(_lines(NET / name)):
            return "iptables-legacy may redirect"
    if (NET / "ip_vs").exists():
        return "IPVS is loaded"
    if any(link.kind == "vrf" for link in links()):
        return "there is a VRF"
    with NfnetlinkSocket() as netlink:
        table = redirecting_table(netlink, TABLE)
    return table and f"table {table} may redirect"


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except FileNotFoundError:
        return []
    except PermissionError:  # root's alone, and there only where iptables-legacy was used
        return list(_LEGACY_REDIRECTS)
