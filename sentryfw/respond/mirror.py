"""Reactions that last as long as a block: hosts.deny lines, routes.

The wanted state is kept by address, not as a queue of orders: a thousand changes of one address
are one, none is lost, and a change that failed is tried again.
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

from sentryfw.respond.incident import Incident
from sentryfw.respond.reaction_queue import EXPECTED, Report, ResultReporter, reason_of
from sentryfw.respond.worker_thread import WorkerThread

RETRY_INTERVAL_S: Final = 30.0
"""Seconds after which changes that failed are tried again."""
_MIN_WAIT_S: Final = 0.001

Apply = Callable[[dict[str, bool]], dict[str, str]]
"""Makes addresses present or absent. Returns those that never can be, each with the reason.
Raises ReactionFailed or OSError if nothing was done, to be tried again."""
Sync = Callable[[set[str]], None]
"""Makes exactly these addresses present. Raises as Apply does."""

log: Final = logging.getLogger("sentryfwd")


class BlockMirror(WorkerThread):
    """Keeps a copy of the blocks outside the kernel's sets, in its own thread."""

    def __init__(
        self,
        name: str,
        apply: Apply,
        sync: Sync,
        report: Report,
        *,
        retry: float = RETRY_INTERVAL_S,
        close: Callable[[], None] | None = None,
        is_far: bool = False,
    ) -> None:
        """`retry`: seconds between attempts; `close`: called in the thread when it ends; `is_far`:
        other systems act on the copy: it has proven blocks only, and ends with the daemon."""
        super().__init__(name)
        self.proven_only = self.ends_with_daemon = is_far
        self.reporter = ResultReporter(name, report)
        self._apply = apply
        self._sync = sync
        self._retry = retry
        self._close = close
        self._wanted: dict[str, bool] = {}
        self._all: set[str] | None = None
        self._not_before = 0.0
        self._reported: set[tuple[str, str]] = set()
        """Address and reason of reported failures, until a change succeeds."""

    @property
    def waiting(self) -> int:
        """Changes that wait."""
        return len(self._wanted) + (self._all is not None)

    def want(self, address: str, *, present: bool) -> None:
        """Make one address present or absent."""
        with self._condition:
            self._wanted[address] = present
            self._not_before = 0.0
            self._condition.notify()

    def describe(self, address: str, timeout: float, incident: Incident | None) -> None:
        """Ignore what is known about a block: these mirrors have its address alone."""

    def restore(self, active: Mapping[str, float]) -> None:
        """Make exactly these addresses present."""
        self.want_exactly(set(active))

    def want_exactly(self, addresses: set[str]) -> None:
        """Make these addresses present and all others absent."""
        with self._condition:
            self._all = set(addresses)
            self._wanted.clear()
            self._not_before = 0.0
            self._condition.notify()

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._is_due():
                    if self._stopping:
                        if self._close is not None:
                            self._close()
                        return
                    self._condition.wait(self._wait_s())
                everything, self._all = self._all, None
                changes, self._wanted = self._wanted, {}
            self._perform(everything, changes)

    def _is_due(self) -> bool:
        return bool(self.waiting) and time.monotonic() >= self._not_before

    def _wait_s(self) -> float | None:
        return max(_MIN_WAIT_S, self._not_before - time.monotonic()) if self.waiting else None

    def _perform(self, everything: set[str] | None, changes: dict[str, bool]) -> None:
        begin = time.monotonic()
        try:
            if everything is not None:
                self._sync(everything)
                everything = None
            refused = self._apply(changes) if changes else {}
        except Exception as error:  # reported, and tried again
            if not isinstance(error, EXPECTED):
                log.exception("%s: unexpected error", self.reporter.name)
            self._postpone(everything, changes, reason_of(error))
            return
        self._reported.clear()
        seconds = time.monotonic() - begin
        for address, present in changes.items():
            if address in refused:
                self.reporter.failure(address, refused[address], seconds)
            else:
                self.reporter.success(address, "added" if present else "removed", seconds)

    def _postpone(self, everything: set[str] | None, changes: dict[str, bool], reason: str) -> None:
        with self._condition:
            self._not_before = time.monotonic() + self._retry
            if self._all is None:
                self._all = everything
                self._wanted = changes | self._wanted
        for address in changes or ("",):
            if (address, reason) not in self._reported:
                self._reported.add((address, reason))
                self.reporter.failure(address, f"{reason}; tried again every {self._retry:g}s")
