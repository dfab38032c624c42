"""The report as one HTML file: inline style and SVG, no script, no requests.

Texts in the ledger may come from an attacker: all of them pass through `_text`, and the policy of
the page forbids scripts and requests, too.
"""

import html
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Self

from sentryfw import __version__
from sentryfw.origin.model import origin_text
from sentryfw.text import cell, duration
from sentryfw.tools.report.report import PortRow, Report, SlowestScan, SourceRow, place_text

STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
  color: #1b2733; background: #fff; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2rem; }
p.when { color: #5b6b7b; margin-top: 0; }
dl { display: flex; flex-wrap: wrap; gap: 1rem; } dl div { border: 1px solid #d5dde5;
  border-radius: 6px; padding: .5rem 1rem; } dt { color: #5b6b7b; font-size: .85rem; }
dd { margin: 0; font-size: 1.25rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid #e4eaf0;
  overflow-wrap: anywhere; } td.n, th.n { text-align: right; }
.wide { overflow-x: auto; } svg { width: 100%; min-width: 40rem; height: auto; }
svg text { font: 11px system-ui, sans-serif; fill: #5b6b7b; }
.bar { fill: #2f6f9f; } .hot { fill: #b3361e; } .cold { fill: #eef2f6; }
@media (prefers-color-scheme: dark) { body { color: #dbe4ec; background: #14191f; }
  .cold { fill: #222a33; } dl div, th, td { border-color: #333e4a; } }
@media (max-width: 40rem) { body { margin: 1rem auto; } thead { display: none; }
  tr { display: block; padding: .5rem 0; border-bottom: 1px solid #d5dde5; }
  td, td.n { display: flex; justify-content: space-between; gap: 1rem; border: 0; padding: .1rem 0;
    text-align: right; } td::before { content: attr(data-name); color: #5b6b7b; } }
@media print { body { margin: 0; max-width: none; } }
"""
POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
PAGE_SIZE: Final = 900
"""Width of a chart, in user units of SVG."""
NAMES_SIZE: Final = 90
"""Width of the names, left of the heat map."""
SUMS_SIZE: Final = 60
"""Width of the sums, right of the heat map."""
ROW_SIZE: Final = 16
BARS_SIZE: Final = 80
"""Height of the timeline."""
NUMBER: Final = ' class="n"'


def page(report: Report) -> str:
    """Return the whole page."""
    parts = ChartPeriods.of(report)
    body = "".join((
        "<h1>SentryFW report</h1>",
        f'<p class="when">{_minute(report["since"])} to {_minute(report["until"])} UTC</p>',
        _figures(report),
        "<h2>Blocks over time</h2>", _timeline(report["timeline"], parts),
        "<h2>Probed ports</h2>", _heat(report["ports"], parts),
        "<h2>Sources</h2>", _sources(report["top_sources"]),
        _would_block(report["would_block"]),
        _counted("Scans", report["scans"]),
        _counted("Kinds of probes", report["kinds"]),
        _counted("Tools", report["tools"]),
        _counted("Address families", report["families"]),
        _if_any("Countries", report["countries"]),
        _if_any("Networks", report["networks"]),
        _if_any("Labels", report["labels"]),
        _counted("Scans that were not blocked, by reason", report["not_blocked"]),
        _slowest(report["slowest"]),
        _foot(report),
    ))  # fmt: skip
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>SentryFW report</title><style>{STYLE}</style></head><body>{body}</body></html>\n"
    )


def _text(value: object) -> str:
    """Return a value as escaped text."""
    return html.escape(cell(value) if value != "" else "", quote=True)


def _figures(report: Report) -> str:
    dropped = report["dropped_since_install"]
    figures = {
        "blocks": f"{report['blocks']:,}",
        "sources": f"{report['sources']:,}",
        "ended early": f"{report['unblocked_early']:,}",
        "partners confined": f"{report['confinements']:,}",
        "packets dropped since install": f"{dropped['packets']:,}" if dropped else "?",
        "bytes dropped": f"{dropped['bytes']:,}" if dropped else "?",
    }
    return "<dl>" + "".join(
        f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>"
        for name, value in figures.items()
    ) + "</dl>"  # fmt: skip


class ChartPeriods(NamedTuple):
    """The periods of the columns of a chart."""

    begins: list[str]
    """The start of each column, and the end of the last one."""
    length: str

    @classmethod
    def of(cls, report: Report) -> Self:
        since, step = datetime.fromisoformat(report["drawn_since"]), report["part_seconds"]
        begins = (since + timedelta(seconds=step * n) for n in range(len(report["timeline"]) + 1))
        return cls([_minute(begin.isoformat()) for begin in begins], duration(step))

    def of_column(self, index: int, count: int) -> str:
        """Return the tooltip of a column."""
        return f"<title>{self.begins[index]} to {self.begins[index + 1]}: {count:,}</title>"

    def axis(self, left: float, right: float, top: float) -> str:
        """Return the labels of the start and the end, below the columns."""
        return (
            f'<text x="{left:.1f}" y="{top:.1f}">{self.begins[0]}</text>'
            f'<text x="{right:.1f}" y="{top:.1f}" text-anchor="end">{self.begins[-1]} UTC</text>'
        )


def _minute(timestamp: str) -> str:
    """Return a timestamp to the minute: 2026-11-22 10:00."""
    return _text(timestamp[:16].replace("T", " "))


def _timeline(counts: Sequence[int], parts: ChartPeriods) -> str:
    peak = max(counts, default=0)
    if not peak:
        return "<p>None.</p>"
    step = PAGE_SIZE / len(counts)
    bars = "".join(
        f'<rect class="bar" x="{index * step:.1f}" y="{BARS_SIZE - BARS_SIZE * count / peak:.1f}"'
        f' width="{step - 2:.1f}" height="{BARS_SIZE * count / peak:.1f}">'
        f"{parts.of_column(index, count)}</rect>"
        for index, count in enumerate(counts)
    )
    text = (
        f'<text x="{PAGE_SIZE / 2:.1f}" y="{BARS_SIZE + 14}" text-anchor="middle">'
        f"a bar is {parts.length}; the maximum is {peak:,}</text>"
    )
    axis = parts.axis(0, PAGE_SIZE, BARS_SIZE + 14)
    return _svg(BARS_SIZE + 20, bars + text + axis, "Blocks over time")


def _heat(ports: Sequence[PortRow], parts: ChartPeriods) -> str:
    if not ports:
        return "<p>None.</p>"
    peak = max(max(port["heat"]) for port in ports) or 1
    rows = "".join(_heat_row(index, port, peak, parts) for index, port in enumerate(ports))
    below = ROW_SIZE * len(ports) + 11
    rows += parts.axis(NAMES_SIZE, PAGE_SIZE - SUMS_SIZE, below)
    return _svg(below + 6, rows, "Probed ports over time")


def _heat_row(index: int, port: PortRow, peak: int, parts: ChartPeriods) -> str:
    top = index * ROW_SIZE
    step = (PAGE_SIZE - NAMES_SIZE - SUMS_SIZE) / len(port["heat"])
    cells = []
    for part, count in enumerate(port["heat"]):
        shade = f' fill-opacity="{0.15 + 0.85 * count / peak:.2f}"' if count else ""
        cells.append(
            f'<rect class="{"hot" if count else "cold"}"{shade} x="{NAMES_SIZE + part * step:.1f}"'
            f' y="{top}" width="{step - 1:.1f}" height="{ROW_SIZE - 2}">'
            f"{parts.of_column(part, count)}</rect>"
        )
    name = f'<text x="0" y="{top + 11}">{_text(place_text(port["port"]))}</text>'
    number = f'<text x="{PAGE_SIZE - 52}" y="{top + 11}">{port["probes"]:,}</text>'
    return name + "".join(cells) + number


def _svg(height: int, content: str, label: str) -> str:
    view = f'viewBox="0 0 {PAGE_SIZE} {height}" role="img" aria-label="{_text(label)}"'
    return f'<div class="wide"><svg {view}>{content}</svg></div>'


def _sources(sources: Sequence[SourceRow]) -> str:
    head = (
        "address",
        "name",
        "blocks",
        "probes",
        "dropped",
        "last block",
        "scans",
        "tools",
        "origin",
    )
    rows = (
        (s["address"], s["host"], s["blocks"], s["probes"], s["dropped_packets"],
         s["last_blocked"][:16].replace("T", " "), s["scans"], s["tools"],
         origin_text(s["origin"]))
        for s in sources
    )  # fmt: skip
    return _table(head, rows)


def _would_block(sources: Sequence[SourceRow]) -> str:
    """Return the sources that mode "observe" did not block; nothing if there are none."""
    if not sources:
        return ""
    head = ("address", "name", "would block", "probes", "last scan", "scans", "tools", "origin")
    rows = (
        (s["address"], s["host"], s["blocks"], s["probes"],
         s["last_blocked"][:16].replace("T", " "), s["scans"], s["tools"],
         origin_text(s["origin"]))
        for s in sources
    )  # fmt: skip
    return f"<h2>Would have been blocked (mode = &quot;observe&quot;)</h2>{_table(head, rows)}"


def _counted(title: str, counts: Mapping[str, int]) -> str:
    return f"<h2>{_text(title)}</h2>" + _table(("what", "count"), counts.items())


def _foot(report: Report) -> str:
    remarks = (report["dropped_remark"], report["origin_remark"], f"SentryFW {__version__}")
    return f'<p class="when">{_text(" ".join(filter(None, remarks)))}</p>'


def _if_any(title: str, counts: Mapping[str, int]) -> str:
    return _counted(title, counts) if counts else ""


def _slowest(slowest: SlowestScan | None) -> str:
    if slowest is None:
        return ""
    lasted = duration(slowest["seconds"])
    rows = {**slowest, "seconds": f"{slowest['seconds']:,} ({lasted})"}
    return "<h2>Slowest scan</h2>" + _table(("what", "value"), rows.items())


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    head = list(head)
    cells = [[_cell(name, value) for name, value in zip(head, row, strict=True)] for row in rows]
    if not cells:
        return "<p>None.</p>"
    names = "".join(
        f"<th{NUMBER * all(NUMBER in cell for cell in column)}>{_text(name)}</th>"
        for name, column in zip(head, zip(*cells, strict=True), strict=True)
    )
    made = "".join(f"<tr>{''.join(row)}</tr>" for row in cells)
    return f"<table><thead><tr>{names}</tr></thead>{made}</table>"


def _cell(name: str, value: object) -> str:
    """Return a cell; `name`: of its column, shown beside it where the screen is narrow."""
    named = f' data-name="{_text(name)}"'
    if isinstance(value, int):
        return f"<td{NUMBER}{named}>{value:,}</td>"
    return f"<td{named}>{_text(value)}</td>"
