"""Measure a start over a list of never-block networks, and `sentryfw allow` beside them."""

import random
import statistics
import time
from ipaddress import IPv4Address, ip_address

from bench.figures import Figure, at_most, noted, spread_of
from bench.lab import Daemon, Lab, cpu_seconds

START_GOAL_S = 1.0
ALLOW_GOAL_S = 0.3
ALLOWED = 0xC6336400
"""198.51.100.0, which is in no list: every second address from here is allowed."""


def figures(count: int, runs: int) -> list[Figure]:
    """Return the seconds of a start, and of commands until the kernel holds their network."""
    with Lab() as lab:
        addresses = _scattered(count)
        halves = [lab.directory / name for name in ("one", "other")]  # a list has at most 1 MiB
        for number, path in enumerate(halves):
            path.write_text("".join(f"{address}\n" for address in addresses[number::2]))
        with Daemon(lab, f"[never_block]\nfiles = {[*map(str, halves)]}\n") as daemon:
            daemon.stop()
            start = daemon.start()
            start_cpu = cpu_seconds(daemon.pid)
            added = [_seconds(daemon, "add", number) for number in range(runs)]
            cost = (cpu_seconds(daemon.pid) - start_cpu) / runs
            removed = [_seconds(daemon, "del", number) for number in range(runs)]
    return [
        at_most(f"start of the daemon, {count:,} never-block networks", start, "s", START_GOAL_S,
                f"{start_cpu:.1f} s of CPU"),
        at_most(f"allow add beside {count:,} networks", statistics.median(added), "s",
                ALLOW_GOAL_S, f"{spread_of(added)}, {cost:.2f} s of the daemon's CPU"),
        noted(f"allow del beside {count:,} networks", statistics.median(removed), "s",
              spread_of(removed)),
    ]  # fmt: skip


def _scattered(count: int) -> list[IPv4Address]:
    """Return distinct addresses in no order, none of which touches another or ALLOWED."""
    chance = random.Random(1)
    return [IPv4Address(2 * number) for number in chance.sample(range(1 << 23, 0x60000000), count)]


def _seconds(daemon: Daemon, verb: str, number: int) -> float:
    begin = time.perf_counter()
    done = daemon.cli("allow", verb, str(ip_address(ALLOWED + 2 * number + 1)))
    assert done.returncode == 0, done.stderr
    return time.perf_counter() - begin
