"""The wheel in a booted Debian 13, by pipx: where only root can read it, and where all users can.

The fixtures are one sequence.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

import pytest
import suites

from support.lab import BYSTANDER, LISTED, UNLISTED, Lab
from support.machine import APT, Machine, chroot, debootstrap
from support.packaged import ROOT, Packaged
from support.waiting import wait_for

pytestmark = [pytest.mark.package, pytest.mark.netns]

SUITE: Final = "trixie"
NEEDED: Final = (
    "pipx", "gcc", "python3-dev", "libnetfilter-queue-dev", "ca-certificates", "python3-nftables",
    "nftables", "iproute2", "netbase",
)  # fmt: skip
"""docs/appliances.md names them, with pipx."""
OWN: Final = "/root/.local/bin/sentryfw"
GLOBAL: Final = "/usr/local/bin/sentryfw"


def wheel(folder: Path) -> PurePosixPath:
    """Build the wheel for every Python; return its path in the root above `folder`."""
    command = [ROOT / ".venv/bin/hatchling", "build", "-t", "wheel", "-d", folder]
    plain = os.environ | {"SENTRYFW_ENGINE": "plain"}
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True, env=plain)
    [made] = folder.glob("sentryfw-*.whl")
    return PurePosixPath("/") / made.relative_to(folder.parent)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A Debian 13 with the wheel installed twice: for root alone, and for all users."""
    root = tmp_path_factory.mktemp("pipx") / "root"
    debootstrap(root, SUITE)
    suites.provide_host_files(root)
    chroot(root, *APT, "update")
    chroot(root, *APT, "install", *NEEDED)
    place = str(wheel(root / "srv"))
    for words in (("install", place), ("install", "--global", place)):
        suites.enter(root, PurePosixPath("srv"), "pipx", *words)
    with Lab() as lab, Machine(lab, root) as made:
        yield made
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def running(machine: Machine) -> Iterator[Packaged]:
    machine.said(GLOBAL, "install", "--trial", "5m")
    machine.said(GLOBAL, "confirm")
    machine.lab.listen(LISTED)
    yield Packaged(machine)
    machine.lab.close_sockets()


@pytest.mark.parametrize("words", [(), ("--trial", "5m")], ids=["for good", "trial"])
def test_what_only_root_can_read_is_refused_before_the_table(
    machine: Machine, words: tuple[str, ...]
) -> None:
    done = machine.run(OWN, "install", *words)
    assert done.returncode == 1
    assert "nothing was installed" in done.stderr
    assert "pipx install --global" in done.stderr
    assert machine.lab.nft("list", "ruleset") == ""
    assert not machine.path("/etc/systemd/system/sentryfw.service").exists()


def test_what_all_users_can_read_runs_as_a_service(running: Packaged) -> None:
    assert running.show("ActiveState") == "active"
    assert running.show("UnitFileState") == "enabled"
    pid = running.show("MainPID")
    assert running.machine.said("stat", "-c", "%U", f"/proc/{pid}") == "sentryfw\n"


def test_the_service_of_the_wheel_blocks_a_scanner(running: Packaged) -> None:
    lab = running.lab
    lab.probe(BYSTANDER[4], *UNLISTED)
    wait_for(lambda: lab.is_blocked(BYSTANDER[4]), "a block")
    assert not lab.answers(BYSTANDER[4])


def test_uninstalling_leaves_the_program_alone(running: Packaged) -> None:
    running.machine.said(GLOBAL, "uninstall", "--purge")
    assert running.lab.nft("list", "ruleset") == ""
    assert not running.machine.path("/etc/systemd/system/sentryfw.service").exists()
    assert not running.machine.path("/var/lib/sentryfw").exists()
    assert running.machine.run(GLOBAL, "status").returncode == 5
