"""Affinity of two threads: with a fake kernel, and with this one where it has two cores."""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from sentryfw.host import affinity
from sentryfw.host.affinity import SeparateCore

WRITER: Final = 100
LOOP: Final = 200
HERE: Final = 1
DEADLINE_S: Final = 20.0


class FakeKernel:
    """The affinity of two threads; the calling one is WRITER, and runs on core HERE."""

    def __init__(self, cores: int) -> None:
        self.cores = {WRITER: set(range(cores)), LOOP: set(range(cores))}
        self.calls: list[tuple[int, set[int]]] = []
        self.refused: set[int] = set()

    def sched_getaffinity(self, thread: int) -> set[int]:
        return set(self._of(thread))

    def sched_setaffinity(self, thread: int, cores: set[int]) -> None:
        if thread in self.refused:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        self._of(thread)
        self.calls.append((thread, set(cores)))
        self.cores[thread] = set(cores)

    def _of(self, thread: int) -> set[int]:
        try:
            return self.cores[thread]
        except KeyError:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from None


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], FakeKernel]:
    def made(cores: int) -> FakeKernel:
        kernel = FakeKernel(cores)
        monkeypatch.setattr(threading, "get_native_id", lambda: WRITER)
        monkeypatch.setattr(affinity, "os", kernel)
        monkeypatch.setattr(affinity, "_thread_ids", lambda: {*kernel.cores, None})
        return kernel

    return made


@pytest.fixture
def core() -> SeparateCore:
    made = SeparateCore(LOOP)
    made._current_core = lambda: HERE
    return made


@pytest.mark.parametrize("cores", [2, 4])
def test_the_other_thread_keeps_off_this_core(
    make: Callable[[int], FakeKernel], core: SeparateCore, cores: int
) -> None:
    kernel = make(cores)
    every = set(range(cores))
    for _ in range(2):
        with core:
            assert kernel.cores == {WRITER: {HERE}, LOOP: every - {HERE}}
        assert kernel.cores == {WRITER: every, LOOP: every}


def test_an_error_within_frees_both(make: Callable[[int], FakeKernel], core: SeparateCore) -> None:
    kernel = make(2)
    with pytest.raises(ZeroDivisionError), core:
        _ = 1 / 0
    assert kernel.cores == {WRITER: {0, 1}, LOOP: {0, 1}}


def test_a_thread_that_has_one_core_keeps_it(
    make: Callable[[int], FakeKernel], core: SeparateCore
) -> None:
    kernel = make(2)
    kernel.cores[LOOP] = {HERE}
    with core:
        pass
    assert kernel.calls == []


@pytest.mark.parametrize("refused", [{WRITER}, {LOOP}, {WRITER, LOOP}], ids=str)
def test_a_refusal_changes_nothing(
    make: Callable[[int], FakeKernel], core: SeparateCore, refused: set[int]
) -> None:
    kernel = make(2)
    kernel.refused = refused
    with core:
        assert kernel.cores[LOOP] == {0, 1}
    assert kernel.cores == {WRITER: {0, 1}, LOOP: {0, 1}}


def test_the_other_thread_may_end(make: Callable[[int], FakeKernel], core: SeparateCore) -> None:
    kernel = make(2)
    with core:
        del kernel.cores[LOOP]
    assert kernel.cores == {WRITER: {0, 1}}
    with core:
        assert kernel.cores == {WRITER: {0, 1}}


def test_what_an_operator_sets_within_stays(
    make: Callable[[int], FakeKernel], core: SeparateCore
) -> None:
    kernel = make(4)
    with core:
        kernel.cores[LOOP] = kernel.cores[WRITER] = {3}  # taskset --all-tasks --pid
    assert kernel.cores == {WRITER: {3}, LOOP: {3}}


def test_threads_that_are_started_within_get_all_cores(
    make: Callable[[int], FakeKernel], core: SeparateCore
) -> None:
    kernel = make(4)
    kernel.cores[300] = {2}
    with core:
        kernel.cores[301] = set(kernel.cores[LOOP])  # inherited
        kernel.cores[302] = {3}  # and set by itself since
    assert kernel.cores[300] == {2}
    assert kernel.cores[301] == {0, 1, 2, 3}
    assert kernel.cores[302] == {3}


# --- this kernel


class Other:
    """A thread that waits, and starts another one on demand."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}
        self._begin, self._ready, self._end = (threading.Event() for _ in range(3))
        self.threads = [threading.Thread(target=self._run)]
        self.threads[0].start()
        self.wait()

    def start_another(self) -> None:
        self._begin.set()
        self.wait()

    def wait(self) -> None:
        assert self._ready.wait(DEADLINE_S)
        self._ready.clear()

    def end(self) -> None:
        self._end.set()
        self._begin.set()
        for thread in self.threads:
            thread.join(DEADLINE_S)

    def _run(self) -> None:
        self.ids["first"] = threading.get_native_id()
        self._ready.set()
        assert self._begin.wait(DEADLINE_S)
        self.threads.append(threading.Thread(target=self._second))
        self.threads[-1].start()
        self._end.wait(DEADLINE_S)

    def _second(self) -> None:
        self.ids["second"] = threading.get_native_id()
        self._ready.set()
        self._end.wait(DEADLINE_S)


@pytest.fixture
def other() -> Iterator[Other]:
    made = Other()
    yield made
    made.end()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_threads_of_this_process_run_apart(other: Other) -> None:
    every = os.sched_getaffinity(0)
    with SeparateCore(other.ids["first"]):
        here = os.sched_getaffinity(0)
        assert len(here) == 1
        assert os.sched_getaffinity(other.ids["first"]) == every - here
        other.start_another()
        assert os.sched_getaffinity(other.ids["second"]) == every - here
    assert os.sched_getaffinity(0) == every
    assert {frozenset(os.sched_getaffinity(thread)) for thread in other.ids.values()} == {
        frozenset(every)
    }
