"""The end of a daemon in any state."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from sentryfw.errors import SentryError
from sentryfw.host.lock_holder import is_held
from sentryfw.setup.process import end

HOLD: Final = """\
import fcntl, os, signal, sys
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
os.write(lock, str(os.getpid()).encode())
print("held", flush=True)
signal.pause()
"""

Daemon = subprocess.Popen[str]


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "daemon.lock"


@pytest.fixture(params=["", "deaf"], ids=["ends at SIGTERM", "ignores SIGTERM"])
def daemon(request: pytest.FixtureRequest, lock: Path) -> Iterator[Daemon]:
    """A process that holds the lock as the daemon does."""
    command = [sys.executable, "-I", "-c", HOLD, lock, request.param]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_without_a_daemon_end_returns_false(lock: Path) -> None:
    assert end(lock, None) is False


def test_a_daemon_is_ended_by_sigterm_or_sigkill(
    lock: Path, tmp_path: Path, daemon: Daemon, request: pytest.FixtureRequest
) -> None:
    assert end(lock, tmp_path / "no.sock") is True
    is_deaf = "ignores" in request.node.name
    assert daemon.wait(5) == -(signal.SIGKILL if is_deaf else signal.SIGTERM)
    assert not is_held(lock)


@pytest.mark.root
def test_a_process_that_is_not_the_daemons_is_not_ended(lock: Path, daemon: Daemon) -> None:
    """The directory belongs to the daemon's user; root's process holds a file in it."""
    os.chown(lock.parent, 54321, 54321)
    with pytest.raises(SentryError, match="was not ended"):
        end(lock, None)
    assert daemon.poll() is None
