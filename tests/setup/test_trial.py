"""install --trial: the install is removed unless it is confirmed, also if processes die."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Final

import pytest

from sentryfw.control import client
from sentryfw.errors import SentryError
from sentryfw.host import inhibit, last_good
from support.box import BIN, Box, environment
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

SHORT: Final = "2s"


def _begin(box: Box, seconds: str = SHORT) -> None:
    done = box.sentryfw("install", "--no-service", "--trial", seconds)
    assert done.returncode == 0, done.stderr
    assert "on trial: uninstalled in" in done.stdout
    assert "table inet sentryfw" in box.ruleset()


def _watchdogs(box: Box) -> list[int]:
    """The processes that wait for a trial in this box."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_text().split("\0")
        except OSError:
            continue
        if "sentryfw.setup.trial" in words and str(box.home / "state") in words:
            found.append(int(entry.parent.name))
    return found


def test_a_trial_is_uninstalled_at_its_deadline(box: Box) -> None:
    started = time.monotonic()
    _begin(box)
    wait_for(lambda: box.ruleset() == "", "the trial is uninstalled", 15)
    assert time.monotonic() - started >= 2
    assert box.sentryfw("confirm").returncode == 7
    wait_for(lambda: not _watchdogs(box), "the watchdog is gone")


def test_a_confirmed_trial_stays(box: Box) -> None:
    _begin(box, "3s")
    [watchdog] = _watchdogs(box)
    done = box.sentryfw("confirm")
    assert done.returncode == 0, done.stderr
    wait_for(lambda: not _watchdogs(box), f"watchdog {watchdog} is gone")
    assert "table inet sentryfw" in box.ruleset()
    assert not (box.home / "state" / inhibit.TRIAL).exists()


@pytest.mark.parametrize("death", ["killed", "hung"])
def test_a_trial_ends_without_its_session_and_its_daemon(box: Box, death: str) -> None:
    """The shell that installed is gone at once; the daemon dies, or hangs, before the deadline."""
    words = [str(word) for word in box.launch("-c", box.config, "install", "--trial", "6s",
                                              "--no-service")]  # fmt: skip
    shell = box.namespace.popen(["setsid", "sh", "-c", '"$@"; kill -9 0', "sh", *words])
    assert shell.wait(20) == -signal.SIGKILL
    daemon = box.start_daemon()
    daemon.send_signal(signal.SIGKILL if death == "killed" else signal.SIGSTOP)
    wait_for(lambda: box.ruleset() == "", "the trial is uninstalled", 20)
    wait_for(lambda: daemon.poll() is not None, "the daemon is gone")


def test_a_trial_is_uninstalled_with_a_broken_configuration(box: Box) -> None:
    _begin(box)
    box.config.write_text(box.config.read_text() + "\n[detect\n")
    wait_for(lambda: box.ruleset() == "", "the trial is uninstalled", 15)


def test_after_a_trial_no_daemon_starts_until_install(box: Box) -> None:
    _begin(box, "1s")
    wait_for(lambda: box.ruleset() == "", "the trial is uninstalled", 15)
    again = box.namespace.run(BIN / "sentryfwd", "-c", box.config, env=environment())
    assert again.returncode == 5
    assert "the trial install was not confirmed in time" in again.stderr
    assert box.sentryfw("install", "--no-service").returncode == 0
    box.start_daemon()


def test_a_reboot_ends_a_trial(box: Box) -> None:
    _begin(box, "1h")
    place = box.home / "state" / inhibit.TRIAL
    fields = json.loads(place.read_text())
    place.write_text(json.dumps({**fields, "boot": "another"}))
    wait_for(lambda: box.ruleset() == "", "the trial is uninstalled", 15)
    assert box.sentryfw("confirm").returncode == 7


def test_the_service_knows_its_boot_without_proc_sys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inhibit.begin_trial(tmp_path, 60)
    this = inhibit.boot_id()
    monkeypatch.setattr(inhibit, "BOOT_ID", tmp_path / "hidden")
    monkeypatch.setenv(inhibit.BOOT_ID_GIVEN, this)  # as systemd writes its specifier %b
    inhibit.check(tmp_path, tmp_path)
    monkeypatch.setenv(inhibit.BOOT_ID_GIVEN, "0" * 32)
    with pytest.raises(SentryError, match="not confirmed in time"):
        inhibit.check(tmp_path, tmp_path)


def test_an_uninstall_ends_a_trial(box: Box) -> None:
    _begin(box, "1h")
    assert box.sentryfw("uninstall").returncode == 0
    wait_for(lambda: not _watchdogs(box), "the watchdog is gone")
    box.start_daemon()


def test_a_trial_that_cannot_be_marked_installs_nothing(box: Box) -> None:
    (box.home / "state").mkdir(mode=0o750)
    os.mkdir(box.home / "state" / inhibit.TRIAL)  # noqa: PTH102 - in the way of a file
    done = box.sentryfw("install", "--no-service", "--trial", SHORT)
    assert done.returncode == 1
    assert "nothing was changed" in done.stderr
    assert box.ruleset() == ""


def test_a_duration_that_cannot_be_parsed_is_a_usage_error(box: Box) -> None:
    done = box.sentryfw("install", "--no-service", "--trial", "soon")
    assert done.returncode == 2
    assert "--trial" in done.stderr


def _over_a_confirmed_install(box: Box) -> None:
    """Begin a trial of another configuration, over an install that runs for good."""
    box.install()
    box.configure("[detect]\ntrigger = 9\n[watch]\nlisted_tcp = [4711]")
    done = box.sentryfw("install", "--no-service", "--trial", SHORT)
    assert done.returncode == 0, done.stderr
    assert "on trial: the install of before is back in" in done.stdout
    assert "4711" in box.nft("list", "table", "inet", "sentryfw")


def test_a_trial_over_a_confirmed_install_goes_back_to_it(box: Box) -> None:
    box.start_daemon()
    box.sentryfw("block", "203.0.113.7")
    _over_a_confirmed_install(box)

    def is_back() -> bool:
        return "4711" not in box.nft("list", "table", "inet", "sentryfw")

    wait_for(is_back, "the table of before is back", 15)
    assert "203.0.113.7" in box.elements("block4")
    assert "a trial ended" in box.sentryfw("list").stderr


def test_after_such_a_trial_a_daemon_starts_with_the_configuration_of_before(box: Box) -> None:
    _over_a_confirmed_install(box)
    place = box.home / "state" / inhibit.TRIAL
    fields = json.loads(place.read_text())
    place.write_text(json.dumps({**fields, "boot": "another"}))  # as after a reboot
    box.start_daemon()
    answer = client.ask(box.settings.paths.control, {"do": "config"})
    assert answer["config"]["detect"]["trigger"] == 3
    assert box.sentryfw("install", "--no-service").returncode == 0
    assert not place.exists()


def test_a_confirmed_trial_is_what_the_next_trial_goes_back_to(box: Box) -> None:
    _over_a_confirmed_install(box)
    assert box.sentryfw("confirm").returncode == 0
    good = last_good.load(box.config)
    assert good is not None
    assert good.detect.trigger == 9
