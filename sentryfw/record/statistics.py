"""Statistics of a period out of the ledger, counted by SQLite so that memory is bounded.

Times are seconds since the epoch.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

from sentryfw.record import rows
from sentryfw.record.database import Row
from sentryfw.record.ledger import Ledger
from sentryfw.record.lookup import trace
from sentryfw.record.records import DecisionRecord

MAX_SOURCES: Final = 25
"""Sources that a review names."""
MAX_COUNTED_SOURCES: Final = 20_000
"""Sources whose origins are counted."""
MAX_PORTS: Final = 20
"""Ports that a review names."""
BUCKET_COUNT: Final = 28
"""Parts into which the period is divided; four a day of a week."""
HOUR_S: Final = 3600
MAX_HOURS: Final = 24 * 31
MIN_DRAWN_S: Final = 10.0 * BUCKET_COUNT
"""The shortest period that charts cover, if the whole one is not shorter: a part is ten seconds."""
MAX_COMBINATIONS: Final = 10_000
"""Different lists of kinds that are read; the ledger stores kinds as lists."""
ROW_BATCH: Final = 1000
"""Rows of one query while blocks are listed."""
BY_HAND: Final = "by hand"
OBSERVE: Final = "observe"
"""The reason of a scan that mode "observe" did not block."""

_BLOCK: Final = f"id, {rows.BLOCK_COLUMNS}"
_SERVICE: Final = "substr(target, instr(target, ' ') + 1)"


class Source(NamedTuple):
    """The blocks of one source, summed up."""

    address: str
    blocks: int
    probes: int
    first_seen: float
    last_blocked: float
    scans: str
    tools: str
    dropped: int
    """Packets that its ended blocks had dropped, as far as it is known."""


class Port(NamedTuple):
    """One probed port."""

    service: str
    """Protocol and port: "tcp/22"."""
    probes: int
    heat: list[int]
    """Probes in each part of the period."""


class Review(NamedTuple):
    """The statistics of one period."""

    since: float
    until: float
    begins: float | None
    """Time of the oldest scan in the ledger."""
    drawn_since: float
    """Begin of `timeline` and `heat`: `since`, or later, because the ledger has nothing before."""
    blocks: int
    sources: int
    unblocked: int
    """Blocks that were ended by hand."""
    timeline: list[int]
    """Blocks in each part of the period."""
    hours: dict[int, int]
    """Blocks by hour (seconds since the epoch // 3600); hours without a block are missing."""
    scans: dict[str, int]
    tools: dict[str, int]
    kinds: dict[str, int]
    families: dict[str, int]
    refusals: dict[str, int]
    """Scans that were not blocked, by reason."""
    confinements: int
    """Scans for which a partner was confined to what it uses."""
    top: list[Source]
    observed: list[Source]
    """Sources that would have been blocked, if the mode had not been "observe"."""
    ports: list[Port]
    """Ports of the probes that blocks and refusals rest on."""
    slowest: DecisionRecord | None
    """The scan that took longest from its first probe to its block."""


def review(ledger: Ledger, since: float, until: float) -> Review:
    """Return the statistics of a period, read from one consistent state of the ledger."""
    with ledger.database.snapshot():  # the daemon continues to write
        return _review(ledger, since, until)


def _review(ledger: Ledger, since: float, until: float) -> Review:
    span = (since, until)
    [(begins,)] = ledger.database.read(
        "SELECT MIN(at) FROM (SELECT MIN(blocked_at) AS at FROM blocks"
        " UNION ALL SELECT MIN(at) FROM refusals)"
    )
    [(count, sources, unblocked)] = ledger.database.read(
        "SELECT COUNT(*), COUNT(DISTINCT address), COUNT(unblocked_at) FROM blocks"
        " WHERE blocked_at BETWEEN ? AND ?",
        span,
    )
    drawn = max(since, min(begins or since, until - MIN_DRAWN_S))
    return Review(
        since=since,
        until=until,
        begins=begins,
        drawn_since=drawn,
        blocks=count,
        sources=sources,
        unblocked=unblocked,
        timeline=_timeline(ledger, drawn, until),
        hours=_hours(ledger, span),
        scans={name or BY_HAND: n for name, n in _counts(ledger, "scan", span).items()},
        tools={name: n for name, n in _counts(ledger, "tool", span).items() if name},
        kinds=_kinds(ledger, span),
        families=_counts(ledger, "'ipv' || family", span),
        refusals=_refusals(ledger, span),
        confinements=_confinements(ledger, span),
        top=_top(ledger, "blocks WHERE blocked_at", span, "COALESCE(SUM(dropped_packets), 0)"),
        observed=_top(
            ledger,
            f"(SELECT at AS blocked_at, * FROM refusals WHERE reason = '{OBSERVE}') WHERE at",
            span,
        ),
        ports=_ports(ledger, span, drawn),
        slowest=_slowest(ledger, span),
    )


class Brief(NamedTuple):
    """The counts of a period that ends now."""

    blocks: int
    """Scans that ended in a block."""
    sources: int
    """Their sources."""
    refusals: dict[str, int]
    """Sources of scans that were not blocked, by reason."""
    last: DecisionRecord | None
    """The newest scan, blocked or not, of any time."""


def blocks_by_source(ledger: Ledger, since: float, until: float) -> dict[str, int]:
    """Return the blocks of each source in a period, of those with most blocks."""
    return dict(
        ledger.database.read(
            "SELECT address, COUNT(*) AS n FROM blocks WHERE blocked_at >= ? AND blocked_at < ?"
            f" GROUP BY address ORDER BY n DESC, address LIMIT {MAX_COUNTED_SOURCES}",
            (since, until),
        )
    )


def brief(ledger: Ledger, since: float) -> Brief:
    """Return the counts since a time. Rows are in the order of time, so that only new ones are
    read."""
    newer = "id > COALESCE((SELECT id FROM {0} WHERE {1} < ? ORDER BY id DESC LIMIT 1), 0)"
    with ledger.database.snapshot():
        [(count, sources)] = ledger.database.read(
            "SELECT COUNT(*), COUNT(DISTINCT address) FROM blocks WHERE scan != '' AND "
            + newer.format("blocks", "blocked_at"),
            (since,),
        )
        refusals = ledger.database.read(
            "SELECT IIF(timeout_s > 0, 'confined', reason) AS why, COUNT(DISTINCT address) AS n"
            " FROM refusals WHERE "
            + newer.format("refusals", "at")
            + " GROUP BY why ORDER BY n DESC, why LIMIT 100",
            (since,),
        )
        last = _last_scan(ledger)
    return Brief(count, sources, dict(refusals), last)


def _last_scan(ledger: Ledger) -> DecisionRecord | None:
    read = ledger.database.read
    blocks = read(
        f"SELECT {rows.BLOCK_COLUMNS} FROM blocks WHERE scan != '' ORDER BY id DESC LIMIT 1"
    )
    refusals = read(f"SELECT {rows.REFUSAL_COLUMNS} FROM refusals ORDER BY id DESC LIMIT 1")
    found = [rows.block_record(row, parse=rows.words) for row in blocks]
    found += [rows.refusal_record(row) for row in refusals]
    return max(found, key=lambda record: record.blocked_at, default=None)


def entries(ledger: Ledger, since: float) -> Iterator[DecisionRecord]:
    """Yield every block since a time, oldest first, with the probes that it rests on."""
    query = f"SELECT {_BLOCK} FROM blocks WHERE blocked_at >= ? AND id > ? ORDER BY id LIMIT ?"
    after = 0
    while batch := ledger.database.read(query, (since, after, ROW_BATCH)):
        after = batch[-1][0]
        for number, *row in batch:
            yield rows.block_record(row, trace(ledger, "block", number), rows.words)


def _counts(ledger: Ledger, column: str, span: tuple[float, float]) -> dict[str, int]:
    query = (
        f"SELECT {column} AS name, COUNT(*) AS n FROM blocks WHERE blocked_at BETWEEN ? AND ?"
        " GROUP BY name ORDER BY n DESC, name LIMIT 100"
    )
    return dict(ledger.database.read(query, span))


def _kinds(ledger: Ledger, span: tuple[float, float]) -> dict[str, int]:
    """Count the blocks in which each kind of probe was seen; one block may count for several."""
    found: Counter[str] = Counter()
    query = (
        "SELECT kinds, COUNT(*) FROM blocks WHERE blocked_at BETWEEN ? AND ? GROUP BY kinds"
        f" LIMIT {MAX_COMBINATIONS}"
    )
    for kinds, count in ledger.database.read(query, span):
        for kind in rows.words(kinds):
            found[kind] += count
    return dict(found.most_common())


def _refusals(ledger: Ledger, span: tuple[float, float]) -> dict[str, int]:
    query = (
        "SELECT reason, COUNT(*) AS n FROM refusals WHERE at BETWEEN ? AND ? AND timeout_s = 0"
        " GROUP BY reason ORDER BY n DESC, reason LIMIT 100"
    )
    return dict(ledger.database.read(query, span))


def _confinements(ledger: Ledger, span: tuple[float, float]) -> int:
    query = "SELECT COUNT(*) FROM refusals WHERE at BETWEEN ? AND ? AND timeout_s > 0"
    [(count,)] = ledger.database.read(query, span)
    return int(count)


def _top(
    ledger: Ledger, rows_at: str, span: tuple[float, float], dropped: str = "0"
) -> list[Source]:
    """Sum up the rows of each source. `rows_at`: a table, WHERE, and its column of the time.
    `dropped`: a column."""
    query = (
        "SELECT address, COUNT(*) AS n, SUM(probes) AS p, MIN(first_seen), MAX(blocked_at),"
        " COALESCE(GROUP_CONCAT(DISTINCT NULLIF(scan, '')), ''),"
        " COALESCE(GROUP_CONCAT(DISTINCT NULLIF(tool, '')), ''),"
        f" {dropped} FROM {rows_at} BETWEEN ? AND ?"
        f" GROUP BY address ORDER BY n DESC, p DESC, address LIMIT {MAX_SOURCES}"
    )
    return [
        Source(
            address=address,
            blocks=blocks,
            probes=probes,
            first_seen=first_seen,
            last_blocked=last_blocked,
            scans=scans,
            tools=tools,
            dropped=packets,
        )
        for address, blocks, probes, first_seen, last_blocked, scans, tools, packets in (
            ledger.database.read(query, span)
        )
    ]


def _hours(ledger: Ledger, span: tuple[float, float]) -> dict[int, int]:
    query = (
        f"SELECT CAST(blocked_at / {HOUR_S} AS INTEGER) AS hour, COUNT(*) FROM blocks"
        f" WHERE blocked_at BETWEEN ? AND ? GROUP BY hour ORDER BY hour DESC LIMIT {MAX_HOURS}"
    )
    return dict(reversed(ledger.database.read(query, span)))


def _timeline(ledger: Ledger, since: float, until: float) -> list[int]:
    query = (
        "SELECT CAST((blocked_at - ?) / ? AS INTEGER) AS part, COUNT(*) FROM blocks"
        " WHERE blocked_at BETWEEN ? AND ? GROUP BY part"
    )
    return _spread(ledger.database.read(query, (since, _width(since, until), since, until)))


def _ports(ledger: Ledger, span: tuple[float, float], drawn: float) -> list[Port]:
    """Return the ports that were probed most; their heat begins at `drawn`."""
    query = (
        f"SELECT {_SERVICE} AS service, COUNT(*) AS n FROM traces WHERE at BETWEEN ? AND ?"
        f" GROUP BY service ORDER BY n DESC, service LIMIT {MAX_PORTS}"
    )
    services: dict[str, int] = dict(ledger.database.read(query, span))
    heat = (
        f"SELECT {_SERVICE} AS service, CAST((at - ?) / ? AS INTEGER) AS part, COUNT(*) FROM traces"
        f" WHERE at BETWEEN ? AND ? AND {_SERVICE} IN ({','.join('?' * len(services))})"
        " GROUP BY service, part"
    )
    parts = (drawn, _width(drawn, span[1]), *span)
    found: dict[str, list[Row]] = {service: [] for service in services}
    for service, part, count in ledger.database.read(heat, (*parts, *services)):
        found[service].append((part, count))
    return [Port(service, count, _spread(found[service])) for service, count in services.items()]


def _slowest(ledger: Ledger, span: tuple[float, float]) -> DecisionRecord | None:
    query = (
        f"SELECT {_BLOCK} FROM blocks WHERE blocked_at BETWEEN ? AND ? AND scan != ''"
        " ORDER BY blocked_at - first_seen DESC, id LIMIT 1"
    )
    for _, *row in ledger.database.read(query, span):
        return rows.block_record(row, parse=rows.words)
    return None


def _width(since: float, until: float) -> float:
    return max(until - since, 1.0) / BUCKET_COUNT


def _spread(counts: list[Row]) -> list[int]:
    """Return a count for each part out of (part, count); the last moment is in the last part."""
    found = [0] * BUCKET_COUNT
    for part, count in counts:
        found[min(max(0, part), BUCKET_COUNT - 1)] += count
    return found
