"""Which blocks are alive, by the ledger: for restart, reboot, and reconciliation.

A block's end is blocked_at + timeout_s of the wall clock, until `ends_at` says better: clocks
jump, and the kernel, which counts for itself, is asked every minute. Nothing here makes a block
last longer than its timeout from now.
"""

from collections.abc import Iterable, Iterator
from socket import AF_INET6, inet_aton, inet_pton
from typing import Final, NamedTuple

from sentryfw.record.entry import Entry, manual_entry
from sentryfw.record.ledger import Ledger

FOUND: Final = "found in the kernel"
"""The reason of a block of which only the kernel knew."""
CHUNK: Final = 250
"""Rows that are fetched at once, with Python's lock held most of the time: half a millisecond."""
_ENDS: Final = "COALESCE(ends_at, blocked_at + timeout_s)"
_NEWEST: Final = (
    "unblocked_at IS NULL AND NOT EXISTS (SELECT 1 FROM blocks AS newer"
    " WHERE newer.address = blocks.address AND newer.id > blocks.id)"
)


class Alive(NamedTuple):
    """A block that has not ended, by the wall clock that was told."""

    address: str
    family: int
    timeout: float
    """Seconds; 0: until it is unblocked."""
    left: float
    """Never more than the timeout, whatever the clocks say."""

    @property
    def is_network(self) -> bool:
        return "/" in self.address and not (self.family == 6 and self.address.endswith("/64"))

    @property
    def key(self) -> bytes:
        """The element's key. ValueError where the text is no address."""
        try:
            if self.family == 4:
                return inet_aton(self.address)
            return inet_pton(AF_INET6, self.address.partition("/")[0])
        except OSError as error:
            raise ValueError(self.address) from error


def alive(ledger: Ledger, now: float, upto: tuple[int, float] | None = None) -> Iterator[Alive]:
    """The newest block of every address, where it is alive. `upto`: only rows up to an id, and
    only those that seemed over to a clock that said so much."""
    where, values = f"{_NEWEST} AND (timeout_s = 0 OR {_ENDS} > ?)", [now]
    if upto is not None:
        where += f" AND timeout_s > 0 AND id <= ? AND {_ENDS} <= ?"
        values += upto
    query = f"SELECT address, family, timeout_s, {_ENDS} FROM blocks WHERE {where}"
    rows = ledger.cursor(query, tuple(values))
    while chunk := rows.fetchmany(CHUNK):
        for address, family, timeout, end in chunk:
            yield Alive(address, family, timeout, min(end - now, timeout) if timeout else 0.0)


def ended(ledger: Ledger, since: float, now: float) -> int:
    """How many blocks have ended by themselves between two moments of the wall clock."""
    query = (
        "SELECT COUNT(*) FROM blocks WHERE unblocked_at IS NULL AND timeout_s > 0"
        f" AND {_ENDS} BETWEEN ? AND ?"
    )
    [(number,)] = ledger.cursor(query, (since, now)).fetchall()
    return int(number)


def newest_id(ledger: Ledger) -> int:
    [(number,)] = ledger.cursor("SELECT COALESCE(MAX(id), 0) FROM blocks", ()).fetchall()
    return int(number)


def correct(ledger: Ledger, ends: Iterable[tuple[str, float]]) -> int:
    """The ends that the kernel keeps, by the wall clock of now; how many were not in the ledger
    at all are left to adopt()."""
    done = 0
    with ledger.transaction():
        for address, end in ends:
            done += ledger.cursor(
                f"UPDATE blocks SET ends_at = ? WHERE address = ? AND {_NEWEST}", (end, address)
            ).rowcount
    return done


def known(ledger: Ledger, address: str) -> bool:
    """Whether the newest block of an address was not unblocked: it is the kernel's then, even
    where a clock that jumped makes it look over."""
    query = f"SELECT 1 FROM blocks WHERE address = ? AND {_NEWEST}"
    return ledger.cursor(query, (address,)).fetchone() is not None


def adopt(ledger: Ledger, found: Iterable[Alive], now: float) -> int:
    """Blocks of which only the kernel knew."""
    entries = [_found_entry(item, now) for item in found]
    if entries:
        ledger.add(entries)
    return len(entries)


def _found_entry(item: Alive, now: float) -> Entry:
    since = now - (item.timeout - item.left)
    entry = manual_entry(item.address, item.family, item.timeout, since)
    return entry._replace(reason=FOUND)
