"""report: who scanned, what, when, how much was dropped; out of the ledger and the kernel."""

import itertools
import os
import time
from pathlib import Path
from typing import Any, Final

from sentryfw.cli import output
from sentryfw.config import Config
from sentryfw.errors import SentryError
from sentryfw.netfilter.table import Table
from sentryfw.record.events import timestamp
from sentryfw.record.files import open_private
from sentryfw.record.ledger import Ledger
from sentryfw.record.review import BUCKETS, Port, Review, review

Report = dict[str, Any]

SHADES: Final = " .:-=+*#%@"
SOURCES: Final = (
    "address", "blocks", "probes", "dropped_packets", "first_seen", "last_blocked", "scans",
    "tools",
)  # fmt: skip
SHORT_SOURCES: Final = ("address", "blocks", "probes", "dropped", "last", "scans", "tools")
PORTS: Final = ("port", "probes", "heat")
COUNTED: Final = ("scans", "tools", "kinds", "families", "not_blocked")


def make(config: Config, table: Table, seconds: float) -> Report:
    """Of so many seconds until now. An empty ledger makes an empty report."""
    now = time.time()
    if not config.paths.ledger.exists():
        raise SentryError(
            f"{config.paths.ledger}: no ledger yet: it begins with `sentryfw install`"
        )
    with Ledger(config.paths.ledger) as ledger:
        found = review(ledger, now - seconds, now)
        hosts = ledger.hosts(source.address for source in found.top)
    dropped, by_source, remark = _dropped(table)
    return {
        "since": timestamp(found.since),
        "until": timestamp(found.until),
        "ledger_begins": timestamp(found.begins) if found.begins is not None else None,
        "blocks": found.blocks,
        "sources": found.sources,
        "unblocked_early": found.unblocked,
        "dropped_since_install": dropped,
        "dropped_remark": remark,
        "slowest": _slowest(found),
        "scans": found.scans,
        "tools": found.tools,
        "kinds": found.kinds,
        "families": found.families,
        "not_blocked": found.refusals,
        "part_seconds": round((found.until - found.since) / BUCKETS, 3),
        "timeline": found.timeline,
        "top_sources": [
            {
                **source._asdict(),
                "first_seen": timestamp(source.first_seen),
                "last_blocked": timestamp(source.last_blocked),
                "dropped_packets": by_source.get(source.address),
                "host": hosts.get(source.address, ""),
            }
            for source in found.top
        ],
        "ports": [_port(port) for port in found.ports],
    }


def show(report: Report) -> None:
    """As text: to a terminal tables, to a pipe tab-separated lines."""
    slowest = report["slowest"] or {}
    head = {
        name: report[name]
        for name in ("since", "until", "ledger_begins", "blocks", "sources", "unblocked_early")
    }
    dropped = report["dropped_since_install"] or {}
    head |= {f"dropped_{unit}_since_install": count for unit, count in dropped.items()}
    head |= {f"slowest_{name}": value for name, value in slowest.items()}
    head["blocks_over_time"] = f"[{shades(report['timeline'])}]"
    head["part_seconds"] = report["part_seconds"]
    output.print_pairs(head, "SentryFW report")
    counted = [
        {"what": what, "name": name, "count": count}
        for what in COUNTED
        for name, count in report[what].items()
    ]
    output.print_rows(counted, ("what", "name", "count"), "What was seen")
    sources = report["top_sources"]
    short = [
        {**s, "dropped": s["dropped_packets"], "last": s["last_blocked"][:16].replace("T", " ")}
        for s in sources
    ]
    title = "Who, most blocks first"
    output.print_rows(sources, SOURCES, title, short=(short, SHORT_SOURCES))
    ports = [{**port, "heat": f"[{shades(port['heat'])}]"} for port in report["ports"]]
    part = output.duration(report["part_seconds"])
    title = f"Ports that were probed, over the time (a column: {part})"
    output.print_rows(ports, PORTS, title)
    if report["dropped_remark"]:
        output.note(report["dropped_remark"])


def write_html(report: Report, path: Path) -> None:
    """One file that needs no other. SentryError if it cannot be written."""
    from sentryfw.cli import report_html  # noqa: PLC0415 - for who wants it

    data = report_html.page(report).encode()
    try:
        with os.fdopen(open_private(path, os.O_WRONLY | os.O_TRUNC), "wb") as file:
            file.write(data)
    except OSError as error:
        raise SentryError(f"{path}: {error.strerror}") from None


def shades(counts: list[int]) -> str:
    """A character for each: the darker the more; none is a space, one is never none."""
    peak = max(counts, default=0)
    top = len(SHADES) - 1
    return "".join(SHADES[-(-count * top // peak)] if peak else " " for count in counts)


def _slowest(found: Review) -> Report | None:
    entry = found.slowest
    if entry is None:
        return None
    return {
        "address": entry.address, "seconds": round(entry.blocked_at - entry.first_seen, 3),
        "scan": entry.scan, "kinds": entry.kinds, "targets": entry.targets, "tool": entry.tool,
        "blocked_at": timestamp(entry.blocked_at),
    }  # fmt: skip


def _port(port: Port) -> Report:
    return {"port": port.service, "probes": port.probes, "heat": port.heat}


def _dropped(table: Table) -> tuple[dict[str, int] | None, dict[str, int], str]:
    """What the kernel counts: since the table was made, and of the sources blocked now. What was
    dropped of blocks that are over is in the sum alone."""
    try:
        table.require()
        counters = table.counters()
        live = {b.address: b.packets for b in itertools.chain(
            table.blocked_sources(), table.blocked_networks()
        )}  # fmt: skip
    except SentryError as error:
        return None, {}, f"how much was dropped is not known: {error}"
    ends = [counters[name] for name in ("blocked_early", "blocked_late") if name in counters]
    total = {"packets": sum(c.packets for c in ends), "bytes": sum(c.bytes for c in ends)}
    return total, live, ""
