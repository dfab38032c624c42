"""list --would-block: what mode "observe" would have blocked, with the keys of `list`."""

import time
from typing import Any

from sentryfw.config.model import Config
from sentryfw.engine.classify import FORGEABLE
from sentryfw.netfilter.block_sets import Blocked
from sentryfw.query import blocks
from sentryfw.record.ledger import Ledger
from sentryfw.record.lookup import refusals_for
from sentryfw.record.records import DecisionRecord
from sentryfw.text import counted

REASON = "observe"


def would_block(config: Config) -> list[dict[str, Any]]:
    """Return the newest block that each source would have got, newest first; offences and timeouts
    grow as they would have."""
    if not config.paths.ledger.exists():
        return []
    with Ledger(config.paths.ledger) as ledger:
        refusals = refusals_for(ledger, REASON)
    entries: dict[str, DecisionRecord] = {}
    for entry in refusals:
        before = entries.get(entry.address)
        if before is not None and entry.blocked_at < before.blocked_at + before.timeout_s:
            continue  # it would have been blocked by then
        offence = before.offence + 1 if before is not None else 1
        timeouts = config.block.timeouts
        timeout = timeouts[min(offence, len(timeouts)) - 1]
        entries[entry.address] = entry._replace(
            offence=offence, timeout_s=timeout, forgeable=FORGEABLE.issuperset(entry.kinds)
        )
    newest = sorted(entries.values(), key=lambda entry: entry.blocked_at, reverse=True)
    return [_item(entry) for entry in newest]


def _item(entry: DecisionRecord) -> dict[str, Any]:
    left = max(0.0, entry.blocked_at + entry.timeout_s - time.time())
    blocked = Blocked(entry.address, entry.family, entry.timeout_s, left, 0, 0)
    return {**blocks.item(blocked, entry._replace(reason=_reason(entry))), "host": ""}


def _reason(entry: DecisionRecord) -> str:
    """Return what the block would rest on: of a decoy, which one."""
    decoys = (
        [target.rpartition(" ")[2] for target in entry.sample] if "connect" in entry.kinds else []
    )
    return counted(entry.targets, "distinct target") + (
        f", with the decoy at {decoys[-1]}" if decoys else ""
    )
