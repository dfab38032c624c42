"""PortSentry's history file, for programs that read it: fail2ban, logcheck.

It has only the lines that PortSentry would have been right to write. The stock filters of
fail2ban treat every line as an attacker, so a partner, or an address that is never blocked, gets
no line, and "Blocked" is written only of sources that were blocked.

See docs/decisions.md: history-words.
"""

import os
import time
from typing import Final

from sentryfw.config.respond import History
from sentryfw.errors import ReactionFailed
from sentryfw.host.private_files import open_no_link
from sentryfw.respond.incident import Incident

FILE_MODE: Final = 0o640
LEVELS: Final = frozenset(("observe", "command"))
"""Reasons of refusals that the operator configured: PortSentry's BLOCK 0 and 2."""
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
"""Names of scans in PortSentry 2.x; kinds without one keep our name."""
CONNECT: Final = frozenset(("tcp", "udp"))
"""Modes in which PortSentry wrote "Connect"."""


def portsentry1(incident: Incident) -> str:
    """Return a line of PortSentry 1.x, in local time; empty if the source was not blocked.

    `%ld - MM/DD/YYYY HH:MM:SS Host: RESOLVED/IP Port: N TCP|UDP Blocked`
    """
    if incident.action != "blocked":
        return ""
    when = time.strftime("%m/%d/%Y %H:%M:%S", time.localtime(incident.at))
    return (
        f"{int(incident.at)} - {when} Host: {incident.host or incident.ip}/{incident.ip}"
        f" Port: {incident.port} {incident.protocol.upper()} Blocked\n"
    )


def portsentry2(incident: Incident) -> str:
    """Return a line of PortSentry 2.x, in local time; empty for most refusals.

    `2026-11-22T10:00:00.123+0100 Scan from: [IP] (NAME) ...`
    """
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
    """Appends a line for each incident; opens the file each time, so that it can be rotated."""

    def __init__(self, config: History) -> None:
        self._path = config.path
        self._render = FORMATS[config.format]

    def __call__(self, incident: Incident) -> str:
        """Write the line of an incident, if it has one. Raise ReactionFailed if that fails."""
        data = self._render(incident).encode()
        if not data:
            return "nothing to write"
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK
            descriptor = open_no_link(self._path, flags, FILE_MODE)
            try:
                size = os.fstat(descriptor).st_size
                if os.write(descriptor, data) < len(data):
                    os.ftruncate(descriptor, size)  # an incomplete line would spoil the next one
                    raise ReactionFailed(f"{self._path}: no space left")
            finally:
                os.close(descriptor)
        except OSError as error:
            raise ReactionFailed(f"{self._path}: {error.strerror}") from error
        return f"written to {self._path}"
