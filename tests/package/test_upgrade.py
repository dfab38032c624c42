"""Upgrades of a running, confirmed service: from version 0.1.0, and of the machine from Debian 12
to 13. The protection stays, and what was blocked is blocked.

The fixtures are one sequence for each machine.
"""

import json
import shutil
from collections.abc import Iterator
from typing import Final

import pytest

from support.lab import ATTACKER, BYSTANDER, LISTED, UNLISTED, Lab
from support.machine import APT, Machine, chroot, debootstrap, fetch
from support.packaged import Packaged, build, build_first
from support.waiting import wait_for

pytestmark = [pytest.mark.package, pytest.mark.netns]

EDITED: Final = "/etc/sentryfw/sentryfw.toml"
BY_HAND: Final = "203.0.113.7"
KEEP_EDITED: Final = ("-o", "Dpkg::Options::=--force-confold")
"""The answer to the question of dpkg about the edited configuration: keep it."""
FULL_UPGRADE: Final = ("full-upgrade", *KEEP_EDITED)
NEWER: Final = """
import sqlite3, sys
sqlite3.connect(sys.argv[1]).execute("PRAGMA user_version = 999")
"""
SOURCES: Final = "etc/apt/sources.list"


def guarded(machine: Machine) -> Packaged:
    """Return a service that was tried and confirmed, has an edited configuration, one block by
    hand and one of a scanner."""
    machine.said("sentryfw", "install", "--trial", "5m")
    machine.said("sentryfw", "confirm")
    config = machine.path(EDITED)
    config.write_text(config.read_text().replace("# trigger = 3 ", "trigger = 2 "))
    machine.said("systemctl", "restart", "sentryfw")
    packaged = Packaged(machine)
    wait_for(packaged.is_running, "the daemon answers", 30)
    machine.said("sentryfw", "block", BY_HAND, "--timeout", "1h")
    machine.lab.listen(LISTED)
    machine.lab.probe(BYSTANDER[4], *UNLISTED)
    wait_for(lambda: machine.lab.is_blocked(BYSTANDER[4]), "a block")
    packaged.former_pid = packaged.show("MainPID")
    return packaged


def still_guards(packaged: Packaged) -> None:
    """Assert that the blocks of before are there with their reasons, and that a new one is made."""
    lab = packaged.lab
    wait_for(packaged.is_running, "the daemon answers", 30)
    assert set(packaged.blocked()) == {BYSTANDER[4], BY_HAND}
    assert not lab.answers(BYSTANDER[4])
    assert "syn" in packaged.machine.said("sentryfw", "explain", BYSTANDER[4])
    assert lab.answers(ATTACKER[4])
    assert "\ntrigger = 2 " in packaged.machine.path(EDITED).read_text()
    assert "ok" in packaged.machine.said("sentryfw", "check")
    assert packaged.machine.said("dpkg", "--verify", "sentryfw").split()[-1:] in ([], [EDITED])


# --- from 0.1.0


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Packaged]:
    """Version 0.1.0 on Debian 12, and today's package in /srv."""
    root = tmp_path_factory.mktemp("first") / "root"
    debootstrap(root)
    build_first(root / "srv" / "1.deb")
    build("deb", "1", root / "srv" / "2.deb")
    fetch(root, "/srv/1.deb", "/srv/2.deb")
    with Lab() as lab, Machine(lab, root) as machine:
        machine.apt("install", "/srv/1.deb")
        yield guarded(machine)
        lab.close_sockets()
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def raised(first: Packaged) -> Packaged:
    first.machine.apt("install", *KEEP_EDITED, "/srv/2.deb")
    return first


def test_an_upgrade_from_the_first_version_keeps_the_protection(raised: Packaged) -> None:
    assert raised.show("MainPID") != raised.former_pid
    assert raised.show("NRestarts") == "0"
    still_guards(raised)


def test_an_upgrade_from_the_first_version_brings_todays_table(raised: Packaged) -> None:
    table = raised.lab.nft("list", "table", "inet", "sentryfw")
    for name in ("served4", "confine4", "defer4"):
        assert f"set {name} " in table
    assert [line for line in raised.machine.said("sentryfw", "doctor").splitlines()
            if "\tfail\t" in line] == []  # fmt: skip


def test_an_upgrade_from_the_first_version_leaves_the_packages_unit(raised: Packaged) -> None:
    assert raised.show("FragmentPath") == "/lib/systemd/system/sentryfw.service"
    assert raised.show("UnitFileState") == "enabled"


def test_a_newer_ledger_is_refused_in_one_sentence_and_kept(raised: Packaged) -> None:
    """A downgrade meets this: the daemon guards without the reasons, and nothing is lost."""
    raised.machine.said("systemctl", "stop", "sentryfw")
    ledger = raised.machine.path("/var/lib/sentryfw/ledger.db")
    raised.machine.said("python3", "-c", NEWER, "/var/lib/sentryfw/ledger.db")
    size = ledger.stat().st_size
    raised.machine.said("systemctl", "start", "sentryfw")
    wait_for(raised.is_running, "the daemon answers", 30)
    done = raised.machine.run("sentryfw", "explain", BYSTANDER[4])
    assert "belongs to a newer SentryFW" in done.stdout + done.stderr
    assert ledger.stat().st_size >= size
    assert not raised.lab.answers(BYSTANDER[4])


# --- from Debian 12 to 13


@pytest.fixture(scope="module")
def bookworm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Packaged]:
    """A Debian 12 that is guarded, with all packages of Debian 13 in apt's cache."""
    root = tmp_path_factory.mktemp("bookworm") / "root"
    debootstrap(root)
    build("deb", "1", root / "srv" / "1.deb")
    build("deb", "1", root / "srv" / "13.deb", suite="trixie")
    fetch(root, "/srv/1.deb")
    chroot(root, *APT, "install", "/srv/1.deb")
    sources = root / SOURCES
    sources.write_text(sources.read_text().replace("bookworm", "trixie"))
    chroot(root, *APT, "update")
    chroot(root, *APT, "--download-only", *FULL_UPGRADE)
    with Lab() as lab, Machine(lab, root) as machine:
        yield guarded(machine)
        lab.close_sockets()
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def trixie(bookworm: Packaged) -> Packaged:
    bookworm.machine.apt(*FULL_UPGRADE)
    return bookworm


def test_an_upgrade_to_debian_13_keeps_the_protection(trixie: Packaged) -> None:
    assert "VERSION_CODENAME=trixie" in trixie.machine.path("/etc/os-release").read_text()
    assert trixie.machine.said("dpkg-query", "-W", "-f", "${Version}", "sentryfw").endswith(
        "deb12u1"
    )
    still_guards(trixie)
    trixie.machine.said("systemctl", "restart", "sentryfw")
    still_guards(trixie)
    assert json.loads(trixie.machine.said("sentryfw", "status", "--json"))["daemon"] == "running"


def test_the_package_for_debian_13_replaces_that_for_12(trixie: Packaged) -> None:
    trixie.machine.apt("install", *KEEP_EDITED, "/srv/13.deb")
    version = trixie.machine.said("dpkg-query", "-W", "-f", "${Version}", "sentryfw")
    assert version.endswith("deb13u1")
    still_guards(trixie)
    pid = trixie.show("MainPID")
    assert "python3.13" in trixie.machine.said("readlink", f"/proc/{pid}/exe")
