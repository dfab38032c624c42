"""Measure the hub of a fleet: from a member's link to another's, a newcomer, and fifty members.

A redis-server of its own on a UNIX socket; the links' own code on both sides. A newcomer is a
daemon in a namespace with its link: all entries of a member until they are in its kernel, and how
long a scanner waits for its block while they come.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Network, ip_network
from pathlib import Path
from subprocess import DEVNULL
from typing import Final

from bench.figures import Figure, at_most, noted, percentile, spread_of
from bench.lab import Daemon, Lab, wait_for
from bench.latency import SCANNER_COUNT, scan
from sentryfw.config import load
from sentryfw.config.fleet import FleetHub
from sentryfw.control.client import ask_stream
from sentryfw.fleet.entry import Entry
from sentryfw.fleet.link.hub import Hub
from sentryfw.fleet.link.stream_items import Signed, SignedSeal
from sentryfw.fleet.seal import SEAL_COUNT, seal
from sentryfw.fleet.signature import Signer, verify

MEMBER_COUNT: Final = 50
EACH_COUNT: Final = 200
START_S: Final = 10.0
SIGNER: Final = Signer(b"1" * 32)


def figures(samples: int, replayed: int) -> list[Figure]:
    """Return the latency of `samples` entries, and how long `replayed` entries take."""
    if shutil.which("redis-server") is None:
        return [noted("hub: publish to receipt, median", None, "ms", "without redis-server")]
    with _server() as path:
        latencies = _latencies(path, samples)
        seconds = _replay(path, replayed)
        to_kernel, latencies_beside = _newcomer(path, replayed)
        together = _members(path)
    checks = _checks(2000)
    count = MEMBER_COUNT * EACH_COUNT
    return [
        at_most("hub: publish to receipt, median", statistics.median(latencies), "ms", 5,
                spread_of(latencies)),
        noted("hub: publish to receipt, p99", percentile(latencies, 0.99), "ms",
              f"{samples} entries"),
        at_most(f"hub: {replayed:,} entries to a newcomer's link", seconds, "s", 10),
        at_most(f"fleet: {replayed:,} entries to a newcomer's kernel", to_kernel, "s", 10),
        noted("fleet: trigger to element while a newcomer catches up, p99",
              percentile(latencies_beside, 0.99) if latencies_beside else None, "ms",
              f"median {statistics.median(latencies_beside):.2f}" if latencies_beside else ""),
        noted(f"hub: {MEMBER_COUNT} members, each entry read by one more", count / together,
              "entries/s", f"{count:,} entries"),
        noted("fleet: check of a signature", statistics.median(checks), "us", spread_of(checks)),
    ]  # fmt: skip


def _latencies(path: Path, samples: int) -> list[float]:
    """Return the milliseconds from before an entry is added until another member has it."""
    sender, reader = _connected(path, "near"), _connected(path, "far")
    found: list[float] = []
    for number in range(1, samples + 1):
        entry, got = _entry("near", number), [0.0]

        def read(after: int = number - 1, got: list[float] = got) -> None:
            reader.read({"near": after})
            got[0] = time.perf_counter()

        thread = threading.Thread(target=read)
        thread.start()
        time.sleep(0.002)  # it waits at the hub by then, as a link does
        begin = time.perf_counter()
        sender.add([entry])
        thread.join()
        found.append((got[0] - begin) * 1000)
    return found


def _replay(path: Path, count: int) -> float:
    """Return the seconds in which a newcomer's link reads and checks the form of all entries."""
    sender = _connected(path, "old")
    for first in range(1, count + 1, SEAL_COUNT):
        sender.add(_part("old", range(first, min(first + SEAL_COUNT, count + 1))))
    reader = _connected(path, "new")
    begin, after = time.perf_counter(), 0
    while after < count:
        [stream] = reader.read({"old": after})
        after = stream.cursor
    return time.perf_counter() - begin


