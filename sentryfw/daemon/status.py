"""The state of the daemon: what `status --json` shows and metrics are made of."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sentryfw.daemon.overload import Loss
from sentryfw.daemon.parts import Parts
from sentryfw.engine.counters import Counters
from sentryfw.engine.engine import is_compiled
from sentryfw.netfilter.features import Divert
from sentryfw.netlink.conntrack import Flows


@dataclass(frozen=True, slots=True)
class ExportStatus:
    """The state of the exporter, as `status --json` shows it."""

    scrapes: int
    fault: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatus:
    """The packet queue."""

    number: int
    max_len: int
    overruns: int
    """Times that the kernel found no room in the socket."""
    failures: int
    """Packets accepted because judging them failed, and verdicts sent again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardStatus:
    """The table and its blocks, compared and repaired."""

    blocked: int
    unblocked_by_others: int
    overruns: int
    healed: Mapping[str, Any]
    """`count` repairs, and what is known of the last one."""
    reconciled: Mapping[str, Any]
    """`runs`, and what the last one found."""

    @property
    def repairs(self) -> int:
        return int(self.healed["count"])


@dataclass(frozen=True, slots=True, kw_only=True)
class NeverBlockStatus:
    """The sources that are never blocked."""

    networks: int
    refreshed: int
    """Times that the sets were changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReactionStatus:
    """One reaction: incidents done, failed, and waiting."""

    done: int
    failed: int
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoyStatus:
    """The decoy process."""

    running: bool
    visits: int
    garbled: int
    restarts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadStatus:
    """The last reload."""

    at: float
    """Seconds since the epoch when the configuration in effect was loaded."""
    error: str
    """Why a later configuration was refused; empty if none was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The state of the daemon at one moment."""

    pid: int
    started_at: float
    """Seconds since the epoch."""
    compiled: bool
    """Whether the compiled engine runs."""
    mode: str
    """[detect] mode, as it is in effect."""
    divert: Divert
    tracked_sources: int
    flood: bool
    engine: Counters
    confine_paused: str
    """Why partners that scan are not confined at present; empty if they are."""
    queue: QueueStatus
    overload: Mapping[Loss, int]
    lost_records: int
    unkept_probes: int
    faults: Mapping[str, str]
    """Faults of the disk, by the component that has them."""
    guard: GuardStatus
    conntrack: Flows
    never_block: NeverBlockStatus
    reactions: Mapping[str, ReactionStatus]
    decoys: DecoyStatus | None
    """None without decoys."""
    metrics: ExportStatus | None
    """None without an exporter."""
    fleet: Mapping[str, Any]
    """The members of the fleet and what was refused; empty without one."""
    reload: ReloadStatus

    def as_dict(self) -> dict[str, Any]:
        """Return what the control socket answers: the documented keys of `status --json`."""
        queue, guard, decoys, metrics = self.queue, self.guard, self.decoys, self.metrics
        return {
            "pid": self.pid,
            "started_at": self.started_at,
            "compiled": self.compiled,
            "mode": self.mode,
            "divert": self.divert,
            "tracked_sources": self.tracked_sources,
            "flood": self.flood,
            "engine": self.engine.as_dict(),
            "confine_paused": self.confine_paused,
            "queue": {
                "number": queue.number, "max_len": queue.max_len,
                "overruns": queue.overruns, "failures": queue.failures,
            },
            "overload": {loss.value: count for loss, count in self.overload.items()},
            "lost_records": self.lost_records,
            "unkept_probes": self.unkept_probes,
            "faults": dict(self.faults),
            "reconciled": dict(guard.reconciled),
            "healed": dict(guard.healed),
            "blocked": guard.blocked,
            "unblocked_by_others": guard.unblocked_by_others,
            "overruns": guard.overruns,
            "conntrack": {"flows": self.conntrack.tracked, "limit": self.conntrack.limit},
            "never_block": {
                "never_block": self.never_block.networks, "refreshed": self.never_block.refreshed,
            },
            "reactions": {
                name: {"done": part.done, "failed": part.failed, "waiting": part.waiting}
                for name, part in self.reactions.items()
            },
            "decoys": decoys and {
                "running": decoys.running, "visits": decoys.visits,
                "garbled": decoys.garbled, "restarts": decoys.restarts,
            },
            "metrics": metrics and {"scrapes": metrics.scrapes, "fault": metrics.fault},
            "fleet": dict(self.fleet),
            "reload": {"at": self.reload.at, "error": self.reload.error},
        }  # fmt: skip


def collect(
    parts: Parts,
    losses: Mapping[Loss, int],
    metrics: ExportStatus | None,
    reload: ReloadStatus,
    started_at: float,
) -> Status:
    """Return the present state. Any thread may call it."""
    reader, decoys = parts.queue.reader, parts.decoys.decoys
    return Status(
        pid=os.getpid(),
        started_at=started_at,
        compiled=is_compiled(),
        mode=parts.config.detect.mode,
        divert=parts.divert,
        tracked_sources=parts.engine.zones.tracked,
        flood=parts.engine.flood,
        engine=parts.engine.counters.copy(),
        confine_paused=parts.confine.obstacle,
        queue=QueueStatus(
            number=parts.config.queue.number, max_len=parts.config.queue.max_len,
            overruns=reader.overruns, failures=reader.failures,
        ),
        overload=dict(losses),
        lost_records=parts.recorder.lost + parts.ledger.lost,
        unkept_probes=parts.recorder.unkept,
        faults=faults(parts),
        guard=GuardStatus(**parts.guard.status()),
        conntrack=parts.flow_loss.flows,
        never_block=NeverBlockStatus(
            networks=len(parts.never_block.protected), refreshed=parts.never_block.refreshed
        ),
        reactions={name: ReactionStatus(**part) for name, part in parts.responder.status().items()},
        decoys=None if decoys is None else DecoyStatus(**decoys.status()),
        metrics=metrics,
        fleet=parts.fleet.status() if parts.fleet.is_on else {},
        reload=reload,
    )  # fmt: skip


def faults(parts: Parts) -> dict[str, str]:
    """Return the faults of the disk and of CrowdSec's API, by the component that has them."""
    ledger, crowdsec = parts.ledger, parts.fleet.crowdsec
    found = {"ledger": ledger.fault, "events": parts.events.fault}
    if crowdsec is not None:
        found["crowdsec"] = crowdsec.reach.fault
    if ledger.moved_aside:
        found["ledger moved aside"] = ", ".join(ledger.moved_aside)
    return {name: fault for name, fault in found.items() if fault}
