"""list, block, unblock: on the kernel's sets and the ledger, with or without the daemon."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sentryfw import listing
from sentryfw.cli import remote
from sentryfw.cli.running import alone
from sentryfw.config import Config
from sentryfw.control import ask
from sentryfw.engine.model import Source, parse_source, source_text
from sentryfw.errors import NoPrivilege, NotFound, NotRunning, SentryError, UsageError
from sentryfw.fields import parse_duration
from sentryfw.netfilter.table import Blocked, IPNetwork, Table
from sentryfw.record import reasons
from sentryfw.record.entry import manual_entry
from sentryfw.record.ledger import Ledger, LedgerFault

if TYPE_CHECKING:
    from concurrent.futures import Future

    from sentryfw.netfilter.host import Protected

COLUMNS: Final = (
    "address", "scan", "kinds", "targets", "probes", "blocked_at", "expires_in_s", "offence",
    "dropped_packets", "reason",
)  # fmt: skip
BROADCAST: Final = IPv4Address("255.255.255.255")
SHORT_COLUMNS: Final = ("address", "scan", "kinds", "probes", "left", "dropped", "reason")
"""What fits a terminal of 80 columns."""


def list_blocks(config: Config, table: Table, warn: Callable[[str], None]) -> list[dict[str, Any]]:
    """What is blocked now, the newest first, with why. Without CAP_NET_ADMIN the daemon looks."""
    try:
        blocks = _ahead(listing.batches(table, reasons.MOST))
        items = list(listing.with_reasons(blocks, config.paths.ledger, warn))
    except NoPrivilege:
        items = []
        for answer in remote.ask_stream(config, {"do": "list"}):
            if "warning" in answer:
                warn(answer["warning"])
            else:
                items.append(answer)
    return sorted(items, key=lambda item: item["blocked_at"] or "", reverse=True)


def _ahead(batches: Iterator[list[Blocked]]) -> Iterator[list[Blocked]]:
    """The same; while one is looked up in the ledger, the kernel makes the next one ready in a
    thread, if there are so many."""
    batch = next(batches, [])
    if len(batch) < reasons.MOST:
        yield batch
        return
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - seldom needed

    with ThreadPoolExecutor(1) as pool:
        while batch:
            coming: Future[list[Blocked]] = pool.submit(next, batches, [])
            yield batch
            batch = coming.result()


class ByHand(NamedTuple):
    """What was blocked by hand."""

    address: str
    spared: "list[Protected]"
    """Who in it is never blocked: with --force in the set, and let past by the rule before it."""


def block(
    config: Config, table: Table, text: str, timeout: str | None, *, force: bool = False
) -> ByHand:
    """Block an address or a network by hand."""
    with alone(config, table):
        return _block(config, table, text, timeout, force=force)


def _block(config: Config, table: Table, text: str, timeout: str | None, *, force: bool) -> ByHand:
    from sentryfw.netfilter import host  # noqa: PLC0415 - only `block` looks at it

    what = _parse(text)
    seconds = config.block.timeouts[0] if timeout is None else parse_timeout(timeout)
    address = _text(what)
    network = ip_network(address)
    remembered, fault = _protected(config)
    spared = _spared(host.never_block(config, host.remembered(remembered)), network)
    if spared and not force:
        raise SentryError(
            f"{network} covers {spared[0].network}, which is never blocked"
            f" ({spared[0].why}); nothing was changed. --force blocks the rest of it"
        )
    if isinstance(what, bytes):
        table.block([(what, seconds)])
    else:
        table.block_network(what, seconds)
    try:
        with Ledger(config.paths.ledger) as ledger:
            ledger.add([manual_entry(address, network.version, seconds, time.time())])
    except LedgerFault as error:
        fault = error
    if isinstance(what, bytes):
        with suppress(NotRunning):
            ask(config.paths.control, {"do": "blocked", "address": address, "timeout": seconds})
    if fault is not None:
        raise SentryError(f"{address} is blocked, but the ledger does not know of it: {fault}")
    return ByHand(address, spared)


def _protected(config: Config) -> tuple[list[tuple[str, str]], LedgerFault | None]:
    """Who the ledger protects; a broken one keeps nobody from blocking a scanner: what it knows
    is in the kernel's never_block sets too, before every drop."""
    try:
        with Ledger(config.paths.ledger) as ledger:
            return ledger.protected(), None
    except LedgerFault as error:
        return [], error


