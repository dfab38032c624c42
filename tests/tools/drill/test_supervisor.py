"""The process that cleans up behind a drill, with cheap jobs in place of the attacks."""

import contextlib
import logging
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sentryfw.errors import NotFound, SentryError
from sentryfw.tools.drill import supervisor
from sentryfw.tools.drill.supervisor import Interrupted, Say, supervise

pytestmark = [pytest.mark.root]

TURNS = 100
MAX_DELAY_S = 0.06
"""A turn has its processes after 0.02 s."""
END_TIMEOUT_S = 5.0


def directories(pid: int) -> set[Path]:
    """The directories of the jobs that a process supervises."""
    return set(Path("/run").glob(f"sentryfw-drill-{pid}_*"))


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Neither directories nor children nor handlers."""
    before = supervisor._children(), signal.getsignal(signal.SIGINT)
    yield
    assert directories(os.getpid()) == set()
    assert (supervisor._children(), signal.getsignal(signal.SIGINT)) == before


def endless(directory: Path, say: Say) -> None:
    """Do what a drill does: processes with processes of their own, files, and a log."""
    log = logging.getLogger("sentryfw.stand-in")
    subprocess.Popen(["sh", "-c", "sleep 1000 & exec sleep 1000"])
    for number in range(1 << 30):
        log.debug("%d", number)
        (directory / f"{number % 8}").write_text("x")
        say(f"[{number}]")
        with contextlib.suppress(Exception):
            subprocess.run(["true"], check=False)


def test_lines_and_the_result_arrive() -> None:
    def job(directory: Path, say: Say) -> list[Any]:
        assert {directory} == directories(os.getppid())
        say("one")
        say("two\nlines")
        return [os.getpid(), {"x": None}]

    said: list[str] = []
    pid, rest = supervise(job, said.append)
    assert pid != os.getpid()
    assert (rest, said) == ({"x": None}, ["one", "two\nlines"])


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [(NotFound("not there"), SentryError, 7), (OSError(28, "No space"), SentryError, 1)],
)
def test_an_error_of_the_job_keeps_its_text_and_exit_code(
    error: Exception, kind: type[SentryError], code: int
) -> None:
    def job(directory: Path, say: Say) -> None:
        raise error

    with pytest.raises(kind) as raised:
        supervise(job, print)
    assert (str(raised.value), raised.value.exit_code) == (str(error), code)


def test_a_job_that_is_killed_is_an_error() -> None:
    def job(directory: Path, say: Say) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(SentryError, match="was killed"):
        supervise(job, print)


def test_what_the_job_leaves_running_is_ended() -> None:
    def job(directory: Path, say: Say) -> int:
        command = "import os, subprocess; subprocess.Popen(['sleep', '1000'])"
        return subprocess.run(["python3", "-c", command], check=False).returncode

    assert supervise(job, print) == 0


@pytest.mark.usefixtures("hangup_ends")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_job_that_does_not_listen(number: signal.Signals) -> None:
    def job(directory: Path, say: Say) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [number])
        say("ready")
        time.sleep(1000)

    started = time.monotonic()
    with pytest.raises(Interrupted, match=number.name) as raised:
        supervise(job, lambda _: os.kill(os.getpid(), number))
    assert raised.value.exit_code == 128 + number
    assert time.monotonic() - started < END_TIMEOUT_S


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """nohup(1) ignores it, because its caller wants the drill to go on."""

    def job(directory: Path, say: Say) -> int:
        say("ready")
        return 5

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert supervise(job, lambda _: os.kill(os.getpid(), signal.SIGHUP)) == 5
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def _ended(work: Callable[[], Any], number: int, after: float) -> int:
    """Return the exit code of a child that gets a signal after a while, maybe twice."""
    ready, tell = os.pipe()
    child = os.fork()
    if not child:
        code = 99
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # as the command line sets it
        try:
            os.write(tell, b"1")
            work()
            code = 0
        except Interrupted as error:
            code = error.exit_code
        finally:
            os._exit(code)
    os.close(tell)
    os.read(ready, 1)
    os.close(ready)
    time.sleep(after)
    os.kill(child, number)
    deadline = time.monotonic() + END_TIMEOUT_S
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            assert directories(child) == set()
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError(f"not ended {END_TIMEOUT_S} s after signal {number}")


@pytest.mark.slow
def test_a_hundred_interruptions_at_random_moments_leave_nothing() -> None:
    chance = random.Random(13)
    codes = []
    for _ in range(TURNS):
        number = chance.choice((signal.SIGINT, signal.SIGTERM))
        after = chance.uniform(0.0, MAX_DELAY_S)
        code = _ended(lambda: supervise(endless, lambda _: None), number, after)
        assert code in {128 + number, -number}, (code, after)  # -: before it listens
        codes.append(code)
    assert sum(code > 0 for code in codes) > TURNS / 2
