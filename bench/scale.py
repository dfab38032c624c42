"""Adding a block, and the commands on blocks, with up to a million of them."""

import statistics
import time
from collections.abc import Iterator
from ipaddress import ip_address
from typing import NamedTuple

from bench.figures import Figure, at_most, noted, percentile, spread_of
from bench.lab import Daemon, Lab, cpu_seconds, resident_mib
from bench.latency import scan
from sentryfw.engine.model import Source
from sentryfw.netfilter import nfnetlink as nl
from sentryfw.netfilter.netlink import NfnetlinkSocket
from sentryfw.netfilter.table import TABLE, Table
from sentryfw.record.entry import Entry
from sentryfw.record.ledger import Ledger

FIRST = 0x20000000
PROBES = 0x0B000001
CHUNK = 10_000
TIMEOUT = 86400.0
LARGE = f"[block]\nmax_elements = {1 << 20}\n"
INTERVALS = 10_000
SCANNERS = 50
TRIGGER = 3
PATIENCE = 600.0


def figures(sizes: list[int], probes: int) -> list[Figure]:
    """The time of one block at each size, also beside a big interval set of another table."""
    found = []
    medians = []
    with Lab() as lab, Daemon(lab, LARGE) as daemon:
        daemon.stop()  # what it keeps in step with the kernel is another measure
        present = 0
        for size in sizes:
            lab.victim.call(lambda start=present, end=size: fill(start, end))
            present = size
            times = lab.victim.call(lambda: _add(probes))
            medians.append(statistics.median(times))
            found.append(
                at_most(f"add a block, {size:,} blocked", medians[-1], "us", 200, spread_of(times))
            )
        lab.nft(lab.victim, _intervals())
        times = lab.victim.call(lambda: _add(probes))
        label = f"add a block, {present:,} blocked, and {INTERVALS:,} intervals elsewhere"
        found.append(at_most(label, statistics.median(times), "us", 200, spread_of(times)))
    found.append(noted("add a block, largest by smallest set", medians[-1] / medians[0], "times"))
    return found


def fill(start: int, end: int) -> None:
    """Block FIRST + start .. FIRST + end."""
    with NfnetlinkSocket() as netlink:
        netlink.grow(64 << 20)  # transactions of thousands
        for low in range(start, end, CHUNK):
            keys = ((FIRST + n).to_bytes(4) for n in range(low, min(low + CHUNK, end)))
            bodies = (nl.set_element(TABLE, "block4", key, TIMEOUT) for key in keys)
            messages = [(nl.NFT_MSG_NEWSETELEM, nl.NLM_F_CREATE, body) for body in bodies]
            netlink.transact(messages, "fill")


def _add(probes: int) -> list[float]:
    """Microseconds of one block each, acknowledged; all are taken back."""
    table = Table()
    times = []
    for number in range(probes):
        source = Source((PROBES + number).to_bytes(4))
        begin = time.perf_counter()
        table.block([(source, 600.0)])
        times.append((time.perf_counter() - begin) * 1e6)
        table.unblock(source)
    table.close()
    return times


def _intervals() -> str:
    elements = ", ".join(f"100.{n >> 8}.{n & 255}.16-100.{n >> 8}.{n & 255}.31"
                         for n in range(INTERVALS))  # fmt: skip
    return (
        "table inet other {\n\tset big {\n\t\ttype ipv4_addr\n\t\tflags interval\n"
        f"\t\telements = {{ {elements} }}\n\t}}\n}}\n"
    )


def commands(size: int, goals: dict[str, float], runs: int = 3) -> list[Figure]:
    """The commands and the daemon with so many blocks in kernel and ledger."""
    with Lab() as lab, Daemon(lab, LARGE) as daemon:
        empty = resident_mib(daemon.pid)
        daemon.stop()
        lab.victim.call(lambda: fill(0, size))
        _record(daemon, size)
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
    """A start of the daemon, until it answers: by then all blocks are in the kernel."""

    seconds: float
    cost: str


class Reconciled(NamedTuple):
    seconds: float
    cost: str
    latencies: list[float]
    """Milliseconds from the triggering probe to the element, of scanners meanwhile."""
    blocked: int


def _start(lab: Lab, daemon: Daemon, size: int) -> Started:
    """One count at the end, no polling that would keep the kernel busy."""
    seconds = daemon.start()
    cpu = cpu_seconds(daemon.pid)
    told = daemon.status()["reconciled"]
    there = lab.victim.call(_count)
    assert there == told["kernel"] == size, f"{there} of {size} blocks, {told}"
    return Started(seconds, f"{cpu:.1f} s of CPU")


def _reconcile(lab: Lab, daemon: Daemon, size: int) -> Reconciled:
    """Kernel, memory and ledger compared, while scanners come and are blocked."""
    before = daemon.status()["reconciled"]["runs"]
    cpu = cpu_seconds(daemon.pid)
    begin = time.monotonic()
    assert daemon.ask("reconcile") == {}
    latencies: list[float] = []
    blocked = 0
    while daemon.status()["reconciled"]["runs"] == before or not blocked:
        scanners = range(PROBES + blocked, PROBES + blocked + SCANNERS)
        found, _ = scan(lab, scanners, TRIGGER, extra=1)
        assert len(found) == SCANNERS, f"{len(found)} of {SCANNERS} scanners are blocked"
        latencies += found
        blocked += SCANNERS
    told = daemon.status()["reconciled"]
    spent = cpu_seconds(daemon.pid) - cpu
    assert time.monotonic() - begin < PATIENCE
    assert told["fault"] == "", told["fault"]
    assert told["kernel"] >= size <= told["ledger"], told
    return Reconciled(told["seconds"], f"{spent:.1f} s of CPU", latencies, blocked)


def _count() -> int:
    table = Table()
    count = sum(table.count_blocked().values())
    table.close()
    return count


def _figure(
    measure: str, value: float | None, unit: str, limit: float | None, spread: str = ""
) -> Figure:
    if limit is None:
        return noted(measure, value, unit, spread)
    return at_most(measure, value, unit, limit, spread)


def _record(daemon: Daemon, size: int) -> None:
    """The ledger's entries for what fill() blocked."""
    now = time.time()
    ledger = Ledger(daemon.home / "state" / "ledger.db")
    for low in range(0, size, CHUNK):
        ledger.add(_entries(low, min(low + CHUNK, size), now))
    ledger.close()


def _entries(start: int, end: int, now: float) -> Iterator[Entry]:
    for number in range(start, end):
        yield Entry(
            address=str(ip_address(FIRST + number)), family=4, scan="portscan", kinds=["syn"],
            targets=3, probes=3, first_seen=now - 1, blocked_at=now, timeout_s=TIMEOUT, offence=1,
            forgeable=True, tool="nmap", reason="3 distinct targets within the window",
            sample=[], blocked=True,
        )  # fmt: skip


def _timed(daemon: Daemon, *words: str) -> tuple[float, int]:
    """Seconds that a command took, and the lines it printed."""
    begin = time.perf_counter()
    done = daemon.cli(*words)
    return time.perf_counter() - begin, done.stdout.count("\n")


def _unblock(daemon: Daemon, number: int) -> float:
    return _timed(daemon, "unblock", str(ip_address(FIRST + number)))[0]
