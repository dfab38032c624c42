"""python -m bench [--quick]: measure, print one table, keep it in bench/results/."""

import argparse
import sys

from bench import engine, footprint, latency
from bench.figures import keep, show


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    quick = parser.parse_args().quick
    runs = 3 if quick else 9
    figures = [
        *engine.figures(runs),
        *latency.figures(100 if quick else 500),
        *footprint.figures(runs),
    ]
    show(figures)
    keep("quick" if quick else "full", figures)
    return 0 if all(figure.met is not False for figure in figures) else 1


sys.exit(main())
