"""The samples of a running daemon: each has its value, and promtool accepts them."""

import subprocess
from pathlib import Path

import pytest

from sentryfw import config
from sentryfw.daemon.metrics import collect
from sentryfw.daemon.metrics.families import FAMILIES
from sentryfw.daemon.overload import Loss
from sentryfw.daemon.status import (
    DecoyStatus,
    GuardStatus,
    NeverBlockStatus,
    QueueStatus,
    ReactionStatus,
    ReloadStatus,
    Status,
)
from sentryfw.engine.counters import Counters
from sentryfw.netfilter.table import Counter
from sentryfw.netlink.conntrack import Flows
from support.prometheus import parse, promtool

CONFIG = '[paths]\nstate = "{0}"\nruntime = "{0}/r"\nlog = "{0}/l"\n[block]\nmax_elements = 9'


def status() -> Status:
    counters = Counters()
    counters.probes.update(syn=7, connect=1, synack=5)
    counters.strays["late stray"] = 6
    counters.malformed['"short\\\n'] = 2
    counters.refusals["never_block"] = 4
    counters.floods = 1
    counters.blocks_failed = 8
    counters.confined = 9
    return Status(
        pid=1, started_at=0.0, compiled=True, mode="block", divert="queue", tracked_sources=3,
        flood=True, engine=counters, confine_paused="set served4 is 91 % full",
        queue=QueueStatus(number=0, max_len=64, overruns=1, failures=2),
        overload=dict(zip(Loss, range(11, 21), strict=True)), lost_records=16, unkept_probes=0,
        faults={"ledger": "disk full"},
        guard=GuardStatus(
            blocked=2, unblocked_by_others=2, overruns=0, healed={"count": 17},
            reconciled={"runs": 1},
        ),
        conntrack=Flows(25, 26), never_block=NeverBlockStatus(networks=18, refreshed=0),
        reactions={"mail": ReactionStatus(done=19, failed=20, waiting=21)},
        decoys=DecoyStatus(running=True, visits=22, garbled=0, restarts=0), metrics=None,
        fleet={"members": {"fw1": {"blocks": 27, "weighed": 28, "shown": 29,
                                   "refused": {"replay": 30}}}},
        reload=ReloadStatus(at=2.5, error="refused"),
    )  # fmt: skip


def state(home: Path) -> collect.State:
    return collect.State(
        status=status(), config=config.parse(CONFIG.format(home).encode(), "test"),
        started=1.5, lag=0.25, received=23, blocked={4: 1, 6: 1},
        zones={"": 2, "guest": 1},
        tally={("portscan", 4, True, ""): 2, ("portscan", 4, False, ""): 3,
               ("portsweep", 6, True, "guest"): 1},
        confined={4: 2, 6: 1},
        counters={"judged": Counter(30, 31), "blocked_early": Counter(32, 33)},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("sample", "value"),
    [
        ('build_info{version="VERSION",backend="queue"}', 1),
        ("up", 1),
        ('fleet_sources{member="fw1",effect="block"}', 27),
        ('fleet_sources{member="fw1",effect="weigh"}', 28),
        ('fleet_sources{member="fw1",effect="show"}', 29),
        ('fleet_refused_total{member="fw1",reason="replay"}', 30),
        ("config_last_reload_successful", 0),
        ("config_last_reload_timestamp_seconds", 2.5),
        ("start_time_seconds", 1.5),
        ('packets_total{counter="judged"}', 30),
        ('bytes_total{counter="judged"}', 31),
        ('blocked_packets_total{stage="early"}', 32),
        ('blocked_bytes_total{stage="early"}', 33),
        ('queue_dropped_total{stage="kernel"}', 11),
        ('queue_dropped_total{stage="user"}', 12),
        ("queue_packets_total", 23),
        ("queue_unjudged_total", 2),
        ("conntrack_flows", 25),
        ("conntrack_flows_limit", 26),
        ('probes_total{kind="syn"}', 7),
        ('probes_total{kind="synack"}', 5),
        ('strays_total{reason="late stray"}', 6),
        ('refusals_total{reason="never_block"}', 4),
        ('packet_parse_errors_total{reason="\\"short\\\\\\n"}', 2),
        ('detections_total{kind="portscan",family="4"}', 5),
        ('blocks_total{reason="portscan",family="4"}', 2),
        ("blocks_failed_total", 8),
        ('unblocks_total{reason="manual"}', 2),
        ('blocked_hosts{family="4"}', 1),
        ('blocked_hosts{family="6"}', 1),
        ('confined_hosts{family="4"}', 2),
        ("confinements_total", 9),
        ("confine_paused", 1),
        ('set_capacity{family="6"}', 1048576),
        ("blocked_hosts_limit", 9),
        ("tracked_sources", 3),
        ("tracked_sources_turned_away_total", 13),
        ("flood_mode", 1),
        ("loop_lag_seconds", 0.25),
        ("stalls_total", 20),
        ('overload_total{what="block cap"}', 15),
        ("ruleset_heals_total", 17),
        ('events_dropped_total{sink="recorder"}', 16),
        ('sink_errors_total{sink="mail"}', 20),
        ('faults{sink="ledger"}', 1),
        ("decoy_visits_total", 22),
        ("db_size_bytes", 1000),
        ("evidence_bytes", 24),
    ],
)
def test_each_sample_has_its_value(tmp_path: Path, sample: str, value: float) -> None:
    from sentryfw import __version__  # noqa: PLC0415

    (tmp_path / "ledger.db").write_bytes(bytes(1000))
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence" / "a.pcapng").write_bytes(bytes(24))
    lines = collect.text(state(tmp_path)).splitlines()
    assert f"sentryfw_{sample.replace('VERSION', __version__)} {value:g}" in [
        f"{name} {float(number):g}"
        for name, _, number in (line.rpartition(" ") for line in lines if line[0] != "#")
    ]


def test_every_family_has_a_sample(tmp_path: Path) -> None:
    found = {name for name, _, _ in parse(collect.text(state(tmp_path)))}
    assert found == {f"sentryfw_{family.name}" for family in FAMILIES}


def test_promtool_finds_no_fault(tmp_path: Path) -> None:
    for text in (collect.text(state(tmp_path)), collect.text_of_none()):
        done = subprocess.run(
            [promtool(), "check", "metrics"], input=text, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_promtool_finds_a_counter_without_total(tmp_path: Path) -> None:
    text = collect.text(state(tmp_path)).replace("_total", "_count")
    done = subprocess.run(
        [promtool(), "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