def unblock(config: Config, table: Table, text: str) -> str:
    """Unblock an address or a network; what was unblocked. NotFound if it was not blocked."""
    what = _parse(text)
    address = _text(what)
    with alone(config, table):
        _unblock(table, what, text)
        _remember_unblock(config, address)
    return address


def unblock_all(config: Config, table: Table) -> int:
    """Unblock everything; how many blocks there were."""
    with alone(config, table):
        count = table.unblock_all()
        _remember_unblock(config, None)
    return count


def _spared(never_block: "list[Protected]", network: IPNetwork) -> "list[Protected]":
    return [
        protected
        for protected in never_block
        if protected.network.version == network.version and protected.network.overlaps(network)
    ]


def _unblock(table: Table, what: Source | IPNetwork, text: str) -> None:
    """NotFound where it is not blocked; a network around it that is blocked is named."""
    try:
        table.unblock(what) if isinstance(what, bytes) else table.unblock_network(what)
    except NotFound:
        network = ip_network(_text(what) if "/" in text else text)
        for blocked in table.blocked_networks():
            other = ip_network(blocked.address)
            if other == network:
                table.unblock_network(other)
                return
            if other.version == network.version and other.supernet_of(network):  # type: ignore[arg-type]
                raise NotFound(
                    f"{text} is not blocked by itself but within {other}: unblock that"
                ) from None
        raise


def _remember_unblock(config: Config, address: str | None) -> None:
    fault = None
    try:
        if config.paths.ledger.exists():
            with Ledger(config.paths.ledger) as ledger:
                ledger.unblocked(address, time.time())
    except LedgerFault as error:
        fault = error
    request = {"do": "release-all"} if address is None else {"do": "release", "address": address}
    try:
        if address is None or "/" not in address or address.endswith("/64"):
            ask(config.paths.control, request)
    except NotRunning:  # nothing that would hold it, nobody else to tidy up
        from sentryfw.respond.undo import undo  # noqa: PLC0415 - seldom needed

        undo(config.respond, address)
    if fault is not None:
        raise SentryError(
            f"{address or 'everything'} is unblocked, but the ledger was not told, so an install or"
            f" a start of the daemon may block again: {fault}"
        )


def parse_timeout(text: str, option: str = "--timeout") -> float:
    """Seconds. UsageError where the text is no duration."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def _parse(text: str) -> Source | IPNetwork:
    """A source, or a network that is none. UsageError if it is neither, or no host has it."""
    mapped = getattr(ip_address_or_none(text), "ipv4_mapped", None)
    text = str(mapped or text)
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise UsageError(f"{text!r} is neither an address nor a network") from None
    if network.prefixlen == 0 or not _is_unicast(network.network_address):
        raise UsageError(f"{text} is no address of a host: nothing was changed")
    if "/" not in text or network.prefixlen == (32 if network.version == 4 else 64):
        return parse_source(text.partition("/")[0] if network.version == 4 else text)
    return network


def _is_unicast(address: IPv4Address | IPv6Address) -> bool:
    return not (
        address.is_multicast
        or address.is_loopback
        or address.is_unspecified
        or address == BROADCAST
    )


def _text(what: Source | IPNetwork) -> str:
    return source_text(what) if isinstance(what, bytes) else str(what)


def covering_note(text: str, address: str) -> str:
    """What to add where more is blocked than was typed."""
    if text == address or ip_address_or_none(text) is None:
        return ""
    return f" (an IPv6 source is its /64: {text})"


def ip_address_or_none(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
