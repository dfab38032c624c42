"""Measure the idle daemon's memory and the cold start of the command line."""

import time
from functools import partial

from bench.figures import Figure, at_most, median_of
from bench.lab import Daemon, Lab, resident_mib
from sentryfw.engine.model import Source
from sentryfw.netfilter.table import Table

BLOCK_COUNT = 100


def figures(runs: int) -> list[Figure]:
    found = []
    with Lab() as lab, Daemon(lab) as daemon:
        memory = resident_mib(daemon.pid)
        lab.victim.call(_block_some)
        for command in ("list", "status"):
            seconds, spread = median_of(partial(_seconds, daemon, command), runs)
            found.append(at_most(f"sentryfw {command}, cold start", seconds, "s", 0.1, spread))
    return [at_most("sentryfwd idle, resident", memory, "MiB", 28), *found]


def _block_some() -> None:
    table = Table()
    table.sets.block(
        [(Source((0x0B000000 + index).to_bytes(4)), 600.0) for index in range(BLOCK_COUNT)]
    )
    table.close()


def _seconds(daemon: Daemon, command: str) -> float:
    begin = time.perf_counter()
    daemon.cli(command, "--json")
    return time.perf_counter() - begin
