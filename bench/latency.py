"""Measure the time from the triggering probe on the wire to the element in the kernel.

The probe's time is taken by the sender, just before the frame leaves; the element's when a process
of the bench reads the kernel's notification. Scanners take turns, so that the next probe of each
comes long after its block.
"""

import statistics
import struct
import time
from pathlib import Path

from bench.figures import Figure, at_most, noted, percentile, spread_of
from bench.frames import syn
from bench.lab import Lab, Watcher, stop_sending
from bench.peers import PROGRAMS, UNLISTED, US, Defence, text

PROBES_PER_S = 1000
"""Probes a second, of all scanners together."""
SCANNER_COUNT = 200
BLOCK_TIMEOUT_S = 12.0
OTHER_PROBES_PER_S = 50_000
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
"""A command that hangs, a mail server and a remote syslog that do not answer."""


def figures(rounds: int, *, peers: bool) -> list[Figure]:
    """Return the latencies when idle, and during 50,000 probes a second of new sources."""
    idle, _ = _run(rounds, None)
    hanging, _ = _run(rounds, None, HANGING)
    flooded, late = _run(rounds, OTHER_PROBES_PER_S)
    others = {name: _peer(name) for name in PROGRAMS} if peers else {}
    medians = {name: statistics.median(times) for name, times in others.items() if times}
    worst = {name: percentile(times, 0.99) for name, times in others.items() if times}
    busy = f"under {OTHER_PROBES_PER_S:,} other probes/s"
    return [
        at_most("trigger to element, idle, median", statistics.median(idle), "ms", 0.15,
                spread_of(idle), medians),
        at_most("trigger to element, idle, p99", percentile(idle, 0.99), "ms", 0.6,
                f"{len(idle)} scanners", worst),
        at_most("trigger to element, every reaction hangs, median", statistics.median(hanging),
                "ms", 0.5, spread_of(hanging)),
        at_most("trigger to element, every reaction hangs, p99", percentile(hanging, 0.99), "ms", 2,
                f"{len(hanging)} scanners"),
        at_most(f"trigger to element, {busy}, median", statistics.median(flooded), "ms", 0.5,
                spread_of(flooded)),
        at_most(f"trigger to element, {busy}, p99", percentile(flooded, 0.99), "ms", 2,
                f"{len(flooded)} scanners"),
        noted(f"probes beyond the trigger, {busy}, most", max(late, default=0), "probes"),
    ]  # fmt: skip


def _run(rounds: int, others: int | None, config: str = "") -> tuple[list[float], list[int]]:
    """Return milliseconds, and the probes that each scanner sent after its trigger."""
    times: list[float] = []
    late: list[int] = []
    with Lab() as lab, Defence(lab, US, config) as defence:
        flood = lab.frames("flood", [syn(SPOOFED, FLOODED_PORT + number) for number in range(64)])
        sending = None
        if others is not None:
            sending = lab.start_sending(
                flood, "--rate", others, "--spoof", SPOOFED, "--seconds", 99
            )
            time.sleep(1)
        for number in range(rounds):
            scanners = range(
                0x0B000001 + number * SCANNER_COUNT, 0x0B000001 + (number + 1) * SCANNER_COUNT
            )
            taken, beyond = scan(lab, scanners, defence.trigger, extra=4)
            times += taken
            late += beyond
        if sending is not None:
            stop_sending(sending)
    return times, late


def scan(
    lab: Lab, scanners: range, trigger: int, *, extra: int, pace: int = PROBES_PER_S
) -> tuple[list[float], list[int]]:
    """Send each scanner's probes in turns.

    Return, for each blocked scanner, the milliseconds from its last probe before the block, and
    the number of probes it had sent after its trigger.
    """
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
    """Return a peer's times, one scanner after another: it could not handle more at once."""
    times = []
    with Lab() as lab, Defence(lab, name) as defence:
        for number in range(runs):
            source = 0x0B000001 + number
            probes = [syn(source, port) for port in UNLISTED[: defence.trigger]]
            stamps = lab.directory / "stamps"
            watcher = Watcher(lab)
            lab.send(lab.frames("peer", probes), "--rate", PROBES_PER_S, "--stamps", stamps)
            end = time.monotonic() + BLOCK_TIMEOUT_S
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
