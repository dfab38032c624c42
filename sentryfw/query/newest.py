"""The newest active blocks and confinements that meet conditions, for `list --limit` and pages.

The ledger names them and the kernel is asked for each, so that the first fifty cost the same where
100,000 are blocked. A block that the ledger does not know yet (nft(8) made it) is then left out.
"""

import heapq
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple, TypedDict

from sentryfw.engine.model import parse_source
from sentryfw.errors import SentryError
from sentryfw.netfilter.block_sets import Blocked, blocked_of
from sentryfw.netfilter.table import Table
from sentryfw.query import blocks, listing
from sentryfw.query.blocks import BlockItem, Warn
from sentryfw.record import lookup
from sentryfw.record.events import timestamp
from sentryfw.record.ledger import Ledger
from sentryfw.record.lookup import OptionalLedger, Wanted, newest_confinements

MAX_LIMIT: Final = 1 << 21
_CONFINED: Final = "refusals"
_SEARCHED: Final = ("address", "scan", "tool", "reason", "kinds", "host")


class Request(NamedTuple):
    """Conditions, and the number of blocks that is wanted."""

    wanted: Wanted = Wanted()
    limit: int = MAX_LIMIT

    def as_dict(self) -> dict[str, Any]:
        """Return the request for the control socket."""
        return {**self.wanted._asdict(), "limit": self.limit}


class CountAnswer(TypedDict):
    """The number of blocks and confinements."""

    count: int


def request_in(asked: Mapping[str, Any]) -> Request:
    """Return the request that came by the control socket. Raise SentryError if it is none."""
    since, limit = asked.get("since", 0.0), asked.get("limit", MAX_LIMIT)
    kind, text = asked.get("kind", ""), asked.get("text", "")
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
        raise SentryError(f"limit is a number from 1 to {MAX_LIMIT}")
    if not isinstance(since, int | float) or not isinstance(kind, str) or not isinstance(text, str):
        raise SentryError("since is a time in seconds, kind and text are texts")
    return Request(Wanted(float(since), kind, text), limit)


def newest(table: Table, path: Path, request: Request, warn: Warn) -> Iterator[BlockItem]:
    """Yield the newest active blocks and confinements that meet the conditions. The kernel lists
    them where no more are wanted than it has, so that a block made by nft(8) is among them.

    Raise NotInstalled without a table.
    """
    table.require()
    found: list[BlockItem] | None = None
    if not request.wanted.is_everything or sum(table.sets.count_blocked().values()) > request.limit:
        with closing(OptionalLedger(path, warn)) as book:
            found = book.ask(lambda ledger: _from_ledger(table, ledger, request), None)
    if found is not None:
        others = (
            item for item in blocks.of_fleet(table, path, warn) if _meets(item, request.wanted)
        )
        found = sorted([*found, *others], key=_began, reverse=True)
    else:
        listed = (
            item for item in listing.active(table, path, warn) if _meets(item, request.wanted)
        )
        found = sorted(listed, key=_began, reverse=True)
    yield from found[: request.limit]


def count(table: Table, path: Path, wanted: Wanted, warn: Warn) -> int:
    """Count the active blocks and confinements.

    All of them are counted in the kernel; those that meet conditions in the ledger, which may know
    some whose end the kernel has not reported yet.
    """
    table.require()
    if wanted.is_everything:
        counts = (table.sets.count_blocked(), table.decisions.count_confined())
        of_fleet = sum(True for _ in blocks.fleet_blocks(table))
        return sum(sum(count.values()) for count in counts) + of_fleet
    now = time.time()
    of_fleet = sum(_meets(item, wanted) for item in blocks.of_fleet(table, path, warn))
    with closing(OptionalLedger(path, warn)) as book:
        return of_fleet + book.ask(
            lambda ledger: (
                lookup.count_wanted(ledger, "blocks", wanted, now)
                + lookup.count_wanted(ledger, _CONFINED, wanted, now)
            ),
            0,
        )


def _from_ledger(table: Table, ledger: Ledger, request: Request) -> list[BlockItem]:
    networks = {blocked.address: blocked for blocked in table.sets.blocked_networks()}
    named = lookup.wanted_addresses(ledger, "blocks", request.wanted, time.time())
    live = _live(named, lambda name: networks.get(name) or _blocked(table, name), request.limit)
    reasons, names = ledger.latest_blocks(live), ledger.hosts(live)
    found: list[BlockItem] = [
        {**blocks.item(one, reasons.get(address)), "host": names.get(address, "")}
        for address, one in live.items()
    ]
    partners = _partners(table, ledger, request)
    return list(heapq.merge(found, partners, key=_began, reverse=True))


def _partners(table: Table, ledger: Ledger, request: Request) -> list[BlockItem]:
    named = lookup.wanted_addresses(ledger, _CONFINED, request.wanted, time.time())
    live = _live(named, lambda name: _confined(table, name), request.limit)
    reasons, names = newest_confinements(ledger, live), ledger.hosts(live)
    return [
        {
            **blocks.item(one, reasons.get(address)),
            "decision": "confine",
            "host": names.get(address, ""),
        }
        for address, one in live.items()
    ]


def _live(
    named: Iterator[str], find: Callable[[str], Blocked | None], limit: int
) -> dict[str, Blocked]:
    """Return the first of these addresses that the kernel has, each with its element."""
    found = ((address, blocked) for address in named if (blocked := find(address)) is not None)
    return dict(itertools.islice(found, limit))


def _began(item: BlockItem) -> str:
    """Return the time of a block by the ledger, or else by what the kernel has counted down."""
    return item["blocked_at"] or timestamp(_since(item))


def _blocked(table: Table, address: str) -> Blocked | None:
    if "/" in address and not (":" in address and address.endswith("/64")):
        return None  # a network whose block has ended
    return table.sets.find(parse_source(address))


def _confined(table: Table, address: str) -> Blocked | None:
    element = table.decisions.find(parse_source(address))
    return None if element is None else blocked_of(element)


def _meets(item: BlockItem, wanted: Wanted) -> bool:
    """Return whether an item meets the conditions, by what the kernel knows of it."""
    shown = " ".join(str(item.get(name, "")) for name in _SEARCHED).lower()
    return (
        (not wanted.since or _since(item) >= wanted.since)
        and (not wanted.kind or wanted.kind in (item["scan"], *item["kinds"]))
        and wanted.text.lower() in shown
    )


def _since(item: BlockItem) -> float:
    return time.time() - (item["timeout_s"] - item["expires_in_s"])
