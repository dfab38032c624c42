"""list --would-block: what mode "observe" would have blocked, with the keys of `list`."""

import json
import time
from typing import Any

from sentryfw import listing
from sentryfw.config import Config
from sentryfw.engine.classify import FORGEABLE
from sentryfw.netfilter.table import Blocked
from sentryfw.record.entry import Entry
from sentryfw.record.ledger import Ledger

REASON = "observe"
_QUERY = (
    "SELECT address, at, scan, kinds, targets, probes, first_seen, sample, tool FROM refusals"
    " WHERE reason = ? ORDER BY id"
)


def would_block(config: Config) -> list[dict[str, Any]]:
    """The newest block that each source would have got, with offences and timeouts as they would
    have grown; the newest first."""
    if not config.paths.ledger.exists():
        return []
    with Ledger(config.paths.ledger) as ledger:
        rows = ledger.read(_QUERY, (REASON,))
    entries: dict[str, Entry] = {}
    for row in rows:
        entry = _entry(row)
        before = entries.get(entry.address)
        if before is not None and entry.blocked_at < before.blocked_at + before.timeout_s:
            continue  # it would have been blocked by then
        offence = before.offence + 1 if before is not None else 1
        timeouts = config.block.timeouts
        timeout = timeouts[min(offence, len(timeouts)) - 1]
        entries[entry.address] = entry._replace(offence=offence, timeout_s=timeout)
    newest = sorted(entries.values(), key=lambda entry: entry.blocked_at, reverse=True)
    return [_item(entry) for entry in newest]


def _entry(row: tuple[Any, ...]) -> Entry:
    address, at, scan, kinds, targets, probes, first_seen, sample, tool = row
    found = json.loads(kinds)
    return Entry(
        address, 6 if ":" in address else 4, scan, found, targets, probes, first_seen, at, 0.0, 0,
        FORGEABLE.issuperset(found), tool, REASON, json.loads(sample), False,
    )  # fmt: skip


def _item(entry: Entry) -> dict[str, Any]:
    left = max(0.0, entry.blocked_at + entry.timeout_s - time.time())
    blocked = Blocked(entry.address, entry.family, entry.timeout_s, left, 0, 0)
    return {**listing.item(blocked, entry), "host": ""}
