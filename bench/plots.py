"""Bar charts as SVG, without a plotting library."""

import math
from collections.abc import Mapping, Sequence
from typing import Final
from xml.sax.saxutils import escape

from bench.figures import number

WIDTH_PX: Final = 820
LEFT_PX: Final = 300
RIGHT_PX: Final = 110
BAR_PX: Final = 16
GAP_PX: Final = 12
TOP_PX: Final = 64
COLOURS: Final = ("#1b6ca8", "#d1772b", "#7a9a3a", "#8c5a9e", "#999999", "#444444", "#c0504d")

Group = tuple[str, Mapping[str, float]]
"""Label, and the value of each system."""


def bars(title: str, unit: str, groups: Sequence[Group], *, logarithmic: bool = False) -> str:
    """Draw groups of horizontal bars, one colour a system; a system without a value has no bar."""
    systems = list(dict.fromkeys(name for _, values in groups for name in values))
    colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(systems)}
    most = max((value for _, values in groups for value in values.values()), default=0.0)
    parts = [_text(16, 24, title, size=16, weight="bold"), *_legend(systems, colours)]
    top = TOP_PX
    for label, values in groups:
        middle = top + len(values) * BAR_PX / 2 + 4
        parts.append(_text(LEFT_PX - 10, middle, label, anchor="end"))
        for name, value in values.items():
            length = (WIDTH_PX - LEFT_PX - RIGHT_PX) * _share(value, most, logarithmic=logarithmic)
            parts.append(
                f'<rect x="{LEFT_PX}" y="{top}" width="{length:.1f}" height="{BAR_PX - 3}"'
                f' fill="{colours[name]}"><title>{escape(name)}</title></rect>'
            )
            parts.append(
                _text(LEFT_PX + length + 5, top + BAR_PX - 5, f"{number(value)} {unit}", size=11)
            )
            top += BAR_PX
        top += GAP_PX
    scale = "logarithmic scale" if logarithmic else "linear scale"
    parts.append(_text(16, top + 10, scale, size=10))
    return _document(top + 20, parts)


def _share(value: float, most: float, *, logarithmic: bool) -> float:
    if value <= 0 or most <= 0:
        return 0.0
    if not logarithmic:
        return value / most
    least = most / 1e6
    return max(0.01, math.log(max(value, least) / least) / math.log(most / least))


def _legend(systems: Sequence[str], colours: Mapping[str, str]) -> list[str]:
    parts = []
    left = 16.0
    for name in systems:
        parts.append(f'<rect x="{left:.0f}" y="36" width="12" height="12" fill="{colours[name]}"/>')
        parts.append(_text(left + 17, 46, name))
        left += 34 + 7.2 * len(name)
    return parts


def _text(
    x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", weight: str = "normal"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"'
        f' font-weight="{weight}">{escape(text)}</text>'
    )


def _document(height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH_PX}" height="{height:.0f}"'
        f' viewBox="0 0 {WIDTH_PX} {height:.0f}" font-family="sans-serif" fill="#222222">\n'
        f'<rect width="{WIDTH_PX}" height="{height:.0f}" fill="#ffffff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )
