"""Measure SentryFW and its peers side by side; print one table and keep it in bench/results/.

    python -m bench [--quick] [--only NAME ...] [--strict]

The full form also writes docs/performance.md. A missed goal is printed as MISSED; with --strict
the exit code is 1 then.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from bench import (
    blocked,
    build,
    capture,
    engine,
    fleet,
    flood,
    footprint,
    latency,
    leak,
    never_block,
    reactions,
    replay,
    report,
    scale,
    services,
    throughput,
)
from bench.figures import Figure, keep, load, machine, show
from sentryfw.errors import SentryError

LARGE_COUNT = 1_000_000
GOALS_100K = {"list": 0.8, "unblock": 50.0, "restore": 3.0, "memory": 70.0}
GOALS_1M = {"list": 10.0, "unblock": 50.0, "restore": 6.0, "memory": 200.0}

Step = Callable[[], Sequence[Figure]]
T = TypeVar("T")

LENGTHY = ("million", "replay")
"""Measures that the quick form leaves out."""


def steps(*, quick: bool, peers: bool) -> dict[str, Step]:
    """Return the measures in their order; `quick`: with fewer repetitions."""

    def times(full: T, short: T) -> T:
        return short if quick else full

    sizes = [0, 10_000, 100_000, *times([LARGE_COUNT], [])]
    found: dict[str, Step] = {
        "leak": lambda: leak.figures(times(2, 1), peers=peers and not quick),
        "latency": lambda: latency.figures(times(5, 2), peers=peers and not quick),
        "throughput": lambda: throughput.figures(*times((5, 2), (1, 1))),
        "flood": lambda: flood.figures(*times((6, 20), (2, 5))),
        "services": lambda: services.figures(*times((5, 3), (1, 1))) if peers else [],
        "blocked": lambda: blocked.figures(*times((7, 1), (3, 0.5))),
        "add": lambda: scale.figures(sizes, times(500, 200)),
        "scale": lambda: scale.commands(*times((100_000, GOALS_100K, 3), (10_000, {}, 1))),
        "million": lambda: scale.commands(LARGE_COUNT, GOALS_1M, 1),
        "reactions": lambda: reactions.figures(*times((100_000, 200), (10_000, 50))),
        "never-block": lambda: never_block.figures(*times((100_000, 7), (10_000, 3))),
        "fleet": lambda: fleet.figures(*times((500, 100_000), (100, 20_000))),
        "engine": lambda: engine.figures(times(5, 3)),
        "replay": lambda: [*replay.figures(3), *capture.figures(1_000_000_000)],
        "cli": lambda: footprint.figures(times(9, 3)),
    }
    return {name: step for name, step in found.items() if not quick or name not in LENGTHY}


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, no peers")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these measures")
    parser.add_argument("--strict", action="store_true", help="exit code 1 where a goal is missed")
    options = parser.parse_args()
    begin, where = time.monotonic(), machine()
    build.compile_programs()
    absent = build.fetch_packages()
    if absent:
        print(f"bench: without Debian's peers and nginx: {absent}", file=sys.stderr)
    measures = steps(quick=options.quick, peers=absent is None)
    name = "partial" if options.only else "quick" if options.quick else "full"
    figures: list[Figure] = []
    for step_name, step in measures.items():
        if not options.only or step_name in options.only:
            figures += _run(step_name, step)
            # Kept after each measure, in case the run is interrupted.
            keep(f"{name}.part", figures, where, time.monotonic() - begin)
    show(figures)
    path = keep(name, figures, where, time.monotonic() - begin)
    path.with_name(f"{name}.part.json").unlink(missing_ok=True)
    print(f"\n{path}, after {time.monotonic() - begin:.0f} s")
    if name == "full":
        print(report.write(*load(name)))
    return int(options.strict and any(figure.met is False for figure in figures))


def _run(name: str, step: Step) -> Sequence[Figure]:
    """Take a measure; if it fails, return a missed figure with the reason, and go on."""
    begin = time.monotonic()
    try:
        found = step()
    except (AssertionError, OSError, SentryError, ValueError, subprocess.SubprocessError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        print(f"bench: {name}: {reason}", file=sys.stderr)
        return [Figure(name, None, "", "to be measured", met=False, spread=reason[:60])]
    print(f"bench: {name}: {time.monotonic() - begin:.0f} s", file=sys.stderr)
    return found


if __name__ == "__main__":
    sys.exit(main())
