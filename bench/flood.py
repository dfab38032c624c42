"""Measure whether scanners are blocked during a spoofed flood at full speed, and the cost."""

import time

from bench.figures import Figure, at_least, at_most, noted, percentile
from bench.frames import syn
from bench.lab import Daemon, Lab, cpu_seconds, resident_mib, stop_sending
from bench.latency import SPOOFED, scan
from bench.peers import TRIGGERS, US
from bench.throughput import verdicts

SCANNER_COUNT = 50
PROBES_PER_S = 250
"""Probes a second of all scanners together, so that each waits 0.2 s for its next."""


def figures(runs: int, seconds: float) -> list[Figure]:
    beyond: list[int] = []
    taken: list[float] = []
    with Lab() as lab, Daemon(lab) as daemon:
        quiet, _ = scan(lab, range(0x0B000001, 0x0B000001 + SCANNER_COUNT), TRIGGERS[US], extra=1,
                        pace=PROBES_PER_S)  # fmt: skip
        memory, used, begin, judged = _state(lab, daemon)
        frames = lab.frames("flood", [syn(SPOOFED, 7000 + number) for number in range(64)])
        sending = lab.start_sending(frames, "--spoof", SPOOFED, "--seconds", 999)
        time.sleep(1)
        for number in range(runs):
            first = 0x0B010001 + number * SCANNER_COUNT
            times, late = scan(
                lab, range(first, first + SCANNER_COUNT), TRIGGERS[US], extra=4, pace=PROBES_PER_S
            )
            taken += times
            beyond += late
        while time.monotonic() - begin < seconds:
            time.sleep(0.1)
        after, used_after, end, judged_after = _state(lab, daemon)
        flood = stop_sending(sending)
    elapsed = end - begin
    blocked = len(beyond) / (runs * SCANNER_COUNT)
    return [
        noted("flood, SYNs sent", flood["sent"] / flood["seconds"], "packets/s",
              f"{flood['sent']:,.0f} sources"),
        at_least("flood, scanners blocked", 100 * blocked, "%", 100, f"{len(beyond)} blocked"),
        at_most("flood, probes beyond the trigger, most", max(beyond, default=99), "probes", 2,
                f"median {percentile(beyond, 0.5):g}, p99 {percentile(beyond, 0.99):g}"
                if beyond else ""),
        noted("flood, trigger to element, median", percentile(taken, 0.5) if taken else None, "ms",
              f"idle {percentile(quiet, 0.5):.3g}"),
        at_most("flood, growth of resident memory", after - memory, "MiB", 64,
                f"{memory:.0f} to {after:.0f}"),
        at_most("flood, CPU of the daemon", 100 * (used_after - used) / elapsed, "% of a core", 60,
                f"{(judged_after - judged) / elapsed:,.0f} judged/s"),
    ]  # fmt: skip


def _state(lab: Lab, daemon: Daemon) -> tuple[float, float, float, int]:
    return resident_mib(daemon.pid), cpu_seconds(daemon.pid), time.monotonic(), verdicts(lab)
