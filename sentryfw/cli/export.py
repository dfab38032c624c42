"""export: what is blocked, or was, in the formats of others. It prints; nothing is sent anywhere.

Firewall formats (plain, cidr, nft, csv, json, stix) take every block. Formats for abuse desks
(xarf, abuseipdb, dshield) accuse somebody: they take scans that the engine found, of one address
each, and no decoy scans, whose names are forged.
"""

import contextlib
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv6Address, ip_network
from typing import Final, NamedTuple

from sentryfw.account import acting_as_owner
from sentryfw.config import Config
from sentryfw.engine.model import Malformed, Packet
from sentryfw.engine.packet import decode
from sentryfw.errors import UsageError
from sentryfw.netfilter.table import Table
from sentryfw.record import pcapng, review
from sentryfw.record.entry import Entry
from sentryfw.record.evidence import captures
from sentryfw.record.ledger import Ledger, LedgerFault

Say = Callable[[str], None]

FIREWALL: Final = ("plain", "cidr", "nft", "csv", "json", "stix")
ABUSE: Final = ("xarf", "abuseipdb", "dshield")
FORMATS: Final = (*FIREWALL, *ABUSE)
FORGED: Final = frozenset({"decoy-scan"})
"""Findings that say that the names of their sources are somebody else's."""


class Item(NamedTuple):
    """One block."""

    address: str
    """An IPv4 address, an IPv6 /64 or link-local address, or a network."""
    family: int
    left: float | None
    """Seconds; 0: until it is unblocked; None: it is over, or nobody looked."""
    packets: int | None
    """Dropped so far; None likewise."""
    entry: Entry | None
    """None: the ledger does not know it."""

    @property
    def network(self) -> str:
        """With a prefix length, always."""
        if "/" in self.address:
            return self.address
        return f"{self.address}/{32 if self.family == 4 else 128}"


class Accused(NamedTuple):
    """One scan of one address, with what the captured packets add."""

    address: str
    entry: Entry
    packets: list[Packet]


class Reporter(NamedTuple):
    """Who reports: what abuse desks want to know, and no default can tell."""

    org: str = ""
    contact: str = ""
    domain: str = ""
    author: int = 0
    """DShield's user id; 0: anonymous."""


def export(
    config: Config, table: Table, form: str, since: float | None, reporter: Reporter, say: Say,
    *, proven: bool = False,
) -> None:  # fmt: skip
    """Print it. UsageError where a format is unknown, or its reporter is not told."""
    from sentryfw.cli import export_abuse, export_formats  # noqa: PLC0415 - they know Item

    if form not in FORMATS:
        raise UsageError(f"--format {form!r} is none of {', '.join(FORMATS)}")
    if form == "xarf" and not (reporter.org and reporter.contact and reporter.domain):
        raise UsageError("xarf says who reports: give --org, --contact and --domain")
    found = items(config, table, since, say)
    if proven:
        found = (item for item in found if item.entry and not item.entry.forgeable)
    if form in FIREWALL:
        lines = export_formats.RENDER[form](found)
    else:
        accused = _accused(config, found, say)
        lines = export_abuse.RENDER[form](accused, reporter, say)
    for line in lines:
        sys.stdout.write(line)


def items(config: Config, table: Table, since: float | None, say: Say) -> Iterator[Item]:
    """What is blocked now; with `since`, every block since so many seconds ago."""
    if since is not None:
        return _past(config, time.time() - since, say)
    return _present(config, table, say)


def _past(config: Config, start: float, say: Say) -> Iterator[Item]:
    if not config.paths.ledger.exists():
        return
    with Ledger(config.paths.ledger) as ledger:
        for entry in review.entries(ledger, start):
            if _is_network(entry.address):
                yield Item(entry.address, entry.family, None, None, entry)
            else:  # other programs read what is printed, some of them as root
                say(f"left out: {entry.address[:60]!r} in the ledger is no address")


def _is_network(text: str) -> bool:
    try:
        return str(ip_network(text)).removesuffix("/32").removesuffix("/128") == text
    except ValueError:
        return False


def _present(config: Config, table: Table, say: Say) -> Iterator[Item]:
    table.require()
    with contextlib.closing(_Reasons(config, say)) as reasons:
        for b in (*table.blocked_sources(), *table.blocked_networks()):
            left = b.expires if b.timeout else 0.0
            yield Item(b.address, b.family, left, b.packets, reasons.of(b.address))


class _Reasons:
    """The ledger, if it is of any use; if not, that is said once."""

    def __init__(self, config: Config, say: Say) -> None:
        self._say = say
        self._ledger: Ledger | None = None
        if config.paths.ledger.exists():
            try:
                self._ledger = Ledger(config.paths.ledger)
            except LedgerFault as error:
                self._give_up(error)

    def of(self, address: str) -> Entry | None:
        if self._ledger is not None:
            try:
                return review.newest(self._ledger, address)
            except sqlite3.Error as error:
                self._give_up(error)
        return None

    def close(self) -> None:
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    def _give_up(self, error: Exception) -> None:
        self._say(f"the ledger cannot be read, so reasons are missing: {error}")
        self.close()


def _accused(config: Config, found: Iterable[Item], say: Say) -> Iterator[Accused]:
    """Whom there is evidence against; of the others how many there were, and why not."""
    left_out: dict[str, int] = {}
    for item in found:
        entry = item.entry
        packets = _packets(config, entry) if entry is not None else []
        address = _single(item, packets)
        if entry is None or not entry.scan:
            why = "blocked by hand"
        elif entry.scan in FORGED:
            why = "decoy scans, in forged names"
        elif address is None:
            why = "IPv6 networks without a captured packet to tell the address"
        else:
            yield Accused(address, entry, packets)
            continue
        left_out[why] = left_out.get(why, 0) + 1
    for why, count in left_out.items():
        say(f"left out: {count} ({why})")


def _single(item: Item, packets: list[Packet]) -> str | None:
    """The one address that sent it: of an IPv6 /64 the packets tell which."""
    if "/" not in item.address:
        return item.address
    if item.family == 6 and item.address.endswith("/64") and packets:
        return str(IPv6Address(packets[-1].source))
    return None


def _packets(config: Config, entry: Entry) -> list[Packet]:
    """The headers of the packets that were kept of a block."""
    directory = config.paths.evidence
    with acting_as_owner(directory):
        files = captures(directory, [entry])
    read = [decode(data) for file in files for data in pcapng.packets(file)]
    return [packet for packet in read if not isinstance(packet, Malformed)]
