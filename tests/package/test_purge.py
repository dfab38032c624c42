"""A broken configuration under a real systemd, and its purge by a real dpkg."""

from collections.abc import Iterator
from typing import Final

import pytest

from support.lab import LISTED
from support.machine import Machine
from support.packaged import Packaged
from support.waiting import wait_for

pytestmark = [
    pytest.mark.package,
    pytest.mark.netns,
    pytest.mark.parametrize("machine", ["bookworm", "trixie"], indirect=True),
]

EDITED: Final = "/etc/sentryfw/sentryfw.toml"
BY_HAND: Final = "203.0.113.7"


@pytest.fixture(scope="module")
def broken(machine: Machine) -> Iterator[Packaged]:
    """A confirmed service with one block, whose configuration has a fault."""
    machine.apt("install", "/srv/1.deb")
    machine.said("sentryfw", "install", "--trial", "5m")
    machine.said("sentryfw", "confirm")
    machine.said("sentryfw", "block", BY_HAND, "--timeout", "1h")
    machine.path(EDITED).write_text("[detect]\ntrigger = 'three'\n")
    machine.lab.listen(LISTED)
    yield Packaged(machine)
    machine.lab.close_sockets()


def test_a_broken_configuration_makes_no_restart_loop(broken: Packaged) -> None:
    done = broken.machine.run("systemctl", "restart", "sentryfw")
    assert done.returncode == 1
    wait_for(lambda: broken.show("ActiveState") == "failed", "the service gave up")
    assert broken.show("ExecMainStatus") == "78"
    assert broken.show("NRestarts") == "0"
    log = broken.machine.said("journalctl", "-u", "sentryfw", "-o", "cat")
    assert f"{EDITED}: detect.trigger" in log
    assert broken.lab.is_blocked(BY_HAND), "the block stays in the kernel"


def test_a_purge_with_a_broken_configuration_leaves_nothing(broken: Packaged) -> None:
    broken.machine.apt("purge", "sentryfw")
    assert broken.lab.nft("list", "ruleset") == ""
    assert broken.leftovers() == []
    assert "sentryfw" not in broken.machine.path("/etc/passwd").read_text()
