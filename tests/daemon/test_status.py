"""The state of the daemon as `status --json` shows it."""

from types import SimpleNamespace
from typing import Any

from sentryfw.daemon.fleet.crowdsec_member import Reach
from sentryfw.daemon.overload import Loss
from sentryfw.daemon.status import (
    DecoyStatus,
    ExportStatus,
    GuardStatus,
    NeverBlockStatus,
    QueueStatus,
    ReactionStatus,
    ReloadStatus,
    Status,
    faults,
)
from sentryfw.engine.counters import Counters
from sentryfw.netlink.conntrack import Flows


def status(**changes: Any) -> Status:
    counters = Counters()
    counters.probes["syn"] = 2
    fields: dict[str, Any] = {
        "pid": 1, "started_at": 0.5, "compiled": True, "mode": "block", "divert": "queue",
        "tracked_sources": 3,
        "flood": False, "engine": counters, "confine_paused": "full",
        "queue": QueueStatus(number=4, max_len=5, overruns=6, failures=7),
        "overload": dict.fromkeys(Loss, 0), "lost_records": 8, "unkept_probes": 9,
        "faults": {"ledger": "disk full"},
        "guard": GuardStatus(
            blocked=10, unblocked_by_others=11, overruns=12, healed={"count": 0},
            reconciled={"runs": 1, "at": 2.5},
        ),
        "conntrack": Flows(19, 20), "never_block": NeverBlockStatus(networks=13, refreshed=14),
        "reactions": {"mail": ReactionStatus(done=15, failed=16, waiting=17)},
        "decoys": None, "metrics": None, "fleet": {"name": "fw1"},
        "reload": ReloadStatus(at=18.5, error=""),
    }  # fmt: skip
    return Status(**fields | changes)


def test_the_keys_are_the_documented_ones() -> None:
    assert status().as_dict() == {
        "pid": 1, "started_at": 0.5, "compiled": True, "mode": "block", "divert": "queue",
        "tracked_sources": 3,
        "flood": False, "confine_paused": "full",
        "engine": {"floods": 0, "syn": 2},
        "queue": {"number": 4, "max_len": 5, "overruns": 6, "failures": 7},
        "overload": {
            "queue full": 0, "socket buffer full": 0, "source table full": 0,
            "block set full": 0, "block cap": 0, "partner set full": 0, "served set full": 0,
            "control places": 0, "ledger rows": 0, "stalled": 0,
        },
        "lost_records": 8, "unkept_probes": 9, "faults": {"ledger": "disk full"},
        "reconciled": {"runs": 1, "at": 2.5}, "healed": {"count": 0}, "blocked": 10,
        "unblocked_by_others": 11, "overruns": 12,
        "conntrack": {"flows": 19, "limit": 20},
        "never_block": {"never_block": 13, "refreshed": 14},
        "reactions": {"mail": {"done": 15, "failed": 16, "waiting": 17}},
        "decoys": None, "metrics": None, "fleet": {"name": "fw1"},
        "reload": {"at": 18.5, "error": ""},
    }  # fmt: skip


def test_decoys_and_exporter_are_shown_where_they_run() -> None:
    shown = status(
        decoys=DecoyStatus(running=True, visits=1, garbled=2, restarts=3),
        metrics=ExportStatus(scrapes=4, fault="full"),
    ).as_dict()
    assert shown["decoys"] == {"running": True, "visits": 1, "garbled": 2, "restarts": 3}
    assert shown["metrics"] == {"scrapes": 4, "fault": "full"}


def test_the_counters_keep_their_names() -> None:
    counters = Counters()
    counters.probes["syn"] = 1
    counters.strays["late reply"] = 2
    counters.malformed.update({"empty": 3, "TCP header cut short": 4})
    counters.refusals["partner"] = 5
    counters.floods = 6
    counters.distributed_scans = 7
    counters.blocks_failed = 8
    counters.block_set_full = 9
    assert status(engine=counters).as_dict()["engine"] == {
        "syn": 1, "late reply": 2, "malformed": 7, "malformed: empty": 3,
        "malformed: TCP header cut short": 4, "refused partner": 5, "floods": 6,
        "distributed scans": 7, "blocks failed": 8, "block set full": 9,
    }  # fmt: skip


def test_a_copy_of_the_counters_does_not_follow_them() -> None:
    counters = Counters()
    counters.probes["syn"] = 1
    copied = counters.copy()
    counters.probes["syn"] = 2
    counters.floods = 1
    assert copied.as_dict() == {"floods": 0, "syn": 1}


def test_the_faults_of_disk_and_crowdsec_are_named_while_they_last() -> None:
    ledger = SimpleNamespace(fault="", moved_aside=[])
    member: Any = SimpleNamespace(reach=Reach("127.0.0.1: Connection refused", 1.0))
    parts: Any = SimpleNamespace(
        ledger=ledger, events=SimpleNamespace(fault="disk full"),
        fleet=SimpleNamespace(crowdsec=member),
    )  # fmt: skip
    assert faults(parts) == {"events": "disk full", "crowdsec": "127.0.0.1: Connection refused"}
    member.reach = Reach("", 1.0)
    parts.events.fault = ""
    assert faults(parts) == {}
    parts.fleet.crowdsec = None
    assert faults(parts) == {}
