"""run: the command line becomes the daemon."""

import os
import sys

import pytest
from typer.testing import CliRunner

from sentryfw.cli.app import app


@pytest.mark.parametrize(
    ("words", "more"),
    [(["run"], []), (["-c", "/etc/x.toml", "run"], ["--config", "/etc/x.toml"])],
    ids=["default configuration", "named configuration"],
)
def test_run_executes_the_daemon_with_the_same_python(
    monkeypatch: pytest.MonkeyPatch, words: list[str], more: list[str]
) -> None:
    executed: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(os, "execv", lambda path, argv: executed.append((path, argv)))
    CliRunner().invoke(app, words, catch_exceptions=False)
    [(path, argv)] = executed
    assert path == sys.executable
    assert argv == [sys.executable, "-I", "-m", "sentryfw.daemon.main", *more]
