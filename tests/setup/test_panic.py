"""panic: every effect ends at once, even if much is broken."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from support.box import BIN, Box, environment
from support.inprocess import hide_binding
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

AT_ONCE: Final = 3.0
"""Seconds, most of them Python's start on a busy machine."""
PROBED: Final = "198.51.100.9"


def _nothing(box: Box) -> None:
    del box


def _break_config(box: Box) -> None:
    box.config.write_text(box.config.read_text() + '\n[detect\ntrigger = "many')


def _break_values(box: Box) -> None:
    box.config.write_text(box.config.read_text() + "\n[detect]\ntrigger = 0\n")


def _break_ledger(box: Box) -> None:
    (box.home / "state" / "ledger.db").write_bytes(os.urandom(8192))


def _remove_files(box: Box) -> None:
    (box.home / "state" / "ledger.db").unlink()
    (box.home / "runtime" / "control.sock").unlink()
    (box.home / "runtime" / "table.lock").unlink()


@pytest.mark.parametrize("hung", [False, True], ids=["running", "hung"])
@pytest.mark.parametrize(
    ("damage", "has_binding"),
    [
        (_nothing, True),
        (_break_config, True),
        (_break_values, True),
        (_break_ledger, True),
        (_remove_files, True),
        (_nothing, False),
    ],
    ids=["sound", "config-no-toml", "config-wrong", "ledger-corrupt", "files-gone", "no-binding"],
)
def test_panic_ends_every_effect(
    box: Box, damage: Callable[[Box], None], monkeypatch: pytest.MonkeyPatch, *,
    has_binding: bool, hung: bool,
) -> None:  # fmt: skip
    daemon = box.start_daemon()
    box.sentryfw("block", PROBED)
    damage(box)
    if hung:
        daemon.send_signal(signal.SIGSTOP)
    if not has_binding:
        hide_binding(monkeypatch)
    started = time.monotonic()
    done = box.sentryfw("panic")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < AT_ONCE
    assert daemon.wait(5) == -signal.SIGKILL
    assert box.ruleset() == ""
    assert "deleted table inet sentryfw" in done.stdout


def test_no_daemon_starts_after_a_panic_until_install(box: Box) -> None:
    box.start_daemon()
    box.sentryfw("block", PROBED)
    box.sentryfw("panic")
    again = box.namespace.run(BIN / "sentryfwd", "-c", box.config, env=environment())
    assert again.returncode == 5
    assert "`sentryfw panic` has stopped it: run `sentryfw install`" in again.stderr
    assert box.ruleset() == ""
    assert box.sentryfw("install", "--no-service").returncode == 0
    box.start_daemon()
    assert box.elements("block4") == {}, "blocks from before the panic are over"


def test_panic_does_not_change_a_foreign_table(box: Box) -> None:
    box.nft('add table inet sentryfw { comment "mine"; }')
    done = box.sentryfw("panic")
    assert "was not made by SentryFW" in done.stdout
    assert "table inet sentryfw" in box.ruleset()


def test_panic_succeeds_if_nothing_is_installed(box: Box) -> None:
    done = box.sentryfw("panic")
    assert done.returncode == 0, done.stderr
    assert "table inet sentryfw did not exist" in done.stdout


def test_panic_needs_root(box: Box) -> None:
    box.sentryfw("install", "--no-service")
    done = box.run("-c", box.config, "panic", as_root=False)
    assert done.returncode == 4, done.stderr
    assert "table inet sentryfw" in box.ruleset()


def test_panic_is_quick_to_undo_a_dead_daemons_table(box: Box) -> None:
    daemon = box.start_daemon()
    daemon.kill()
    wait_for(lambda: daemon.poll() is not None, "dead")
    assert box.sentryfw("panic").returncode == 0
    assert box.ruleset() == ""
    assert (Path(box.home) / "runtime" / "panic").exists()
