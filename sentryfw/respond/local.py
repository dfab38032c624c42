"""The host's own log: journald's native protocol, or syslog(3)'s datagram."""

import os
import socket
import time
from pathlib import Path
from typing import Final

from sentryfw.config_respond import LocalLog
from sentryfw.respond.incident import Incident
from sentryfw.respond.lane import Failed
from sentryfw.respond.syslog import severity

JOURNAL: Final = Path("/run/systemd/journal/socket")
SYSLOG: Final = Path("/dev/log")
LOG_DAEMON: Final = 3
IDENTIFIER: Final = "sentryfwd"


def journal_entry(incident: Incident) -> bytes:
    """systemd's JOURNAL_NATIVE_PROTOCOL: fields, one a line; none of ours holds a newline."""
    fields = {
        "MESSAGE": incident.sentence(),
        "PRIORITY": str(severity(incident)),
        "SYSLOG_IDENTIFIER": IDENTIFIER,
        "SYSLOG_FACILITY": str(LOG_DAEMON),
        **{f"SENTRYFW_{name.upper()}": text for name, text in incident.fields().items()},
    }
    return "".join(f"{name}={text}\n" for name, text in fields.items()).encode()


def syslog_line(incident: Incident) -> bytes:
    """As syslog(3) writes it, with local time (RFC 3164)."""
    now = time.localtime(incident.at)
    when = f"{time.strftime('%b', now)} {now.tm_mday:2d} {time.strftime('%H:%M:%S', now)}"
    priority = LOG_DAEMON * 8 + severity(incident)
    return f"<{priority}>{when} {IDENTIFIER}[{os.getpid()}]: {incident.sentence()}".encode()


class LocalLogger:
    """One datagram for each incident."""

    def __init__(self, settings: LocalLog) -> None:
        is_journal = settings.to == "journal"
        self._path = settings.socket or (JOURNAL if is_journal else SYSLOG)
        self._render = journal_entry if is_journal else syslog_line
        self._timeout = settings.timeout

    def __call__(self, incident: Incident) -> str:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(self._timeout)
            try:
                sock.connect(str(self._path))
                sock.send(self._render(incident))
            except OSError as error:
                raise Failed(f"{self._path}: {error.strerror or error}") from error
        return f"sent to {self._path}"