def _newcomer(path: Path, count: int) -> tuple[float, list[float]]:
    """Return the seconds in which a newcomer's kernel has the entries of _replay(), and the
    milliseconds from a scanner's trigger to its block while another one catches up."""
    settings = (
        f'[fleet]\nname = "new"\n[fleet.members.old]\nkey = "{SIGNER.public_key().hex()}"\n'
        f'trust = "full"\n[fleet.hub]\nurl = "unix://{path}"'
    )
    with Lab() as lab:
        with Daemon(lab, settings) as daemon, _link(daemon):
            begin = time.perf_counter()
            wait_for(lambda: _position(daemon) >= count, "all entries", 120)
            seconds = time.perf_counter() - begin
        with Daemon(lab, settings) as daemon, _link(daemon):
            wait_for(lambda: _position(daemon) > 0, "the first entries", 60)
            scanners = range(0x0B000001, 0x0B000001 + SCANNER_COUNT)
            trigger = load(daemon.config).detect.trigger
            times, _ = scan(lab, scanners, trigger, extra=4)
            if _position(daemon) >= count:
                times = []  # it had caught up before the scanners were done
    return seconds, times


def _position(daemon: Daemon) -> int:
    [numbers] = ask_stream(load(daemon.config).paths.control, {"do": "fleet-positions"})
    return int(numbers["old"])


@contextmanager
def _link(daemon: Daemon) -> Iterator[None]:
    """Run the link of a daemon."""
    load(daemon.config).paths.link_status.parent.mkdir(exist_ok=True)
    command: list[str | Path] = [
        sys.executable, "-P", "-m", "sentryfw.fleet.link.main", "-c", daemon.config,
    ]  # fmt: skip
    process = daemon.lab.victim.popen(command, stdout=DEVNULL, stderr=DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _members(path: Path) -> float:
    """Return the seconds in which one member reads what MEMBER_COUNT others add in them."""
    names = [f"member{number}" for number in range(MEMBER_COUNT)]
    made = {name: [_entry(name, n) for n in range(1, EACH_COUNT + 1)] for name in names}

    def send(name: str) -> None:
        hub = _connected(path, name)
        for entry in made[name]:
            hub.add([entry])

    reader = _connected(path, "reader")
    threads = [threading.Thread(target=send, args=(name,)) for name in names]
    begin, after = time.perf_counter(), dict.fromkeys(names, 0)
    for thread in threads:
        thread.start()
    while min(after.values()) < EACH_COUNT:
        after |= {stream.member: stream.cursor for stream in reader.read(after)}
    for thread in threads:
        thread.join()
    return time.perf_counter() - begin


def _checks(count: int) -> list[float]:
    """Return the microseconds of checks of a signature."""
    entry, public = _entry("near", 1), SIGNER.public_key()
    raw, signature = entry.entry.encode(), bytes.fromhex(entry.signature)
    found = []
    for _ in range(count):
        begin = time.perf_counter()
        verify(public, raw, signature)
        found.append((time.perf_counter() - begin) * 1e6)
    return found


def _part(member: str, numbers: range) -> list[Signed]:
    """Return entries with their seal, as a link adds them."""
    found = [_entry(member, number) for number in numbers]
    text = seal(member, numbers, [one.entry for one in found]).encode()
    signed_seal = SignedSeal(text.decode(), SIGNER.sign(text).hex())
    return [*found[:-1], found[-1]._replace(seal=signed_seal)]


def _entry(member: str, seq: int) -> Signed:
    """Return an entry: the sets of both families have room for 65,536 each."""
    network = (
        IPv6Network(((0x20010DB8 << 32 | seq) << 64, 64))
        if seq % 2
        else ip_network(0x0A000000 + seq)
    )
    raw = Entry(
        op="block", member=member, seq=seq, network=network, duration_s=3600,
        evidence="forgeable", scan="portscan", reason="3 distinct targets within the window",
        at=1_800_000_000,
    ).encode()  # fmt: skip
    return Signed(seq, raw.decode(), SIGNER.sign(raw).hex())


def _connected(path: Path, own: str) -> Hub:
    hub = Hub(FleetHub(url=f"unix://{path}"), own)
    hub.connect()
    return hub


@contextmanager
def _server() -> Iterator[Path]:
    """Run a redis-server with the durability of `fleet init`; yield the path of its socket."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        path = Path(directory) / "redis.sock"
        command: list[str | Path] = [
            "redis-server", "--port", "0", "--unixsocket", path, "--dir", directory,
            "--appendonly", "yes", "--save", "",
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            end = time.monotonic() + START_S
            while not path.exists() and time.monotonic() < end:
                time.sleep(0.01)
            try:
                yield path
            finally:
                process.kill()
