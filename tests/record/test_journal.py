"""The daemon's log in the journal: native datagrams with fields, or a line on stderr."""

import logging
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentryfw.record.journal import JournalHandler, is_stderr
from sentryfw.record.records import DecisionRecord, entry_fields, event_id

BLOCK = DecisionRecord(
    address="192.0.2.7", family=4, scan="portscan", kinds=["syn", "null"], targets=3, probes=4,
    first_seen=1.0, blocked_at=2.0, timeout_s=3600.0, offence=2, forgeable=True, tool="nmap",
    reason="3 distinct targets within the window", sample=[], blocked=True,
)  # fmt: skip


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    """Return a socket that listens as the journal does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "socket"))
        listening.setblocking(False)
        yield listening


@pytest.fixture
def log(tmp_path: Path) -> Iterator[logging.Logger]:
    handler = JournalHandler(tmp_path / "socket")
    logger = logging.getLogger("test-journal")
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)
    handler.close()


def fields(datagram: bytes) -> dict[str, str]:
    """Parse systemd's native protocol."""
    found = {}
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            [size] = struct.unpack_from("<Q", rest)
            value, rest = rest[8 : 8 + size], rest[8 + size + 1 :]
        found[name.decode()] = value.decode()
        datagram = rest
    return found


def test_a_block_has_its_fields(journal: socket.socket, log: logging.Logger) -> None:
    log.info("blocked %s", BLOCK.address, extra=entry_fields(BLOCK))
    assert fields(journal.recv(65536)) == {
        "MESSAGE": "blocked 192.0.2.7", "PRIORITY": "6", "SYSLOG_IDENTIFIER": "sentryfwd",
        "LOGGER": "test-journal", "SENTRYFW_ACTION": "blocked", "SENTRYFW_ADDRESS": "192.0.2.7",
        "SENTRYFW_FAMILY": "4", "SENTRYFW_SCAN": "portscan", "SENTRYFW_KINDS": "syn,null",
        "SENTRYFW_TARGETS": "3", "SENTRYFW_PROBES": "4", "SENTRYFW_TIMEOUT": "3600",
        "SENTRYFW_OFFENCE": "2", "SENTRYFW_TOOL": "nmap", "SENTRYFW_EVENT_ID": event_id(BLOCK),
        "SENTRYFW_REASON": "3 distinct targets within the window",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.CRITICAL, "3"), (logging.ERROR, "3"), (logging.WARNING, "4"), (logging.INFO, "6"),
     (logging.DEBUG, "7")],
)  # fmt: skip
def test_a_level_is_a_priority(
    journal: socket.socket, log: logging.Logger, level: int, priority: str
) -> None:
    log.log(level, "x")
    assert fields(journal.recv(65536))["PRIORITY"] == priority


def test_logged_text_cannot_add_a_field(journal: socket.socket, log: logging.Logger) -> None:
    bad = BLOCK._replace(tool="nmap\nPRIORITY=0", reason="\x1b[2J")
    log.info("a\nPRIORITY=0\x1b", extra=entry_fields(bad))
    found = fields(journal.recv(65536))
    assert found["PRIORITY"] == "6"
    assert found["MESSAGE"] == "a; PRIORITY=0?"
    assert (found["SENTRYFW_TOOL"], found["SENTRYFW_REASON"]) == ("nmap?PRIORITY=0", "?[2J")


def test_a_traceback_keeps_its_lines(journal: socket.socket, log: logging.Logger) -> None:
    try:
        int("here")
    except ValueError:
        log.exception("it failed")
    lines = fields(journal.recv(65536))["MESSAGE"].splitlines()
    assert lines[0] == "it failed"
    assert lines[-1].startswith("ValueError: invalid literal")


@pytest.mark.parametrize("how", ["gone", "full"])
def test_a_line_that_the_journal_refuses_goes_to_stderr_at_once(
    journal: socket.socket, log: logging.Logger, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    if how == "gone":
        journal.close()
        log.error("last words")
    else:
        for number in range(1000):
            log.error("last words %d", number)
    assert "test-journal: ERROR: last words" in capsys.readouterr().err


def test_only_the_stream_named_by_systemd_is_the_journal() -> None:
    status = os.fstat(2)
    assert is_stderr({"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
    assert not is_stderr({"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino + 1}"})
    assert not is_stderr({})


def test_the_daemon_logs_to_the_journal_if_stderr_is_the_journal(tmp_path: Path) -> None:
    code = (
        "import os, logging\n"
        "status = os.fstat(2)\n"
        "os.environ['JOURNAL_STREAM'] = f'{status.st_dev}:{status.st_ino}'\n"
        "from sentryfw.daemon.serve import log_handler\n"
        "print(type(log_handler()).__name__)\n"
        "os.environ['JOURNAL_STREAM'] = ''\n"
        "print(type(log_handler()).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["JournalHandler", "StreamHandler"], done.stderr
