"""Room for new blocks near [block] max_elements: blocks that drop nothing give way.

The kernel's counters show which ones. They are read in a thread, and only while room is short; the
engine then lets first blocks by forgeable evidence that dropped nothing for IDLE_S give way. A
scanner that is blocked and goes on, at one probe a minute too, keeps its block.

See docs/decisions.md: caps.
"""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from sentryfw.daemon.packet_path import PacketPath, clock
from sentryfw.engine.model import Source, source_of_key, source_text
from sentryfw.errors import SentryError
from sentryfw.guard.guard import Guard
from sentryfw.netfilter.block_sets import find_packets
from sentryfw.netfilter.schema import BLOCK_SETS
from sentryfw.netfilter.sets.elements import key_of
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.record.recorder import Recorder

log: Final = logging.getLogger("sentryfwd")

IDLE_S: Final = 90.0
"""Seconds without a dropped packet after which a block may give way; more than the minute between
two probes of a slow scan."""
PERIOD_S: Final = 10
"""Seconds between two readings; a tick is a second."""
MAX_NAMED: Final = 20
"""Addresses that an event names."""


class BlockRoom:
    """Reads the counters of blocks while room is short, and records the blocks that gave way."""

    def __init__(self, packet_path: PacketPath, guard: Guard, recorder: Recorder) -> None:
        self._path = packet_path
        self._guard = guard
        self._recorder = recorder
        self._seen: dict[Source, tuple[int, float]] = {}
        """Packets that a block had dropped, and since when there were no more."""
        self._ticks = 0
        self._task: asyncio.Task[None] | None = None
        self._executor = ThreadPoolExecutor(1, "block-room")

    def close(self) -> None:
        """Stop, without waiting for the thread."""
        if self._task is not None:
            self._task.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def tick(self) -> None:
        """Record what gave way, and read the counters if it is time; called once a second."""
        self._record(self._path.take_displaced())
        self._ticks -= 1
        if self._ticks >= 0 or not (self._task is None or self._task.done()):
            return
        self._ticks = PERIOD_S
        sources = self._path.engine.decider.caps.pressed(clock())
        if sources:
            self._task = asyncio.get_running_loop().create_task(self._look(sources))
        else:
            self._seen.clear()

    async def _look(self, sources: list[Source]) -> None:
        loop = asyncio.get_running_loop()
        try:
            idle = await loop.run_in_executor(self._executor, self.find_idle, sources, clock())
        except (SentryError, OSError) as error:
            log.warning("cannot read which blocks drop nothing: %s", error)
            return
        self._path.engine.decider.caps.give_way(idle)

    def find_idle(self, sources: list[Source], now: float) -> list[Source]:
        """Return the sources, in their order, whose blocks have dropped nothing for IDLE_S."""
        seen: dict[Source, tuple[int, float]] = {}
        for source, packets in _dropped(sources).items():
            before = self._seen.get(source)
            seen[source] = before if before and before[0] == packets else (packets, now)
        self._seen = seen
        return [s for s in sources if s in seen and now - seen[s][1] >= IDLE_S]

    def _record(self, displaced: list[Source]) -> None:
        if not displaced:
            return
        names = [source_text(source) for source in displaced]
        self._guard.record_unblocked(names)
        self._recorder.note(
            "unblocked", count=len(names), addresses=names[:MAX_NAMED], by="sentryfwd",
            why="[block] max_elements is reached, and their blocks dropped nothing",
        )  # fmt: skip


def _dropped(sources: list[Source]) -> dict[Source, int]:
    """Return the packets that each block has dropped; a source that is not blocked is left out."""
    found: dict[Source, int] = {}
    with NfnetlinkSocket() as netlink:
        for size, name in BLOCK_SETS.items():
            keys = [key for key in map(key_of, sources) if len(key) == size]
            packets = find_packets(netlink, name, keys)
            found.update((source_of_key(key), count) for key, count in packets.items())
    return found
