"""Disks that fail at start and later: detection and blocking continue, and status reports it."""

import json
import os
import resource
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from sentryfw.record.ledger import Ledger
from sentryfw.record.records import manual_entry
from support.faults import survived
from support.lab import ATTACKER, BYSTANDER, UNLISTED, Lab, Sentry
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

MakeDaemon = Callable[[str], Sentry]
HOUR: Final = 3600.0
OLD: Final = "198.51.100.1"
"""Blocked before the fault."""


def _detects_and_blocks(lab: Lab, source: str) -> None:
    lab.probe(source, *UNLISTED)
    wait_for(lambda: lab.is_blocked(source), "detected and blocked")


def _in_the_ledger(daemon: Sentry, address: str) -> bool:
    with Ledger(daemon.settings.paths.ledger) as ledger:
        return bool(ledger.latest_blocks([address]))


def _fill(daemon: Sentry) -> None:
    with Ledger(daemon.settings.paths.ledger) as ledger:
        ledger.add([manual_entry(OLD, 4, HOUR, time.time())])
        ledger.protect("192.0.2.9", "ssh peer", time.time())


def _mounted(daemon: Sentry, *mounts: str) -> None:
    """Start the daemon in its own mount namespace, after these commands."""
    command = " ".join(map(str, daemon.command))
    script = " && ".join([*mounts, f"exec {command}"])
    daemon.command = ["unshare", "--mount", "sh", "-c", script]


# --- corrupt


def _garble(path: Path) -> None:
    path.write_bytes(os.urandom(8192))


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def _spoil_pages(path: Path) -> None:
    """Overwrite pages behind an intact header."""
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))


@pytest.mark.parametrize(
    ("corrupt", "what"),
    [
        (_garble, "ledger overwritten with random bytes"),
        (_truncate, "ledger cut off"),
        (_spoil_pages, "ledger's pages overwritten"),
    ],
    ids=["random-bytes", "cut-off", "spoilt-pages"],
)
def test_a_corrupt_ledger_is_moved_aside(
    lab: Lab, make_daemon: MakeDaemon, corrupt: Callable[[Path], None], what: str
) -> None:
    daemon = make_daemon("")
    _fill(daemon)
    corrupt(daemon.settings.paths.ledger)
    spoilt = daemon.settings.paths.ledger.read_bytes()
    daemon.start()
    [aside] = daemon.settings.paths.state.glob("ledger.db.corrupt-*[0-9]")
    assert aside.read_bytes() == spoilt
    assert daemon.status()["faults"] == {"ledger moved aside": str(aside)}
    assert f"moved aside to {aside}" in daemon.log()
    _detects_and_blocks(lab, ATTACKER[4])
    wait_for(lambda: _in_the_ledger(daemon, ATTACKER[4]), "recorded in the new one")
    survived(
        f"{what}, at start", lost="reasons of older blocks (kept in the file that is moved aside)"
    )


def test_readable_rows_of_a_corrupt_ledger_are_kept(lab: Lab, make_daemon: MakeDaemon) -> None:
    daemon = make_daemon("")
    _fill(daemon)
    path = daemon.settings.paths.ledger
    with closing(sqlite3.connect(path)) as database:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'probes_by_address'"
        [(page,)] = database.execute(query).fetchall()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(os.urandom(4096))
    daemon.start()
    assert lab.is_blocked(OLD)
    assert "192.0.2.9" in lab.nft("list set inet sentryfw never_block4")
    _detects_and_blocks(lab, ATTACKER[4])
    wait_for(lambda: _in_the_ledger(daemon, ATTACKER[4]), "recorded")
    assert _in_the_ledger(daemon, OLD)


def test_a_ledger_that_becomes_corrupt_is_replaced(lab: Lab, daemon: Sentry) -> None:
    path = daemon.settings.paths.ledger
    _detects_and_blocks(lab, ATTACKER[4])
    wait_for(lambda: _in_the_ledger(daemon, ATTACKER[4]), "recorded")
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    _spoil_pages(path)
    _detects_and_blocks(lab, BYSTANDER[4])
    wait_for(lambda: "ledger moved aside" in daemon.status()["faults"], "moved aside")
    wait_for(lambda: _in_the_ledger(daemon, BYSTANDER[4]), "recorded in the new one")
    wait_for(
        lambda: daemon.ask(do="reconcile") == {} and _in_the_ledger(daemon, ATTACKER[4]),
        "the older block is adopted", 25,
    )  # fmt: skip
    survived("ledger's pages overwritten in mid-flight", lost="reasons of older blocks")


# --- locked


