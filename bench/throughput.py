"""Measure how many packets a second are judged, beside a C consumer of the same queue.

Both read the queue of our own table without its rate limits, so that the queue is never empty; one
core for the reader, another for the sender and the kernel.
"""

import re
import shutil
import time
from pathlib import Path
from typing import Final

from bench.build import BUILD
from bench.figures import Figure, share_of
from bench.frames import syn
from bench.lab import FIRST_CPU, LAST_CPU, Daemon, Lab, cpu_seconds, stop_sending
from bench.peers import NFQ, US
from sentryfw.config.model import Config
from sentryfw.netfilter.ruleset import directory

NUMBER: Final = Config().queue.number
WARM_UP_S: Final = 1.0
SPOOFED: Final = 0x0C000000
KNOWN_COUNT: Final = 5000
_LIMIT: Final = re.compile(
    r'^\s*limit rate over .* counter name "over_limit" drop.*\n', re.MULTILINE
)


def figures(runs: int, seconds: float) -> list[Figure]:
    """Return the rates for new sources, and for known sources that repeat their probes.

    Where the sender is slower than a reader, only packets for each second of CPU are comparable.
    """
    found = []
    for name, options in (("new sources", ("--spoof", SPOOFED)), ("known sources", ())):
        rates: dict[str, list[float]] = {US: [], NFQ: []}
        speeds: dict[str, list[float]] = {US: [], NFQ: []}
        with Lab() as lab:
            frames = lab.frames("probes", _probes(known=not options))
            for _ in range(runs):
                for reader, run in ((US, _ours), (NFQ, _limit)):
                    rate, speed = run(lab, frames, options, seconds)
                    rates[reader].append(rate)
                    speeds[reader].append(speed)
        found.append(share_of(f"queue throughput, {name}", rates, "packets/s", US, NFQ, 0.95))
        found.append(
            share_of(f"judged in a second of CPU, {name}", speeds, "packets", US, NFQ, 0.8)
        )
    return found


def _probes(*, known: bool) -> list[bytes]:
    if known:
        return [syn(0x0B000001 + n, port) for port in (7001, 7002) for n in range(KNOWN_COUNT)]
    return [syn(SPOOFED, 7000 + number) for number in range(64)]


def _ours(
    lab: Lab, frames: Path, options: tuple[str | int, ...], seconds: float
) -> tuple[float, float]:
    """Return packets a second, and packets for each second of CPU."""
    with Daemon(lab, cpu=LAST_CPU, rulesets=unlimited(lab)) as daemon:
        return _measure(lab, daemon.pid, frames, options, seconds)


def _limit(
    lab: Lab, frames: Path, options: tuple[str | int, ...], seconds: float
) -> tuple[float, float]:
    consumer = lab.victim.popen(["taskset", "-c", str(LAST_CPU), BUILD / "nfq_limit", str(NUMBER)])
    assert consumer.stdout is not None
    assert consumer.stdout.readline() == "ready\n"
    try:
        return _measure(lab, consumer.pid, frames, options, seconds)
    finally:
        consumer.kill()
        consumer.wait()


def _measure(
    lab: Lab, pid: int, frames: Path, options: tuple[str | int, ...], seconds: float
) -> tuple[float, float]:
    sending = lab.start_sending(frames, *options, "--seconds", 99, cpu=FIRST_CPU)
    time.sleep(WARM_UP_S)
    begin, used, judged = time.monotonic(), cpu_seconds(pid), verdicts(lab)
    time.sleep(seconds)
    judged = verdicts(lab) - judged
    used = cpu_seconds(pid) - used
    elapsed = time.monotonic() - begin
    stop_sending(sending)
    return judged / elapsed, judged / max(used, 0.01)


def verdicts(lab: Lab) -> int:
    """Return the packets that have a verdict: numbered, not lost, not waiting."""
    text = lab.victim.run("cat", "/proc/net/netfilter/nfnetlink_queue").stdout
    fields = next(line.split() for line in text.splitlines() if int(line.split()[0]) == NUMBER)
    waiting, lost, numbered = int(fields[2]), int(fields[6]), int(fields[7])
    return numbered - lost - waiting


def unlimited(lab: Lab) -> Path:
    """Return a copy of the rulesets without the two rules that limit the queue's rate."""
    copy = lab.directory / "rulesets"
    shutil.copytree(directory(), copy, dirs_exist_ok=True)
    judge = copy / "judge.nft"
    text, count = _LIMIT.subn("", judge.read_text())
    assert count == 2, "rulesets/judge.nft has other rate limits than expected here"
    judge.write_text(text)
    return copy
