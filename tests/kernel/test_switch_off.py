"""`nft add table inet sentryfw-off`: off for good, in every state of the daemon."""

import json
import signal
from typing import Final

import pytest

from support.box import BIN, Box, environment
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

SCANNER: Final = "203.0.113.7"
OFF: Final = "table inet sentryfw-off {\n}\n"


def _switch_off(box: Box) -> None:
    """Type the two commands of docs/operations.md; the second fails if the daemon was faster."""
    box.nft("add", "table", "inet", "sentryfw-off")
    box.namespace.run("nft", "delete", "table", "inet", "sentryfw")


def _is_off(box: Box) -> bool:
    return box.ruleset() == OFF


def _check_off(box: Box) -> None:
    """No daemon starts, the commands say why, and install switches on without the old blocks."""
    done = box.namespace.run(BIN / "sentryfwd", "-c", box.config, env=environment())
    assert done.returncode == 5
    assert "switched off by table inet sentryfw-off" in done.stderr
    assert _is_off(box)
    for words in (("status",), ("list",), ("doctor",), ("block", SCANNER)):
        done = box.sentryfw(*words)
        assert "switched off by table inet sentryfw-off" in done.stdout + done.stderr, words
    assert "switched on again" in box.sentryfw("install", "--no-service").stdout
    box.start_daemon()
    assert "sentryfw-off" not in box.ruleset()
    assert box.elements("block4") == {}


def test_a_running_daemon_ends_every_effect_and_itself(box: Box) -> None:
    deny = box.home / "hosts.deny"
    deny.write_text("x: y\n")
    box.configure(
        f"[respond.hosts_deny]\nenabled = true\npath = {json.dumps(str(deny))}\n"
        "[respond.route]\nenabled = true"
    )
    daemon = box.start_daemon()
    assert box.sentryfw("block", SCANNER).returncode == 0
    wait_for(lambda: SCANNER in deny.read_text(), "the line is written")
    wait_for(lambda: SCANNER in box.namespace.ip("route"), "the route is made")
    box.nft("add", "table", "inet", "sentryfw-off")
    assert daemon.wait(10) == 5
    assert _is_off(box)
    assert deny.read_text() == "x: y\n"
    assert SCANNER not in box.namespace.ip("route")
    _check_off(box)


def test_a_stopped_daemon_does_not_start_again(box: Box) -> None:
    daemon = box.start_daemon()
    box.sentryfw("block", SCANNER)
    daemon.terminate()
    daemon.wait(10)
    _switch_off(box)
    assert _is_off(box)
    _check_off(box)


def test_a_hung_daemon_does_not_repair_when_it_goes_on(box: Box) -> None:
    daemon = box.start_daemon()
    box.sentryfw("block", SCANNER)
    daemon.send_signal(signal.SIGSTOP)
    _switch_off(box)
    assert _is_off(box)
    daemon.send_signal(signal.SIGCONT)
    assert daemon.wait(10) == 5
    assert _is_off(box)
    _check_off(box)


def test_without_the_switch_the_table_is_repaired(box: Box) -> None:
    """The counterpart: a deletion alone does not switch anything off."""
    box.start_daemon()
    box.sentryfw("block", SCANNER)
    box.nft("add", "table", "inet", "sentryfw-of")
    box.nft("delete", "table", "inet", "sentryfw")
    wait_for(lambda: "table inet sentryfw {" in box.ruleset(), "the table is repaired")
    assert SCANNER in box.elements("block4")


def test_an_uninstall_removes_the_switch(box: Box) -> None:
    box.install()
    box.nft("add", "table", "inet", "sentryfw-off")
    assert box.sentryfw("uninstall").returncode == 0
    assert box.ruleset() == ""
