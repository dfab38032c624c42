"""The daemon's log in systemd's journal: each record with its priority, and with fields.

Where stderr is the journal's (JOURNAL_STREAM of systemd.exec(5)), records go to it by its native
protocol, so that `journalctl SENTRYFW_ADDRESS=192.0.2.7` finds them. Elsewhere, and where the
journal does not take one, stderr gets the line.
"""

import logging
import os
import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from sentryfw.plain import PlainFormatter, plain
from sentryfw.record.entry import LOG_FIELDS

JOURNAL: Final = Path("/run/systemd/journal/socket")
IDENTIFIER: Final = "sentryfwd"
PREFIX: Final = "SENTRYFW_"
_PRIORITIES: Final = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


def is_stderr(environ: Mapping[str, str]) -> bool:
    """Whether stderr leads into the journal."""
    try:
        status = os.fstat(2)
    except OSError:  # closed
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class JournalHandler(logging.Handler):
    """Sends, and never waits: a journal that does not read must not hold a thread up."""

    def __init__(self, path: Path = JOURNAL) -> None:
        super().__init__()
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        self.setFormatter(PlainFormatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        message = self.format(record)
        try:
            self._socket.sendto(b"".join(_packed(record, message)), self._path)
        except OSError:
            sys.stderr.write(f"{record.name}: {record.levelname}: {message}\n")

    def close(self) -> None:
        self._socket.close()
        super().close()


def _packed(record: logging.LogRecord, message: str) -> Iterator[bytes]:
    """systemd's JOURNAL_NATIVE_PROTOCOL: NAME=text, or NAME, its length and bytes."""
    priority = next((level for least, level in _PRIORITIES if record.levelno >= least), 7)
    fields = {
        "MESSAGE": message,
        "PRIORITY": str(priority),
        "SYSLOG_IDENTIFIER": IDENTIFIER,
        "LOGGER": record.name,
    }
    for name, text in getattr(record, LOG_FIELDS, {}).items():
        fields[f"{PREFIX}{name.upper()}"] = plain(text)
    for name, text in fields.items():
        data = text.encode(errors="replace")
        if b"\n" in data:  # a traceback of ours
            yield name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
        else:
            yield name.encode() + b"=" + data + b"\n"
