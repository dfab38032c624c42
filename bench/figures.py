"""Figures with their goals and the peers' values; how they are printed and kept."""

import json
import operator
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

RESULTS: Final = Path(__file__).parent / "results"
DASH: Final = "-"
_NO_PEERS: Final[Mapping[str, float]] = MappingProxyType({})


class Figure(NamedTuple):
    """One line of the table of results."""

    measure: str
    value: float | None
    """None: it could not be measured; shown as a dash."""
    unit: str
    goal: str
    met: bool | None
    """Whether the goal was met; None without a goal."""
    spread: str = ""
    peers: Mapping[str, float] = _NO_PEERS
    """Values of the peers in the same run; a peer that cannot do it is left out."""
    ratio: float | None = None
    """Ratio to the peer that the goal names, or to the nearest."""


def _limited(
    sign: str,
    is_met: Callable[[float, float], bool],
    measure: str,
    value: float | None,
    unit: str,
    limit: float,
    spread: str = "",
    peers: Mapping[str, float] = _NO_PEERS,
) -> Figure:
    met = value is not None and is_met(value, limit)
    return Figure(measure, value, unit, f"{sign} {limit:g}", met, spread, peers)


at_most: Final = partial(_limited, "<=", operator.le)
at_least: Final = partial(_limited, ">=", operator.ge)


def share_of(
    measure: str, values: Mapping[str, Sequence[float]], unit: str, us: str, of: str, least: float
) -> Figure:
    """Return our median beside the peers', with a goal (0: none) on the ratio to one of them.

    All were measured in turns, so each run of ours is compared with its neighbour.
    """
    ratios = sorted(ours / base for ours, base in zip(values[us], values[of], strict=True) if base)
    middle = statistics.median(ratios)
    medians = {name: statistics.median(runs) for name, runs in values.items() if runs}
    spread = f"ratio {ratios[0]:.3f}-{ratios[-1]:.3f}"
    goal = f">= {least:g} of {of}" if least else ""
    met = middle >= least if least else None
    return Figure(measure, medians.pop(us), unit, goal, met, spread, medians, middle)


def noted(
    measure: str,
    value: float | None,
    unit: str,
    spread: str = "",
    peers: Mapping[str, float] = _NO_PEERS,
) -> Figure:
    """Return a figure without a goal."""
    return Figure(measure, value, unit, "", None, spread, peers)


def median_of(run: Callable[[], float], times: int) -> tuple[float, str]:
    """Return the median of several runs, and their spread."""
    values = [run() for _ in range(times)]
    return statistics.median(values), spread_of(values)


def spread_of(values: Sequence[float]) -> str:
    return f"{min(values):.4g}-{max(values):.4g}"


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def state(figure: Figure) -> str:
    return {True: "ok", False: "MISSED", None: ""}[figure.met]


def number(value: float | None) -> str:
    """Return a number with three significant digits, or with separated thousands."""
    if value is None:
        return DASH
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"


def columns(figures: Sequence[Figure]) -> list[str]:
    """Return the peers that the figures name, in the order of their appearance."""
    return list(dict.fromkeys(name for figure in figures for name in figure.peers))


def rows(figures: Sequence[Figure], us: str = "SentryFW") -> list[list[str]]:
    """Return the table: a heading, and a row for each figure."""
    others = columns(figures)
    table = [["measure", "unit", us, *others, "ratio", "goal", "", "spread"]]
    for figure in figures:
        cells = [number(figure.peers.get(name)) for name in others]
        ratio = DASH if figure.ratio is None else f"{figure.ratio:.2f}"
        table.append(
            [figure.measure, figure.unit, number(figure.value), *cells, ratio, figure.goal,
             state(figure), figure.spread]
        )  # fmt: skip
    return table


def show(figures: Sequence[Figure]) -> None:
    table = rows(figures)
    widths = [max(len(row[index]) for row in table) for index in range(len(table[0]))]
    words = {0, 1, len(widths) - 3, len(widths) - 2, len(widths) - 1}
    for row in table:
        cells = [
            cell.ljust(width) if index in words else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def machine() -> dict[str, Any]:
    """Return a description of this machine."""
    model = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
    return {
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cpu": model[0] if model else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "load_before": round(os.getloadavg()[0], 2),
    }


def keep(name: str, figures: Sequence[Figure], where: dict[str, Any], seconds: float) -> Path:
    """Write bench/results/NAME.json with the machine they were measured on."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    data = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": where,
        "seconds": round(seconds, 1),
        "figures": [{**figure._asdict(), "peers": dict(figure.peers)} for figure in figures],
    }
    path.write_text(json.dumps(data, indent=2) + "\n")
    return path


def load(name: str) -> tuple[list[Figure], dict[str, Any]]:
    """Return the figures and the data that keep() wrote."""
    data = json.loads((RESULTS / f"{name}.json").read_text())
    fields = Figure._fields
    figures = [
        Figure(**{key: item[key] for key in fields if key in item}) for item in data["figures"]
    ]
    return figures, data
