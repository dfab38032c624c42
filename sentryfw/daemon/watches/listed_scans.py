"""Report sources that open many listed ports and send nothing: half-open and connect scans of them.

Such a scan does not count as evidence: a forged SYN flood looks the same, and so do clients of many
services until they send data. The rules note which ports a source opened beyond a number, and which
of them it sent data to. It is reported only.

See docs/decisions.md: listed-scans.
"""

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from sentryfw.daemon.packet_path import clock
from sentryfw.engine.model import Source, source_text
from sentryfw.errors import SentryError
from sentryfw.netfilter.sets.opened import Opened, read_broad
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.record.recorder import Recorder
from sentryfw.record.throttle import LISTED

PERIOD_S: Final = 2
"""Seconds between two readings, beside the one in which it is made; a tick is a second."""
MIN_SILENT_PORTS: Final = 4
"""Ports beyond the limit to which a source sent nothing. With the eight before them they are more
than the services of mail or of a domain controller's clients, to which clients send data."""
GRACE_S: Final = 2.0
"""Seconds in which a client sends its data."""
SAID_S: Final = 86400.0
"""Seconds until a source is reported again."""
MAX_SAID: Final = 4096
MAX_NAMED: Final = 20
"""Ports that an event names."""


class ListedScans:
    """Reads what the rules noted, usually nothing, in a thread."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._said: OrderedDict[Source, float] = OrderedDict()
        """Until when each source is not reported again."""
        self._ticks = 0
        self._task: asyncio.Task[None] | None = None
        self._executor = ThreadPoolExecutor(1, "listed-scans")

    def close(self) -> None:
        """Stop, without waiting for the thread."""
        if self._task is not None:
            self._task.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def tick(self) -> None:
        """Begin to read, if it is time and the last reading is over; called once a second."""
        self._ticks -= 1
        if self._ticks < 0 and (self._task is None or self._task.done()):
            self._ticks = PERIOD_S
            self._task = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._executor, _read)
        except (SentryError, OSError):
            return  # the table is being repaired
        for source, opened in found.items():
            self._judge(source, opened)

    def _judge(self, source: Source, opened: list[Opened]) -> None:
        now = clock()
        silent = sorted(o.port for o in opened if o.age >= GRACE_S and not o.has_talked)
        if len(silent) < MIN_SILENT_PORTS or self._said.get(source, 0.0) > now:
            return
        self._said[source] = now + SAID_S
        self._said.move_to_end(source)
        if len(self._said) > MAX_SAID:
            self._said.popitem(last=False)
        self._recorder.note(LISTED, address=source_text(source), ports=silent[:MAX_NAMED])


def _read() -> dict[Source, list[Opened]]:
    with NfnetlinkSocket() as netlink:
        return read_broad(netlink)
