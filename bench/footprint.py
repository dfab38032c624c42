"""What the daemon weighs when idle, and how long the CLI takes from a cold start."""

import sys
import time
from pathlib import Path

from bench.figures import Figure, at_most, median_of
from sentryfw.config import Config
from sentryfw.drill.scene import Scene
from sentryfw.engine.model import Source
from sentryfw.netfilter.table import Table

BLOCKS = 100


def figures(runs: int) -> list[Figure]:
    with Scene(Config()) as scene:
        memory = _resident_mib(scene.daemon_pid)
        scene.victim.call(_block_some)
        seconds, spread = median_of(lambda: _list_seconds(scene), runs)
    return [
        at_most("sentryfwd idle, resident", memory, "MiB", 40),
        at_most(f"sentryfw list, {BLOCKS} blocks, cold start", seconds, "s", 0.5, spread),
    ]


def _resident_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kib = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    return kib / 1024


def _block_some() -> None:
    table = Table()
    table.block([(Source((0x0B000000 + index).to_bytes(4)), 600.0) for index in range(BLOCKS)])
    table.close()


def _list_seconds(scene: Scene) -> float:
    command = [sys.executable, "-m", "sentryfw", "-c", scene.config_path, "list", "--json"]
    begin = time.perf_counter()
    done = scene.victim.run(*command)
    seconds = time.perf_counter() - begin
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"address"') == BLOCKS
    return seconds
