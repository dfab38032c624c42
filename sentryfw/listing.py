"""What is blocked and counted, out of kernel and ledger, as `list` and `status` print it.

Who has CAP_NET_ADMIN looks itself; for others the daemon does, by these same functions.
"""

import itertools
import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from sentryfw.errors import SentryError
from sentryfw.netfilter import divert, features
from sentryfw.netfilter.table import Blocked, Table
from sentryfw.record import reasons
from sentryfw.record.entry import Entry
from sentryfw.record.events import timestamp
from sentryfw.record.ledger import Ledger
from sentryfw.record.reasons import Reason

UNKNOWN: Final = "not in the ledger"
BATCH: Final = 500
"""Blocks that are looked up in the ledger at once, where others wait meanwhile."""

Item = dict[str, Any]
Warn = Callable[[str], None]


def items(table: Table, ledger: Path, warn: Warn) -> Generator[Item, None, None]:
    """What is blocked now, each with why."""
    return with_reasons(batches(table, BATCH), ledger, warn)


def batches(table: Table, size: int) -> Iterator[list[Blocked]]:
    """What is blocked now, so many at once. NotInstalled without a table, at once."""
    table.require()
    blocks = itertools.chain(table.blocked_sources(), table.blocked_networks())
    return iter(lambda: list(itertools.islice(blocks, size)), [])


def with_reasons(
    blocks: Iterable[list[Blocked]], ledger: Path, warn: Warn
) -> Generator[Item, None, None]:
    """The same as items, each with why."""
    book = _Book(ledger, warn)
    try:
        for batch in blocks:
            found, hosts = book.look_up([blocked.address for blocked in batch])
            for blocked in batch:
                listed = item(blocked, found.get(blocked.address))
                listed["host"] = hosts.get(blocked.address, "")
                yield listed
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

    def look_up(self, addresses: list[str]) -> tuple[dict[str, Reason], dict[str, str]]:
        """The newest block of each address, and its name where a resolver told it."""
        if self._ledger is not None:
            try:
                return reasons.newest(self._ledger, addresses), reasons.hosts(
                    self._ledger, addresses
                )
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


def item(blocked: Blocked, entry: Entry | Reason | None) -> Item:
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
