"""The state in one word, with its reasons, on a table that is a fake."""

import json
from typing import Any

import pytest

from sentryfw.host import inhibit
from sentryfw.netfilter.table import SWITCHED_OFF
from sentryfw.query.summary import GUARDING, OBSERVING, OFF, Summary, summary
from support.fake_host import FakeHost
from support.fake_table import FakeTable

RUNNING: dict[str, Any] = {"pid": 7, "mode": "block"}


def state(host: FakeHost, daemon: dict[str, Any] = RUNNING, divert: str | None = "q") -> Summary:
    return summary(host.settings, FakeTable(host.kernel), daemon, divert)


def test_a_running_daemon_behind_its_queue_guards(host: FakeHost) -> None:
    assert state(host) == {
        "state": GUARDING, "because": [], "trial_ends_at": None, "panic_at": None,
    }  # fmt: skip


def test_the_mode_in_effect_decides(host: FakeHost) -> None:
    host.configure('[detect]\nmode = "observe"\n')
    assert state(host)["state"] == GUARDING
    found = state(host, {"mode": "observe"})
    assert found["state"] == OBSERVING
    assert "nothing is blocked" in found["because"][0]


@pytest.mark.parametrize(
    ("daemon", "divert", "reason"),
    [({}, "q", "the daemon is not running"), (RUNNING, None, "no rule that queues")],
)
def test_a_missing_part_is_the_reason(
    host: FakeHost, daemon: dict[str, Any], divert: str | None, reason: str
) -> None:
    found = state(host, daemon, divert)
    assert (found["state"], len(found["because"])) == (OFF, 1)
    assert reason in found["because"][0]


def test_without_a_table_nothing_is_installed(bare_host: FakeHost) -> None:
    found = state(bare_host, {}, None)
    assert found["state"] == OFF
    assert found["because"][0].startswith("nothing is installed")


def test_the_switch_is_the_reason(host: FakeHost) -> None:
    host.kernel.is_switched_off = True
    assert state(host)["because"] == [SWITCHED_OFF]


def test_a_panic_comes_first_and_has_its_time(bare_host: FakeHost) -> None:
    inhibit.declare_panic([bare_host.settings.paths.runtime])
    found = state(bare_host, {}, None)
    assert "panic" in found["because"][0]
    assert found["panic_at"]


def test_a_trial_has_its_end_and_guards(host: FakeHost) -> None:
    inhibit.begin_trial(host.settings.paths.state, 3600)
    found = state(host)
    assert (found["state"], found["because"]) == (GUARDING, [])
    assert found["trial_ends_at"]


def test_status_shows_the_summary(host: FakeHost) -> None:
    shown = json.loads(host.sentryfw("status", "--json").stdout)
    assert shown["summary"]["state"] == OFF
