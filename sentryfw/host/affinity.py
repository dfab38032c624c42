"""CPU affinity of this process's threads (sched_setaffinity(2)).

See docs/decisions.md: separate-core.
"""

import ctypes
import os
import threading
from contextlib import suppress


class SeparateCore:
    """Context in which the calling thread stays on its core, and another thread keeps off it.

    Affinity is inherited: threads that the other one starts within the context get all of its cores
    when it ends; a process that it starts within keeps off the one core. Where the other thread may
    run on no other core, or a system call filter refuses, affinity stays as it is. For one thread
    at a time, not reentrant.
    """

    def __init__(self, other: int) -> None:
        """`other`: native id of a thread of this process (gettid(2))."""
        self._other = other
        self._current_core = ctypes.PyDLL(None).sched_getcpu
        self._threads: set[int | None] = set()
        self._changed: dict[int, tuple[set[int], set[int]]] = {}
        """Cores before and since, of each thread that is restricted now."""

    def __enter__(self) -> None:
        here = {self._current_core()}
        with suppress(OSError):  # refused, or the other thread has ended
            if elsewhere := os.sched_getaffinity(self._other) - here:
                self._threads = _thread_ids()
                self._restrict(threading.get_native_id(), here)
                self._restrict(self._other, elsewhere)

    def __exit__(self, *_: object) -> None:
        changed, self._changed = self._changed, {}
        if self._other in changed:
            for started in filter(None, _thread_ids() - self._threads):
                changed[started] = changed[self._other]
        for thread, (before, since) in changed.items():
            with suppress(OSError):  # the thread has ended
                _restore(thread, before, since)

    def _restrict(self, thread: int, cores: set[int]) -> None:
        before = os.sched_getaffinity(thread)
        os.sched_setaffinity(thread, cores)
        self._changed[thread] = before, cores


def _restore(thread: int, before: set[int], since: set[int]) -> None:
    """Give a thread the cores that it had, unless another program has changed them since."""
    if os.sched_getaffinity(thread) == since:
        os.sched_setaffinity(thread, before)


def _thread_ids() -> set[int | None]:
    """Return the native ids of Python's threads; None for one that is being started."""
    return {thread.native_id for thread in threading.enumerate()}
