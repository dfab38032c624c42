"""The ten lines of `status`, for each state that a host can be in."""

import re
import time
from typing import Any

import pytest

from sentryfw.cli.output import wrapped
from sentryfw.cli.summary import lines, needs
from sentryfw.record.events import timestamp

LAST = {
    "address": "198.51.100.7", "at": timestamp(time.time() - 61), "scan": "portscan",
    "kinds": ["syn"], "tool": "nmap", "outcome": "blocked",
}  # fmt: skip
TODAY = {"since": LAST["at"], "blocked": 3, "sources": 2, "not_blocked": {}, "last": LAST}


def state(**changes: Any) -> dict[str, Any]:
    """Return a running daemon's state."""
    packets = {"packets": 1234, "bytes": 5}
    last = {**LAST, "at": timestamp(time.time() - 61)}
    return {
        "notices": [], "installed": True, "daemon": "running", "mode": "block",
        "started_at": timestamp(time.time() - 7200), "memory_bytes": 36 << 20, "blocked4": 1,
        "blocked6": 0, "confined4": 0, "confined6": 0, "confine_paused": "",
        "today": {**TODAY, "last": last}, "tracked_sources": 2, "flood": False,
        "counters": {"blocked_early": packets, "blocked_late": packets, "judged": packets},
        "queue": {"max_len": 4096, "failures": 0, "kernel": {"waiting": 0}}, "overload": {},
        "lost_records": 0, "faults": {}, "divert_reason": "", "reactions": {}, "decoys": None,
        "metrics": None, "reload": {"at": 1.0, "error": ""},
        "summary": {"state": "guarding", "because": []},
    } | changes  # fmt: skip


def shown(**changes: Any) -> dict[str, str]:
    return dict(lines(state(**changes)))


def test_a_quiet_host_in_ten_lines() -> None:
    found = lines(state())
    assert len(found) <= 10
    assert sum(wrapped(f"{name:<11}{text}").count("\n") + 1 for name, text in found) <= 10
    texts = dict(found)
    assert re.fullmatch(r"guarding since .* \S+ \(2h ago\)", texts["state"])
    assert texts["blocked"].startswith("1 source now: 1 IPv4, 0 IPv6")
    assert texts["today"] == "3 scans blocked, of 2 sources"
    assert re.fullmatch(
        r"198\.51\.100\.7, .* \(1m\d?s? ago\): portscan \(syn\) by nmap, blocked",
        texts["last scan"],
    )
    assert texts["dropped"].startswith("2,468 packets of blocked sources; 1,234 probes judged")
    assert texts["queue"] == "0 of 4,096 packets wait; none lost"
    assert texts["memory"] == "36 MiB; 2 sources remembered"
    assert texts["attention"] == "nothing"


def test_a_table_that_does_not_queue_does_not_guard() -> None:
    off = {"state": "off", "because": ["the table is switched off", "and more"]}
    assert shown(summary=off)["state"] == "NOT guarding: the table is switched off"


def test_no_line_has_a_number_of_the_epoch() -> None:
    assert not re.search(r"\b1[0-9]{9}\b", " ".join(text for _, text in lines(state())))


def test_observe_mode_is_the_state_and_its_scans_are_counted() -> None:
    today = TODAY | {"blocked": 0, "sources": 0, "not_blocked": {"observe": 4, "partner": 1}}
    texts = shown(mode="observe", today=today)
    assert texts["state"].startswith("observing since")
    assert texts["today"] == (
        "0 scans blocked; 4 sources would have been (`sentryfw list`); 1 source not blocked:"
        " partner 1"
    )


def test_confined_partners_are_beside_the_blocked() -> None:
    assert shown(confined4=1, confined6=2)["blocked"].endswith("; 3 partners confined")
    only = shown(blocked4=0, confined6=1)["blocked"]
    assert only == "no source at present; 1 partner confined"
    assert "served4 is 91 % full" in shown(confine_paused="set served4 is 91 % full")["attention"]


def test_without_a_daemon_the_state_is_the_warning() -> None:
    texts = shown(daemon="stopped", started_at=None)
    assert texts["state"].startswith("NOT guarding")
    assert "systemctl start sentryfw" in texts["attention"]
    assert {"queue", "memory"}.isdisjoint(texts)


def test_without_an_install_the_next_step_is_named() -> None:
    texts = shown(installed=False, daemon="stopped", started_at=None)
    assert list(texts) == ["state", "attention"]
    assert texts["state"].startswith("NOT installed")
    assert "sentryfw install --trial 5m" in texts["attention"]
    panicked = shown(installed=False, daemon="stopped", notices=["`sentryfw panic` stopped it"])
    assert panicked["attention"] == "`sentryfw panic` stopped it"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"notices": ["on trial until"]}, "on trial until"),
        ({"faults": {"ledger": "disk full"}}, "ledger: disk full"),
        ({"overload": {"queue full": 1200, "stalled": 0}}, "queue full: 1,200 since the start"),
        ({"lost_records": 2}, "records lost: 2"),
        ({"queue": {"failures": 3, "kernel": {}}}, "packets that passed unjudged: 3"),
        ({"flood": True}, "flood"),
        ({"reload": {"at": 1.0, "error": "bad key"}}, "reload was refused: bad key"),
        ({"decoys": {"running": False}}, "the decoys do not run"),
        ({"metrics": {"scrapes": 1, "fault": "port in use"}}, "metrics: port in use"),
        ({"reactions": {"mail": {"failed": 2}}}, "reaction mail: 2 failed"),
        ({"divert_reason": "installed as xt-nfqueue; now x: run"}, "installed as xt-nfqueue"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_each_fault_needs_attention(changes: dict[str, Any], text: str) -> None:
    [found] = needs(state(**changes))
    assert text in found
    assert needs(state()) == []
