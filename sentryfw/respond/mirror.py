"""A reaction that lasts as long as the block: hosts.deny lines, routes.

What is wanted is kept by address, not as a queue of orders: a thousand changes of one address
are one, none is lost, and what could not be done is tried again.
"""

import time
from collections.abc import Callable
from typing import Final

from sentryfw.respond.lane import Report, Reporter, reason_of
from sentryfw.respond.worker import Worker

RETRY: Final = 30.0
"""Seconds after which changes that failed are tried again."""

Apply = Callable[[dict[str, bool]], dict[str, str]]
"""Make addresses present or absent; those that cannot be for good, each with its reason. Failed
or OSError: nothing was done, try again."""
Sync = Callable[[set[str]], None]
"""Make exactly these addresses present."""


class Mirror(Worker):
    """Keeps something outside the kernel's sets in step with them, in a thread of its own."""

    def __init__(
        self,
        name: str,
        apply: Apply,
        sync: Sync,
        report: Report,
        *,
        retry: float = RETRY,
        close: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(name)
        self.reporter = Reporter(name, report)
        self._apply = apply
        self._sync = sync
        self._retry = retry
        self._close = close
        self._wanted: dict[str, bool] = {}
        self._all: set[str] | None = None
        self._not_before = 0.0
        self._complained: set[tuple[str, str]] = set()
        """Address and reason, until it works again."""

    @property
    def waiting(self) -> int:
        return len(self._wanted) + (self._all is not None)

    def want(self, address: str, *, present: bool) -> None:
        with self._condition:
            self._wanted[address] = present
            self._not_before = 0.0
            self._condition.notify()

    def want_exactly(self, addresses: set[str]) -> None:
        """These and no others, whatever was wanted before."""
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
                    self._condition.wait(self._patience())
                everything, self._all = self._all, None
                changes, self._wanted = self._wanted, {}
            self._do(everything, changes)

    def _is_due(self) -> bool:
        return bool(self.waiting) and time.monotonic() >= self._not_before

    def _patience(self) -> float | None:
        return max(0.001, self._not_before - time.monotonic()) if self.waiting else None

    def _do(self, everything: set[str] | None, changes: dict[str, bool]) -> None:
        begin = time.monotonic()
        try:
            if everything is not None:
                self._sync(everything)
                everything = None
            refused = self._apply(changes) if changes else {}
        except Exception as error:  # noqa: BLE001 - whatever it is, it is reported and tried again
            self._put_back(everything, changes, reason_of(error))
            return
        self._complained.clear()
        seconds = time.monotonic() - begin
        for address, present in changes.items():
            if address in refused:
                self.reporter.failure(address, refused[address], seconds)
            else:
                self.reporter.success(address, "added" if present else "removed", seconds)

    def _put_back(self, everything: set[str] | None, changes: dict[str, bool], reason: str) -> None:
        with self._condition:
            self._not_before = time.monotonic() + self._retry
            if self._all is None:
                self._all = everything
                self._wanted = changes | self._wanted
        for address in changes or ("",):
            if (address, reason) not in self._complained:
                self._complained.add((address, reason))
                self.reporter.failure(address, f"{reason}; tried again every {self._retry:g}s")
