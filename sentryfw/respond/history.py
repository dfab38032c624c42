"""PortSentry's history file, so that what reads it goes on reading: fail2ban, logcheck.

Only what PortSentry would have been right to write. Its stock fail2ban filters take every line
for an attacker, so a partner, or an address that is never blocked, gets no line; "Blocked" is
written of nobody who was not blocked.
"""

import os
import time
from typing import Final

from sentryfw.config_respond import History
from sentryfw.respond.incident import Incident
from sentryfw.respond.lane import Failed

MODE: Final = 0o640
LEVELS: Final = frozenset(("observe", "command"))
"""Refusals that the operator chose: PortSentry's BLOCK 0 and 2."""
TYPES: Final[dict[str, str]] = {
    "connect": "Connect",
    "syn": "TCP SYN/Normal scan",
    "null": "TCP NULL scan",
    "xmas": "TCP XMAS scan",
    "fin": "TCP FIN scan",
    "udp": "UDP",
    "synfin": "Unknown Type: TCP Packet Flags: SYN: 1 FIN: 1 ACK: 0 PSH: 0 URG: 0 RST: 0",
    "urg": "Unknown Type: TCP Packet Flags: SYN: 0 FIN: 0 ACK: 0 PSH: 0 URG: 1 RST: 0",
    "ack": "Unknown Type: TCP Packet Flags: SYN: 0 FIN: 0 ACK: 1 PSH: 0 URG: 0 RST: 0",
    "maimon": "Unknown Type: TCP Packet Flags: SYN: 0 FIN: 1 ACK: 1 PSH: 0 URG: 0 RST: 0",
}
"""PortSentry 2.x's names; kinds that it had none for keep ours."""
CONNECT: Final = frozenset(("tcp", "udp"))
"""Modes in which it wrote "Connect"."""


def portsentry1(incident: Incident) -> str:
    """`%ld - MM/DD/YYYY HH:MM:SS Host: RESOLVED/IP Port: N TCP|UDP Blocked`, local time; empty
    for what was not blocked."""
    if incident.action != "blocked":
        return ""
    when = time.strftime("%m/%d/%Y %H:%M:%S", time.localtime(incident.at))
    return (
        f"{int(incident.at)} - {when} Host: {incident.host or incident.ip}/{incident.ip}"
        f" Port: {incident.port} {incident.protocol.upper()} Blocked\n"
    )


def portsentry2(incident: Incident) -> str:
    """`2026-11-22T10:00:00.123+0100 Scan from: [IP] (NAME) ...`, local time."""
    is_blocked = incident.action == "blocked"
    if not is_blocked and incident.reason not in LEVELS:
        return ""
    now = time.localtime(incident.at)
    milliseconds = int(incident.at % 1 * 1000)
    when = f"{time.strftime('%Y-%m-%dT%H:%M:%S', now)}.{milliseconds:03d}{time.strftime('%z', now)}"
    noblock, blocked = ("false", "true") if is_blocked else ("true", "false")
    return (
        f"{when} Scan from: [{incident.ip}] ({incident.host or incident.ip})"
        f" protocol: [{incident.protocol.upper()}] port: [{incident.port}]"
        f" type: [{_type(incident)}] IP opts: [unknown] ignored: [false] triggered: [true]"
        f" noblock: [{noblock}] blocked: [{blocked}]\n"
    )


def _type(incident: Incident) -> str:
    if incident.mode in CONNECT:
        return "Connect"
    return TYPES.get(incident.kind, incident.kind)


FORMATS: Final = {"portsentry1": portsentry1, "portsentry2": portsentry2}


class HistoryFile:
    """Appends a line for each incident; opened each time, so it may be rotated away."""

    def __init__(self, settings: History) -> None:
        self._path = settings.path
        self._render = FORMATS[settings.format]

    def __call__(self, incident: Incident) -> str:
        data = self._render(incident).encode()
        if not data:
            return "nothing to write"
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(self._path, flags | os.O_NONBLOCK, MODE)
            try:
                size = os.fstat(descriptor).st_size
                if os.write(descriptor, data) < len(data):
                    os.ftruncate(descriptor, size)  # no half line, for the next one to spoil
                    raise Failed(f"{self._path}: no space left")
            finally:
                os.close(descriptor)
        except OSError as error:
            raise Failed(f"{self._path}: {error.strerror}") from error
        return f"written to {self._path}"
