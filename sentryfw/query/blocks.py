"""Active blocks and the state of the table, from kernel and ledger, for `list` and `status`.

A caller with CAP_NET_ADMIN reads them itself; for other callers the daemon does, by these
functions.
"""

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, NotRequired, TypedDict

from sentryfw.netfilter import features, queue_rule
from sentryfw.netfilter.block_sets import Blocked, blocked_of
from sentryfw.netfilter.table import Table
from sentryfw.origin.model import OriginItem
from sentryfw.query import foreign
from sentryfw.record.events import timestamp
from sentryfw.record.fleet import held
from sentryfw.record.fleet.held import Held
from sentryfw.record.lookup import OptionalLedger, Reason, newest_confinements, newest_reasons
from sentryfw.record.records import DecisionRecord

UNKNOWN: Final = "not in the ledger"
LOOKUP_BATCH: Final = 500
"""Blocks per lookup in the ledger, where other requests wait for it."""

Warn = Callable[[str], None]


class BlockItem(TypedDict):
    """A active block, as `list --json` shows it. Times are ISO 8601, in UTC."""

    address: str
    family: str
    """"ipv4" or "ipv6"."""
    scan: str
    kinds: list[str]
    targets: int
    probes: int
    first_seen: str | None
    blocked_at: str | None
    timeout_s: float
    """Configured; 0 for a block without end."""
    expires_in_s: float
    """Left."""
    offence: int
    forgeable: bool
    tool: str
    zone: str
    """The zone that judged it; empty: the default zone, or by hand."""
    reason: str
    decision: str
    """"block", or "confine": what the partner uses goes on."""
    dropped_packets: int
    dropped_bytes: int
    member: NotRequired[str]
    """Members of the fleet by whose word it is blocked; not in own blocks."""
    evidence: NotRequired[str]
    """forgeable, proven or hand, by the newest word of a member; not in own blocks."""
    host: NotRequired[str]
    """Name by a resolver, in `list` only; empty if none is known."""
    origin: NotRequired[OriginItem]
    """Country, autonomous system and labels, added by the commands."""


class CounterValues(TypedDict):
    """The values of a named counter."""

    packets: int
    bytes: int


class KernelState(TypedDict):
    """The table in the kernel, as `status --json` shows it."""

    installed: bool
    divert: str | None
    """The way into the queue: "queue" or "xt-nfqueue"; None without a queue rule."""
    divert_reason: str
    blocked4: int
    blocked6: int
    confined4: int
    confined6: int
    """Partners that are confined to what they use."""
    counters: dict[str, CounterValues]


def of_fleet(table: Table, ledger: Path, warn: Warn) -> Generator[BlockItem, None, None]:
    """Yield the blocks by other members of the fleet, each with its members and their reason."""
    with closing(OptionalLedger(ledger, warn)) as book:
        for found in fleet_blocks(table):
            rows = foreign.blocking(_held(book, found.address))
            listed = item(found, None)
            listed["member"] = ", ".join(row.member for row in rows)
            listed["host"] = ""
            if rows:
                row = max(rows, key=lambda row: row.at)
                listed["scan"], listed["reason"] = row.scan, foreign.words(row)
                listed["evidence"] = row.evidence
                listed["forgeable"] = row.evidence == "forgeable"
                listed["blocked_at"] = timestamp(row.at)
            yield listed


def fleet_blocks(table: Table) -> Iterator[Blocked]:
    """Yield the sources and networks that are blocked by the word of other members."""
    yield from map(blocked_of, table.decisions.of_fleet())
    for network, element in table.mirror.networks():
        yield Blocked(str(network), network.version, *element[1:5])


def _held(book: OptionalLedger, address: str) -> list[Held]:
    nothing: list[Held] = []
    return book.ask(lambda ledger: held.active(ledger, time.time(), [address]), nothing)


def confined(table: Table, ledger: Path, warn: Warn) -> Generator[BlockItem, None, None]:
    """Yield the partners that are confined, each with its reason."""
    table.require()
    with closing(OptionalLedger(ledger, warn)) as book:
        for found in map(blocked_of, table.decisions.confined()):
            entry = _confinement(book, found.address)
            yield {**item(found, entry), "decision": "confine", "host": ""}


def _confinement(book: OptionalLedger, address: str) -> DecisionRecord | None:
    nothing: dict[str, DecisionRecord] = {}
    return book.ask(lambda ledger: newest_confinements(ledger, [address]), nothing).get(address)


def with_reasons(
    book: OptionalLedger, blocks: Iterable[list[Blocked]]
) -> Generator[BlockItem, None, None]:
    """Yield one item for each block, with the reason from the ledger."""
    for batch in blocks:
        found, hosts = _reasons(book, [blocked.address for blocked in batch])
        for blocked in batch:
            listed = item(blocked, found.get(blocked.address))
            listed["host"] = hosts.get(blocked.address, "")
            yield listed


def _reasons(
    book: OptionalLedger, addresses: list[str]
) -> tuple[dict[str, Reason], dict[str, str]]:
    """Return the reason of the newest block of each address, and the host names."""
    nothing: tuple[dict[str, Reason], dict[str, str]] = ({}, {})
    return book.ask(
        lambda ledger: (newest_reasons(ledger, addresses), ledger.hosts(addresses)), nothing
    )


def kernel_state(table: Table) -> KernelState:
    """Return whether the table is installed, its way into the queue, its blocks and counters."""
    if not table.is_installed():
        return {"installed": False, "divert": None, "divert_reason": "", "blocked4": 0,
                "blocked6": 0, "confined4": 0, "confined6": 0, "counters": {}}  # fmt: skip
    way = queue_rule.active(table)
    counts, confined = table.sets.count_blocked(), table.decisions.count_confined()
    return {
        "installed": True,
        "divert": way,
        "divert_reason": _divert_reason(way),
        "blocked4": counts[4],
        "blocked6": counts[6],
        "confined4": confined[4],
        "confined6": confined[6],
        "counters": {
            name: {"packets": counter.packets, "bytes": counter.bytes}
            for name, counter in sorted(table.counters().items())
        },
    }


def _divert_reason(way: str | None) -> str:
    if way is None:
        return ""
    picked, reason = features.pick_divert(features.probe())
    return reason if picked == way else f"installed as {way}; now {reason}: run `sentryfw install`"


def item(blocked: Blocked, entry: DecisionRecord | Reason | None) -> BlockItem:
    """Return an active block as JSON; `entry` is its newest row of the ledger, if there is one."""
    return {
        "address": blocked.address,
        "family": "ipv4" if blocked.family == 4 else "ipv6",
        "scan": entry.scan if entry else "",
        "kinds": entry.kinds if entry else [],
        "targets": entry.targets if entry else 0,
        "probes": entry.probes if entry else 0,
        "first_seen": timestamp(entry.first_seen) if entry else None,
        "blocked_at": timestamp(entry.blocked_at) if entry else None,
        "timeout_s": blocked.timeout,
        "expires_in_s": blocked.expires,
        "offence": entry.offence if entry else 0,
        "forgeable": entry.forgeable if entry else False,
        "tool": entry.tool if entry else "",
        "zone": entry.zone if entry else "",
        "reason": entry.reason if entry else UNKNOWN,
        "decision": "block",
        "dropped_packets": blocked.packets,
        "dropped_bytes": blocked.bytes,
    }
