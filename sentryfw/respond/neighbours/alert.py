"""Our blocks as CrowdSec's alerts, with a decision or without one. Pure: values in, values out.

The fields are those of CrowdSec's local API, POST /v1/alerts; a decision lasts `duration` from
`stop_at`.
"""

from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from sentryfw.respond.incident import Incident
from sentryfw.respond.neighbours.decisions import ORIGIN
from sentryfw.text import plain

FOREVER_S: Final = 30 * 86400.0
"""Seconds of a decision for a block without an end, which is pushed again at each start."""
MAX_MESSAGE_CHARS: Final = 300

Alert = dict[str, Any]


class Announced(NamedTuple):
    """A block as CrowdSec gets it. Times are seconds since the epoch."""

    address: str
    at: float
    timeout: float
    """Seconds from `at`; 0: until it is unblocked."""
    scenario: str
    message: str
    probes: int = 0
    first_seen: float = 0.0
    meta: tuple[tuple[str, str], ...] = ()

    def alert(self, *, decides: bool) -> Alert:
        """Return the alert. `decides`: with a decision, which every bouncer enforces; without it
        CrowdSec's profiles make none either."""
        scope = "Range" if "/" in self.address else "Ip"
        kind = scope.lower()
        end = _time(self.at)
        seconds = self.timeout or FOREVER_S
        decision = {
            "duration": f"{max(1, round(seconds))}s", "origin": ORIGIN, "scenario": self.scenario,
            "scope": scope, "type": "ban", "value": self.address,
        }  # fmt: skip
        meta = [{"key": key, "value": value} for key, value in self.meta]
        return {
            "scenario": self.scenario, "scenario_hash": "", "scenario_version": "",
            "message": self.message, "events_count": self.probes,
            "events": [{"timestamp": end, "meta": meta}] if meta else [],
            "start_at": _time(self.first_seen or self.at), "stop_at": end, "capacity": 0,
            "leakspeed": "0", "simulated": False, "remediation": decides,
            "source": {"scope": scope, "value": self.address, kind: self.address},
            "decisions": [decision] if decides else [],
        }  # fmt: skip


def of_incident(incident: Incident) -> Announced:
    """Return a block that the engine decided on."""
    meta = {
        "evidence": "forgeable" if incident.forgeable else "proven",
        "kinds": ",".join(incident.kinds),
        "targets": str(incident.targets),
        "last_target": f"{incident.target} {incident.protocol}/{incident.port}",
        "tool": incident.tool,
    }
    return Announced(
        address=incident.address,
        at=incident.at,
        timeout=incident.timeout,
        scenario=f"{ORIGIN}/{incident.scan or 'scan'}",
        message=plain(incident.sentence())[:MAX_MESSAGE_CHARS],
        probes=incident.probes,
        first_seen=incident.first_seen,
        meta=tuple((key, plain(value)) for key, value in meta.items() if value),
    )


def of_block(address: str, timeout: float, now: float, message: str) -> Announced:
    """Return a block of which only its time is known; `timeout`: seconds from now, 0: forever."""
    return Announced(address, now, timeout, f"{ORIGIN}/block", message)


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
