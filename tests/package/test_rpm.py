"""The files and scripts of the .rpm, and of that of the page for Cockpit, installed and erased by
rpm(8) in a Debian 12 (Python 3.11).

How dnf resolves its dependencies on RHEL 9 is not tested.
"""

from collections.abc import Iterator
from typing import Final

import pytest

from support.lab import ATTACKER, BYSTANDER, LISTED, UNLISTED
from support.machine import Machine
from support.packaged import Packaged
from support.waiting import wait_for

pytestmark = [
    pytest.mark.package,
    pytest.mark.netns,
    pytest.mark.parametrize("machine", ["bookworm"], indirect=True),
]

PAGE: Final = "/srv/page.rpm"
RPM: Final = ("rpm", "--force-debian", "--nodeps")
NEEDED: Final = ("rpm", "python3", "python3-nftables", "libnetfilter-queue1", "nftables", "netbase")


@pytest.fixture(scope="module")
def packaged(machine: Machine) -> Iterator[Packaged]:
    """A service installed by rpm, tried and confirmed; erased at the end."""
    machine.apt("install", *NEEDED)
    output = machine.said(*RPM, "--install", "/srv/1.rpm")
    assert "First run: sentryfw install --trial 5m" in output.splitlines()[-1]
    assert machine.lab.nft("list", "ruleset") == ""
    machine.said("sentryfw", "install", "--trial", "5m")
    machine.said("sentryfw", "confirm")
    machine.lab.listen(LISTED)
    yield Packaged(machine)
    machine.lab.close_sockets()
    machine.run(*RPM, "--erase", "sentryfw")


def test_the_service_of_the_rpm_blocks_a_scanner(packaged: Packaged) -> None:
    lab = packaged.lab
    assert packaged.show("FragmentPath").endswith("/systemd/system/sentryfw.service")
    assert packaged.is_running()
    lab.probe(BYSTANDER[4], *UNLISTED)
    wait_for(lambda: lab.is_blocked(BYSTANDER[4]), "a block")
    assert not lab.answers(BYSTANDER[4])
    assert lab.answers(ATTACKER[4])


def test_every_file_of_the_rpm_is_as_shipped(packaged: Packaged) -> None:
    assert packaged.machine.said(*RPM, "--verify", "sentryfw") == ""


def test_the_rpm_of_the_page_is_for_this_version_and_cockpit(packaged: Packaged) -> None:
    """Here rpm misses Cockpit, which is there as a Debian package only, and finds SentryFW."""
    done = packaged.machine.run("rpm", "--force-debian", "--install", "--test", PAGE)
    missed = {line.split()[0] for line in done.stderr.splitlines() if "is needed by" in line}
    assert missed == {"cockpit-bridge", "cockpit-ws"}, done.stderr


def test_cockpit_finds_the_page_of_the_rpm(packaged: Packaged) -> None:
    machine = packaged.machine
    machine.apt("install", "cockpit-bridge")
    machine.said(*RPM, "--install", PAGE)
    assert "/usr/share/cockpit/sentryfw" in machine.said("cockpit-bridge", "--packages")
    assert machine.said(*RPM, "--verify", "sentryfw-cockpit") == ""
    listed = machine.said("rpm", "--query", "--list", "sentryfw-cockpit")
    assert "/usr/share/doc/sentryfw-cockpit/sbom.cdx.json" in listed
    assert "lintian" not in listed, "nothing of Debian's"
    assert "changelog.Debian" not in listed, "nothing of Debian's"
    machine.said(*RPM, "--erase", "sentryfw-cockpit")
    assert not machine.path("/usr/share/cockpit/sentryfw").exists()


def test_erasing_the_rpm_deletes_the_table_and_keeps_state(packaged: Packaged) -> None:
    packaged.former_pid = packaged.show("MainPID")
    packaged.machine.said(*RPM, "--erase", "sentryfw")
    assert packaged.machine.run("test", "-e", f"/proc/{packaged.former_pid}").returncode == 1
    assert packaged.lab.nft("list", "ruleset") == ""
    assert packaged.machine.path("/var/lib/sentryfw/ledger.db").exists()
    assert not packaged.machine.path("/usr/lib/sentryfw").exists()
