"""Block and unblock by hand: the kernel's sets, the ledger and the daemon's reactions.

A change holds signals, so that an interruption leaves no block without its record.
"""

import itertools
import time
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_network
from typing import TYPE_CHECKING, NamedTuple

from sentryfw.cli.answers import ask
from sentryfw.cli.arguments import parse_address, subject_text
from sentryfw.config.model import Config
from sentryfw.config.types import IPNetwork, is_within, parse_network
from sentryfw.engine.model import Source, parse_source, source_text
from sentryfw.engine.networks import LINK_LOCAL_ONLY, Whole6
from sentryfw.errors import LedgerFault, NotFound, NotRunning, SentryError
from sentryfw.guard.learnt_sets import record_unblock
from sentryfw.host.signals import held
from sentryfw.netfilter.block_sets import Blocked, blocked_of
from sentryfw.netfilter.table import Table
from sentryfw.record.active_blocks import set_dropped
from sentryfw.record.ledger import Ledger
from sentryfw.record.records import manual_entry
from sentryfw.setup.process import exclusive

if TYPE_CHECKING:
    from sentryfw.host.protected import Protected


class ManualBlock(NamedTuple):
    """A block by hand."""

    address: str
    exceptions: "list[Protected]"
    """The never-block sources in it: with --force they are in the set, but accepted before it."""


class Unblocked(NamedTuple):
    """The end of a block by hand, or of several."""

    address: str
    """The address or network, as `list` prints it."""
    others: int = 0
    """Blocks of addresses and networks within a network, that ended with it."""
    within: str = ""
    """A network around it that is blocked still."""

    def __str__(self) -> str:
        """Return the sentence behind the word "unblocked"."""
        if self.within:
            return f"{self.address}, which is still blocked within {self.within}: unblock that"
        if self.others:
            return f"{self.address}: {self.others} {'blocks' if self.others > 1 else 'block'} in it"
        return self.address


def block_by_hand(
    config: Config, table: Table, text: str, seconds: float, *, force: bool = False,
    comment: str = "",
) -> ManualBlock:  # fmt: skip
    """Block an address or a network. Raise SentryError if a never-block source covers it, if it
    covers one and is not forced, or if the ledger cannot record the block."""
    from sentryfw.host.protected import (  # noqa: PLC0415 - 3 ms that `unblock` does without
        never_block,
        remembered,
    )

    whole = _whole6(config)
    what = parse_address(text, whole)
    if isinstance(what, bytes) and len(what) == 8 and what + bytes(8) in whole:
        what = ip_network(source_text(what))  # its addresses are sources, so it is a network
    with exclusive(config, table), held():
        address = subject_text(what)
        network = ip_network(address)
        rows, fault = _remembered_rows(config)
        exceptions = _overlapping(never_block(config, remembered(rows)), network)
        _check(network, exceptions, force=force)
        if isinstance(what, bytes):
            table.sets.block([(what, seconds)], cut=[what])
        else:
            table.sets.block_network(what, seconds)
        try:
            with Ledger(config.paths.ledger) as ledger:
                entry = manual_entry(address, network.version, seconds, time.time(), comment)
                ledger.add([entry])
        except LedgerFault as error:
            fault = error
        if isinstance(what, bytes):
            with suppress(NotRunning):
                ask(config.paths.control, {"do": "blocked", "address": address, "timeout": seconds})
    if fault is not None:
        raise SentryError(f"{address} is blocked, but the ledger could not record it: {fault}")
    return ManualBlock(address, exceptions)


def _remembered_rows(config: Config) -> tuple[list[tuple[str, str]], LedgerFault | None]:
    """Return the never-block sources in the ledger. A broken ledger does not prevent a block: its
    sources are in the kernel's never_block sets, too, before every drop."""
    try:
        with Ledger(config.paths.ledger) as ledger:
            return ledger.protected(), None
    except LedgerFault as error:
        return [], error


def _check(network: IPNetwork, exceptions: "list[Protected]", *, force: bool) -> None:
    """Raise SentryError if a never-block source is in the block, or around it, and not forced. An
    own address is not blocked by force either: it stays ours, so nothing could come of it."""
    from sentryfw.host.protected import OWN_ADDRESS  # noqa: PLC0415 - as above

    for protected in exceptions:
        if not is_within(network, protected.network):
            continue
        place = "" if network == protected.network else f" is within {protected.network}, which"
        if not force or protected.why == OWN_ADDRESS:
            raise SentryError(
                f"{network}{place} is never blocked ({protected.why}): a block would have no"
                " effect, and nothing was changed"
            )
    if exceptions and not force:
        raise SentryError(
            f"{network} covers {exceptions[0].network}, which is never blocked"
            f" ({exceptions[0].why}); nothing was changed. --force blocks the rest of it"
        )


def _overlapping(never_block: "list[Protected]", network: IPNetwork) -> "list[Protected]":
    return [
        protected
        for protected in never_block
        if protected.network.version == network.version and protected.network.overlaps(network)
    ]


# --- unblock


