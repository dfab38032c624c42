"""The daemon's process before it judges: its lock, its memory."""

import gc
import os
from pathlib import Path

import pytest

from sentryfw.config.model import Config
from sentryfw.daemon import serve
from sentryfw.daemon.daemon import Daemon
from sentryfw.daemon.serve import take_lock
from sentryfw.errors import SentryError


def test_the_lock_names_its_holder_and_refuses_a_second_daemon(tmp_path: Path) -> None:
    path = tmp_path / "run" / "lock"
    take_lock(path)
    assert path.read_text() == f"{os.getpid()}\n"
    with pytest.raises(SentryError, match=rf"another sentryfwd is running \(pid {os.getpid()}\)"):
        take_lock(path)


def test_nothing_is_collected_while_the_daemon_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[bool] = []

    def refuse(*_: object) -> Daemon:
        states.append(gc.isenabled())
        raise SentryError("no table")

    monkeypatch.setattr(serve, "build", refuse)
    with pytest.raises(SentryError, match="no table"):
        serve._built(Config(), None)
    assert states == [False]
    assert gc.isenabled()


def test_memory_is_collected_less_often_once_packets_are_judged() -> None:
    before = gc.get_threshold()
    try:
        serve.freeze_memory()
        assert gc.get_threshold() == serve.GC_THRESHOLDS
        assert gc.get_freeze_count() > 0
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
