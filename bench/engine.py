"""What the engine costs a packet, from decode to decision: compiled where it is, and plain."""

import json
import os
import random
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.figures import Figure, at_most, median_of
from sentryfw.compiled import is_used
from sentryfw.config import Config
from sentryfw.engine.engine import Engine
from sentryfw.engine.model import Meta

PACKETS = 20_000
_IPV4_TCP = struct.Struct("!BBHHHBBH4s4sHHIIBBHHH")
_TARGET = bytes((198, 18, 0, 1))


def figures(runs: int) -> list[Figure]:
    """Scans by few sources, and a spoofed flood in which every source is new."""
    found = []
    for engine in ("compiled", "plain"):
        for what, sources in (("scan", 2000), ("spoofed flood", 1 << 24)):
            cost, spread = median_of(lambda e=engine, s=sources: _apart(e, s), runs)
            name = f"engine, {engine}, a judged packet of a {what}"
            found.append(at_most(name, cost, "us", 8, spread))
    return found


def _apart(engine: str, sources: int) -> float:
    """Microseconds in a process of its own: an engine is chosen once."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.engine", engine, str(sources)], capture_output=True,
        text=True, check=True, cwd=Path(__file__).parent.parent,
        env={**os.environ, "SENTRYFW_ENGINE": engine},
    )  # fmt: skip
    return float(json.loads(done.stdout))


def syns(sources: int) -> list[bytes]:
    """SYNs of random sources to random ports."""
    rng = random.Random(1)
    return [
        _IPV4_TCP.pack(
            0x45, 0, 40, rng.randrange(65536), 0, 64, 6, 0,
            (0x0B000000 + rng.randrange(sources)).to_bytes(4), _TARGET,
            rng.randrange(1024, 65536), rng.randrange(1, 65536), rng.getrandbits(32), 0,
            0x50, 0x02, 1024, 0, 0,
        )
        for _ in range(PACKETS)
    ]  # fmt: skip


def _microseconds(packets: Sequence[bytes]) -> float:
    config = Config()
    engine = Engine(config.horizons(), config.policy(()))
    meta = Meta(unlisted=True, partner=False)
    handle = engine.handle
    begin = time.perf_counter()
    for index, packet in enumerate(packets):
        handle(packet, meta, index * 1e-4)
    return (time.perf_counter() - begin) / len(packets) * 1e6


if __name__ == "__main__":
    if is_used() != (sys.argv[1] == "compiled"):
        sys.exit("the engine is not compiled: python -m sentryfw.build_engine")
    print(_microseconds(syns(int(sys.argv[2]))))
