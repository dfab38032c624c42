"""What the ledger knows of a stretch of time: counted by SQLite, so that memory is bounded.

Times are seconds since the epoch.
"""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from sentryfw.record.entry import Entry, Trace
from sentryfw.record.ledger import Ledger

TOP: Final = 25
"""Sources that are named."""
PORTS: Final = 20
"""Ports that are named."""
BUCKETS: Final = 28
"""Parts of the time; four a day of a week."""
MAX_COMBINATIONS: Final = 10_000
"""Kinds stand in the ledger as lists; so many different ones are looked at."""
CHUNK: Final = 1000
BY_HAND: Final = "by hand"

_BLOCK: Final = (
    "id, address, family, scan, kinds, targets, probes, first_seen, blocked_at, timeout_s, offence,"
    " forgeable, tool, reason, sample"
)
_SERVICE: Final = "substr(target, instr(target, ' ') + 1)"


class Source(NamedTuple):
    """One source's blocks, taken together."""

    address: str
    blocks: int
    probes: int
    first_seen: float
    last_blocked: float
    scans: str
    tools: str


class Port(NamedTuple):
    """What was probed, as "tcp/22", how often, and when."""

    service: str
    probes: int
    heat: list[int]
    """Probes in each part of the time."""


class Review(NamedTuple):
    since: float
    until: float
    begins: float | None
    """The oldest block that the ledger has."""
    blocks: int
    sources: int
    unblocked: int
    """Ended before their time."""
    timeline: list[int]
    """Blocks in each part of the time."""
    scans: dict[str, int]
    tools: dict[str, int]
    kinds: dict[str, int]
    families: dict[str, int]
    refusals: dict[str, int]
    """Scans that were not blocked, by reason."""
    top: list[Source]
    ports: list[Port]
    """Of the probes that blocks and refusals rest on."""
    slowest: Entry | None
    """The scan that took longest from its first probe to its block."""


def review(ledger: Ledger, since: float, until: float) -> Review:
    """Everything of that time, in one consistent look."""
    ledger.cursor("BEGIN", ())  # a reader's: the daemon goes on writing
    try:
        return _review(ledger, since, until)
    finally:
        ledger.cursor("COMMIT", ())


def _review(ledger: Ledger, since: float, until: float) -> Review:
    span = (since, until)
    [(begins,)] = ledger.read("SELECT MIN(blocked_at) FROM blocks", ())
    [(count, sources, unblocked)] = ledger.read(
        "SELECT COUNT(*), COUNT(DISTINCT address), COUNT(unblocked_at) FROM blocks"
        " WHERE blocked_at BETWEEN ? AND ?", span,
    )  # fmt: skip
    return Review(
        since, until, begins, count, sources, unblocked, _timeline(ledger, since, until),
        {name or BY_HAND: n for name, n in _counts(ledger, "scan", span).items()},
        {name: n for name, n in _counts(ledger, "tool", span).items() if name},
        _kinds(ledger, span), _counts(ledger, "'ipv' || family", span), _refusals(ledger, span),
        _top(ledger, span), _ports(ledger, since, until), _slowest(ledger, span),
    )  # fmt: skip


def entries(ledger: Ledger, since: float) -> Iterator[Entry]:
    """Every block since then, oldest first, with the probes that it rests on."""
    query = f"SELECT {_BLOCK} FROM blocks WHERE blocked_at >= ? AND id > ? ORDER BY id LIMIT ?"
    after = 0
    while rows := ledger.read(query, (since, after, CHUNK)):
        after = rows[-1][0]
        for row in rows:
            yield _entry(row)._replace(trace=trace(ledger, row[0]))


def newest(ledger: Ledger, address: str) -> Entry | None:
    """The newest block of an address, with the probes that it rests on."""
    query = f"SELECT {_BLOCK} FROM blocks WHERE address = ? ORDER BY id DESC LIMIT 1"
    for row in ledger.read(query, (address,)):
        return _entry(row)._replace(trace=trace(ledger, row[0]))
    return None


def trace(ledger: Ledger, block: int) -> tuple[Trace, ...]:
    query = "SELECT at, kind, listed, target FROM traces WHERE block = ? ORDER BY id"
    return tuple(Trace(at, k, bool(listed), t) for at, k, listed, t in ledger.read(query, (block,)))


def _entry(row: tuple[Any, ...]) -> Entry:
    entry = Entry(*row[1:], True)  # type: ignore[call-arg]
    return entry._replace(kinds=_words(row[4]), sample=_words(row[14]), forgeable=bool(row[11]))


