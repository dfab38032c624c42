"""Notice when the never-block sources of this host change.

The kernel notifies of addresses, gateways and links (netlink/route.py). resolv.conf, the
allowlist and [never_block] files are checked every second, all else once a minute.
never_block_update.py applies what has changed. Runs in the event loop.
"""

import asyncio
import logging
import math
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from sentryfw.config.model import Config
from sentryfw.errors import KernelError, SentryError
from sentryfw.guard.never_block_update import NeverBlockUpdater
from sentryfw.host.name_refresh import NameRefresher
from sentryfw.host.protected import RESOLV_CONF, Protected, ProtectedNetworks
from sentryfw.netlink.route import HostChange, HostMonitor
from sentryfw.record.recorder import Recorder

log: Final = logging.getLogger("sentryfwd")

SETTLE_S: Final = 0.05
"""Seconds to wait for what comes with a change: a second address, a route."""
REFRESH_INTERVAL_S: Final = 60.0
ROUTES_INTERVAL_S: Final = 600.0
"""Seconds until the routes are read for gateways that are none any more: a router with a million
routes removes some of them all the time, and reading them takes seconds."""
RETRY_DELAY_S: Final = 1.0


class FileState(NamedTuple):
    """Distinguishes a file from its next version."""

    inode: int
    size: int
    mtime_ns: int


class WatchedFiles:
    """Files whose changes are noticed by their inode, size and time."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(paths)
        self._states = self._read()

    def have_changed(self) -> bool:
        """Return whether a file has changed since the last call, or was made or deleted."""
        before, self._states = self._states, self._read()
        return self._states != before

    def _read(self) -> list[FileState | None]:
        return [_state(path) for path in self._paths]


def _state(path: Path) -> FileState | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return FileState(status.st_ino, status.st_size, status.st_mtime_ns)


class NeverBlockWatcher:
    """Decides when the never-block sources are collected again."""

    def __init__(self, config: Config, updater: NeverBlockUpdater, recorder: Recorder) -> None:
        self._updater = updater
        self._recorder = recorder
        self._monitor = HostMonitor()
        self._files = WatchedFiles(
            (
                *RESOLV_CONF, *config.never_block.files, config.paths.allowlist,
                config.paths.allowlist_names,
            )
        )  # fmt: skip
        self._names = NameRefresher(config.paths, self._report_name)
        self._pending = HostChange()
        self._task: asyncio.Task[None] | None = None
        self._due_at = time.monotonic() + REFRESH_INTERVAL_S
        self._routes_due_at = math.inf
        self._is_requested = False
        """Whether another refresh was requested while one runs."""
        self._fault = ""
        self.host_changes = 0
        """Changes of addresses, links and gateways since the start."""

    @property
    def protected(self) -> list[Protected]:
        """The never-block sources in effect."""
        return self._updater.protected

    @property
    def refreshed(self) -> int:
        """The number of changes that were applied."""
        return self._updater.refreshed

    def start(self) -> None:
        """Read notifications in the running event loop, and refresh what changed since install."""
        asyncio.get_running_loop().add_reader(self._monitor.fileno(), self.readable)
        self._refresh(HostChange(routes=True))

    def close(self) -> None:
        """Stop; a refresh that runs is cancelled."""
        asyncio.get_running_loop().remove_reader(self._monitor.fileno())
        if self._task is not None:
            self._task.cancel()
        self._updater.close()
        self._monitor.close()

    def reconfigure(self, config: Config, protected: ProtectedNetworks) -> None:
        """Use another configuration, whose never-block sources are in the table already.

        Those of them that are blocked are unblocked with the refresh that this starts.
        """
        self._updater.reconfigure(config, protected)
        self._refresh(HostChange(routes=True))

    def readable(self) -> None:
        """Read the kernel's notifications."""
        change = self._monitor.read()
        if change.lapsed:
            due_at = time.monotonic() + ROUTES_INTERVAL_S
            self._routes_due_at = min(self._routes_due_at, due_at)
        if change.addresses or change.routes:
            self.host_changes += 1
            self._refresh(change)

    def tick(self) -> None:
        """Refresh if a file has changed or a minute has passed; called once a second."""
        now = time.monotonic()
        routes = now >= self._routes_due_at
        has_changed = self._files.have_changed()
        if has_changed:
            self._names.list_changed()
        if has_changed or routes or now >= self._due_at:
            self._refresh(HostChange(routes=routes))
        self._names.tick()

    def refresh_soon(self) -> None:
        """Refresh soon: a command has changed a list, and waits until it is in effect."""
        self._files.have_changed()
        self._names.list_changed()
        self._refresh(HostChange(), settle_s=0.0)

    def _refresh(self, change: HostChange, settle_s: float = SETTLE_S) -> None:
        """Refresh soon, and once for all changes that arrive until then."""
        self._pending = self._pending.also(change)
        self._due_at = time.monotonic() + REFRESH_INTERVAL_S
        if self._task is None or self._task.done():
            self._is_requested = False
            self._task = asyncio.get_running_loop().create_task(self._run(settle_s))
        else:
            self._is_requested = True

    async def _run(self, delay: float) -> None:
        while True:
            await asyncio.sleep(delay)
            self._is_requested = False
            pending, self._pending = self._pending, HostChange()
            if pending.routes:
                self._routes_due_at = math.inf
            try:
                await self._updater.update(routes=pending.routes)
            except (SentryError, OSError, sqlite3.Error) as error:
                self._report(str(error))
                self._pending = self._pending.also(pending)
                delay = RETRY_DELAY_S
                if not isinstance(error, KernelError) and not self._is_requested:
                    return  # a file that cannot be read: in a minute, or with the next change
            else:
                self._fault = ""
                self._monitor.know(self._updater.gateways)
                delay = SETTLE_S
                if not self._is_requested:
                    return

    def _report_name(self, name: str, fault: str) -> None:
        """Record why a name of the allowlist has no new address."""
        self._recorder.note("never-block-name", name=name, error=fault)

    def _report(self, fault: str) -> None:
        """Report a fault once, until it changes or ends."""
        if fault != self._fault:
            self._fault = fault
            self._recorder.note("never-block-stale", error=fault)
            log.error("never-block: %s; the previous sources stay in effect", fault)
