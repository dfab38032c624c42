"""A figure, its goal, and how both are printed and kept."""

import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

RESULTS = Path(__file__).parent / "results"


class Figure(NamedTuple):
    """One line of the table."""

    measure: str
    value: float
    unit: str
    goal: str
    met: bool | None
    """None where there is no goal."""
    spread: str = ""


def at_most(measure: str, value: float, unit: str, limit: float, spread: str = "") -> Figure:
    return Figure(measure, value, unit, f"<= {limit:g}", value <= limit, spread)


def median_of(run: Callable[[], float], times: int) -> tuple[float, str]:
    """The median of several runs, and the least and the most."""
    values = sorted(run() for _ in range(times))
    return statistics.median(values), f"{values[0]:.3g}-{values[-1]:.3g}"


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def show(figures: Sequence[Figure]) -> None:
    width = max(len(figure.measure) for figure in figures)
    for figure in figures:
        state = {True: "ok", False: "MISSED", None: ""}[figure.met]
        print(
            f"{figure.measure:{width}}  {figure.value:10.3f} {figure.unit:10} {figure.goal:10}"
            f" {state:6} {figure.spread}"
        )


def keep(name: str, figures: Sequence[Figure]) -> None:
    """Write bench/results/NAME.json with the machine they were measured on."""
    RESULTS.mkdir(exist_ok=True)
    data = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"kernel": platform.release(), "python": platform.python_version()},
        "figures": [figure._asdict() for figure in figures],
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(data, indent=2) + "\n")
