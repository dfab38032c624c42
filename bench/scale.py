"""Measure adding a block, and the commands about blocks, with up to a million blocks."""

import statistics
import time
from collections.abc import Iterator
from functools import partial
from ipaddress import ip_address
from typing import NamedTuple

from bench.figures import Figure, at_most, noted, percentile, spread_of
from bench.lab import Daemon, Lab, cpu_seconds, resident_mib
from bench.latency import scan
from sentryfw.engine.model import Source
from sentryfw.netfilter.schema import TABLE
from sentryfw.netfilter.table import Table
from sentryfw.netlink import message as nlmsg
from sentryfw.netlink import nftables as nl
from sentryfw.netlink import set_elements
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.record.ledger import Ledger
from sentryfw.record.records import DecisionRecord

FIRST = 0x20000000
PROBES = 0x0B000001
FILL_BATCH = 10_000
BLOCK_TIMEOUT_S = 86400.0
LARGE = f"[block]\nmax_elements = {1 << 20}\n"
INTERVAL_COUNT = 10_000
SCANNER_COUNT = 50
TRIGGER_COUNT = 3
RECONCILE_TIMEOUT_S = 600.0


def figures(sizes: list[int], probes: int) -> list[Figure]:
    """Return the time of one block at each size, and beside a big interval set."""
    found = []
    medians = []
    with Lab() as lab, Daemon(lab, LARGE) as daemon:
        daemon.stop()  # reconciliation is another measure
        present = 0
        for size in sizes:
            lab.victim.call(partial(fill, present, size))
            present = size
            times = lab.victim.call(lambda: _add(probes))
            medians.append(statistics.median(times))
            found.append(
                at_most(f"add a block, {size:,} blocked", medians[-1], "us", 200, spread_of(times))
            )
        lab.nft(lab.victim, _intervals())
        times = lab.victim.call(lambda: _add(probes))
        label = f"add a block, {present:,} blocked, and {INTERVAL_COUNT:,} intervals elsewhere"
        found.append(at_most(label, statistics.median(times), "us", 200, spread_of(times)))
    found.append(noted("add a block, largest by smallest set", medians[-1] / medians[0], "times"))
    return found


def fill(start: int, end: int) -> None:
    """Block the addresses FIRST + start to FIRST + end."""
    with NfnetlinkSocket() as netlink:
        netlink.grow(64 << 20)  # transactions of thousands
        for low in range(start, end, FILL_BATCH):
            keys = ((FIRST + n).to_bytes(4) for n in range(low, min(low + FILL_BATCH, end)))
            bodies = (
                set_elements.set_element(TABLE, "block4", key, BLOCK_TIMEOUT_S) for key in keys
            )
            messages = [(nl.NFT_MSG_NEWSETELEM, nlmsg.NLM_F_CREATE, body) for body in bodies]
            netlink.transact(messages, "fill")


def _add(probes: int) -> list[float]:
    """Return the microseconds of single acknowledged blocks; all are unblocked again."""
    table = Table()
    times = []
    for number in range(probes):
        source = Source((PROBES + number).to_bytes(4))
        begin = time.perf_counter()
        table.sets.block([(source, 600.0)])
        times.append((time.perf_counter() - begin) * 1e6)
        table.sets.unblock(source)
    table.close()
    return times


def _intervals() -> str:
    elements = ", ".join(f"100.{n >> 8}.{n & 255}.16-100.{n >> 8}.{n & 255}.31"
                         for n in range(INTERVAL_COUNT))  # fmt: skip
    return (
        "table inet other {\n\tset big {\n\t\ttype ipv4_addr\n\t\tflags interval\n"
        f"\t\telements = {{ {elements} }}\n\t}}\n}}\n"
    )


def commands(size: int, goals: dict[str, float], runs: int = 3) -> list[Figure]:
    """Return the figures of commands and daemon with `size` blocks in kernel and ledger."""
    with Lab() as lab, Daemon(lab, LARGE) as daemon:
        empty = resident_mib(daemon.pid)
        daemon.stop()
        _block(lab, daemon, size)
        restart = _start(lab, daemon, size)
        memory = resident_mib(daemon.pid)
        reconcile = _reconcile(lab, daemon, size)
        listing, lines = zip(*(_timed(daemon, "list") for _ in range(runs)), strict=True)
        assert set(lines) == {size + 1 + reconcile.blocked}, lines
        status, _ = zip(*(_timed(daemon, "status") for _ in range(runs)), strict=True)
        cold = [_timed(daemon, "check")[0] for _ in range(runs)]
        unblock = [_unblock(daemon, number) for number in range(runs)]
        daemon.stop()
        lab.victim.run("nft", "delete", "table", "inet", "sentryfw")
        restore = _start(lab, daemon, size + reconcile.blocked - runs)
        memory = max(memory, resident_mib(daemon.pid, "VmHWM"))
    alone = max(0.0, statistics.median(unblock) - statistics.median(cold))
    return [
        _figure(f"list, {size:,} blocks", statistics.median(listing), "s", goals.get("list"),
                spread_of(listing)),
        _figure(f"status, {size:,} blocks", statistics.median(status), "s", goals.get("status"),
                spread_of(status)),
        _figure(f"unblock, {size:,} blocks, beyond the start of the CLI", 1000 * alone, "ms",
                goals.get("unblock"), spread_of([1000 * value for value in unblock])),
        noted(f"restart of the daemon, {size:,} blocks in the kernel", restart.seconds, "s",
              restart.cost),
        _figure(f"restore, {size:,} blocks into an empty kernel", restore.seconds, "s",
                goals.get("restore"), restore.cost),
        noted(f"reconcile, {size:,} blocks", reconcile.seconds, "s", reconcile.cost),
        noted("trigger to element meanwhile, median", statistics.median(reconcile.latencies), "ms",
              spread_of(reconcile.latencies)),
        noted("trigger to element meanwhile, p99", percentile(reconcile.latencies, 0.99), "ms",
              f"{reconcile.blocked} scanners"),
        _figure(f"resident memory of the daemon, {size:,} blocks", memory, "MiB",
                goals.get("memory"), f"empty {empty:.0f}"),
    ]  # fmt: skip


