"""A day of flood on the disk: every file reaches its bound, and stays there."""

import logging
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from sentryfw.config.model import Config
from sentryfw.daemon.parts import event_limits, record_limits
from sentryfw.record.captures import Capture, CaptureStore, recent_probe
from sentryfw.record.event_file import MIB
from sentryfw.record.recorder import Item, Recorder
from sentryfw.record.records import DecisionRecord, ProbeTrace, probe_of
from sentryfw.record.resilient_ledger import ResilientEventFile, ResilientLedger
from sentryfw.record.throttle import LOG_BURST, LOG_LINES_PER_S
from support.entries import BLOCK, PROBE, REFUSAL

DAY_S: Final = 86400
START: Final = 1_800_000_000.0
LIMIT_BYTES: Final = 200 * MIB
BLOCKS_PER_S: Final = 18
"""65,536 blocks of an hour, which is all that [block] max_elements allows."""
REFUSALS_PER_S: Final = 300
PROBES_PER_S: Final = 300
BUSY_S: Final = 20
"""Seconds of each hour that are simulated with events."""
LOG_LINE_BYTES: Final = 60
"""Bytes that syslog adds to a line: time, host, program."""
PACKET: Final = bytes.fromhex("4500002c") + bytes(40)


class Day:
    """A recorder with the default configuration, on a clock that a test sets."""

    def __init__(self, home: Path) -> None:
        config = Config()
        self.home = home
        self.ledger = ResilientLedger(home / "state" / "ledger.db")
        self.ledger.max_bytes = config.record.ledger_mib * MIB
        self.events = ResilientEventFile(home / "log" / "events.json", event_limits(config))
        wanted = config.evidence
        store = CaptureStore(home / "state" / "evidence", wanted.max_files, wanted.max_age)
        limits = record_limits(config)._replace(place=home)
        self.recorder = Recorder(self.ledger, self.events, store, limits)
        self._random = random.Random(1)

    def flood(self, second: int) -> None:
        """Write one second of a flood, as the recorder's thread does."""
        wall = START + second
        refusals = [self._refusal(wall) for _ in range(REFUSALS_PER_S)]
        items: list[Item] = [*refusals]
        for _ in range(BLOCKS_PER_S):
            entry = self._block(wall)
            seen = recent_probe(probe_of(PROBE), PACKET, wall)
            items += [entry, Capture(entry, [seen] * 8)]
        items += [PROBE._replace(at=wall, address=self._address()) for _ in range(PROBES_PER_S)]
        self.recorder.write(items, float(second), wall)

    def _address(self) -> str:
        return ".".join(str(part) for part in self._random.randbytes(4))

    def _block(self, wall: float) -> DecisionRecord:
        trace = [
            ProbeTrace(wall, "syn", listed=False, target=f"198.18.0.1 tcp/{port}")
            for port in range(7000, 7003)
        ]
        return BLOCK._replace(
            address=self._address(), blocked_at=wall, first_seen=wall, trace=trace
        )

    def _refusal(self, wall: float) -> DecisionRecord:
        return REFUSAL._replace(
            address=self._address(), blocked_at=wall, first_seen=wall, reason="flood"
        )

    def size(self) -> int:
        """Return the bytes on the disk: whole blocks of the file system."""
        return sum(file.stat().st_blocks * 512 for file in self.home.rglob("*") if file.is_file())

    def block_an_hour(self, start: int) -> int:
        """Write all blocks that an hour may have; return their number."""
        count = 0
        for second in range(start, start + 3600, 12):
            blocks: list[Item] = [self._block(START + second) for _ in range(12 * BLOCKS_PER_S)]
            self.recorder.write(blocks, float(second), START + second)
            count += len(blocks)
        return count

    def active(self, now: float) -> int:
        """Return the number of active blocks in the ledger."""
        query = "SELECT count(*) FROM blocks WHERE blocked_at + timeout_s > ?"
        [(count,)] = self.ledger.database.read(query, (START + now,))
        return int(count)


@pytest.fixture
def day(tmp_path: Path) -> Iterator[Day]:
    made = Day(tmp_path)
    yield made
    made.ledger.close()
    made.events.close()


@pytest.mark.slow
def test_a_day_of_flood_stays_small(day: Day, caplog: pytest.LogCaptureFixture) -> None:
    """After two hours with all their blocks each hour begins with a flood; then the clock jumps."""
    caplog.set_level(logging.INFO, "sentryfwd")
    sizes = []
    for hour in range(24):
        if hour < 2:
            day.block_an_hour(hour * 3600)
        for second in range(BUSY_S):
            day.flood((hour + 1) * 3600 + second)
        sizes.append(day.size())
    longest = max(map(len, caplog.messages)) + LOG_LINE_BYTES
    log_bytes = 2 * int(DAY_S * LOG_LINES_PER_S + LOG_BURST) * longest
    assert max(sizes) + log_bytes < LIMIT_BYTES, [size // MIB for size in sizes]
    assert sizes[-1] <= max(sizes[:-4]) + MIB, "it has stopped to grow"
    assert day.recorder.lost == 0
    assert day.active(24 * 3600 + BUSY_S) == BLOCKS_PER_S * BUSY_S, "no active block is lost"


@pytest.mark.slow
def test_the_active_blocks_of_a_whole_hour_stay(day: Day) -> None:
    """The counterpart: a full block set outlasts the trimming."""
    for hour in range(3):
        count = day.block_an_hour(hour * 3600)
    assert day.active(3 * 3600 - 12) == count
    assert day.size() < LIMIT_BYTES
