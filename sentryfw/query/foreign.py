"""Blocks by the word of other members of the fleet, with the member and its evidence."""

import time
from collections.abc import Sequence
from ipaddress import ip_network
from typing import TypedDict

from sentryfw.engine.model import Source
from sentryfw.netfilter.block_sets import Blocked, blocked_of
from sentryfw.netfilter.table import Table
from sentryfw.record.events import timestamp
from sentryfw.record.fleet import held
from sentryfw.record.fleet.held import Held
from sentryfw.record.ledger import Ledger


class MemberItem(TypedDict):
    """The word of one member about a source, as `explain --json` shows it."""

    member: str
    effect: str
    """block; weigh: one own probe defers it; show: none."""
    evidence: str
    """forgeable, proven or hand."""
    scan: str
    reason: str
    at: str
    ends_at: str | None
    """None: without an end."""


def find(table: Table, name: str, source: Source | None) -> Blocked | None:
    """Return the block of a source or network by other members; None if there is none."""
    if source is not None:
        element = table.decisions.find_of_fleet(source)
        return None if element is None else blocked_of(element)
    for network, element in table.mirror.networks():
        if network == ip_network(name):
            return Blocked(name, network.version, *element[1:5])
    return None


def rows(ledger: Ledger, name: str) -> list[Held]:
    """Return what members say about a source or network at this moment."""
    return held.active(ledger, time.time(), [name])


def items(found: Sequence[Held]) -> list[MemberItem]:
    """Return rows as JSON."""
    return [
        {
            "member": row.member, "effect": row.effect, "evidence": row.evidence,
            "scan": row.scan, "reason": row.reason, "at": timestamp(row.at),
            "ends_at": None if row.ends_at is None else timestamp(row.ends_at),
        }
        for row in found
    ]  # fmt: skip


def because(found: Sequence[Held], *, is_blocked: bool) -> str:
    """Return the words of members as one sentence; empty if they have no effect."""
    weighed = [row for row in found if row.effect == "weigh"]
    names = "; ".join(words(row) for row in (blocking(found) if is_blocked else weighed))
    if is_blocked:
        return f"blocked by the word of {names or 'a member that is not in the ledger'}"
    return f"not blocked, but one probe defers it, by the word of {names}" if names else ""


def blocking(found: Sequence[Held]) -> list[Held]:
    """Return the words that block a source: those of members that agree where none does alone."""
    alone = [row for row in found if row.effect == "block"]
    return alone or [row for row in found if row.effect == "weigh"]


def words(row: Held) -> str:
    """Return one member's word: its name, the evidence, the reason."""
    evidence = "" if row.evidence == "hand" else f" ({row.evidence})"
    return f"{row.member}{evidence}: {row.reason}"
