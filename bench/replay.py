"""Measure how fast a capture is judged: read, link layer, decode, conntrack, decision."""

import struct
import tempfile
import time
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

from bench.engine import syns
from bench.figures import Figure, median_of
from sentryfw.config.model import Config
from sentryfw.tools.replay.run import first_pass, judge, replay
from sentryfw.tools.replay.view import CaptureView

REPEAT_COUNT = 10
LOCAL = (ip_network("198.18.0.1"),)
MIN_PACKETS_PER_S = 100_000
"""Packets a second on one core, as the least; the goal is 150,000."""


def figures(runs: int) -> list[Figure]:
    """Return the rates for SYNs of 2,000 scanners, and for a spoofed flood of new sources."""
    with tempfile.TemporaryDirectory() as directory:
        scans, flood = Path(directory) / "scans.pcap", Path(directory) / "flood.pcap"
        packets = _write(scans, 2000)
        _write(flood, 1 << 24)
        view = CaptureView(LOCAL, frozenset())
        return [
            _rate("replay, judging scans", lambda: judge(scans, Config(), view), packets, runs),
            _rate("replay, a flood", lambda: judge(flood, Config(), view), packets, runs, 0),
            _rate("replay, the guess", lambda: first_pass(scans, (), None), packets, runs),
            _rate("replay, both passes", lambda: replay(scans, Config()), packets, runs),
        ]  # fmt: skip


def _write(path: Path, sources: int) -> int:
    """Write a capture of SYNs, 10,000 a second; return their number."""
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)
    ether = bytes(12) + b"\x08\x00"
    payloads = syns(sources) * REPEAT_COUNT
    with path.open("wb") as file:
        file.write(header)
        for number, payload in enumerate(payloads):
            seconds, tick = divmod(number, 10_000)
            size = len(ether) + len(payload)
            file.write(struct.pack("<IIII", seconds, tick * 100, size, size) + ether + payload)
    return len(payloads)


def _rate(
    measure: str,
    work: Callable[[], object],
    packets: int,
    runs: int,
    least: int = MIN_PACKETS_PER_S,
) -> Figure:
    def once() -> float:
        begin = time.perf_counter()
        work()
        return packets / (time.perf_counter() - begin)

    rate, spread = median_of(once, runs)
    goal = f">= {least:g}" if least else ""
    return Figure(measure, rate, "packets/s", goal, rate >= least if least else None, spread)
