"""The daemon's process before it judges: its lock."""

import os
from pathlib import Path

import pytest

from sentryfw.daemon.serve import take_lock
from sentryfw.errors import SentryError


def test_the_lock_names_its_holder_and_refuses_a_second_daemon(tmp_path: Path) -> None:
    path = tmp_path / "run" / "lock"
    take_lock(path)
    assert path.read_text() == f"{os.getpid()}\n"
    with pytest.raises(SentryError, match=rf"another sentryfwd is running \(pid {os.getpid()}\)"):
        take_lock(path)
