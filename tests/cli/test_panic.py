"""panic: everything ends at once, whatever is broken."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from support.box import BIN, Box, environment
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

AT_ONCE: Final = 3.0
"""Seconds, most of them Python's start on a busy machine."""
NO_NFT: Final = """\
import sys
sys.modules["nftables"] = None
from sentryfw.netfilter import libnftables
libnftables.DISTRIBUTION_COPIES = ()
"""
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
    ("damage", "prelude"),
    [
        (_nothing, ""),
        (_break_config, ""),
        (_break_values, ""),
        (_break_ledger, ""),
        (_remove_files, ""),
        (_nothing, NO_NFT),
    ],
    ids=["sound", "config-no-toml", "config-wrong", "ledger-corrupt", "files-gone", "no-binding"],
)
def test_panic_ends_every_effect(
    box: Box, damage: Callable[[Box], None], prelude: str, *, hung: bool
) -> None:
    daemon = box.start_daemon()
    box.sentryfw("block", PROBED)
    damage(box)
    if hung:
        daemon.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    done = box.sentryfw("panic", prelude=prelude)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < AT_ONCE
    assert daemon.wait(5) == -signal.SIGKILL
    assert box.ruleset() == ""
    assert "table inet sentryfw is deleted" in done.stdout


def test_no_daemon_starts_after_a_panic_until_install(box: Box) -> None:
    box.start_daemon()
    box.sentryfw("block", PROBED)
    box.sentryfw("panic")
    again = box.namespace.run(BIN / "sentryfwd", "-c", box.config, env=environment())
    assert again.returncode == 1
    assert "`sentryfw panic` was called: `sentryfw install` ends that" in again.stderr
    assert box.ruleset() == ""
    assert box.sentryfw("install", "--no-service").returncode == 0
    box.start_daemon()
    assert box.elements("block4") == {}, "what was blocked before the panic is not any more"


def test_panic_leaves_a_foreign_table_alone(box: Box) -> None:
    box.nft('add table inet sentryfw { comment "mine"; }')
    done = box.sentryfw("panic")
    assert "is not ours: left alone" in done.stdout
    assert "table inet sentryfw" in box.ruleset()


def test_panic_without_anything_installed_is_no_fault(box: Box) -> None:
    done = box.sentryfw("panic")
    assert done.returncode == 0, done.stderr
    assert "there was no table" in done.stdout


def test_panic_needs_root(box: Box) -> None:
    box.sentryfw("install", "--no-service")
    done = box.run("-c", box.config, "panic", prefix=("setpriv", "--reuid=65534", "--clear-groups"))
    assert done.returncode == 4, done.stderr
    assert "table inet sentryfw" in box.ruleset()


def test_panic_is_quick_to_undo_a_dead_daemons_table(box: Box) -> None:
    daemon = box.start_daemon()
    daemon.kill()
    wait_for(lambda: daemon.poll() is not None, "dead")
    assert box.sentryfw("panic").returncode == 0
    assert box.ruleset() == ""
    assert (Path(box.home) / "runtime" / "panic").exists()
