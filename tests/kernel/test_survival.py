"""Blocks survive restart, reboot, kill -9 and clock jumps; kernel and ledger agree."""

import json
import random
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from sentryfw.guard.table_reader import MAX_PERIODIC_DUMP
from sentryfw.netfilter import block_sets
from sentryfw.netfilter.sets import elements
from sentryfw.netlink import message as nlmsg
from sentryfw.netlink import nftables as nl
from sentryfw.netlink.set_elements import Lifetime
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.record import active_blocks
from sentryfw.record.ledger import Ledger
from sentryfw.record.records import DecisionRecord, manual_entry
from support.faults import survived
from support.lab import ATTACKER, BYSTANDER, LISTED, UNLISTED, VICTIM, Lab, Sentry, waiting_packets
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

MakeDaemon = Callable[[str], Sentry]
HOUR: Final = 3600.0
YEAR: Final = 365 * 86400.0
KILLS: Final = 100
KINDS: Final = ("chain", "set", "counter")
RESTORE_LIMIT_S: Final = 3.0
MANY: Final = 100_000


def _fill(daemon: Sentry, entries: Iterable[DecisionRecord]) -> None:
    with Ledger(daemon.settings.paths.ledger) as ledger:
        ledger.add(entries)


def _fill_many(daemon: Sentry, count: int) -> None:
    """Add blocks of 10.0.0.0 and following, faster than by records."""
    _fill(daemon, ())
    now = time.time()
    rows = ((f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", now - n % 3000) for n in range(count))
    with closing(sqlite3.connect(daemon.settings.paths.ledger)) as database, database:
        database.executemany(
            "INSERT INTO blocks (address, family, scan, kinds, targets, probes, first_seen,"
            " blocked_at, timeout_s, offence, forgeable, tool, reason, sample)"
            " VALUES (?, 4, '', '[]', 0, 0, 0, ?, 3600, 1, 1, '', '', '[]')",
            rows,
        )


def _blocked(address: str, ago: float, timeout: float = HOUR) -> DecisionRecord:
    family = 6 if ":" in address else 4
    return manual_entry(address, family, timeout, time.time() - ago)


def _expires(lab: Lab) -> dict[str, float]:
    found = lab.victim.call(lab.table.sets.blocks)
    return {blocked.address: blocked.expires for blocked in found}


def _reconcile(daemon: Sentry) -> dict[str, Any]:
    runs = daemon.status()["reconciled"]["runs"]
    daemon.ask(do="reconcile")
    return wait_for(lambda: _later(daemon, runs), "reconciled", 20)


def _later(daemon: Sentry, runs: int) -> dict[str, Any] | None:
    found: dict[str, Any] = daemon.status()["reconciled"]
    return found if found["runs"] > runs else None


# --- restart and reboot


def test_a_reboot_restores_active_blocks_and_no_others(lab: Lab, make_daemon: MakeDaemon) -> None:
    daemon = make_daemon("")
    alive = {
        "198.51.100.1": 600.0, "2001:db8:1::/64": 1200.0, "fe80::5": 60.0,
        "203.0.113.0/24": 1800.0, "2001:db8:ffff::/48": 300.0,
    }  # fmt: skip
    _fill(daemon, (_blocked(address, ago) for address, ago in alive.items()))
    _fill(daemon, [_blocked("198.51.100.2", HOUR + 1), _blocked("203.0.114.0/24", HOUR + 1)])
    _fill(daemon, [_blocked("198.51.100.3", 5.0)])
    with Ledger(daemon.settings.paths.ledger) as ledger:
        ledger.unblocked("198.51.100.3", time.time())
    # Blocked for a longer time first: the later block counts.
    _fill(daemon, [_blocked("198.51.100.4", 700.0), _blocked("198.51.100.4", 650.0, 600.0)])
    daemon.start()
    found = _expires(lab)
    assert found.keys() == alive.keys()
    for address, ago in alive.items():
        assert found[address] == pytest.approx(HOUR - ago, abs=5)
    assert daemon.status()["reconciled"]["restored"] == len(alive)
    survived("reboot: blocks are restored with the time that they had left", lost="nothing")


def test_offences_escalate_across_reboots(lab: Lab, make_daemon: MakeDaemon) -> None:
    daemon = make_daemon('[block]\ntimeouts = ["1h", "4h", "1d"]')
    for offence, timeout in ((1, 3600), (2, 14400), (3, 86400)):
        daemon.start()
        lab.probe(ATTACKER[4], *UNLISTED)
        wait_for(lambda: len(daemon.alerts(ATTACKER[4])) == offence, "blocked")  # noqa: B023
        found = daemon.alerts(ATTACKER[4])[-1]["sentryfw"]
        assert (found["offence"], found["timeout_s"]) == (offence, timeout)
        lab.nft(f"delete element inet sentryfw block4 {{ {ATTACKER[4]} }}")
        wait_for(lambda: daemon.status()["unblocked_by_others"], "unblocked")
        daemon.stop()
        lab.nft("flush ruleset")


@pytest.mark.serial
def test_a_hundred_thousand_blocks_are_restored_in_three_seconds(
    lab: Lab, make_daemon: MakeDaemon
) -> None:
    daemon = make_daemon("")
    _fill_many(daemon, MANY)
    daemon.start()
    found = daemon.status()["reconciled"]
    assert found["restored"] == MANY
    assert found["seconds"] < RESTORE_LIMIT_S
    # Packets are judged while all of them are compared again.
    lab.probe(BYSTANDER[4], UNLISTED[0])
    daemon.ask(do="reconcile")
    slowest = 0.0
    while daemon.status()["reconciled"]["runs"] == found["runs"]:
        started = time.monotonic()
        daemon.status()
        slowest = max(slowest, time.monotonic() - started)
    again = daemon.status()["reconciled"]
    assert (again["kernel"], again["ledger"], again["restored"]) == (MANY, MANY, 0)
    assert (again["adopted"], again["corrected"], again["ended"]) == (0, 0, 0)
    assert slowest < 0.25
    lab.nft("flush ruleset")
    wait_for(lambda: daemon.status()["healed"]["count"] == 1, "repaired", 20)
    took = daemon.status()["healed"]["took_ms"] / 1000
    assert daemon.status()["blocked"] == MANY
    survived(f"reboot with {MANY:,} blocks", seconds=found["seconds"])
    survived(f"nft flush ruleset with {MANY:,} blocks", seconds=took)


def test_more_blocks_than_max_elements_are_restored_and_none_is_made(
    lab: Lab, make_daemon: MakeDaemon
) -> None:
    """A lower max_elements does not end a block."""
    daemon = make_daemon("[block]\nmax_elements = 20")
    _fill(daemon, (_blocked(f"198.51.100.{n}", 60.0) for n in range(1, 31)))
    daemon.start()
    assert len(_expires(lab)) == 30
    assert "30 sources are blocked, more than [block] max_elements = 20" in daemon.log()
    lab.probe(ATTACKER[4], *UNLISTED)
    found = daemon.alert(ATTACKER[4], "allowed")
    assert found["sentryfw"]["reason"] == "block.max_elements"
    assert not lab.is_blocked(ATTACKER[4])


# --- reconciliation


def test_a_block_that_only_the_kernel_has_is_recorded(lab: Lab, daemon: Sentry) -> None:
    daemon.stop()
    lab.nft("add element inet sentryfw block4 { 198.51.100.7 timeout 2h expires 1h }")
    daemon.start()
    assert daemon.status()["reconciled"]["adopted"] == 1
    with Ledger(daemon.settings.paths.ledger) as ledger:
        entry = ledger.latest_blocks(["198.51.100.7"])["198.51.100.7"]
    assert (entry.reason, entry.timeout_s) == (active_blocks.FOUND, 2 * HOUR)
    assert entry.blocked_at == pytest.approx(time.time() - HOUR, abs=5)
    assert _reconcile(daemon)["adopted"] == 0


def test_the_ledger_takes_the_end_of_a_block_from_the_kernel(lab: Lab, daemon: Sentry) -> None:
    lab.nft("add element inet sentryfw block4 { 198.51.100.8 timeout 2h }")
    _fill(daemon, [_blocked("198.51.100.8", 600.0, 3 * HOUR)])
    assert _reconcile(daemon)["corrected"] == 1
    with Ledger(daemon.settings.paths.ledger) as ledger:
        [item] = active_blocks.active_blocks(ledger, time.time())
    assert item.left == pytest.approx(2 * HOUR, abs=5)


def test_damage_whose_notification_was_lost_is_repaired(lab: Lab, daemon: Sentry) -> None:
    """The table is deleted amid more notifications than the stopped daemon's socket holds."""
    lab.probe(ATTACKER[4], *UNLISTED)
    daemon.alert(ATTACKER[4])
    daemon.process.send_signal(signal.SIGSTOP)
    _overrun(lab)
    lab.nft("delete table inet sentryfw")
    daemon.process.send_signal(signal.SIGCONT)
    started = time.monotonic()
    wait_for(lambda: daemon.status()["healed"]["count"] == 1, "repaired")
    took = time.monotonic() - started
    assert daemon.status()["overruns"] >= 1
    assert lab.is_blocked(ATTACKER[4])
    survived("400,000 notifications while the daemon was stopped, table deleted", seconds=took)


def test_lost_notifications_of_many_blocks_are_made_up_for(
    lab: Lab, make_daemon: MakeDaemon
) -> None:
    """One of many blocks is deleted and one is added while notifications are lost."""
    daemon = make_daemon("")
    _fill_many(daemon, MAX_PERIODIC_DUMP + 1000)
    daemon.start()
    assert _reconcile(daemon)["adopted"] == 0
    daemon.process.send_signal(signal.SIGSTOP)
    _overrun(lab)
    lab.nft("delete element inet sentryfw block4 { 10.0.0.1 }")
    lab.nft("add element inet sentryfw block4 { 198.51.100.7 timeout 2h expires 1h }")
    daemon.process.send_signal(signal.SIGCONT)
    wait_for(lambda: daemon.status()["healed"]["count"] == 1, "no acknowledged block is lost")
    assert lab.is_blocked("10.0.0.1")
    assert _reconcile(daemon)["adopted"] == 1
    assert daemon.status()["blocked"] == MAX_PERIODIC_DUMP + 1001
    assert _reconcile(daemon)["adopted"] == 0
    lab.nft("delete element inet sentryfw block4 { 10.0.0.1 }")
    wait_for(lambda: daemon.status()["unblocked_by_others"] == 1, "unblocked")
    assert _reconcile(daemon)["restored"] == 0
    assert not lab.is_blocked("10.0.0.1")


def _overrun(lab: Lab) -> None:
    """Cause more notifications than an unread socket holds."""
    lab.nft("add table inet other; add set inet other s { type ipv4_addr; }")
    netlink = lab.victim.call(NfnetlinkSocket)
    netlink.grow(elements.TRANSACTION_BUFFER_BYTES)
    ours, theirs = nl.set_name("sentryfw", "s"), nl.set_name("other", "s")
    for part in range(4):
        numbers = range(part * MANY, (part + 1) * MANY)
        keys = ((n.to_bytes(4), Lifetime(0.0, 0.0)) for n in numbers)
        bodies = [body for _, _, body in block_sets.element_requests("s", keys)]
        netlink.transact(
            [
                (nl.NFT_MSG_NEWSETELEM, nlmsg.NLM_F_CREATE, b.replace(ours, theirs, 1))
                for b in bodies
            ],
            "flood of notifications",
        )
    netlink.close()


# --- clocks

SHIFTED: Final = """\
import sys, time
real, place = time.time, {place!r}
def shifted():
    with open(place) as file:
        return real() + float(file.read() or 0)
time.time = shifted
from sentryfw.daemon.main import main
main()
"""


def _shiftable(daemon: Sentry, seconds: float) -> Path:
    """Shift the daemon's wall clock by the seconds in a file, and return the file."""
    place = daemon.home / "shift"
    place.write_text(str(seconds))
    code = SHIFTED.format(place=str(place))
    daemon.command = [sys.executable, "-P", "-c", code, "-c", daemon.config]
    return place


def _shift(place: Path, seconds: float) -> None:
    new = place.with_suffix(".new")
    new.write_text(str(seconds))
    new.rename(place)


@pytest.mark.parametrize("jump", [20 * YEAR, -20 * YEAR], ids=["forward", "backward"])
def test_a_clock_jump_does_not_change_the_ends_of_blocks(
    lab: Lab, make_daemon: MakeDaemon, jump: float
) -> None:
    daemon = make_daemon('[block]\ntimeouts = ["1h"]')
    place = _shiftable(daemon, 0.0)
    daemon.start()
    lab.probe(ATTACKER[4], *UNLISTED)
    daemon.alert(ATTACKER[4])
    runs = daemon.status()["reconciled"]["runs"]
    _shift(place, jump)
    found = wait_for(lambda: _later(daemon, runs), "the jump is noticed", 20)
    wait_for(lambda: found["corrected"] == 1 or _reconcile(daemon)["corrected"], "corrected")
    daemon.stop()
    lab.nft("flush ruleset")  # a reboot, with the clock as it is now
    daemon.start()
    left = _expires(lab)
    assert left.keys() == {ATTACKER[4]}
    assert HOUR - 120 < left[ATTACKER[4]] <= HOUR
    survived("wall clock set 20 years ahead, and back, before a reboot", 2)


def test_a_boot_in_the_past_blocks_no_longer_than_the_timeout(
    lab: Lab, make_daemon: MakeDaemon
) -> None:
    daemon = make_daemon("")
    _fill(daemon, [_blocked("198.51.100.1", 600.0)])
    _shiftable(daemon, -20 * YEAR)
    daemon.start()
    assert 0 < _expires(lab)["198.51.100.1"] <= HOUR


def test_blocks_that_a_fast_clock_had_ended_are_restored_when_it_is_set(
    lab: Lab, make_daemon: MakeDaemon
) -> None:
    """A clock far ahead ends every block at boot; then NTP sets it."""
    daemon = make_daemon("")
    _fill(daemon, [_blocked("198.51.100.1", 600.0), _blocked("198.51.100.2", HOUR + 60)])
    place = _shiftable(daemon, 20 * YEAR)
    daemon.start()
    assert _expires(lab) == {}
    _shift(place, 0.0)
    wait_for(lambda: _expires(lab), "the block is restored")
    assert _expires(lab).keys() == {"198.51.100.1"}
    assert _expires(lab)["198.51.100.1"] == pytest.approx(HOUR - 600, abs=10)


def test_a_block_that_ended_under_a_wrong_clock_stays_ended(
    lab: Lab, make_daemon: MakeDaemon
) -> None:
    daemon = make_daemon('[block]\ntimeouts = ["3s"]')
    place = _shiftable(daemon, 20 * YEAR)
    daemon.start()
    lab.probe(ATTACKER[4], *UNLISTED)
    daemon.alert(ATTACKER[4])
    wait_for(lambda: not lab.is_blocked(ATTACKER[4]), "it ended")
    runs = daemon.status()["reconciled"]["runs"]
    _shift(place, 0.0)  # by the new clock it would end in 20 years
    wait_for(lambda: _later(daemon, runs), "the jump is noticed", 20)
    _reconcile(daemon)
    assert not lab.is_blocked(ATTACKER[4])
    daemon.stop()
    daemon.start()
    assert not lab.is_blocked(ATTACKER[4])


# --- what the rules have learnt

PARTNERS = {4: "198.51.100.1", 6: "2001:db8:1::"}


def _add_partners(lab: Lab, expires: str = "2h") -> None:
    for family, key in PARTNERS.items():
        words = f"{{ {key} timeout 1d expires {expires} }}"
        lab.nft(f"add element inet sentryfw partner{family} {words}")


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_client_stays_a_partner_across_a_reboot(
    lab: Lab, daemon: Sentry, family: int, end: str
) -> None:
    """It comes before its services do, and knocks at as many ports as a scanner would."""
    key = {4: ATTACKER[4], 6: "2001:2:0:1::"}[family]
    flow = f"{key} . {VICTIM[family]} . tcp . {LISTED}"
    lab.nft(f"add element inet sentryfw partner{family} {{ {key} }}")
    lab.nft(f"add element inet sentryfw served{family} {{ {flow} }}")
    if end == "kill":  # a power cut costs a minute at most
        _reconcile(daemon)
    daemon.stop() if end == "stop" else daemon.kill()
    lab.nft("flush ruleset")
    daemon.start()
    lab.probe(ATTACKER[family], *UNLISTED)
    lab.probe(BYSTANDER[family], *UNLISTED)
    daemon.alert(BYSTANDER[family], action="blocked")  # a stranger that does so is a scanner
    assert not lab.is_blocked(ATTACKER[family])
    assert lab.is_blocked(BYSTANDER[family])
    assert f"tcp . {LISTED}" in lab.nft(f"list set inet sentryfw served{family}")


@pytest.mark.slow
def test_a_power_cut_costs_a_minute_of_partners_at_most(lab: Lab, daemon: Sentry) -> None:
    _add_partners(lab)
    runs = daemon.status()["reconciled"]["runs"]
    wait_for(lambda: _later(daemon, runs), "a minute", 65)
    daemon.kill()
    lab.nft("flush ruleset")
    daemon.start()
    for family, key in PARTNERS.items():
        assert lab.elements(f"partner{family}") == {key}
        listing = lab.nft("-j", f"list set inet sentryfw partner{family}")
        assert 0 < json.loads(listing)["nftables"][1]["set"]["elem"][0]["elem"]["expires"] <= 7200


def test_a_repair_restores_partners_and_the_next_start_does(lab: Lab, daemon: Sentry) -> None:
    _add_partners(lab)
    _reconcile(daemon)
    lab.nft("flush ruleset")
    wait_for(lambda: daemon.status()["healed"]["count"], "repaired")
    assert lab.elements("partner4") == {PARTNERS[4]}
    daemon.stop()
    lab.nft("flush ruleset")
    daemon.start()
    assert lab.elements("partner4") == {PARTNERS[4]}


# --- kill -9


def _whole(lab: Lab) -> list[str]:
    """Return the names of the table's chains and sets; none without a table."""
    done = lab.victim.run("nft", "-t", "list", "table", "inet", "sentryfw")
    lines = (line.split() for line in done.stdout.splitlines())
    return sorted(f"{w[0]} {w[1]}" for w in lines if w[1:] and w[0] in KINDS)


def test_kill_9_a_hundred_times_under_scan_loses_nothing(lab: Lab, make_daemon: MakeDaemon) -> None:
    daemon = make_daemon("[block]\nmax_elements = 1000000").start()
    whole = _whole(lab)
    dice = random.Random(1)
    acknowledged: dict[str, float] = {}
    number = 0
    for turn in range(KILLS):
        # Kill half of them while it starts, half while it judges.
        if turn:
            daemon.process = daemon.launch()
        if turn % 2:
            wait_for(daemon._is_ready, "it answers", 20)
        for _ in range(dice.randrange(1, 20)):
            number += 1
            lab.probe(f"198.19.{number >> 8 & 255}.{number & 255}", *UNLISTED)
            time.sleep(0.005)  # a scan, not a flood
        before = {b.address: b.expires for b in lab.table.sets.blocked_sources()}
        at = time.monotonic()
        daemon.kill()
        assert waiting_packets(lab.victim) == 0, "a packet is stuck"
        assert _whole(lab) == whole, "half a table"
        acknowledged |= {address: at + left for address, left in before.items()}
        after = {b.address for b in lab.table.sets.blocked_sources()}
        assert acknowledged.keys() <= after
    # The ledger is written a moment after the kernel acknowledges; a block that was made in
    # between is recorded by the next start.
    daemon.start().kill()
    lab.nft("flush ruleset")
    daemon.start()
    found = {b.address: b.expires for b in lab.table.sets.blocked_sources()}
    now = time.monotonic()
    assert len(acknowledged) > KILLS
    assert acknowledged.keys() <= found.keys()
    assert all(found[a] <= end - now + 2 for a, end in acknowledged.items())
    lab.probe(ATTACKER[4], *UNLISTED)
    daemon.alert(ATTACKER[4])
    survived("kill -9 under scan", KILLS, f"nothing of {len(acknowledged)} blocks")
