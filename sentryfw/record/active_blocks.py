"""The blocks that are active according to the ledger: for restart, reboot and reconciliation.

A block ends at blocked_at + timeout_s of the wall clock, until `ends_at` records a better time:
clocks jump, and the kernel, which counts for itself, is asked every minute. Nothing here makes a
block last longer than its timeout from now.
"""

from collections.abc import Iterable, Iterator
from socket import AF_INET6, inet_aton, inet_pton
from typing import Final, NamedTuple

from sentryfw.record.records import BY_HAND, LIST_REASON, DecisionRecord, manual_entry
from sentryfw.record.resilient_ledger import AnyLedger

FOUND: Final = "found in the kernel"
"""The reason of a block that only the kernel knew."""
_ENDS: Final = "COALESCE(ends_at, blocked_at + timeout_s)"
_NEWEST: Final = (
    "unblocked_at IS NULL AND NOT EXISTS (SELECT 1 FROM blocks AS newer"
    " WHERE newer.address = blocks.address AND newer.id > blocks.id)"
)
"""A condition on a row: the newest block of its address, not unblocked by hand."""


class ActiveBlock(NamedTuple):
    """A block that has not ended at a given time of the wall clock."""

    address: str
    family: int
    timeout: float
    """Seconds; 0: until it is unblocked."""
    left: float
    """Seconds; at most the timeout, even if the clocks jumped."""

    @property
    def is_network(self) -> bool:
        """Whether a network is blocked, rather than one source."""
        return "/" in self.address and not (self.family == 6 and self.address.endswith("/64"))


def key_of(address: str, family: int) -> bytes | None:
    """Return the key of the set element of a source; None for a network, or if the text is not an
    address."""
    try:
        if family == 4:
            return inet_aton(address)
        name, _, bits = address.partition("/")
        return inet_pton(AF_INET6, name) if bits in {"", "64"} else None
    except OSError:
        return None


class ListedBlock(NamedTuple):
    """An active block of an imported list."""

    name: str
    address: str
    is_network: bool
    left: float
    """Seconds."""


def active_blocks(
    ledger: AnyLedger, now: float, upto: tuple[int, float] | None = None
) -> Iterator[ActiveBlock]:
    """Yield the newest block of every address, if it is active at `now`.

    `upto`: (id, time): only rows up to that id which looked ended to a clock that showed `time`.
    """
    where, values = f"{_NEWEST} AND (timeout_s = 0 OR {_ENDS} > ?)", [now]
    if upto is not None:
        where += f" AND timeout_s > 0 AND id <= ? AND {_ENDS} <= ?"
        values += upto
    query = f"SELECT address, family, timeout_s, {_ENDS} FROM blocks WHERE {where}"
    for address, family, timeout, end in ledger.database.iterate(query, values):
        left = min(end - now, timeout) if timeout else 0.0
        yield ActiveBlock(address, family, timeout, left)


def listed_blocks(ledger: AnyLedger, now: float) -> Iterator[ListedBlock]:
    """Yield the active blocks of all imported lists."""
    query = (
        f"SELECT address, family, timeout_s, {_ENDS}, reason FROM blocks WHERE {_NEWEST}"
        f" AND (timeout_s = 0 OR {_ENDS} > ?) AND substr(reason, 1, ?) = ?"
    )
    values = (now, len(LIST_REASON), LIST_REASON)
    for address, family, timeout, end, reason in ledger.database.iterate(query, values):
        left = min(end - now, timeout) if timeout else 0.0
        block = ActiveBlock(address, family, timeout, left)
        yield ListedBlock(reason.removeprefix(LIST_REASON), address, block.is_network, left)


def proven_blocks(ledger: AnyLedger, now: float) -> set[str]:
    """Return the sources of active blocks whose evidence is proven, or that an operator blocked;
    not those that were only found in the kernel."""
    query = (
        f"SELECT address FROM blocks WHERE forgeable = 0 AND {_NEWEST}"
        f" AND (timeout_s = 0 OR {_ENDS} > ?) AND (scan <> '' OR substr(reason, 1, ?) = ?)"
    )
    values = (now, len(BY_HAND), BY_HAND)
    return {address for (address,) in ledger.database.iterate(query, values)}


def count_ended(ledger: AnyLedger, since: float, now: float) -> int:
    """Count the blocks that ended by themselves between two times of the wall clock."""
    query = (
        "SELECT COUNT(*) FROM blocks WHERE unblocked_at IS NULL AND timeout_s > 0"
        f" AND {_ENDS} BETWEEN ? AND ?"
    )
    [(number,)] = ledger.database.read(query, (since, now))
    return int(number)


def newest_id(ledger: AnyLedger) -> int:
    """Return the id of the newest block; 0 if there is none."""
    [(number,)] = ledger.database.read("SELECT COALESCE(MAX(id), 0) FROM blocks")
    return int(number)


def set_ends(ledger: AnyLedger, ends: Iterable[tuple[str, float]]) -> int:
    """Record when blocks end, by (address, wall clock); return how many were in the ledger.

    Blocks that are not in the ledger are left to add_found().
    """
    changed = 0
    database = ledger.database
    with database.transaction():
        for address, end in ends:
            changed += database.execute(
                f"UPDATE blocks SET ends_at = ? WHERE address = ? AND {_NEWEST}", (end, address)
            )
    return changed


def set_dropped(ledger: AnyLedger, dropped: Iterable[tuple[str, int]]) -> None:
    """Record the packets that blocks have dropped: the kernel forgets them when a block ends."""
    with ledger.database.transaction():
        for address, packets in dropped:
            ledger.database.execute(
                f"UPDATE blocks SET dropped_packets = ? WHERE address = ? AND {_NEWEST}",
                (packets, address),
            )


def is_active(ledger: AnyLedger, address: str) -> bool:
    """Return whether the newest block of an address was not unblocked.

    It is then the kernel's to end it, even if a clock that jumped makes it look ended.
    """
    query = f"SELECT 1 FROM blocks WHERE address = ? AND {_NEWEST}"
    return bool(ledger.database.read(query, (address,)))


def add_found(ledger: AnyLedger, found: Iterable[ActiveBlock], now: float) -> int:
    """Record blocks that only the kernel knew; return how many there are."""
    records = [_found_record(block, now) for block in found]
    if records:
        ledger.add(records)
    return len(records)


def _found_record(block: ActiveBlock, now: float) -> DecisionRecord:
    since = now - (block.timeout - block.left)
    record = manual_entry(block.address, block.family, block.timeout, since)
    return record._replace(reason=FOUND)
