"""Ask for the allowlist's names again when their answers have to be, in a thread.

The thread only writes the file of answers (allowed_names.py); the watcher of the never-block
sources notices the change. While the list has no names, neither the thread nor the modules for
DNS are there.
"""

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Final

from sentryfw.config.model import Paths
from sentryfw.errors import SentryError
from sentryfw.host import allow_file

log: Final = logging.getLogger("sentryfwd")

RETRY_INTERVAL_S: Final = 60.0
"""Seconds until the next attempt after the list or the file of answers could not be used."""
MIN_INTERVAL_S: Final = 1.0


class NameRefresher:
    """Keeps the answers to an allowlist's names fresh."""

    def __init__(self, paths: Paths, report: Callable[[str, str], None]) -> None:
        """`report`: called in the thread with a name and its fault; empty: the list's own."""
        self._paths = paths
        self._report_fault = report
        self._thread: threading.Thread | None = None
        self._due_at = 0.0
        self._faults: dict[str, str] = {}

    def list_changed(self) -> None:
        """Read the list with the next tick."""
        self._due_at = 0.0

    def tick(self) -> None:
        """Start the thread if an answer is due and it does not run; called once a second."""
        if time.monotonic() < self._due_at or (self._thread and self._thread.is_alive()):
            return
        self._due_at = math.inf  # until the thread knows better, or the list changes
        self._thread = threading.Thread(target=self._refresh, name="names", daemon=True)
        self._thread.start()

    def _refresh(self) -> None:
        try:
            wait, faults = self._ask()
        except (SentryError, OSError) as error:
            wait, faults = RETRY_INTERVAL_S, {"": str(error)}
        self._report(faults)
        self._due_at = min(self._due_at, time.monotonic() + max(wait, MIN_INTERVAL_S))

    def _ask(self) -> tuple[float, dict[str, str]]:
        """Ask for what is due; return the seconds until the next time, and the faults."""
        now = time.time()
        names = allow_file.names(allow_file.read(self._paths.allowlist))
        if not names:
            return math.inf, {}
        from sentryfw.host import allowed_names  # noqa: PLC0415 - memory of those who use names

        found = allowed_names.refresh(self._paths.allowlist_names, names, now)
        faults = allowed_names.faults(found)
        for name in names[allowed_names.MAX_NAMES :]:
            faults[name] = f"only {allowed_names.MAX_NAMES} names of the allowlist are asked for"
        return allowed_names.due_at(found) - now, faults

    def _report(self, faults: dict[str, str]) -> None:
        """Report each fault once, until it changes or ends."""
        for name, why in faults.items():
            if self._faults.get(name) != why:
                self._report_fault(name, why)
                log.warning("allowlist: %s: %s; what it last was stays allowed", name, why)
        self._faults = faults
