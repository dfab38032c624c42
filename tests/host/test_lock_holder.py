"""The holder of a lock file: named by the kernel, and signalled only if it is the daemon's."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from sentryfw.host import lock_holder
from sentryfw.host.lock_holder import holder, is_held, signal_holder

HOLD: Final = """\
import fcntl, os, signal, sys
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
if sys.argv[2:]:
    os.setresuid(*[int(sys.argv[2])] * 3)
fcntl.flock(lock, fcntl.LOCK_EX)
os.write(lock, str(os.getpid()).encode())
print("held", flush=True)
signal.pause()
"""
STRANGER: Final = 54321
"""A uid, as that of the daemon's user."""

Process = subprocess.Popen[str]
Hold = Callable[..., Process]


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    place = tmp_path / "run"
    place.mkdir()
    return place / "daemon.lock"


@pytest.fixture
def hold(lock: Path) -> Iterator[Hold]:
    """Start processes that hold the lock as the daemon does, as a user."""
    started: list[Process] = []

    def start(*uid: int) -> Process:
        command = [sys.executable, "-I", "-c", HOLD, str(lock), *map(str, uid)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process of root that has nothing to do with SentryFW."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_a_lock_that_no_process_holds_has_no_holder(lock: Path) -> None:
    assert holder(lock) is None
    lock.write_text(str(os.getpid()))
    assert not is_held(lock)
    assert holder(lock) is None
    assert signal_holder(lock, signal.SIGTERM) is None


def test_the_holder_is_named_by_the_kernel(lock: Path, hold: Hold) -> None:
    process = hold()
    lock.write_text("1234")
    assert is_held(lock)
    assert holder(lock) == process.pid


def test_a_holder_that_the_kernel_does_not_list_is_the_one_in_the_file(
    lock: Path, hold: Hold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = hold()
    (tmp_path / "locks").write_text("1: FLOCK  ADVISORY  WRITE 77 00:00:1 0 EOF\nnonsense\n\n")
    monkeypatch.setattr(lock_holder, "LOCKS", tmp_path / "locks")
    assert holder(lock) == process.pid


@pytest.mark.parametrize("text", ["", "1", "0", "-5", "nobody", "99999999", "²"])
def test_nonsense_in_the_file_names_no_process(
    lock: Path, hold: Hold, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold()
    lock.write_text(text)
    monkeypatch.setattr(lock_holder, "LOCKS", tmp_path / "none")
    assert is_held(lock)
    assert holder(lock) is None


def test_the_holder_gets_the_signal(lock: Path, hold: Hold) -> None:
    process = hold()
    assert signal_holder(lock, signal.SIGTERM) == process.pid
    assert process.wait(5) == -signal.SIGTERM
    assert not is_held(lock)


@pytest.mark.root
@pytest.mark.parametrize("is_listed", [True, False], ids=["in /proc/locks", "not in /proc/locks"])
def test_a_pid_that_the_daemons_user_wrote_is_not_signalled(
    lock: Path, hold: Hold, victim: subprocess.Popen[bytes], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, *, is_listed: bool,
) -> None:  # fmt: skip
    """Its user holds the lock and names a process of root in it."""
    os.chown(lock.parent, STRANGER, STRANGER)
    process = hold(STRANGER)
    lock.write_text(str(victim.pid))
    if not is_listed:
        monkeypatch.setattr(lock_holder, "LOCKS", tmp_path / "none")
    assert signal_holder(lock, signal.SIGTERM) == (process.pid if is_listed else None)
    if is_listed:
        assert process.wait(5) == -signal.SIGTERM
    assert victim.poll() is None


@pytest.mark.root
def test_a_process_of_another_user_that_holds_the_lock_is_not_signalled(
    lock: Path, victim: subprocess.Popen[bytes]
) -> None:
    """A lock file of root, moved or linked into the directory of the daemon's user."""
    os.chown(lock.parent, STRANGER, STRANGER)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.write(descriptor, str(victim.pid).encode())
    try:
        assert is_held(lock)
        assert signal_holder(lock, signal.SIGTERM) is None
    finally:
        os.close(descriptor)
    assert victim.poll() is None


def test_a_link_is_not_followed(lock: Path, tmp_path: Path, hold: Hold) -> None:
    process = hold()
    link = tmp_path / "link"
    link.symlink_to(lock)
    assert holder(lock) == process.pid
    assert not is_held(link)
    assert holder(link) is None


def test_a_pipe_in_place_of_the_lock_is_not_waited_for(lock: Path) -> None:
    os.mkfifo(lock)
    assert not is_held(lock)
    assert holder(lock) is None


def test_two_that_ask_do_not_take_each_other_for_the_holder(lock: Path) -> None:
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    try:
        assert not is_held(lock)
    finally:
        os.close(descriptor)
