"""The .deb of each suite in a Debian made for it: installed, used, upgraded, removed, purged.

`make test-deb`. The fixtures are one sequence: each state follows from the one before it.
"""

import re
from typing import Final

import pytest
import suites

from support.lab import ATTACKER, BYSTANDER, LISTED, UNLISTED
from support.machine import Machine
from support.packaged import FLEET, Packaged
from support.waiting import wait_for

pytestmark = [
    pytest.mark.package,
    pytest.mark.netns,
    pytest.mark.parametrize("machine", ["bookworm", "trixie"], indirect=True),
]

PYTHONS: Final = {"bookworm": "python3.11", "trixie": "python3.13"}
HUB: Final = """
[fleet]
name = "fw1"
[fleet.hub]
url = "redis://127.0.0.1:1"
"""
EDITED: Final = "/etc/sentryfw/sentryfw.toml"


@pytest.fixture(scope="module")
def installed(machine: Machine) -> str:
    """Output of the installation."""
    return machine.apt("install", "/srv/1.deb")


@pytest.fixture(scope="module")
def running(machine: Machine, installed: str) -> Packaged:
    """A service that was tried and confirmed."""
    assert installed
    machine.said("sentryfw", "install", "--trial", "5m")
    machine.said("sentryfw", "confirm")
    machine.lab.listen(LISTED)
    return Packaged(machine)


@pytest.fixture(scope="module")
def upgraded(running: Packaged) -> Packaged:
    running.former_pid = running.show("MainPID")
    config = running.machine.path(EDITED)
    config.write_text(config.read_text().replace("# trigger = 3 ", "trigger = 4 "))
    running.machine.apt("install", "/srv/2.deb")
    return running


@pytest.fixture(scope="module")
def removed(upgraded: Packaged) -> Packaged:
    upgraded.former_pid = upgraded.show("MainPID")
    upgraded.machine.apt("remove", "sentryfw")
    return upgraded


@pytest.fixture(scope="module")
def purged(removed: Packaged) -> Packaged:
    removed.machine.apt("purge", "sentryfw")
    removed.lab.close_sockets()
    return removed


# --- installed


def test_installing_ends_with_the_first_command(installed: str) -> None:
    lines = [line for line in installed.splitlines() if not line.startswith("Processing triggers")]
    assert "First run: sentryfw install --trial 5m" in lines[-1]


@pytest.mark.usefixtures("installed")
def test_installing_loads_no_table_and_starts_nothing(machine: Machine) -> None:
    assert machine.lab.nft("list", "ruleset") == ""
    assert machine.run("sentryfw", "status").returncode == 5
    found = machine.said("find", "/etc/systemd/system", "-name", "*sentryfw*")
    assert found == "", "the service is not enabled"


@pytest.mark.usefixtures("installed")
def test_every_file_is_as_shipped_and_the_configuration_is_a_conffile(
    machine: Machine,
) -> None:
    assert machine.said("dpkg", "--verify", "sentryfw") == ""
    conffiles = machine.said("dpkg-query", "-W", "-f", "${Conffiles}", "sentryfw")
    assert EDITED in conffiles
    assert "ok" in machine.said("sentryfw", "check")


@pytest.mark.usefixtures("installed")
def test_only_the_daemons_user_may_read_its_directories(machine: Machine) -> None:
    for path in ("/var/lib/sentryfw", "/var/log/sentryfw"):
        assert machine.said("stat", "-c", "%U:%G %a", path) == "sentryfw:sentryfw 750\n"


@pytest.mark.usefixtures("installed")
def test_doctor_finds_every_dependency_of_the_package(machine: Machine) -> None:
    done = machine.run("sentryfw", "doctor")
    failed = [line for line in done.stdout.splitlines() if "\tfail\t" in line]
    assert failed == []
    assert "libnetfilter_queue\tok" in done.stdout


@pytest.mark.usefixtures("installed")
def test_the_fire_drill_passes(machine: Machine) -> None:
    """Without nmap its scans are forged."""
    done = machine.run("sentryfw", "drill", "--forge")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.usefixtures("installed")
def test_only_root_may_change_programs_that_root_runs(machine: Machine) -> None:
    words = ("find", "/usr/lib/sentryfw", "!", "-user", "root", "-o", "-perm", "/022", "!", "-type")
    assert machine.said(*words, "l") == ""


