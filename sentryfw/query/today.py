"""The scans since a time, in short, for `status`.

A caller that may read the ledger counts them itself; for other callers the daemon does.
"""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypedDict

from sentryfw.record.events import timestamp
from sentryfw.record.lookup import OptionalLedger
from sentryfw.record.records import DecisionRecord
from sentryfw.record.statistics import brief


class LastScan(TypedDict):
    """The newest scan."""

    address: str
    at: str
    scan: str
    kinds: list[str]
    tool: str
    outcome: str
    """"blocked", "confined", or the reason why it was neither."""


class Today(TypedDict):
    """The scans since a time."""

    since: str
    blocked: int
    sources: int
    """Sources of the blocked scans."""
    not_blocked: dict[str, int]
    """Sources of other scans, by reason."""
    last: LastScan | None


def today(ledger: Path, since: float, warn: Callable[[str], None]) -> Today | None:
    """Return the scans since a time, in seconds since the epoch; None without a ledger."""
    with closing(OptionalLedger(ledger, warn)) as book:
        found = book.ask(lambda opened: brief(opened, since), None)
    if found is None:
        return None
    return {
        "since": timestamp(since),
        "blocked": found.blocks,
        "sources": found.sources,
        "not_blocked": found.refusals,
        "last": _last(found.last) if found.last else None,
    }


def _last(entry: DecisionRecord) -> LastScan:
    outcome = "blocked" if entry.blocked else "confined" if entry.confined else entry.reason
    return {
        "address": entry.address,
        "at": timestamp(entry.blocked_at),
        "scan": entry.scan,
        "kinds": list(entry.kinds),
        "tool": entry.tool,
        "outcome": outcome,
    }
