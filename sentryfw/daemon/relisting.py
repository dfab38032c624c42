"""Look for services that start after their clients came, and end the blocks that this explains.

The kernel announces no listener, so sock_diag is asked once a second, in a thread: within ten
minutes of the start, and within a minute of a block. A socket counts when it is ten seconds old. A
UDP socket at a local port of ip_local_port_range may be a client's: others could make one appear.

See docs/decisions.md: relisting.
"""

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from sentryfw.daemon.packet_path import PacketPath, clock
from sentryfw.engine.model import Block, Refusal, Source, Target, source_text
from sentryfw.engine.table import SourceState
from sentryfw.errors import NotFound, SentryError
from sentryfw.guard.block_index import element_key
from sentryfw.guard.guard import Guard
from sentryfw.netfilter.block_sets import BlockSets
from sentryfw.netfilter.schema import DECOY_MARK
from sentryfw.netlink import sock_diag
from sentryfw.netlink.sock_diag import UDP, Receiver
from sentryfw.record.recorder import Recorder
from sentryfw.record.records import refusal_entry

log: Final = logging.getLogger("sentryfwd")

AFTER_START_S: Final = 600.0
AFTER_BLOCK_S: Final = 60.0
MIN_AGE_S: Final = 10.0
"""Seconds for which a socket has to be there before it counts."""
END_TOLERANCE_S: Final = 5.0
"""Seconds by which the end of a block in memory may differ from the one that was made."""
MAX_NAMED: Final = 20
"""Addresses that the event and the log name."""
DEFAULT_RANGE: Final = 32768, 60999
"""The kernel's own range, where a sandbox hides /proc/sys (ProcSubset=pid)."""
PORT_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")


class Found(NamedTuple):
    """The result of a look."""

    places: dict[Target, float]
    """The places of the sockets that count from now on, and when each was seen first."""
    pending: list[tuple[Source, SourceState]]
    """Sources below the trigger that have probed there."""


class Sockets:
    """The sockets that were seen, and since when. For one thread."""

    def __init__(self, ports: Path = PORT_RANGE) -> None:
        self._ports = ports
        self._since: dict[bytes, float] = {}
        self._counted: set[bytes] = set()

    def look(self, now: float) -> dict[Target, float]:
        """Return the places of the sockets that became old enough since the last look."""
        low, high = self._port_range()
        present = {
            found.cookie: found
            for found in sock_diag.receivers()
            if _serves(found) and not (found.protocol == UDP and low <= found.port <= high)
        }
        self._since = {cookie: self._since.get(cookie, now) for cookie in present}
        self._counted &= present.keys()
        places: dict[Target, float] = {}
        for cookie, since in self._since.items():
            if cookie not in self._counted and now - since >= MIN_AGE_S:
                self._counted.add(cookie)
                places.update((place, since) for place in present[cookie].places())
        return places

    def _port_range(self) -> tuple[int, int]:
        try:
            low, high = map(int, self._ports.read_text().split())
        except (OSError, ValueError):
            return DEFAULT_RANGE
        return low, high


def _serves(found: Receiver) -> bool:
    """Return whether a socket is a service's: not a decoy's, and not bound to an interface, whose
    probes need not be those that it would have taken."""
    return found.mark != DECOY_MARK and not found.interface


class Relisting:
    """Decides when to look, and ends the blocks that do not stand. Runs in the event loop."""

    def __init__(
        self, packet_path: PacketPath, sets: BlockSets, guard: Guard, recorder: Recorder
    ) -> None:
        self._path = packet_path
        self._sets = sets
        self._guard = guard
        self._recorder = recorder
        self._sockets = Sockets()
        self._until = clock() + AFTER_START_S
        self._blocks = 0
        self._task: asyncio.Task[None] | None = None
        self._executor = ThreadPoolExecutor(1, "relisting")
        self._fault = ""

    def close(self) -> None:
        """Stop, without waiting for the thread."""
        if self._task is not None:
            self._task.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def tick(self) -> None:
        """Look if it is time; called once a second."""
        if self._path.acknowledged != self._blocks:
            self._blocks = self._path.acknowledged
            self._until = max(self._until, clock() + AFTER_BLOCK_S)
        if clock() < self._until and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            places = await loop.run_in_executor(self._executor, self._sockets.look, clock())
        except OSError as error:
            self._report(f"cannot look for sockets: {error}")
            return
        if places:
            for zone in self._path.engine.zones.all:
                sources, states = zone.tracker.everything()
                pairs = list(zip(sources, states, strict=True))
                pending = await loop.run_in_executor(self._executor, _probed, pairs, places)
                self._path.revision.void_pending(pending, places, zone.tracker)
            self._end(self._path.revision.listed(places, clock()), places)

    def _end(self, fallen: list[Block], places: dict[Target, float]) -> None:
        ended = [block for block in fallen if self._unblock(block)]
        epoch = time.time() - clock()
        for block in ended:
            self._path.unblocked(block.source)
            self._path.revision.end(block, places)
            refusal = Refusal(block.source, "listed", block.evidence, clock())
            self._recorder.append(refusal_entry(refusal, epoch))
        if ended:
            names = [source_text(block.source) for block in ended]
            self._guard.record_unblocked(names)
            self._recorder.note(
                "unblocked", count=len(names), addresses=names[:MAX_NAMED], by="sentryfwd",
                why="the services that they asked for have started",
            )  # fmt: skip
            log.info(
                "unblocked, because the services that they asked for have started: %s",
                ", ".join(names[:MAX_NAMED]),
            )

    def _unblock(self, block: Block) -> bool:
        """Remove a block from the kernel, if it is still the one that was made."""
        known = self._guard.memory.ends.get(element_key(block.source))
        if known is None or abs(known[1] - block.at - block.timeout) > END_TOLERANCE_S:
            return False
        try:
            self._sets.unblock(block.source)
        except NotFound:
            return False
        except SentryError as error:
            self._report(str(error))
            return False
        return True

    def _report(self, fault: str) -> None:
        if fault != self._fault:
            self._fault = fault
            log.error("blocks are not weighed again: %s", fault)


def _probed(
    pairs: list[tuple[Source, SourceState]], places: dict[Target, float]
) -> list[tuple[Source, SourceState]]:
    """Return the sources that probed a port at which a socket receives now."""
    ports = {(protocol, port) for _, protocol, port in places}
    return [pair for pair in pairs if any(t[1:] in ports for t in list(pair[1].targets))]
