"""Measure the engine's cost of a packet, from decode to decision, compiled and plain."""

import json
import random
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bench.figures import Figure, at_most, median_of
from sentryfw.config.model import Config
from sentryfw.daemon.serve import freeze_memory
from sentryfw.engine.engine import Engine, is_compiled
from sentryfw.engine.model import Meta

PACKET_COUNT = 20_000
_IPV4_TCP = struct.Struct("!BBHHHBBH4s4sHHIIBBHHH")
_TARGET = bytes((198, 18, 0, 1))


def figures(runs: int) -> list[Figure]:
    """Return the cost in scans of few sources, and in a spoofed flood of new sources."""
    found = []
    for engine, limit_us in (("compiled", 1.8), ("plain", 5)):
        for what, sources in (("scan", 2000), ("spoofed flood", 1 << 24)):
            cost, spread = median_of(partial(_in_process, engine, sources), runs)
            name = f"engine, {engine}, a judged packet of a {what}"
            found.append(at_most(name, cost, "us", limit_us, spread))
    return found


def _in_process(engine: str, sources: int) -> float:
    """Return microseconds, measured in a process of its own: it runs one form of the engine."""
    modules = ["bench.plain_engine", "bench.engine"] if engine == "plain" else ["bench.engine"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", *modules, engine, str(sources)], capture_output=True,
        text=True, check=True, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    return float(json.loads(done.stdout))


def syns(sources: int) -> list[bytes]:
    """Return SYNs of random sources to random ports."""
    rng = random.Random(1)
    return [
        _IPV4_TCP.pack(
            0x45, 0, 40, rng.randrange(65536), 0, 64, 6, 0,
            (0x0B000000 + rng.randrange(sources)).to_bytes(4), _TARGET,
            rng.randrange(1024, 65536), rng.randrange(1, 65536), rng.getrandbits(32), 0,
            0x50, 0x02, 1024, 0, 0,
        )
        for _ in range(PACKET_COUNT)
    ]  # fmt: skip


def _microseconds(packets: Sequence[bytes]) -> float:
    config = Config()
    engine = Engine(config.horizons(), config.policy())
    meta = Meta(unlisted=True, partner=False)
    handle = engine.handle
    freeze_memory()  # as the daemon does, before the first packet
    begin = time.perf_counter()
    for index, packet in enumerate(packets):
        handle(packet, meta, index * 1e-4)
    return (time.perf_counter() - begin) / len(packets) * 1e6


if __name__ == "__main__":
    if is_compiled() != (sys.argv[1] == "compiled"):
        sys.exit(f"not the {sys.argv[1]} engine: python packaging/compile_engine.py")
    print(_microseconds(syns(int(sys.argv[2]))))
