"""Write docs/performance.md: the table and the plots between two marks.

The text around them, about missed goals and changes, is written by hand and kept.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.figures import Figure, rows
from bench.peers import US
from bench.plots import bars

DOCS: Final = Path(__file__).resolve().parent.parent / "docs"
PAGE: Final = DOCS / "performance.md"
BEGIN: Final = "<!-- bench: begin -->"
END: Final = "<!-- bench: end -->"

PLOTS: Final = (
    ("leak", "Answers from a listed port after the trigger", "leak ", True),
    ("latency", "Triggering probe to element in the kernel", "trigger to element", True),
    ("throughput", "Queue throughput", "queue throughput", False),
    ("services", "HTTP beside us", "HTTP connections", False),
    ("blocked", "A blocked source at full speed", "blocked source", False),
    ("scale", "Adding a block", "add a block, ", False),
)
"""File, title, beginning of its measures' names, whether the scale is logarithmic."""


def write(figures: Sequence[Figure], data: dict[str, Any]) -> Path:
    """Write the generated part of the page, and the plots; return the page's path."""
    text = PAGE.read_text() if PAGE.exists() else f"# Performance\n\n{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    names = _plots(figures, DOCS / "performance")
    pictures = "\n".join(f"![{title}](performance/{name}.svg)\n" for name, title in names)
    generated = f"{BEGIN}\n{_machine(data)}\n\n{table(figures)}\n\n{pictures}{END}"
    PAGE.write_text(f"{before}{generated}{after}")
    return PAGE


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as a Markdown table."""
    heading, *lines = rows(figures)
    ruler = ["---"] * len(heading)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heading, ruler, *lines))


def _machine(data: dict[str, Any]) -> str:
    machine = data["machine"]
    return (
        f"{data['at']}, in {data['seconds']:.0f} s: {machine['cores']} cores of {machine['cpu']},"
        f" {machine['memory_gib']:g} GiB, Linux {machine['kernel']}, Python {machine['python']},"
        f" load before the run {machine['load_before']:g}. Medians; take the ratios."
    )


def _plots(figures: Sequence[Figure], directory: Path) -> list[tuple[str, str]]:
    directory.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, title, beginning, logarithmic in PLOTS:
        chosen = [f for f in figures if f.measure.startswith(beginning) and f.unit != "times"]
        groups = [
            (figure.measure, {US: figure.value, **figure.peers})
            for figure in chosen
            if figure.value is not None
        ]
        if groups:
            drawing = bars(title, chosen[0].unit, groups, logarithmic=logarithmic)
            (directory / f"{name}.svg").write_text(drawing)
            drawn.append((name, title))
    return drawn
