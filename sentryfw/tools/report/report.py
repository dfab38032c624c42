"""The report of a period: sources, scans, ports and drops, from the ledger and the kernel."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, TypedDict

from sentryfw.config.model import Config
from sentryfw.errors import SentryError
from sentryfw.netfilter.table import Table
from sentryfw.origin.model import OriginItem
from sentryfw.origin.origins import Origins
from sentryfw.record.events import timestamp
from sentryfw.record.ledger import Ledger
from sentryfw.record.statistics import (
    BUCKET_COUNT,
    HOUR_S,
    Review,
    Source,
    blocks_by_source,
    review,
)

IP_PROTOCOLS: Final = {
    2: "IGMP", 4: "IPIP", 41: "6in4", 46: "RSVP", 47: "GRE", 50: "ESP", 51: "AH", 88: "EIGRP",
    89: "OSPF", 94: "IPIP", 103: "PIM", 108: "IPComp", 112: "VRRP", 115: "L2TP", 136: "UDP-Lite",
}  # fmt: skip
"""Names of protocols that scanners of protocols try (IANA's registry)."""


MAX_NAMES: Final = 25
"""Countries, networks or labels that a report names."""


class SourceRow(TypedDict):
    """The blocks of a source, taken together."""

    address: str
    blocks: int
    probes: int
    first_seen: str
    last_blocked: str
    scans: str
    tools: str
    origin: OriginItem
    dropped_packets: int | None
    """Packets that the ended blocks and the present one have dropped; None: not known."""
    host: str


class PortRow(TypedDict):
    """The probes of a port, as "tcp/22"."""

    port: str
    probes: int
    heat: list[int]
    """Probes in each part of the period."""


class SlowestScan(TypedDict):
    """The scan with the longest time from its first probe to its block."""

    address: str
    seconds: float
    scan: str
    kinds: list[str]
    targets: int
    tool: str
    blocked_at: str


class HourRow(TypedDict):
    """The blocks of an hour."""

    at: str
    """The beginning of the hour."""
    blocks: int


class Report(TypedDict):
    """The report, as `--json` prints it. Times are ISO 8601 in UTC."""

    since: str
    until: str
    ledger_begins: str | None
    drawn_since: str
    """Begin of `timeline` and `heat`: there is nothing before."""
    blocks: int
    sources: int
    unblocked_early: int
    confinements: int
    """Scans for which a partner was confined to what it uses."""
    dropped_since_install: dict[str, int] | None
    """`packets` and `bytes`; None if the kernel could not be read."""
    dropped_remark: str
    slowest: SlowestScan | None
    scans: dict[str, int]
    tools: dict[str, int]
    kinds: dict[str, int]
    families: dict[str, int]
    countries: dict[str, int]
    """Blocks by country; as the next two, the largest of them, by the configured files."""
    networks: dict[str, int]
    """Blocks by autonomous system."""
    labels: dict[str, int]
    origin_remark: str
    """The faults of these files."""
    not_blocked: dict[str, int]
    part_seconds: float
    timeline: list[int]
    """Blocks in each part of the period."""
    hours: list[HourRow]
    """Every hour that has a block, of the last month at most, oldest first."""
    top_sources: list[SourceRow]
    would_block: list[SourceRow]
    """Sources that mode "observe" did not block; `blocks` counts their scans."""
    ports: list[PortRow]


def place_text(place: str) -> str:
    """Return a probed port in words: of a protocol without ports, the name of the protocol."""
    protocol, _, port = place.partition("/")
    if protocol.isdecimal():
        number = int(protocol)
        name = f"{IP_PROTOCOLS[number]} " if number in IP_PROTOCOLS else ""
        return f"{name}(IP protocol {number})".strip()
    return place if port != "0" else protocol


def make(config: Config, table: Table, seconds: float) -> Report:
    """Return the report of the last `seconds`. Raise SentryError without a ledger."""
    now = time.time()
    if not config.paths.ledger.exists():
        raise SentryError(
            f"{config.paths.ledger}: the ledger does not exist: run `sentryfw install` first"
        )
    with Ledger(config.paths.ledger) as ledger:
        found = review(ledger, now - seconds, now)
        hosts = ledger.hosts(source.address for source in (*found.top, *found.observed))
        origins = Origins.of_config(config)
        blocks = blocks_by_source(ledger, found.since, found.until) if origins.is_wanted else {}
    dropped, by_source, remark = _dropped(table)
    return {
        "since": timestamp(found.since),
        "until": timestamp(found.until),
        "ledger_begins": timestamp(found.begins) if found.begins is not None else None,
        "drawn_since": timestamp(found.drawn_since),
        "blocks": found.blocks,
        "sources": found.sources,
        "unblocked_early": found.unblocked,
        "confinements": found.confinements,
        "dropped_since_install": dropped,
        "dropped_remark": remark,
        "slowest": _slowest(found),
        "scans": found.scans,
        "tools": found.tools,
        "kinds": found.kinds,
        "families": found.families,
        "countries": _counted(blocks, lambda source: [origins.of(source).country]),
        "networks": _counted(blocks, lambda source: [origins.of(source).network]),
        "labels": _counted(blocks, lambda source: origins.of(source).labels),
        "origin_remark": "; ".join(origins.faults),
        "not_blocked": found.refusals,
        "part_seconds": round((found.until - found.drawn_since) / BUCKET_COUNT, 3),
        "timeline": found.timeline,
        "hours": [
            {"at": timestamp(hour * HOUR_S), "blocks": count} for hour, count in found.hours.items()
        ],
        "top_sources": _sources(found.top, by_source, hosts, origins),
        "would_block": _sources(found.observed, by_source, hosts, origins),
        "ports": [{"port": p.service, "probes": p.probes, "heat": p.heat} for p in found.ports],
    }


def _counted(blocks: dict[str, int], names: Callable[[str], Iterable[str]]) -> dict[str, int]:
    """Return the blocks by the names of their sources, the most frequent names."""
    found: Counter[str] = Counter()
    for source, count in blocks.items():
        found.update(dict.fromkeys(filter(None, names(source)), count))
    return dict(found.most_common(MAX_NAMES))


def _sources(
    sources: list[Source], dropped: dict[str, int], hosts: dict[str, str], origins: Origins
) -> list[SourceRow]:
    return [
        {
            "address": source.address,
            "blocks": source.blocks,
            "probes": source.probes,
            "first_seen": timestamp(source.first_seen),
            "last_blocked": timestamp(source.last_blocked),
            "origin": origins.of(source.address).item(),
            "scans": source.scans,
            "tools": source.tools,
            "dropped_packets": _sum(dropped.get(source.address), source.dropped),
            "host": hosts.get(source.address, ""),
        }
        for source in sources
    ]


def _sum(present: int | None, ended: int) -> int | None:
    """Return the packets that all blocks of a source have dropped; None where none is known."""
    return ended or None if present is None else present + ended


def _slowest(found: Review) -> SlowestScan | None:
    entry = found.slowest
    if entry is None:
        return None
    return {
        "address": entry.address,
        "seconds": round(entry.blocked_at - entry.first_seen, 3),
        "scan": entry.scan,
        "kinds": list(entry.kinds),
        "targets": entry.targets,
        "tool": entry.tool,
        "blocked_at": timestamp(entry.blocked_at),
    }


def _dropped(table: Table) -> tuple[dict[str, int] | None, dict[str, int], str]:
    """Return the drops since the table was made, the drops of each source that is blocked now, and
    a remark if they are not known. Drops of ended blocks are in the sum alone."""
    try:
        table.require()
        counters = table.counters()
        blocked = itertools.chain(table.sets.blocked_sources(), table.sets.blocked_networks())
        by_source = {block.address: block.packets for block in blocked}
    except SentryError as error:
        return None, {}, f"the number of dropped packets is not known: {error}"
    ends = [counters[name] for name in ("blocked_early", "blocked_late") if name in counters]
    total = {"packets": sum(c.packets for c in ends), "bytes": sum(c.bytes for c in ends)}
    return total, by_source, ""
