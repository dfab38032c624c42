"""A worker thread ends on request, and the wait for it is bounded."""

import threading
import time

from sentryfw.respond.worker_thread import WorkerThread


class Patient(WorkerThread):
    """A thread that waits until it has to end."""

    def __init__(self) -> None:
        super().__init__("patient")
        self.is_over = False

    def _run(self) -> None:
        with self._condition:
            while not self._stopping:
                self._condition.wait()
        self.is_over = True


class Deaf(WorkerThread):
    """A thread that is busy for a long time."""

    def __init__(self) -> None:
        super().__init__("deaf")
        self.done = threading.Event()

    def _run(self) -> None:
        self.done.wait(30)


def test_a_waiting_thread_ends_at_once() -> None:
    worker = Patient()
    worker.start()
    worker.stop(time.monotonic() + 10)
    assert worker.is_over


def test_the_wait_for_a_busy_thread_ends_at_the_deadline() -> None:
    worker = Deaf()
    worker.start()
    begin = time.monotonic()
    worker.stop(begin + 0.05)
    assert 0.05 <= time.monotonic() - begin < 5
    worker.done.set()
