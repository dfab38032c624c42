"""What the engine costs a packet, from decode to decision."""

import random
import struct
import time
from collections.abc import Sequence

from bench.figures import Figure, at_most, median_of
from sentryfw.config import Config
from sentryfw.engine.engine import Engine
from sentryfw.engine.model import Meta

PACKETS = 20_000
_IPV4_TCP = struct.Struct("!BBHHHBBH4s4sHHIIBBHHH")
_TARGET = bytes((198, 18, 0, 1))


def figures(runs: int) -> list[Figure]:
    """Scans by few sources, and a spoofed flood in which every source is new."""
    scans = syns(sources=2000)
    flood = syns(sources=1 << 24)
    scanned, spread = median_of(lambda: _microseconds(scans), runs)
    flooded, flood_spread = median_of(lambda: _microseconds(flood), runs)
    return [
        at_most("engine, a judged packet of a scan", scanned, "us", 8, spread),
        at_most("engine, a judged packet of a spoofed flood", flooded, "us", 8, flood_spread),
    ]


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
