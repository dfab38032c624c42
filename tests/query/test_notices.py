"""Sentences of status, list and doctor about a panic, a trial, and a switch."""

import json
import os

import pytest

from sentryfw.host import inhibit
from sentryfw.netfilter.table import SWITCHED_OFF
from sentryfw.query.notices import STILL_THERE, notices
from support.fake_host import FakeHost
from support.fake_table import FakeTable


def _notices(host: FakeHost) -> list[str]:
    return notices(host.settings.paths, FakeTable(host.kernel))


def test_an_install_for_good_has_no_notice(host: FakeHost) -> None:
    assert _notices(host) == []


def test_a_panic_is_named_with_its_time(host: FakeHost) -> None:
    paths = host.settings.paths
    inhibit.declare_panic([paths.runtime])
    os.utime(paths.runtime / inhibit.PANIC, (1_700_000_000, 1_700_000_000))
    [line] = _notices(host)
    assert line.startswith("`sentryfw panic` stopped everything on 2023-11-1")
    assert line.endswith("no daemon starts until `sentryfw install`")


@pytest.mark.parametrize(
    ("goes_back", "end"), [(False, "it is uninstalled"), (True, "the install of before comes back")]
)
def test_a_trial_is_named_with_its_end(host: FakeHost, end: str, *, goes_back: bool) -> None:
    inhibit.begin_trial(host.settings.paths.state, 3600, goes_back=goes_back)
    [line] = _notices(host)
    assert line.startswith("on trial until 2")
    assert f"then {end}, unless you run `sentryfw confirm`" in line


@pytest.mark.parametrize(
    ("goes_back", "end"),
    [(False, "no daemon starts"), (True, "the last good configuration is in use")],
)
def test_a_trial_that_lapsed_is_named(host: FakeHost, end: str, *, goes_back: bool) -> None:
    inhibit.begin_trial(host.settings.paths.state, -1, goes_back=goes_back)
    [line] = _notices(host)
    assert line.startswith("a trial ended without `sentryfw confirm`: ")
    assert end in line


def test_the_switch_is_named_and_a_table_that_still_blocks(host: FakeHost) -> None:
    host.kernel.is_switched_off = True
    assert _notices(host) == [STILL_THERE]
    host.kernel.uninstall()
    assert _notices(host) == [SWITCHED_OFF]


@pytest.mark.parametrize("words", [("status",), ("list",), ("doctor",)], ids=" ".join)
def test_the_reading_commands_say_so(host: FakeHost, words: tuple[str, ...]) -> None:
    inhibit.begin_trial(host.settings.paths.state, 3600)
    done = host.sentryfw(*words)
    assert "on trial until 2" in done.stdout + done.stderr


def test_status_json_has_the_sentences(host: FakeHost) -> None:
    host.kernel.is_switched_off = True
    assert json.loads(host.sentryfw("status", "--json").stdout)["notices"] == [STILL_THERE]


def test_a_command_without_the_table_names_the_switch(bare_host: FakeHost) -> None:
    bare_host.kernel.is_switched_off = True
    for words in (("list",), ("block", "203.0.113.7"), ("unblock", "--all")):
        done = bare_host.sentryfw(*words)
        assert done.returncode == 5
        assert SWITCHED_OFF in done.stderr
