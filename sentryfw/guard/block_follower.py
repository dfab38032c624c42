"""Keep KnownBlocks as the kernel reports it: blocks that other programs add and delete.

A program that deletes a block has unblocked it, and it is not restored. Runs in the event loop.

See docs/decisions.md: deleted-is-unblocked.
"""

import logging
import time
from collections.abc import Callable
from typing import Any, Final

from sentryfw.engine.model import Source, parse_source
from sentryfw.errors import SentryError
from sentryfw.guard.block_index import KnownBlocks, key_text
from sentryfw.guard.worker import GuardThread
from sentryfw.netfilter.monitor import TableChange
from sentryfw.netfilter.schema import BLOCK_SETS, LIFTED_SETS, NETWORK_SETS
from sentryfw.record.recorder import Recorder

log: Final = logging.getLogger("sentryfwd")

MAX_NAMED: Final = 20
"""Unblocked addresses that an event names; `count` counts all."""

Released = Callable[[Source], None]
"""Called with the source of each block that another program deleted."""


class BlockFollower:
    """Follows the elements of the block sets through notifications."""

    def __init__(
        self, memory: KnownBlocks, thread: GuardThread, recorder: Recorder, released: Released
    ) -> None:
        self._memory = memory
        self._thread = thread
        self._recorder = recorder
        self._released = released
        self.unblocked = 0
        """Blocks that other programs deleted."""

    def follow(self, change: TableChange, *, is_reported: bool) -> None:
        """Apply the elements of a change to memory, and report the blocks that it deleted.

        `is_reported` is false for a change to a table that was uninstalled.
        """
        final: dict[tuple[str, bytes], Any] = {
            (item.set, item.element.key): item for item in change.items
        }
        now = time.monotonic()
        gone: list[bytes] = []
        networks_changed = False
        for (name, key), item in final.items():
            if name in NETWORK_SETS:
                networks_changed = True
            elif BLOCK_SETS.get(len(key)) != name:
                continue
            elif item.present:
                timeout, expires = item.element.timeout, item.element.expires
                self._memory.ends[key] = (timeout, now + (expires or timeout))
            elif self._memory.delete(key):
                gone.append(key)
        if not is_reported:
            return
        if gone:
            self._release(gone, change)
        self._lift(
            [key for (name, key), item in final.items() if name in LIFTED_SETS and not item.present]
        )
        if networks_changed and not change.taken:
            self._thread.spawn(self._follow_networks(change))

    def _release(self, keys: list[bytes], change: TableChange) -> None:
        addresses = [key_text(key) for key in keys]
        for address in addresses:
            self._released(parse_source(address))
        self._report(addresses, change)

    def _lift(self, keys: list[bytes]) -> None:
        """Restore no confinement that was deleted, neither in a repair nor at a start."""
        for key in keys:
            self._memory.lift(key)
        if keys:
            self._thread.record_unblocked(map(key_text, keys))

    def _report(self, addresses: list[str], change: TableChange) -> None:
        self.unblocked += len(addresses)
        self._recorder.note(
            "unblocked", count=len(addresses), addresses=addresses[:MAX_NAMED],
            by=change.process, pid=change.pid,
        )  # fmt: skip
        log.info("%d blocks were deleted by %s", len(addresses), change.culprit)
        self._thread.record_unblocked(addresses)

    async def _follow_networks(self, change: TableChange) -> None:
        before = self._memory.active_networks(time.monotonic())
        reader = self._thread.reader
        try:
            ranges = await self._thread.run(lambda: reader.ranges(time.monotonic()))
        except SentryError:
            return  # the table was deleted since: a change of its own reports that
        self._memory.ranges.clear()
        self._memory.ranges.update(ranges)
        gone = before - self._memory.active_networks(time.monotonic())
        if gone:
            self._report(sorted(gone), change)
