"""The daemon's log in systemd's journal: each record with its priority, and with fields.

If stderr is the journal's (JOURNAL_STREAM of systemd.exec(5)), records go to the journal by its
native protocol, so that `journalctl SENTRYFW_ADDRESS=192.0.2.7` finds them. Elsewhere, and if the
journal does not accept a record, the line goes to stderr.
"""

import logging
import os
import socket
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sentryfw.record.records import LOG_FIELDS
from sentryfw.text import PlainFormatter, plain

JOURNAL: Final = Path("/run/systemd/journal/socket")
IDENTIFIER: Final = "sentryfwd"
PREFIX: Final = "SENTRYFW_"
_PRIORITIES: Final = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


def is_stderr(environ: Mapping[str, str]) -> bool:
    """Return whether stderr leads into the journal."""
    try:
        status = os.fstat(2)
    except OSError:  # closed
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def encode(fields: Mapping[str, str]) -> bytes:
    """Encode one entry in systemd's JOURNAL_NATIVE_PROTOCOL.

    A field is NAME=text, or NAME, its length and its bytes if the text has a newline.
    """
    made = []
    for name, text in fields.items():
        data = text.encode(errors="replace")
        if b"\n" in data:
            made.append(name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n")
        else:
            made.append(name.encode() + b"=" + data + b"\n")
    return b"".join(made)


class JournalHandler(logging.Handler):
    """Sends without waiting: a journal that does not read must not hold a thread up."""

    def __init__(self, path: Path = JOURNAL) -> None:
        super().__init__()
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        self.setFormatter(PlainFormatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record to the journal, or write it to stderr."""
        message = self.format(record)
        try:
            self._socket.sendto(encode(_fields(record, message)), self._path)
        except OSError:
            sys.stderr.write(f"{record.name}: {record.levelname}: {message}\n")

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()


def _fields(record: logging.LogRecord, message: str) -> dict[str, str]:
    priority = next((level for least, level in _PRIORITIES if record.levelno >= least), 7)
    fields = {
        "MESSAGE": message,  # a traceback of ours has newlines
        "PRIORITY": str(priority),
        "SYSLOG_IDENTIFIER": IDENTIFIER,
        "LOGGER": record.name,
    }
    for name, text in getattr(record, LOG_FIELDS, {}).items():
        fields[f"{PREFIX}{name.upper()}"] = plain(text)
    return fields
