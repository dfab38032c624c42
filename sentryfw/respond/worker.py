"""A thread that waits for something to do, and ends when the daemon does."""

import threading
import time


class Worker:
    """What waits is guarded by `_condition`; `_run` waits on it, and ends where `_stopping`."""

    def __init__(self, name: str) -> None:
        self._condition = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, deadline: float) -> None:
        """End it, and wait for that until a moment of time.monotonic()."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        raise NotImplementedError
