"""The report as one HTML file: inline style and SVG, no script, nothing fetched.

Whatever stands in the ledger may come from an attacker: every text goes through `_text`, and the
page's own policy forbids scripts and requests besides.
"""

import html
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, Self

from sentryfw import __version__
from sentryfw.cli.output import cell, duration

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
svg { width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: #5b6b7b; }
.bar { fill: #2f6f9f; } .hot { fill: #b3361e; } .cold { fill: #eef2f6; }
@media (prefers-color-scheme: dark) { body { color: #dbe4ec; background: #14191f; }
  .cold { fill: #222a33; } dl div, th, td { border-color: #333e4a; } }
@media print { body { margin: 0; max-width: none; } }
"""
POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
LEFT: Final = 90
"""Where the heat map begins, beside the names."""
RIGHT: Final = 60
"""Room for the sums, behind it."""
WIDE: Final = 900
ROW: Final = 16
NUMBER: Final = ' class="n"'
BARS: Final = 80
"""Height of the timeline."""


def page(report: Mapping[str, Any]) -> str:
    """The whole file."""
    parts = Parts.of(report)
    body = "".join((
        "<h1>SentryFW report</h1>",
        f'<p class="when">{_minute(report["since"])} to {_minute(report["until"])} UTC</p>',
        _figures(report),
        "<h2>Blocks over the time</h2>", _timeline(report["timeline"], parts),
        "<h2>Ports that were probed</h2>", _heat(report["ports"], parts),
        "<h2>Who</h2>", _sources(report["top_sources"]),
        *(_counted(title, report[name]) for title, name in (
            ("What was found", "scans"), ("Kinds of probes", "kinds"), ("Tools", "tools"),
            ("Address families", "families"), ("Scans that were not blocked, and why",
            "not_blocked"),
        )),
        _slowest(report["slowest"]),
        f'<p class="when">{_text(report["dropped_remark"])} SentryFW {_text(__version__)}</p>',
    ))  # fmt: skip
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>SentryFW report</title><style>{STYLE}</style></head><body>{body}</body></html>\n"
    )


def _text(value: object) -> str:
    """Anything, as harmless text."""
    return html.escape(cell(value) if value != "" else "", quote=True)


def _figures(report: Mapping[str, Any]) -> str:
    dropped = report["dropped_since_install"]
    figures = {
        "blocks": f"{report['blocks']:,}",
        "sources": f"{report['sources']:,}",
        "ended early": f"{report['unblocked_early']:,}",
        "packets dropped since install": f"{dropped['packets']:,}" if dropped else "?",
        "bytes dropped": f"{dropped['bytes']:,}" if dropped else "?",
    }
    return "<dl>" + "".join(
        f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>"
        for name, value in figures.items()
    ) + "</dl>"  # fmt: skip


class Parts(NamedTuple):
    """What a column of a chart stands for."""

    begins: list[str]
    """Of each, and the end of the last one."""
    length: str

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> Self:
        since, step = datetime.fromisoformat(report["since"]), report["part_seconds"]
        begins = (since + timedelta(seconds=step * n) for n in range(len(report["timeline"]) + 1))
        return cls([_minute(begin.isoformat()) for begin in begins], duration(step))

    def of_column(self, index: int, count: int) -> str:
        """What stands beside the pointer."""
        return f"<title>{self.begins[index]} to {self.begins[index + 1]}: {count:,}</title>"

    def axis(self, left: float, right: float, top: float) -> str:
        """When the first column begins and the last one ends, below them."""
        return (
            f'<text x="{left:.1f}" y="{top:.1f}">{self.begins[0]}</text>'
            f'<text x="{right:.1f}" y="{top:.1f}" text-anchor="end">{self.begins[-1]} UTC</text>'
        )


def _minute(timestamp: str) -> str:
    """2026-11-22 10:00."""
    return _text(timestamp[:16].replace("T", " "))


def _timeline(counts: Sequence[int], parts: Parts) -> str:
    peak = max(counts, default=0)
    if not peak:
        return "<p>None.</p>"
    step = WIDE / len(counts)
    bars = "".join(
        f'<rect class="bar" x="{index * step:.1f}" y="{BARS - BARS * count / peak:.1f}"'
        f' width="{step - 2:.1f}" height="{BARS * count / peak:.1f}">'
        f"{parts.of_column(index, count)}</rect>"
        for index, count in enumerate(counts)
    )
    text = (
        f'<text x="{WIDE / 2:.1f}" y="{BARS + 14}" text-anchor="middle">a bar is {parts.length};'
        f" the highest: {peak:,}</text>"
    )
    axis = parts.axis(0, WIDE, BARS + 14)
    return _svg(BARS + 20, bars + text + axis, "Blocks over the time")


def _heat(ports: Sequence[Mapping[str, Any]], parts: Parts) -> str:
    if not ports:
        return "<p>None.</p>"
    peak = max(max(port["heat"]) for port in ports) or 1
    rows = "".join(_heat_row(index, port, peak, parts) for index, port in enumerate(ports))
    below = ROW * len(ports) + 11
    rows += parts.axis(LEFT, WIDE - RIGHT, below)
    return _svg(below + 6, rows, "Ports that were probed, over the time")


def _heat_row(index: int, port: Mapping[str, Any], peak: int, parts: Parts) -> str:
    top = index * ROW
    step = (WIDE - LEFT - RIGHT) / len(port["heat"])
    cells = []
    for part, count in enumerate(port["heat"]):
        shade = f' fill-opacity="{0.15 + 0.85 * count / peak:.2f}"' if count else ""
        cells.append(
            f'<rect class="{"hot" if count else "cold"}"{shade} x="{LEFT + part * step:.1f}"'
            f' y="{top}" width="{step - 1:.1f}" height="{ROW - 2}">'
            f"{parts.of_column(part, count)}</rect>"
        )
    name = f'<text x="0" y="{top + 11}">{_text(port["port"])}</text>'
    number = f'<text x="{WIDE - 52}" y="{top + 11}">{port["probes"]:,}</text>'
    return name + "".join(cells) + number


def _svg(height: int, content: str, label: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDE} {height}" role="img" aria-label="{_text(label)}">{content}</svg>'
    )


def _sources(sources: Sequence[Mapping[str, Any]]) -> str:
    head = ("address", "name", "blocks", "probes", "dropped", "last block", "scans", "tools")
    rows = (
        (s["address"], s["host"], s["blocks"], s["probes"], s["dropped_packets"],
         s["last_blocked"][:16].replace("T", " "), s["scans"], s["tools"])
        for s in sources
    )  # fmt: skip
    return _table(head, rows)


def _counted(title: str, counts: Mapping[str, int]) -> str:
    return f"<h2>{_text(title)}</h2>" + _table(("what", "count"), counts.items())


def _slowest(slowest: Mapping[str, Any] | None) -> str:
    if slowest is None:
        return ""
    lasted = duration(slowest["seconds"])
    rows = {**slowest, "seconds": f"{slowest['seconds']:,} ({lasted})"}
    return "<h2>The slowest scan that was found</h2>" + _table(("what", "value"), rows.items())


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    cells = [[_cell(value) for value in row] for row in rows]
    if not cells:
        return "<p>None.</p>"
    names = "".join(
        f"<th{NUMBER * all(NUMBER in cell for cell in column)}>{_text(name)}</th>"
        for name, column in zip(head, zip(*cells, strict=True), strict=True)
    )
    made = "".join(f"<tr>{''.join(row)}</tr>" for row in cells)
    return f"<table><tr>{names}</tr>{made}</table>"


def _cell(value: object) -> str:
    return f"<td{NUMBER}>{value:,}</td>" if isinstance(value, int) else f"<td>{_text(value)}</td>"
