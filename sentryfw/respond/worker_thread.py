"""A thread that waits for work, and ends when the daemon does."""

import threading
import time


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