def unblock_address(config: Config, table: Table, text: str) -> Unblocked:
    """Unblock an address, or a network and every block in it. Raise NotFound if there is none."""
    what = _blocked_form(table, text, _whole6(config))
    with exclusive(config, table), held():
        if not isinstance(what, bytes):
            return _unblock_network(config, table, what)
        network = parse_network(subject_text(what) if "/" in text else text)
        within = _around(table, network)
        found = table.sets.find(what)
        try:
            table.sets.unblock(what)
        except NotFound:
            if within is None:
                raise
            raise NotFound(
                f"{text} is not blocked by itself but within {within}: unblock that"
            ) from None
        _record_unblock(config, subject_text(what), [] if found is None else [found])
    return Unblocked(subject_text(what), within=str(within or ""))


def _unblock_network(config: Config, table: Table, network: IPNetwork) -> Unblocked:
    """Unblock a network, and the blocks of addresses and networks within it."""
    sources = [address for address in unblockable(table) if is_within(ip_network(address), network)]
    networks = [found.address for found in table.sets.blocked_networks() if _is_in(found, network)]
    foreign = [item for item, _ in table.mirror.networks() if is_within(item, network)]
    around = _around(table, network)
    if not sources and not networks and not foreign:
        raise NotFound(
            f"{network} is not blocked by itself but within {around}: unblock that"
            if around
            else f"{network} is not blocked, and no address in it is"
        )
    for address in sources:
        source = parse_source(address)
        found = table.sets.find(source)
        table.sets.unblock(source)
        _record_unblock(config, address, [] if found is None else [found])
    for address in networks:
        table.sets.unblock_network(ip_network(address))
        _record_unblock(config, address)
    for other in foreign:
        table.mirror.lift_network(other)
        _record_unblock(config, str(other))
        with suppress(NotRunning):
            ask(config.paths.control, {"do": "fleet-release", "address": str(other)})
    networks += [str(other) for other in foreign if str(other) not in networks]
    others = len(sources) + len(networks) - (str(network) in networks)
    return Unblocked(str(network), others, str(around or ""))


def _is_in(blocked: Blocked, network: IPNetwork) -> bool:
    return is_within(ip_network(blocked.address), network)


def _around(table: Table, network: IPNetwork) -> IPNetwork | None:
    """Return the blocked network around an address or a network."""
    networks = (ip_network(blocked.address) for blocked in table.sets.blocked_networks())
    return next((n for n in networks if n != network and is_within(network, n)), None)


def _whole6(config: Config) -> Whole6:
    """Return where addresses are sources by themselves, at this moment."""
    from sentryfw.host.whole6 import neighbours  # noqa: PLC0415 - `list` does without

    return Whole6(neighbours(config).whole6)


def _blocked_form(table: Table, text: str, whole: Whole6) -> Source | IPNetwork:
    """Return the form in which an address is blocked, itself or its /64: a network may have become
    connected, or not be connected any more, since the block."""
    what = parse_address(text, whole)
    if isinstance(what, bytes) and "/" not in text and not _is_unblockable(table, what):
        for other in (parse_source(text), parse_source(text, LINK_LOCAL_ONLY)):
            if _is_unblockable(table, other):
                return other
    return what


def unblockable(table: Table) -> list[str]:
    """Return the addresses of the sources that are blocked, also by the fleet, or confined."""
    others = itertools.chain(table.decisions.confined(), table.decisions.of_fleet())
    found = itertools.chain(table.sets.blocked_sources(), map(blocked_of, others))
    return list(dict.fromkeys(blocked.address for blocked in found))


def _is_unblockable(table: Table, source: Source) -> bool:
    decisions = table.decisions
    others = decisions.find(source) or decisions.find_of_fleet(source)
    return table.sets.is_blocked(source) or others is not None


def unblock_all(config: Config, table: Table) -> int:
    """Unblock everything, and return the number of blocks."""
    with exclusive(config, table), held():
        blocked = list(table.sets.blocked_sources())
        count = table.sets.unblock_all()
        _record_unblock(config, None, blocked)
    return count


def _record_unblock(config: Config, address: str | None, blocked: Sequence[Blocked] = ()) -> None:
    """Record an unblock in the ledger and report it to the daemon. `address` None: all blocks.
    `blocked`: the blocks, as the kernel held them."""
    fault = None
    try:
        if config.paths.ledger.exists():
            with Ledger(config.paths.ledger) as ledger:
                set_dropped(ledger, ((block.address, block.packets) for block in blocked))
                record_unblock(ledger, address, time.time())
    except LedgerFault as error:
        fault = error
    request = {"do": "release-all"} if address is None else {"do": "release", "address": address}
    try:
        if address is None or "/" not in address or address.endswith("/64"):
            ask(config.paths.control, request)
    except NotRunning:  # no daemon withdraws its reactions
        from sentryfw.respond.undo import undo  # noqa: PLC0415 - 10 ms, only without a daemon

        undo(config.respond, address)
    if fault is not None:
        raise SentryError(
            f"{address or 'everything'} is unblocked, but the ledger could not record it, so an"
            f" install or a start of the daemon may block it again: {fault}"
        )
