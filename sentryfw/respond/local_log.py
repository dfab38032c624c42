"""The host's own log: a datagram of the journal's native protocol, or of syslog(3)."""

import os
import socket
import time
from pathlib import Path
from typing import Final

from sentryfw.config.respond import LocalLog
from sentryfw.errors import ReactionFailed
from sentryfw.record.journal import IDENTIFIER, JOURNAL, PREFIX, encode
from sentryfw.respond.incident import Incident
from sentryfw.respond.syslog import severity

SYSLOG: Final = Path("/dev/log")
LOG_DAEMON: Final = 3
"""The syslog facility "daemon"."""


def journal_entry(incident: Incident) -> bytes:
    """Return the datagram for the journal."""
    return encode(
        {
            "MESSAGE": incident.sentence(),
            "PRIORITY": str(severity(incident)),
            "SYSLOG_IDENTIFIER": IDENTIFIER,
            "SYSLOG_FACILITY": str(LOG_DAEMON),
            **{f"{PREFIX}{name.upper()}": text for name, text in incident.fields().items()},
        }
    )


def syslog_line(incident: Incident) -> bytes:
    """Return the datagram of syslog(3), with local time (RFC 3164)."""
    now = time.localtime(incident.at)
    when = f"{time.strftime('%b', now)} {now.tm_mday:2d} {time.strftime('%H:%M:%S', now)}"
    priority = LOG_DAEMON * 8 + severity(incident)
    return f"<{priority}>{when} {IDENTIFIER}[{os.getpid()}]: {incident.sentence()}".encode()


class LocalLogger:
    """Sends one datagram for each incident."""

    def __init__(self, config: LocalLog) -> None:
        is_journal = config.to == "journal"
        self._path = config.socket or (JOURNAL if is_journal else SYSLOG)
        self._render = journal_entry if is_journal else syslog_line
        self._timeout = config.timeout

    def __call__(self, incident: Incident) -> str:
        """Log an incident. Raise ReactionFailed if the log does not accept it."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(self._timeout)
            try:
                sock.connect(str(self._path))
                sock.send(self._render(incident))
            except OSError as error:
                raise ReactionFailed(f"{self._path}: {error.strerror or error}") from error
        return f"sent to {self._path}"
