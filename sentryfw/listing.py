"""What is blocked and counted, out of kernel and ledger, as `list` and `status` print it.

Who has CAP_NET_ADMIN looks itself; for others the daemon does, by these same functions.
"""

import itertools
import sqlite3
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Final

from sentryfw.errors import SentryError
from sentryfw.netfilter import divert, features
from sentryfw.netfilter.table import Blocked, Table
from sentryfw.record.entry import Entry
from sentryfw.record.events import timestamp
from sentryfw.record.ledger import Ledger

UNKNOWN: Final = "not in the ledger"
BATCH: Final = 64
"""Blocks that are looked up in the ledger at once."""

Item = dict[str, Any]
Warn = Callable[[str], None]


def items(table: Table, ledger: Path, warn: Warn) -> Generator[Item, None, None]:
    """What is blocked now, each with why."""
    table.require()
    book = _Book(ledger, warn)
    try:
        blocks = itertools.chain(table.blocked_sources(), table.blocked_networks())
        while batch := list(itertools.islice(blocks, BATCH)):
            entries, hosts = book.look_up([blocked.address for blocked in batch])
            for blocked in batch:
                host = hosts.get(blocked.address, "")
                yield {**item(blocked, entries.get(blocked.address)), "host": host}
    finally:
        book.close()


def kernel_state(table: Table) -> Item:
    """What is installed, how it diverts, how much is blocked, and the table's counters."""
    if not table.is_installed():
        return {"installed": False, "divert": None, "divert_reason": "", "blocked4": 0,
                "blocked6": 0, "counters": {}}  # fmt: skip
    way = divert.active(table)
    counts = table.count_blocked()
    return {
        "installed": True,
        "divert": way,
        "divert_reason": _divert_reason(way),
        "blocked4": counts[4],
        "blocked6": counts[6],
        "counters": {name: c._asdict() for name, c in sorted(table.counters().items())},
    }


def _divert_reason(way: str | None) -> str:
    if way is None:
        return ""
    picked, reason = features.pick_divert(features.probe())
    return reason if picked == way else f"installed as {way}; now {reason}: run `sentryfw install`"


class _Book:
    """The ledger, if it is of any use; if not, that is said once."""

    def __init__(self, path: Path, warn: Warn) -> None:
        self._warn = warn
        self._ledger: Ledger | None = None
        if path.exists():
            try:
                self._ledger = Ledger(path)
            except SentryError as error:
                self._give_up(error)

    def look_up(self, addresses: list[str]) -> tuple[dict[str, Entry], dict[str, str]]:
        """The newest block of each address, and its name where a resolver told it."""
        if self._ledger is not None:
            try:
                return self._ledger.latest_blocks(addresses), self._ledger.hosts(addresses)
            # ValueError: a row that is no JSON
            except (SentryError, sqlite3.Error, ValueError) as error:
                self._give_up(error)
        return {}, {}

    def close(self) -> None:
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    def _give_up(self, error: Exception) -> None:
        self._warn(f"the ledger cannot be read, so reasons are missing: {error}")
        self.close()


def item(blocked: Blocked, entry: Entry | None) -> Item:
    return {
        "address": blocked.address,
        "family": "ipv4" if blocked.family == 4 else "ipv6",
        "scan": entry.scan if entry else "",
        "kinds": entry.kinds if entry else [],
        "targets": entry.targets if entry else 0,
        "probes": entry.probes if entry else 0,
        "first_seen": timestamp(entry.first_seen) if entry else None,
        "blocked_at": timestamp(entry.blocked_at) if entry else None,
        "timeout_s": round(blocked.timeout, 3),
        "expires_in_s": round(blocked.expires, 3),
        "offence": entry.offence if entry else 0,
        "forgeable": entry.forgeable if entry else False,
        "tool": entry.tool if entry else "",
        "reason": entry.reason if entry else UNKNOWN,
        "dropped_packets": blocked.packets,
        "dropped_bytes": blocked.bytes,
    }
