"""Measure `sentryfw replay` on a large capture: packets a second, and growth of memory."""

import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from bench.engine import syns
from bench.figures import Figure, at_least, at_most

FRAME_BYTES: Final = 1400
"""Bytes of a frame, as most frames of real traffic have."""
_HEADER: Final = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)


def figures(size: int) -> list[Figure]:
    """Return the figures of a capture of `size` bytes, with memory compared to a tenth of it."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        path = Path(directory) / "capture.pcap"
        _, _, little = _run(path, size // 10)
        packets, seconds, large = _run(path, size)
    name = f"replay of {size / 1e9:g} GB"
    return [
        at_least(f"{name}, the whole command", packets / seconds, "packets/s", 500_000),
        at_most(f"{name}, memory by that of a tenth", large / little, "times", 1.1,
                f"{little:.0f} and {large:.0f} MiB"),
    ]  # fmt: skip


def _run(path: Path, size: int) -> tuple[int, float, float]:
    """Return packets, seconds, and the largest resident memory in MiB."""
    packets = _write(path, size)
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "sentryfw", "replay", path, "--local", "198.18.0.1/32"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    most = 0.0
    while process.poll() is None:
        # Not ru_maxrss: it begins with the resident memory of the parent, which is this process.
        most = max(most, _most_resident(process.pid))
        time.sleep(0.02)
    seconds = time.perf_counter() - begin
    assert process.returncode in {0, 1}, f"replay ended with {process.returncode}"
    return packets, seconds, most


def _most_resident(pid: int) -> float:
    """Return a process's peak of resident memory in MiB; 0 if it has ended (proc(5), VmHWM)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def _write(path: Path, size: int) -> int:
    """Write SYNs of 2,000 sources, 10,000 a second, in long frames; return how many."""
    padding = bytes(FRAME_BYTES - 54)
    frames = [bytes(12) + b"\x08\x00" + payload + padding for payload in syns(2000)]
    count = size // (16 + FRAME_BYTES)
    with path.open("wb") as file:
        file.write(_HEADER)
        for number in range(count):
            seconds, tick = divmod(number, 10_000)
            file.write(struct.pack("<IIII", seconds, tick * 100, FRAME_BYTES, FRAME_BYTES))
            file.write(frames[number % len(frames)])
    return count
