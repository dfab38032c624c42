"""Present or past blocks to export, and those that can accuse a source."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from ipaddress import IPv6Address, ip_network
from typing import Final, NamedTuple

from sentryfw.config.model import Config
from sentryfw.engine.model import Malformed, Packet
from sentryfw.engine.packet import decode
from sentryfw.netfilter.table import Table
from sentryfw.origin.model import NOWHERE, Origin
from sentryfw.origin.origins import Origins
from sentryfw.record import pcapng, statistics
from sentryfw.record.captures import CaptureReader
from sentryfw.record.ledger import Ledger
from sentryfw.record.lookup import OptionalLedger, newest_block
from sentryfw.record.records import DecisionRecord

Say = Callable[[str], None]

FORGED: Final = frozenset({"decoy-scan"})
"""Findings whose source addresses are forged."""


class ExportedBlock(NamedTuple):
    """A block to export."""

    address: str
    """An IPv4 address, an IPv6 /64 or link-local address, or a network."""
    family: int
    left: float | None
    """Seconds; 0: until it is unblocked; None: it is over, or was not read from the kernel."""
    packets: int | None
    """Packets dropped so far; None as above."""
    entry: DecisionRecord | None
    """None: the ledger has no row for it."""
    origin: Origin = NOWHERE

    @property
    def network(self) -> str:
        """The address with a prefix length."""
        if "/" in self.address:
            return self.address
        return f"{self.address}/{32 if self.family == 4 else 128}"


class Accused(NamedTuple):
    """A scan of one address, with the headers of its captured packets."""

    address: str
    entry: DecisionRecord
    packets: list[Packet]


class AbuseReporter(NamedTuple):
    """The reporter, as abuse desks require it."""

    org: str = ""
    contact: str = ""
    domain: str = ""
    author: int = 0
    """DShield's user id; 0: anonymous."""


def items(config: Config, table: Table, since: float | None, say: Say) -> Iterator[ExportedBlock]:
    """Yield the present blocks; with `since`, every block of the last `since` seconds."""
    if since is not None:
        return _past(config, time.time() - since, say)
    return _present(config, table, say)


def with_origins(
    config: Config, found: Iterable[ExportedBlock], say: Say
) -> Iterator[ExportedBlock]:
    """Yield the blocks with the origins of their sources; say which files have a fault."""
    origins = Origins.of_config(config)
    for item in found:
        yield item._replace(origin=origins.of(item.address))
    for fault in origins.faults:
        say(fault)


def _past(config: Config, start: float, say: Say) -> Iterator[ExportedBlock]:
    if not config.paths.ledger.exists():
        return
    with Ledger(config.paths.ledger) as ledger:
        for entry in statistics.entries(ledger, start):
            if _is_network(entry.address):
                yield ExportedBlock(entry.address, entry.family, None, None, entry)
            else:  # other programs read the export, some of them as root
                say(f"left out: {entry.address[:60]!r} in the ledger is not an address")


def _is_network(text: str) -> bool:
    try:
        return str(ip_network(text)).removesuffix("/32").removesuffix("/128") == text
    except ValueError:
        return False


def _present(config: Config, table: Table, say: Say) -> Iterator[ExportedBlock]:
    table.require()
    with closing(OptionalLedger(config.paths.ledger, say)) as book:
        for b in (*table.sets.blocked_sources(), *table.sets.blocked_networks()):
            left = b.expires if b.timeout else 0.0
            entry = book.ask(partial(newest_block, address=b.address), None)
            yield ExportedBlock(b.address, b.family, left, b.packets, entry)


def accused(config: Config, found: Iterable[ExportedBlock], say: Say) -> Iterator[Accused]:
    """Yield the scans that can accuse one address, and report how many blocks are left out, and
    why."""
    left_out: dict[str, int] = {}
    kept = CaptureReader(config.paths.evidence)
    for item in found:
        entry = item.entry
        packets = _packets(kept, entry) if entry is not None else []
        address = _single(item, packets)
        if entry is None or not entry.scan:
            why = "blocked by hand"
        elif entry.scan in FORGED:
            why = "decoy scans, whose source addresses are forged"
        elif address is None:
            why = "IPv6 networks without a captured packet that has the address"
        else:
            yield Accused(address, entry, packets)
            continue
        left_out[why] = left_out.get(why, 0) + 1
    for why, count in left_out.items():
        say(f"left out: {count} ({why})")


def _single(item: ExportedBlock, packets: list[Packet]) -> str | None:
    """Return the address of the sender; for an IPv6 /64 it is in the packets. None if unknown."""
    if "/" not in item.address:
        return item.address
    if item.family == 6 and item.address.endswith("/64") and packets:
        return str(IPv6Address(packets[-1].source))
    return None


def _packets(kept: CaptureReader, entry: DecisionRecord) -> list[Packet]:
    """Return the headers of the captured packets of a block."""
    read = [decode(data) for data in pcapng.packets(kept.of(entry))]
    return [packet for packet in read if not isinstance(packet, Malformed)]
