"""Measure a line in hosts.deny and a blackhole route, beside a hundred thousand others."""

import statistics
import tempfile
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

from bench.figures import Figure, at_most, spread_of
from bench.lab import Lab
from bench.scale import FIRST, PROBES
from sentryfw.respond.hosts_deny import HostsDenyFile
from sentryfw.respond.route import Routes

GOAL_MS = 10.0


def figures(count: int, runs: int) -> list[Figure]:
    """Return the milliseconds of an addition, until it is on the disk or in the kernel."""
    addresses = {str(ip_address(FIRST + number)) for number in range(count)}
    with tempfile.TemporaryDirectory(prefix=".bench", dir=Path.cwd()) as directory:
        file = HostsDenyFile(Path(directory) / "hosts.deny", "ALL: {address}")
        file.sync(addresses)
        lines = _times(file.apply, runs)
    with Lab() as lab:
        routes = lab.victim.call(lambda: _routes(addresses, runs))
    return [
        at_most(f"{name}, an addition beside {count:,}", statistics.median(times), "ms", GOAL_MS,
                spread_of(times))
        for name, times in (("hosts.deny", lines), ("blackhole route", routes))
    ]  # fmt: skip


def _routes(addresses: set[str], runs: int) -> list[float]:
    routes = Routes()
    routes.sync(addresses)
    times = _times(routes.apply, runs)
    routes.close()
    return times


def _times(apply: Callable[[dict[str, bool]], dict[str, str]], runs: int) -> list[float]:
    times = []
    for number in range(runs):
        begin = time.perf_counter()
        refused = apply({str(ip_address(PROBES + number)): True})
        times.append((time.perf_counter() - begin) * 1e3)
        assert not refused, refused
    return times
