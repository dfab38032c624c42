"""A thread that waits for work, and ends when the daemon does."""

import threading
import time
from typing import Final

_MIN_WAIT_S: Final = 0.001


class WorkerThread:
    """The base of reactions with their own thread.

    `_condition` guards the work that waits. A subclass waits on it in `_run`, and returns from
    there when `_stopping` is set.
    """

    def __init__(self, name: str) -> None:
        self._condition = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, deadline: float) -> None:
        """Ask the thread to end, and wait for it until a time of time.monotonic()."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        raise NotImplementedError


class PacedThread(WorkerThread):
    """A worker that lets some time pass before it takes the work that waits."""

    _not_before = 0.0
    """Time of time.monotonic() before which no work is taken."""

    @property
    def waiting(self) -> int:
        """Items that wait."""
        raise NotImplementedError

    def _wait_until_due(self) -> bool:
        """Wait, with `_condition` held, for work whose time has come; return False at the end."""
        while not self._stopping:
            left = self._not_before - time.monotonic()
            if self.waiting and left <= 0:
                return True
            self._condition.wait(max(_MIN_WAIT_S, left) if self.waiting else None)
        return False
