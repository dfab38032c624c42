"""Forged floods against an engine in a separate process, whose memory is measured."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from support import forge
from support.transcript import HOST, STRANGER, A, scenario

FIRST: Final = 0x0B000000
"""11.0.0.0: the sources are counted up from here."""


class Flood(NamedTuple):
    """A flood of single SYNs."""

    sources: int
    seconds: int
    rounds: int = 1
    """Packets of each source, each to another port."""
    same_probe: bool = False
    """Whether all have one sequence number, as decoys have."""


class Aftermath(NamedTuple):
    """The result of a flood between two probes of a scanner."""

    peak_mib: float
    """Peak memory of the process, the interpreter included."""
    flood_mode: bool
    scanner_blocked: bool
    """Whether the scanner was blocked by its probe after the flood."""
    others_blocked: int


def run_apart(flood: Flood, **settings: object) -> Aftermath:
    """Run a flood in a separate process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(run, flood, **settings).result()


def run(flood: Flood, **settings: object) -> Aftermath:
    """Send one probe of a scanner before and one after a flood of constant rate."""
    scene = scenario(**settings).at(1.0).syn(A, 23)
    engine, now, blocks = scene.engine, 1.0, 0
    for number, payload in enumerate(_packets(flood)):
        if number * flood.seconds // (flood.sources * flood.rounds) >= now - 1:
            now += 1
            engine.tick(now)
        blocks += len(engine.handle(payload, STRANGER, now).blocks)
    flood_mode = engine.flood
    scene.at(now + 1).syn(A, 24)
    peak = _peak_mib()
    return Aftermath(peak, flood_mode, bool(scene.outcomes[-1].blocks), blocks)


def _packets(flood: Flood) -> Iterator[bytes]:
    for port in range(445, 445 + flood.rounds):
        packet = forge.ipv4("11.0.0.0", HOST, forge.TCP, forge.tcp(port))
        head, middle, tail = packet[:12], packet[16:24], packet[28:]
        for number in range(FIRST, FIRST + flood.sources):
            own = number.to_bytes(4)  # the address, and for want of a better one the sequence
            yield head + own + middle + (b"\0\0\0\1" if flood.same_probe else own) + tail


def _peak_mib() -> float:
    """Return the peak of this program; ru_maxrss starts with the parent's (getrusage(2), exec)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
