"""What is exported: names, labels, and the text that Prometheus reads."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sentryfw import config
from sentryfw.metrics import collect
from sentryfw.metrics.families import FAMILIES, Sample, render
from sentryfw.netfilter.table import Counter
from support.prometheus import parse, promtool

SETTINGS = '[paths]\nstate = "{0}"\nruntime = "{0}/r"\nlog = "{0}/l"\n[block]\nmax_elements = 9'
STATUS: dict[str, Any] = {
    "divert": "queue", "tracked_sources": 3, "flood": True, "unblocked_by_others": 2,
    "engine": {"syn": 7, "connect": 1, "refused never_block": 4, "malformed": 2,
               'malformed: "short\\\n': 2, "floods": 1, "synack": 5, "late stray": 6,
               "blocks failed": 8},
    "queue": {"max_len": 64, "overruns": 1, "failures": 2},
    "overload": {"queue full": 11, "socket buffer full": 12, "source table full": 13,
                 "block set full": 14, "stalled": 15},
    "lost_records": 16, "faults": {"ledger": "disk full"},
    "healed": {"count": 17}, "never_block": {"never_block": 18},
    "reactions": {"mail": {"done": 19, "failed": 20, "waiting": 21}},
    "decoys": {"visits": 22},
}  # fmt: skip


def state(home: Path) -> collect.State:
    return collect.State(
        status=STATUS, config=config.parse(SETTINGS.format(home).encode(), "test"),
        started=1.5, loaded=2.5, reload_ok=False, lag=0.25, received=23,
        blocked={4: 1, 6: 1},
        tally={("portscan", 4, True): 2, ("portscan", 4, False): 3, ("portsweep", 6, True): 1},
        counters={"judged": Counter(30, 31), "blocked_early": Counter(32, 33)},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("sample", "value"),
    [
        ('build_info{version="VERSION",backend="queue"}', 1),
        ("up", 1),
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
        ('set_capacity{family="6"}', 1048576),
        ("blocked_hosts_limit", 9),
        ("tracked_sources", 3),
        ("tracked_sources_turned_away_total", 13),
        ("flood_mode", 1),
        ("loop_lag_seconds", 0.25),
        ("stalls_total", 15),
        ("ruleset_heals_total", 17),
        ('events_dropped_total{sink="recorder"}', 16),
        ('sink_errors_total{sink="mail"}', 20),
        ('faults{sink="ledger"}', 1),
        ("decoy_visits_total", 22),
        ("db_size_bytes", 1000),
        ("evidence_bytes", 24),
    ],
)
def test_each_figure_is_told(tmp_path: Path, sample: str, value: float) -> None:
    from sentryfw import __version__  # noqa: PLC0415

    (tmp_path / "ledger.db").write_bytes(bytes(1000))
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence" / "a.pcapng").write_bytes(bytes(24))
    lines = collect.text(state(tmp_path)).splitlines()
    assert f"sentryfw_{sample.replace('VERSION', __version__)} {value:g}" in [
        f"{name} {float(number):g}"
        for name, _, number in (line.rpartition(" ") for line in lines if line[0] != "#")
    ]


def test_every_family_is_told_of_at_least_once(tmp_path: Path) -> None:
    found = {name for name, _, _ in parse(collect.text(state(tmp_path)))}
    assert found == {f"sentryfw_{family.name}" for family in FAMILIES}


def test_promtool_has_nothing_to_say_about_it(tmp_path: Path) -> None:
    for text in (collect.text(state(tmp_path)), collect.text_of_none()):
        done = subprocess.run(
            [promtool(), "check", "metrics"], input=text, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_promtool_would_have_something_to_say(tmp_path: Path) -> None:
    text = collect.text(state(tmp_path)).replace("_total", "_count")
    done = subprocess.run(
        [promtool(), "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0


def test_names_follow_the_rules_of_prometheus() -> None:
    for family in FAMILIES:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", family.name)
        assert (family.kind == "counter") == family.name.endswith("_total"), family.name
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


def test_no_label_holds_an_address() -> None:
    labels = {label for family in FAMILIES for label in family.labels}
    assert labels == {
        "version", "backend", "counter", "stage", "reason", "kind", "family", "sink",
    }  # fmt: skip


def test_a_sample_of_no_family_and_one_with_too_few_labels_are_refused() -> None:
    with pytest.raises(KeyError):
        render([Sample("nonsense", 1)])
    with pytest.raises(ValueError, match="shorter"):
        render([Sample("blocked_hosts", 1)])
