"""report: sources, scans, ports and drops in a period, as tables, JSON or an HTML page."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from sentryfw.cli import output
from sentryfw.cli.arguments import Json, load_config, new_app, parse_timeout
from sentryfw.cli.phrases import is_known
from sentryfw.errors import SentryError
from sentryfw.host.private_files import open_private
from sentryfw.netfilter.table import Table
from sentryfw.origin.model import origin_text
from sentryfw.text import counted, duration, local_clock, local_time, zone
from sentryfw.tools.report import page
from sentryfw.tools.report.report import Report, SourceRow, make, place_text

SHADES: Final = " .:-=+*#%@"
SOURCES: Final = (
    "address", "blocks", "probes", "dropped_packets", "first_seen", "last_blocked", "scans",
    "tools", "origin",
)  # fmt: skip
SHORT_SOURCES: Final = ("address", "blocks", "probes", "dropped", "last", "what")
SHORT_WOULD_BLOCK: Final = ("address", "would_block", "probes", "last", "what")
WOULD_BLOCK: Final = (
    "address", "would_block", "probes", "first_seen", "last_scan", "scans", "tools",
    "origin",
)  # fmt: skip
PORTS: Final = ("port", "probes", "heat")
HEAD: Final = (
    "since", "until", "ledger_begins", "blocks", "sources", "unblocked_early", "confinements",
)  # fmt: skip
COUNTED: Final = (
    "scans", "tools", "kinds", "families", "countries", "networks", "labels", "not_blocked",
)  # fmt: skip

app = new_app()


@app.command("report")
def report_command(
    context: typer.Context,
    since: Annotated[str, typer.Option(metavar="TIME", help='How far back, e.g. "1d".')] = "7d",
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write one self-contained page there.")
    ] = None,
    json: Json = False,
) -> None:
    """Report who scanned, what, when, and what was dropped."""
    made = make(load_config(context), Table(), parse_timeout(since, "--since"))
    if html is not None:
        write_html(made, html)
        output.note(
            f"{html}: {counted(made['blocks'], 'block')} of {counted(made['sources'], 'source')}"
        )
    if json:
        output.print_json(made)
    elif html is None:
        show(made)


def show(report: Report) -> None:
    """Print the report: sentences and tables on a terminal, tab-separated lines to a pipe."""
    values: dict[str, Any] = {**report}
    if sys.stdout.isatty():
        output.print_lines(_sentences(report), f"SentryFW report (times in {zone()})")
    else:
        output.print_pairs(_head(report), "SentryFW report")
    seen = [
        {"what": what.replace("_", " "), "name": name, "count": count}
        for what in COUNTED
        for name, count in values[what].items()
    ]
    output.print_rows(seen, ("what", "name", "count"), "What was seen")
    sources: list[output.Row] = [_in_words(source) for source in report["top_sources"]]
    title = "Sources, most blocks first" if sources else "No source was blocked"
    output.print_rows(sources, SOURCES, title, short=(map(_short, sources), SHORT_SOURCES))
    if report["would_block"]:
        observed: list[output.Row] = [
            {**_in_words(s), "would_block": s["blocks"], "last_scan": s["last_blocked"]}
            for s in report["would_block"]
        ]
        title = 'Would have been blocked, were it not for mode = "observe"'
        output.print_rows(
            observed, WOULD_BLOCK, title, short=(map(_short, observed), SHORT_WOULD_BLOCK)
        )
    ports = [{**port, "heat": f"[{shades(port['heat'])}]"} for port in report["ports"]]
    short = ({**port, "port": place_text(str(port["port"]))} for port in ports)
    since = local_time(report["drawn_since"])
    title = f"Probed ports, from {since} on; a column is {_part(report)}"
    output.print_rows(ports, PORTS, title, short=(short, PORTS))
    for remark in filter(None, (report["dropped_remark"], report["origin_remark"])):
        output.note(remark)


def _head(report: Report) -> dict[str, Any]:
    values: dict[str, Any] = {**report}
    head = {name: values[name] for name in HEAD}
    dropped = report["dropped_since_install"] or {}
    head |= {f"dropped_{unit}_since_install": count for unit, count in dropped.items()}
    head |= {f"slowest_{name}": value for name, value in (values["slowest"] or {}).items()}
    head["blocks_over_time"] = f"[{shades(report['timeline'])}]"
    head["part_seconds"] = report["part_seconds"]
    return head


def _sentences(report: Report) -> list[tuple[str, str]]:
    found = [("period", f"{local_clock(report['since'])} to {local_clock(report['until'])}")]
    if report["drawn_since"] != report["since"]:
        found.append(("records", f"begin {local_clock(report['ledger_begins'] or '')}"))
    blocks = f"{counted(report['blocks'], 'block')} of {counted(report['sources'], 'source')}"
    blocks += f"; {report['unblocked_early']:,} ended early, by hand"
    if report["confinements"]:
        blocks += f"; {counted(report['confinements'], 'partner')} confined"
    found.append(("blocked", blocks))
    if report["would_block"]:
        many = counted(len(report["would_block"]), "source")
        found.append(("observed", f'{many} would have been blocked (mode = "observe")'))
    dropped = report["dropped_since_install"]
    if dropped is not None:
        packets = counted(dropped["packets"], "packet")
        found.append(("dropped", f"{packets}, {dropped['bytes']:,} bytes, since the install"))
    slowest = report["slowest"]
    if slowest is not None:
        took = duration(slowest["seconds"]) if slowest["seconds"] >= 1 else "less than a second"
        what = f"{slowest['scan']} ({', '.join(slowest['kinds'])}), {took} to its block"
        found.append(("slowest", f"{slowest['address']}: {what}"))
    if report["blocks"]:
        found.append(("blocks", f"[{shades(report['timeline'])}] a column is {_part(report)}"))
    return found


def _part(report: Report) -> str:
    return duration(report["part_seconds"])


def _in_words(source: SourceRow) -> output.Row:
    return {**source, "origin": origin_text(source["origin"])}


def _short(source: output.Row) -> output.Row:
    """Return a source for a row of 80 columns."""
    known = ", ".join(tool for tool in source["tools"].split(",") if is_known(tool))
    what = source["scans"] + (f" by {known}" if known else "")
    what += f" ({source['origin']})" if source["origin"] else ""
    return {**source, "dropped": source["dropped_packets"], "what": what,
            "last": local_clock(source["last_blocked"])[5:16]}  # fmt: skip


def write_html(report: Report, path: Path) -> None:
    """Write the report as one HTML file. Raise SentryError if it cannot be written."""
    data = page.page(report).encode()
    try:
        with os.fdopen(open_private(path, os.O_WRONLY | os.O_TRUNC), "wb") as file:
            file.write(data)
    except OSError as error:
        raise SentryError(f"{path}: {error.strerror}") from None


def shades(counts: list[int]) -> str:
    """Return a character for each count, darker for more; only 0 is a space."""
    peak = max(counts, default=0)
    top = len(SHADES) - 1
    return "".join(SHADES[-(-count * top // peak)] if peak else " " for count in counts)