def test_memory_replaces_a_ledger_that_is_locked_at_start(
    lab: Lab, make_daemon: MakeDaemon
) -> None:
    daemon = make_daemon("")
    _fill(daemon)
    with closing(sqlite3.connect(daemon.settings.paths.ledger, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        daemon.start()
        assert "locked" in daemon.status()["faults"]["ledger"]
        assert "records are kept in memory" in daemon.log()
        assert lab.is_blocked(OLD)  # it is readable
        _detects_and_blocks(lab, ATTACKER[4])
        daemon.alert(ATTACKER[4])
    lab.probe(BYSTANDER[4], *UNLISTED)
    wait_for(lambda: daemon.status()["faults"] == {}, "written out", 25)
    wait_for(lambda: _in_the_ledger(daemon, ATTACKER[4]), "recorded")
    wait_for(lambda: _in_the_ledger(daemon, BYSTANDER[4]), "recorded")
    assert daemon.status()["lost_records"] == 0
    survived("ledger locked by another program, at start")


def test_a_ledger_that_is_locked_later_loses_nothing(lab: Lab, daemon: Sentry) -> None:
    with closing(sqlite3.connect(daemon.settings.paths.ledger, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        _detects_and_blocks(lab, ATTACKER[4])
        wait_for(lambda: daemon.status()["faults"], "the fault is reported", 15)
        _detects_and_blocks(lab, BYSTANDER[4])
        other.execute("ROLLBACK")
    wait_for(lambda: daemon.status()["faults"] == {}, "written out", 25)
    wait_for(lambda: _in_the_ledger(daemon, ATTACKER[4]), "recorded")
    wait_for(lambda: _in_the_ledger(daemon, BYSTANDER[4]), "recorded")
    assert daemon.status()["lost_records"] == 0
    survived("ledger locked by another program, in mid-flight")


# --- read-only and full


def test_a_read_only_file_system_stops_neither_start_nor_blocking(
    lab: Lab, make_daemon: MakeDaemon
) -> None:
    daemon = make_daemon("")
    _fill(daemon)
    daemon.settings.paths.log.mkdir(mode=0o750)
    state, log = daemon.settings.paths.state, daemon.settings.paths.log
    _mounted(
        daemon,
        *(f"mount --bind {p} {p} && mount -o remount,bind,ro {p}" for p in (state, log)),
    )
    daemon.start()
    faults = daemon.status()["faults"]
    assert faults.keys() == {"ledger", "events"}
    assert "Read-only file system" in faults["events"]
    assert "records are kept in memory" in daemon.log()
    assert lab.is_blocked(OLD)
    _detects_and_blocks(lab, ATTACKER[4])
    lab.nft("flush ruleset")
    wait_for(lambda: daemon.status()["healed"]["count"] == 1, "repaired without a disk")
    assert lab.is_blocked(OLD)
    assert lab.is_blocked(ATTACKER[4])
    survived("read-only file system, at start", lost="events while it lasts")


def test_records_of_a_full_disk_are_written_once_it_has_space(
    lab: Lab, make_daemon: MakeDaemon
) -> None:
    daemon = make_daemon("[evidence]\npackets = 0")
    paths = daemon.settings.paths
    paths.state.mkdir(mode=0o750)
    _mounted(daemon, f"mount -t tmpfs -o size=4m,mode=750 tmpfs {paths.state}")
    daemon.start()
    process = Path("/proc") / str(daemon.process.pid)
    # Its root too: in a changed root (make test-roots) that is not the first of its mounts.
    inside = ["nsenter", f"--mount={process}/ns/mnt", f"--root={process}/root"]
    fill = f"head -c 8m /dev/zero > {paths.state}/ballast"
    assert "No space left" in lab.victim.run(*inside, "sh", "-c", fill).stderr
    _detects_and_blocks(lab, ATTACKER[4])
    many = (f"198.19.1.{n}" for n in range(1, 200))
    for source in many:
        lab.probe(source, *UNLISTED)
        time.sleep(0.002)
    wait_for(lambda: "ledger" in daemon.status()["faults"], "the fault is reported", 20)
    assert "full" in daemon.status()["faults"]["ledger"]
    _detects_and_blocks(lab, BYSTANDER[4])
    assert lab.victim.run(*inside, "rm", f"{paths.state}/ballast").returncode == 0
    wait_for(lambda: daemon.status()["faults"] == {}, "written out", 30)
    code = (
        "import sqlite3; print(sqlite3.connect("
        f"'{paths.ledger}').execute('SELECT count(DISTINCT address) FROM blocks').fetchone()[0])"
    )
    counted = lab.victim.run(*inside, "python3", "-c", code)
    blocked = sum(1 for _ in lab.table.sets.blocked_sources())
    assert int(counted.stdout) == blocked > 100
    survived("full disk (tmpfs) in mid-flight", lost=f"nothing of {blocked} blocks")


def test_memory_replaces_the_ledger_on_a_disk_that_is_full_at_start(
    lab: Lab, make_daemon: MakeDaemon
) -> None:
    daemon = make_daemon("")
    paths = daemon.settings.paths
    for place in (paths.state, paths.log):
        place.mkdir(mode=0o750)
    _mounted(
        daemon,
        *(
            f"mount -t tmpfs -o size=4k,mode=750 tmpfs {place}"
            f" && (head -c 4096 /dev/zero > {place}/ballast || true)"
            for place in (paths.state, paths.log)
        ),
    )
    daemon.start()
    assert "ledger" in daemon.status()["faults"]
    _detects_and_blocks(lab, ATTACKER[4])
    wait_for(lambda: "events" in daemon.status()["faults"], "both are reported")
    survived("full disk, at start", lost="events while it lasts")


def test_a_file_size_limit_acts_as_a_full_disk(lab: Lab, make_daemon: MakeDaemon) -> None:
    daemon = make_daemon("").start()
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (256, resource.RLIM_INFINITY))
    _detects_and_blocks(lab, ATTACKER[4])
    wait_for(lambda: daemon.status()["faults"].keys() == {"ledger", "events"}, "reported", 20)
    _detects_and_blocks(lab, BYSTANDER[4])
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    wait_for(lambda: daemon.status()["faults"].get("ledger") is None, "written out", 25)
    for address in (ATTACKER[4], BYSTANDER[4]):
        assert _in_the_ledger(daemon, address)
    lines = daemon.settings.paths.events.read_text().splitlines()
    assert all(json.loads(line) for line in lines)
    survived("RLIMIT_FSIZE of 256 bytes in mid-flight", lost="events while it lasts")