class Started(NamedTuple):
    """A start of the daemon until it answers, when all blocks are in the kernel."""

    seconds: float
    cost: str


class Reconciled(NamedTuple):
    seconds: float
    cost: str
    latencies: list[float]
    """Milliseconds from the triggering probe to the element, during reconciliation."""
    blocked: int


def _start(lab: Lab, daemon: Daemon, size: int) -> Started:
    """Start the daemon and count the blocks once: polling would keep the kernel busy."""
    seconds = daemon.start()
    cpu = cpu_seconds(daemon.pid)
    reconciled = daemon.status()["reconciled"]
    there = lab.victim.call(_count)
    assert there == reconciled["kernel"] == size, f"{there} of {size} blocks, {reconciled}"
    return Started(seconds, f"{cpu:.1f} s of CPU")


def _reconcile(lab: Lab, daemon: Daemon, size: int) -> Reconciled:
    """Measure a comparison of kernel, memory and ledger while scanners are blocked."""
    before = daemon.status()["reconciled"]["runs"]
    cpu = cpu_seconds(daemon.pid)
    begin = time.monotonic()
    assert daemon.ask("reconcile") == {}
    latencies: list[float] = []
    blocked = 0
    while daemon.status()["reconciled"]["runs"] == before or not blocked:
        scanners = range(PROBES + blocked, PROBES + blocked + SCANNER_COUNT)
        found, _ = scan(lab, scanners, TRIGGER_COUNT, extra=1)
        assert len(found) == SCANNER_COUNT, f"{len(found)} of {SCANNER_COUNT} scanners are blocked"
        latencies += found
        blocked += SCANNER_COUNT
    reconciled = daemon.status()["reconciled"]
    spent = cpu_seconds(daemon.pid) - cpu
    assert time.monotonic() - begin < RECONCILE_TIMEOUT_S
    assert reconciled["fault"] == "", reconciled["fault"]
    assert reconciled["kernel"] >= size <= reconciled["ledger"], reconciled
    return Reconciled(reconciled["seconds"], f"{spent:.1f} s of CPU", latencies, blocked)


def _count() -> int:
    table = Table()
    count = sum(table.sets.count_blocked().values())
    table.close()
    return count


def _figure(
    measure: str, value: float | None, unit: str, limit: float | None, spread: str = ""
) -> Figure:
    if limit is None:
        return noted(measure, value, unit, spread)
    return at_most(measure, value, unit, limit, spread)


def _block(lab: Lab, daemon: Daemon, size: int) -> None:
    """Block `size` addresses in the kernel and in the ledger; both then agree when each ends."""
    with Ledger(daemon.home / "state" / "ledger.db") as ledger:
        for low in range(0, size, FILL_BATCH):
            high = min(low + FILL_BATCH, size)
            lab.victim.call(partial(fill, low, high))
            ledger.add(_entries(low, high, time.time()))


def _entries(start: int, end: int, now: float) -> Iterator[DecisionRecord]:
    for number in range(start, end):
        yield DecisionRecord(
            address=str(ip_address(FIRST + number)), family=4, scan="portscan", kinds=["syn"],
            targets=3, probes=3, first_seen=now - 1, blocked_at=now,
            timeout_s=BLOCK_TIMEOUT_S, offence=1, forgeable=True, tool="nmap",
            reason="3 distinct targets within the window",
            sample=[], blocked=True,
        )  # fmt: skip


def _timed(daemon: Daemon, *words: str) -> tuple[float, int]:
    """Return the seconds that a command took, and the number of lines it printed."""
    begin = time.perf_counter()
    done = daemon.cli(*words)
    return time.perf_counter() - begin, done.stdout.count("\n")


def _unblock(daemon: Daemon, number: int) -> float:
    return _timed(daemon, "unblock", str(ip_address(FIRST + number)))[0]
