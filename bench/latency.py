"""From the triggering probe on the wire to the element in the kernel.

The probe's moment is the sender's, just before the frame leaves; the element's is that of the
kernel's own announcement, read by a process of the bench. Scanners take turns, so that what
one of them sends next comes long after its block.
"""

import statistics
import struct
import time
from pathlib import Path

from bench.figures import Figure, at_most, noted, percentile, spread_of
from bench.frames import syn
from bench.lab import Lab, Watcher, stop_sending
from bench.peers import PROGRAMS, UNLISTED, US, Defence, text

PACE = 1000
"""Probes a second, of all scanners together."""
SCANNERS = 200
PATIENCE = 12.0
OTHERS = 50_000
SPOOFED = 0x0C000000
FLOODED_PORT = 7000
HANGING = """
[respond.command]
argv = ["/bin/sleep", "60"]
timeout = 60
[respond.mail]
to = ["root@example.org"]
host = "198.18.0.2"
[respond.syslog]
host = "198.18.0.2"
transport = "tcp"
"""
"""A command that hangs, a mail server and a remote syslog at which nobody answers."""


def figures(rounds: int, *, peers: bool) -> list[Figure]:
    """Milliseconds, idle and beside 50,000 other probes a second of ever new sources."""
    idle, _ = _run(rounds, None)
    hanging, _ = _run(rounds, None, HANGING)
    flooded, late = _run(rounds, OTHERS)
    others = {name: _peer(name) for name in PROGRAMS} if peers else {}
    medians = {name: statistics.median(times) for name, times in others.items() if times}
    worst = {name: percentile(times, 0.99) for name, times in others.items() if times}
    busy = f"under {OTHERS:,} other probes/s"
    return [
        at_most("trigger to element, idle, median", statistics.median(idle), "ms", 0.5,
                spread_of(idle), medians),
        at_most("trigger to element, idle, p99", percentile(idle, 0.99), "ms", 5,
                f"{len(idle)} scanners", worst),
        at_most("trigger to element, every reaction hangs, median", statistics.median(hanging),
                "ms", 0.5, spread_of(hanging)),
        at_most("trigger to element, every reaction hangs, p99", percentile(hanging, 0.99), "ms", 5,
                f"{len(hanging)} scanners"),
        at_most(f"trigger to element, {busy}, median", statistics.median(flooded), "ms", 0.5,
                spread_of(flooded)),
        at_most(f"trigger to element, {busy}, p99", percentile(flooded, 0.99), "ms", 5,
                f"{len(flooded)} scanners"),
        noted(f"probes beyond the trigger, {busy}, most", max(late, default=0), "probes"),
    ]  # fmt: skip


def _run(rounds: int, others: int | None, settings: str = "") -> tuple[list[float], list[int]]:
    """Milliseconds, and the probes that a scanner sent beyond its trigger before its block."""
    times: list[float] = []
    late: list[int] = []
    with Lab() as lab, Defence(lab, US, settings) as defence:
        flood = lab.frames("flood", [syn(SPOOFED, FLOODED_PORT + number) for number in range(64)])
        sending = None
        if others is not None:
            sending = lab.start_sending(
                flood, "--rate", others, "--spoof", SPOOFED, "--seconds", 99
            )
            time.sleep(1)
        for number in range(rounds):
            scanners = range(0x0B000001 + number * SCANNERS, 0x0B000001 + (number + 1) * SCANNERS)
            taken, beyond = scan(lab, scanners, defence.trigger, extra=4)
            times += taken
            late += beyond
        if sending is not None:
            stop_sending(sending)
    return times, late


def scan(
    lab: Lab, scanners: range, trigger: int, *, extra: int, pace: int = PACE
) -> tuple[list[float], list[int]]:
    """Each scanner's probes in turns; for each that was blocked the milliseconds since its last
    probe before that, and how many probes beyond its trigger it had sent."""
    turns = trigger + extra
    frames = [syn(source, port) for port in range(1, turns + 1) for source in scanners]
    stamps = lab.directory / "stamps"
    watcher = Watcher(lab)
    try:
        lab.send(lab.frames("scan", frames), "--rate", pace, "--stamps", stamps)
        time.sleep(0.2)
        elements = watcher.first(map(text, scanners))
    finally:
        watcher.close()
    sent = _stamps(stamps)
    taken, beyond = [], []
    for index, source in enumerate(scanners):
        moment = elements.get(text(source))
        if moment is None:
            continue
        own = [at for at in sent[index :: len(scanners)] if at < moment]
        taken.append((moment - own[-1]) / 1e6)
        beyond.append(max(0, len(own) - trigger))
    return taken, beyond


def _peer(name: str, runs: int = 3) -> list[float]:
    """A peer's times, one scanner after the other: it would not keep up with more."""
    times = []
    with Lab() as lab, Defence(lab, name) as defence:
        for number in range(runs):
            source = 0x0B000001 + number
            probes = [syn(source, port) for port in UNLISTED[: defence.trigger]]
            stamps = lab.directory / "stamps"
            watcher = Watcher(lab)
            lab.send(lab.frames("peer", probes), "--rate", PACE, "--stamps", stamps)
            end = time.monotonic() + PATIENCE
            while not watcher.first([text(source)]) and time.monotonic() < end:
                time.sleep(0.02)
            moment = watcher.first([text(source)]).get(text(source))
            watcher.close()
            if moment is not None:
                times.append((moment - _stamps(stamps)[-1]) / 1e6)
    return times


def _stamps(path: Path) -> list[int]:
    data = path.read_bytes()
    return list(struct.unpack(f"={len(data) // 8}Q", data))
