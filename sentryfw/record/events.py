"""Events as JSON lines in the format of Suricata's EVE, with our own data under `sentryfw`.

The keys are those of Suricata's eve-json output, so programs that read those files read these.
"""

import functools
import math
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any, Final, Literal

from sentryfw.record.records import DecisionRecord, Located, Reaction, event_id

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - in UTC, and printed with its zone
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
"""MITRE ATT&CK: Discovery, Network Service Discovery: the scanner is inside already."""
_APART: Final = ("sample", "trace")
"""Fields left out of the copy: `sample` is written last, `trace` is in the ledger."""


def render_entry(entry: DecisionRecord) -> dict[str, Any]:
    """Return the `alert` event of a block or a refusal."""
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
            "action": entry.action,
            "blocked_at": timestamp(entry.blocked_at) if entry.action != "refused" else None,
            "sample": entry.sample,
        },
    }


def render_reaction(reaction: Reaction) -> dict[str, Any]:
    """Return the event of a reaction; a failed reaction has a separate kind."""
    kind = "reaction" if reaction.ok else "reaction-failed"
    fields = {name: value for name, value in reaction._asdict().items() if name != "at"}
    return render_note(kind, reaction.at, **fields)


def render_note(kind: str, now: float, **fields: object) -> dict[str, Any]:
    """Return an event about the daemon itself: start, stop, unblock, fault."""
    return {
        "timestamp": timestamp(now),
        "event_type": "sentryfw",
        "sentryfw": {"event": kind, **fields},
    }


def render_origin(found: Located) -> dict[str, Any]:
    """Return the event about where a source is from."""
    ip, origin = str(ip_network(found.address).network_address), found.origin
    return {
        **render_note("origin", found.at, address=found.address, labels=origin["labels"]),
        "src_ip": ip,
        "source": {"ip": ip, "geo": origin["geo"], "as": origin["as"]},
    }


def timestamp(seconds: float) -> str:
    """Format seconds since the epoch as 2026-11-22T10:00:00.123456+0000."""
    # A seventh of the time of strftime(): `list` formats two of them for each block.
    whole = math.floor(seconds)
    carried, micro = divmod(round((seconds - whole) * 1e6), 1_000_000)
    minute, second = divmod(whole + carried, 60)
    return f"{_minute(minute)}:{second:02d}.{micro:06d}+0000"


@functools.lru_cache(maxsize=1024)
def _minute(number: int) -> str:
    return (_EPOCH + timedelta(minutes=number)).isoformat("T", "minutes")


def instant(seconds: float, timespec: Literal["seconds", "milliseconds"] = "seconds") -> str:
    """Format seconds since the epoch as 2026-11-22T10:00:00Z (RFC 3339)."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def _first_target(entry: DecisionRecord) -> tuple[str | None, str, int | None]:
    if not entry.sample:
        return None, "", None
    address, _, service = entry.sample[0].partition(" ")
    protocol, _, port = service.partition("/")
    return address, protocol, int(port)
