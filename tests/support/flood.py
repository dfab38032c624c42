"""Forged floods against an engine in a process of its own, whose memory is measured."""

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
    """How a flood of one SYN after the other is made."""

    sources: int
    seconds: int
    rounds: int = 1
    """So many times each source comes, each time to another port."""
    same_probe: bool = False
    """All with the same sequence number, as decoys have."""


class Aftermath(NamedTuple):
    """What came of a flood between two probes of a scanner."""

    peak_mib: float
    """Most memory that the process ever had, the interpreter included."""
    flood_mode: bool
    scanner_blocked: bool
    """By its probe after the flood."""
    others_blocked: int


def run_apart(flood: Flood, **settings: object) -> Aftermath:
    """The same in a process that does nothing else."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(run, flood, **settings).result()


def run(flood: Flood, **settings: object) -> Aftermath:
    """A scanner sends one probe before and one after a flood, which is even in time."""
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
    """Of this program alone: ru_maxrss starts with what the parent had (getrusage(2), exec)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
