"""Adding a block, and the commands on blocks, with up to a million of them."""

import statistics
import time
from collections.abc import Iterator
from ipaddress import ip_address

from bench.figures import Figure, at_most, noted, spread_of
from bench.lab import Daemon, Lab, resident_mib, wait_for
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
    """list, status, unblock, restart and restore with so many blocks in kernel and ledger."""
    with Lab() as lab, Daemon(lab, LARGE) as daemon:
        empty = resident_mib(daemon.pid)
        daemon.stop()
        lab.victim.call(lambda: fill(0, size))
        _record(daemon, size)
        restart = daemon.start()
        memory = resident_mib(daemon.pid)
        listing, lines = zip(*(_timed(daemon, "list") for _ in range(runs)), strict=True)
        assert set(lines) == {size + 1}, lines
        status, _ = zip(*(_timed(daemon, "status") for _ in range(runs)), strict=True)
        cold = [_timed(daemon, "check")[0] for _ in range(runs)]
        unblock = [_unblock(daemon, number) for number in range(runs)]
        daemon.stop()
        lab.victim.run("nft", "delete", "table", "inet", "sentryfw")
        restore = _restore(lab, daemon, size - runs)
        restored = resident_mib(daemon.pid, "VmHWM") if restore is not None else 0.0
    alone = max(0.0, statistics.median(unblock) - statistics.median(cold))
    return [
        _figure(f"list, {size:,} blocks", statistics.median(listing), "s", goals.get("list"),
                spread_of(listing)),
        _figure(f"status, {size:,} blocks", statistics.median(status), "s", goals.get("status"),
                spread_of(status)),
        _figure(f"unblock, {size:,} blocks, beyond the start of the CLI", 1000 * alone, "ms",
                goals.get("unblock"), spread_of([1000 * value for value in unblock])),
        noted(f"restart of the daemon, {size:,} blocks in the kernel", restart, "s"),
        _figure(f"restore, {size:,} blocks into an empty kernel", restore, "s",
                goals.get("restore")),
        _figure(f"resident memory of the daemon, {size:,} blocks", max(memory, restored), "MiB",
                goals.get("memory"), f"empty {empty:.0f}"),
    ]  # fmt: skip


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


def _restore(lab: Lab, daemon: Daemon, size: int) -> float | None:
    """Seconds from the start of the daemon until the kernel holds all of the ledger's blocks;
    None where they do not come back."""
    begin = time.monotonic()
    daemon.start()
    try:
        wait_for(lambda: lab.victim.call(_blocked) >= size, "blocks come back", 60)
    except AssertionError:
        return None
    return time.monotonic() - begin


def _blocked() -> int:
    table = Table()
    count = sum(1 for _ in table.blocked_sources())
    table.close()
    return count
