"""Events as JSON lines in the shape of Suricata's EVE, own data under `sentryfw`.

Keys after Suricata's eve-json output: what reads those files reads these.
"""

import errno
import functools
import math
import os
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final, Literal

from sentryfw.plain import dumps
from sentryfw.record.entry import Entry, Reaction, event_id
from sentryfw.record.files import open_private, private_directory

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - in UTC, and said so in what is printed
GENERATOR_ID: Final = 122
"""Snort's generator id of its port-scan detector (preprocessor portscan)."""
SIGNATURES: Final = {
    "portscan": 1,
    "portsweep": 2,
    "protocol-scan": 3,
    "decoy-scan": 4,
    "distributed-scan": 5,
}

_OUTSIDE: Final = {"mitre_tactic_id": ["TA0043"], "mitre_technique_id": ["T1595.001"]}
"""MITRE ATT&CK: Reconnaissance, Active Scanning: Scanning IP Blocks."""
_INSIDE: Final = {"mitre_tactic_id": ["TA0007"], "mitre_technique_id": ["T1046"]}
"""Discovery, Network Service Discovery: somebody is in already."""
_APART: Final = ("sample", "trace")
"""Lists: the one comes last, the other the ledger keeps."""


def render_entry(entry: Entry) -> dict[str, Any]:
    """An `alert` event of a block or a refusal."""
    address, protocol, port = _first_target(entry)
    name = entry.scan or "block"
    return {
        "timestamp": timestamp(entry.blocked_at),
        "event_type": "alert",
        "src_ip": str(ip_network(entry.address).network_address),
        "dest_ip": address,
        "dest_port": port,
        "proto": protocol.upper(),
        "alert": {
            "action": "blocked" if entry.blocked else "allowed",
            "gid": GENERATOR_ID,
            "signature_id": SIGNATURES.get(name, 0),
            "rev": 1,
            "signature": f"SentryFW {name} ({', '.join(entry.kinds)})",
            "category": "Attempted Information Leak",
            "severity": 2,
            "metadata": _INSIDE if entry.inside else _OUTSIDE,
        },
        "sentryfw": {
            "id": event_id(entry),
            **{key: value for key, value in entry._asdict().items() if key not in _APART},
            "first_seen": timestamp(entry.first_seen),
            "blocked_at": timestamp(entry.blocked_at) if entry.blocked else None,
            "sample": entry.sample,
        },
    }


def render_reaction(reaction: Reaction) -> dict[str, Any]:
    """An event about a reaction; a failed one is an event of its own kind."""
    kind = "reaction" if reaction.ok else "reaction-failed"
    fields = {name: value for name, value in reaction._asdict().items() if name != "at"}
    return render_note(kind, reaction.at, **fields)


def render_note(kind: str, now: float, **fields: object) -> dict[str, Any]:
    """An event about the daemon itself: start, stop, unblock, fault."""
    return {
        "timestamp": timestamp(now),
        "event_type": "sentryfw",
        "sentryfw": {"event": kind, **fields},
    }


def timestamp(seconds: float) -> str:
    """2026-11-22T10:00:00.123456+0000."""
    # A seventh of what strftime() takes: `list` makes two of them for each block.
    whole = math.floor(seconds)
    carried, micro = divmod(round((seconds - whole) * 1e6), 1_000_000)
    minute, second = divmod(whole + carried, 60)
    return f"{_minute(minute)}:{second:02d}.{micro:06d}+0000"


@functools.lru_cache(maxsize=1024)
def _minute(number: int) -> str:
    return (_EPOCH + timedelta(minutes=number)).isoformat("T", "minutes")


def instant(seconds: float, timespec: Literal["seconds", "milliseconds"] = "seconds") -> str:
    """RFC 3339: 2026-11-22T10:00:00Z, for formats of others."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def _first_target(entry: Entry) -> tuple[str | None, str, int | None]:
    if not entry.sample:
        return None, "", None
    address, _, service = entry.sample[0].partition(" ")
    protocol, _, port = service.partition("/")
    return address, protocol, int(port)


class EventFile:
    """An append-only file of events, one line each, written whole."""

    def __init__(self, path: Path) -> None:
        private_directory(path.parent)
        self._descriptor = open_private(path, os.O_WRONLY | os.O_APPEND)

    def write(self, events: list[dict[str, Any]]) -> None:
        """OSError when the disk does not take them."""
        lines = "".join(dumps(event) + "\n" for event in events)
        data = lines.encode()
        size = os.fstat(self._descriptor).st_size
        written = os.write(self._descriptor, data)
        if written < len(data):
            os.ftruncate(self._descriptor, size)  # no half line, for the next one to spoil
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        os.close(self._descriptor)