def _words(text: str) -> list[str]:
    """A list in a row; of a row that somebody damaged, none."""
    try:
        found = json.loads(text)
    except ValueError:
        return []
    return [str(word) for word in found] if isinstance(found, list) else []


def _counts(ledger: Ledger, column: str, span: tuple[float, float]) -> dict[str, int]:
    query = (
        f"SELECT {column} AS name, COUNT(*) AS n FROM blocks WHERE blocked_at BETWEEN ? AND ?"
        " GROUP BY name ORDER BY n DESC, name LIMIT 100"
    )
    return dict(ledger.read(query, span))


def _kinds(ledger: Ledger, span: tuple[float, float]) -> dict[str, int]:
    """Blocks in which a kind of probe was seen: one block may have several."""
    found: Counter[str] = Counter()
    query = (
        "SELECT kinds, COUNT(*) FROM blocks WHERE blocked_at BETWEEN ? AND ? GROUP BY kinds"
        f" LIMIT {MAX_COMBINATIONS}"
    )
    for kinds, count in ledger.read(query, span):
        for kind in _words(kinds):
            found[kind] += count
    return dict(found.most_common())


def _refusals(ledger: Ledger, span: tuple[float, float]) -> dict[str, int]:
    query = (
        "SELECT reason, COUNT(*) AS n FROM refusals WHERE at BETWEEN ? AND ? GROUP BY reason"
        " ORDER BY n DESC, reason LIMIT 100"
    )
    return dict(ledger.read(query, span))


def _top(ledger: Ledger, span: tuple[float, float]) -> list[Source]:
    query = (
        "SELECT address, COUNT(*) AS n, SUM(probes) AS p, MIN(first_seen), MAX(blocked_at),"
        " COALESCE(GROUP_CONCAT(DISTINCT NULLIF(scan, '')), ''),"
        " COALESCE(GROUP_CONCAT(DISTINCT NULLIF(tool, '')), '') FROM blocks"
        " WHERE blocked_at BETWEEN ? AND ? GROUP BY address ORDER BY n DESC, p DESC, address"
        f" LIMIT {TOP}"
    )
    return [Source(*row) for row in ledger.read(query, span)]


def _timeline(ledger: Ledger, since: float, until: float) -> list[int]:
    query = (
        "SELECT CAST((blocked_at - ?) / ? AS INTEGER) AS part, COUNT(*) FROM blocks"
        " WHERE blocked_at BETWEEN ? AND ? GROUP BY part"
    )
    rows = ledger.read(query, (since, _width(since, until), since, until))
    return _spread(rows)


def _ports(ledger: Ledger, since: float, until: float) -> list[Port]:
    query = (
        f"SELECT {_SERVICE} AS service, COUNT(*) AS n FROM traces WHERE at BETWEEN ? AND ?"
        f" GROUP BY service ORDER BY n DESC, service LIMIT {PORTS}"
    )
    services = dict(ledger.read(query, (since, until)))
    heat = (
        f"SELECT {_SERVICE} AS service, CAST((at - ?) / ? AS INTEGER) AS part, COUNT(*) FROM traces"
        f" WHERE at BETWEEN ? AND ? AND {_SERVICE} IN ({','.join('?' * len(services))})"
        " GROUP BY service, part"
    )
    span = (since, _width(since, until), since, until)
    rows: dict[str, list[tuple[Any, ...]]] = {service: [] for service in services}
    for service, part, count in ledger.read(heat, (*span, *services)):
        rows[service].append((part, count))
    return [Port(service, count, _spread(rows[service])) for service, count in services.items()]


def _slowest(ledger: Ledger, span: tuple[float, float]) -> Entry | None:
    query = (
        f"SELECT {_BLOCK} FROM blocks WHERE blocked_at BETWEEN ? AND ? AND scan != ''"
        " ORDER BY blocked_at - first_seen DESC, id LIMIT 1"
    )
    for row in ledger.read(query, span):
        return _entry(row)
    return None


def _width(since: float, until: float) -> float:
    return max(until - since, 1.0) / BUCKETS


def _spread(rows: list[tuple[Any, ...]]) -> list[int]:
    """(part, count) -> a count for each part; the last moment belongs to the last part."""
    found = [0] * BUCKETS
    for part, count in rows:
        found[min(max(0, part), BUCKETS - 1)] += count
    return found
