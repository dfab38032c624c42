"""The host's own log: datagrams to journald and syslogd, and loggers that do not read."""

import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentryfw.config.respond import LocalLog
from sentryfw.errors import ReactionFailed
from sentryfw.respond.local_log import LocalLogger
from support.reactions import INCIDENT, REFUSED


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def listener(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(path))
        made.settimeout(5)
        yield made


def _logger(path: Path, to: str, timeout: float = 1.0) -> LocalLogger:
    return LocalLogger(LocalLog.model_validate({"to": to, "socket": str(path), "timeout": timeout}))


def test_the_journal_gets_fields(path: Path, listener: socket.socket) -> None:
    _logger(path, "journal")(INCIDENT._replace(host="evil.example"))
    lines = listener.recv(1 << 16).decode().splitlines()
    fields = dict(line.split("=", 1) for line in lines)
    assert fields["MESSAGE"].startswith("blocked 198.18.0.2 (evil.example) for 3600s")
    assert fields["PRIORITY"] == "4"
    assert fields["SYSLOG_IDENTIFIER"] == "sentryfwd"
    assert fields["SENTRYFW_IP"] == "198.18.0.2"
    assert fields["SENTRYFW_HOST"] == "evil.example"
    assert all(re.fullmatch(r"[A-Z][A-Z0-9_]*", name) for name in fields)


def test_syslog_gets_a_line_in_the_form_of_syslog_3(path: Path, listener: socket.socket) -> None:
    _logger(path, "syslog")(REFUSED)
    data = listener.recv(1 << 16).decode()
    head, _, message = data.partition(f" sentryfwd[{os.getpid()}]: ")
    assert re.fullmatch(r"<29>[A-Z][a-z]{2} [ 123]\d \d\d:\d\d:\d\d", head)
    assert message == REFUSED.sentence()


def test_a_missing_logger_is_a_failure(path: Path) -> None:
    with pytest.raises(ReactionFailed, match="No such file or directory"):
        _logger(path, "syslog")(INCIDENT)


def test_the_wait_for_a_logger_that_does_not_read_is_bounded(
    path: Path, listener: socket.socket
) -> None:
    log = _logger(path, "journal", timeout=0.2)
    begin = time.monotonic()

    def fill() -> None:
        for _ in range(1000):
            log(INCIDENT)

    with pytest.raises(ReactionFailed, match="timed out"):
        fill()
    assert time.monotonic() - begin < 5
