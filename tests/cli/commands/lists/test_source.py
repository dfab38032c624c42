"""The list that is imported: standard input, and its end."""

import io
import time
from types import SimpleNamespace

import pytest

from sentryfw.cli.commands.lists.source import end_of, read
from sentryfw.errors import SentryError


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = SimpleNamespace(buffer=io.BytesIO(b"192.0.2.1\n"))
    monkeypatch.setattr("sys.stdin", stdin)
    assert len(read("-", "plain", skip_bad=False).entries) == 1
    stdin.buffer = io.BytesIO(b"x\n")
    with pytest.raises(SentryError, match="standard input: line 1: 'x'"):
        read("-", "plain", skip_bad=False)


def test_the_end_is_a_duration_or_a_time() -> None:
    assert end_of("1h30m", None) == 5400.0
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + 3600))
    assert 3590 < end_of(None, at) <= 3600