@pytest.fixture(scope="module")
def fleet_libraries(machine: Machine, installed: str) -> str:
    """Error output of `sentryfw fleet key` before the suite's packages for a fleet were there."""
    assert installed
    said = machine.run("sentryfw", "fleet", "key").stderr
    machine.apt("install", *FLEET)
    return said


def test_a_fleet_uses_the_packages_of_the_suite(machine: Machine, fleet_libraries: str) -> None:
    assert "install python3-cryptography" in fleet_libraries
    assert re.fullmatch(r"[0-9a-f]{64}\n", machine.said("sentryfw", "fleet", "key"))


@pytest.mark.usefixtures("fleet_libraries")
def test_the_link_uses_the_packages_of_the_suite(machine: Machine) -> None:
    """It gets as far as a hub that refuses."""
    machine.path("/root/hub.toml").write_text(HUB)
    link = "/usr/lib/sentryfw/bin/sentryfw-link"
    done = machine.run("timeout", "5", link, "--config", "/root/hub.toml")
    assert done.returncode == 124, done.stderr
    assert "127.0.0.1:1" in done.stderr
    assert "needs the Python package" not in done.stderr


# --- running


def test_the_service_is_the_packages_own_and_runs(running: Packaged) -> None:
    assert running.show("ActiveState") == "active"
    place = "/lib/systemd/system/sentryfw.service"
    assert running.show("FragmentPath") in (place, f"/usr{place}")
    assert running.show("UnitFileState") == "enabled"
    assert running.is_running()
    assert not running.machine.path("/etc/systemd/system/sentryfw.service").exists()


def test_the_daemon_is_not_root(running: Packaged) -> None:
    pid = running.show("MainPID")
    assert running.machine.said("stat", "-c", "%U", f"/proc/{pid}") == "sentryfw\n"
    status = running.machine.said("cat", f"/proc/{pid}/status")
    assert "\nCapEff:\t0000000000001000\n" in status, "CAP_NET_ADMIN alone"


def test_the_daemon_runs_on_the_suites_own_python(running: Packaged) -> None:
    pid = running.show("MainPID")
    used = running.machine.said("readlink", f"/proc/{pid}/exe").strip()
    assert used.endswith(f"/usr/bin/{PYTHONS[running.suite]}")


def test_the_service_blocks_a_scanner(running: Packaged) -> None:
    lab = running.lab
    assert lab.answers(ATTACKER[4])
    lab.probe(BYSTANDER[4], *UNLISTED)
    wait_for(lambda: lab.is_blocked(BYSTANDER[4]), "a block")
    assert not lab.answers(BYSTANDER[4])
    assert running.blocked() == [BYSTANDER[4]]
    assert "syn" in running.machine.said("sentryfw", "explain", BYSTANDER[4])


# --- upgraded


def test_an_upgrade_keeps_the_edited_configuration(upgraded: Packaged) -> None:
    machine = upgraded.machine
    version = machine.said("dpkg-query", "-W", "-f", "${Version}", "sentryfw")
    assert version.endswith(f"-2~{suites.SUITES[upgraded.suite]}u1")
    assert "\ntrigger = 4 " in machine.path(EDITED).read_text()


def test_an_upgrade_keeps_blocks_and_their_reasons(upgraded: Packaged) -> None:
    assert upgraded.blocked() == [BYSTANDER[4]]
    assert not upgraded.lab.answers(BYSTANDER[4])
    assert "syn" in upgraded.machine.said("sentryfw", "explain", BYSTANDER[4])


def test_an_upgrade_leaves_the_new_daemon_running(upgraded: Packaged) -> None:
    assert upgraded.is_running()
    assert upgraded.show("NRestarts") == "0"
    assert upgraded.show("MainPID") != upgraded.former_pid


# --- removed


def test_removing_ends_the_daemon_and_deletes_the_table(removed: Packaged) -> None:
    assert removed.machine.run("test", "-e", f"/proc/{removed.former_pid}").returncode == 1
    assert removed.lab.nft("list", "ruleset") == ""
    removed.lab.open(BYSTANDER[4]).close()


def test_removing_keeps_state_and_configuration(removed: Packaged) -> None:
    machine = removed.machine
    assert machine.path("/var/lib/sentryfw/ledger.db").exists()
    assert machine.path(EDITED).exists()
    assert not machine.path("/usr/lib/sentryfw").exists()


# --- purged


def test_purging_leaves_nothing(purged: Packaged) -> None:
    assert purged.leftovers() == []
    assert "sentryfw" not in purged.machine.path("/etc/passwd").read_text()
    assert "sentryfw" not in purged.machine.path("/etc/group").read_text()
