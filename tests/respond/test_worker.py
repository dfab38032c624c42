"""A worker ends when it is told to, and is waited for no longer than was said."""

import threading
import time

from sentryfw.respond.worker import Worker


class Patient(Worker):
    """Waits until it is to end."""

    def __init__(self) -> None:
        super().__init__("patient")
        self.is_over = False

    def _run(self) -> None:
        with self._condition:
            while not self._stopping:
                self._condition.wait()
        self.is_over = True


class Deaf(Worker):
    """Does something that takes as long as it takes."""

    def __init__(self) -> None:
        super().__init__("deaf")
        self.done = threading.Event()

    def _run(self) -> None:
        self.done.wait(30)


def test_one_that_waits_ends_at_once() -> None:
    worker = Patient()
    worker.start()
    worker.stop(time.monotonic() + 10)
    assert worker.is_over


def test_one_that_is_busy_is_not_waited_for_beyond_the_deadline() -> None:
    worker = Deaf()
    worker.start()
    begin = time.monotonic()
    worker.stop(begin + 0.05)
    assert 0.05 <= time.monotonic() - begin < 5
    worker.done.set()
