"""Damage to the table by other programs is repaired within a second, blocks included."""

import json
import signal
import time
from collections.abc import Callable
from typing import Any, Final

import pytest

from sentryfw.netfilter.block_sets import Blocked
from sentryfw.record.ledger import Ledger
from support.faults import survived
from support.lab import ATTACKER, BYSTANDER, INTERFACE, UNLISTED, Lab, Sentry
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

StartDaemon = Callable[[str], Sentry]
REPAIR_LIMIT_S: Final = 1.0
"""Seconds that a repair may take."""
MANY: Final = 500
NET: Final = "203.0.113.0/24"
CONFIG: Final = """\
[watch]
listed_tcp = [22]
[never_block]
addresses = ["192.0.2.0/24", "2001:db8::/32"]
"""


def _shape(lab: Lab) -> list[str]:
    """Return the lines of the table, sorted, without elements and expiry times."""
    listing = lab.nft("-s", "-t", "list table inet sentryfw")
    return sorted(line.strip() for line in listing.splitlines() if line.strip())


def _blocks(lab: Lab) -> dict[str, Blocked]:
    found = lab.victim.call(
        lab.table.sets.blocks
    )  # libnftables opens its socket where it is called
    return {blocked.address: blocked for blocked in found}


def _configured(lab: Lab) -> dict[str, set[str]]:
    names = ("never_block4", "never_block6", "listed_tcp")
    return {name: {json.dumps(e) for e in _elements(lab, name)} for name in names}


def _elements(lab: Lab, name: str) -> list[Any]:
    listing = json.loads(lab.nft("-j", f"list set inet sentryfw {name}"))
    [found] = [item["set"] for item in listing["nftables"] if "set" in item]
    return list(found.get("elem", []))


def _block_some(lab: Lab, daemon: Sentry) -> None:
    """Block two sources by their probes, many and a network by hand."""
    lab.probe(ATTACKER[4], *UNLISTED)
    lab.probe(ATTACKER[6], *UNLISTED)
    daemon.alert(ATTACKER[4])
    daemon.alert(ATTACKER[6])
    elements = ", ".join(f"100.64.{n >> 8}.{n & 255} timeout {600 + n}s" for n in range(MANY))
    lab.nft(f"add element inet sentryfw block4 {{ {elements} }}")
    lab.nft(f"add element inet sentryfw block_net4 {{ {NET} timeout 900s }}")
    wait_for(lambda: daemon.status()["blocked"] == MANY + 3, "the daemon knows all")


def _notes(daemon: Sentry, kind: str) -> list[dict[str, Any]]:
    return [e["sentryfw"] for e in daemon.events() if e["sentryfw"].get("event") == kind]


def _repair_time(lab: Lab, whole: Callable[[], bool], what: str) -> float:
    started = time.monotonic()
    wait_for(whole, what, 5)
    return time.monotonic() - started


DAMAGE: Final = {
    "nft flush ruleset": "flush ruleset",
    "nft delete table": "delete table inet sentryfw",
    "all rules flushed": "flush table inet sentryfw",
    "the queue rule's chain flushed": "flush chain inet sentryfw judge",
    "a chain deleted": "flush table inet sentryfw; delete chain inet sentryfw early_drop",
    "a set deleted": "flush table inet sentryfw; delete set inet sentryfw block4",
    "a network set deleted": "flush table inet sentryfw; delete set inet sentryfw block_net4",
    "a chain's policy changed to drop": (
        "add chain inet sentryfw divert_input { policy drop; }"
    ),
    "a never-block element deleted": "delete element inet sentryfw never_block4 { 192.0.2.0/24 }",
    "the listed ports flushed": "flush set inet sentryfw listed_tcp",
    "systemctl reload nftables (flush and load another file)": (
        "flush ruleset; add table inet filter; add chain inet filter input"
    ),
    "the table loaded from an old dump, without its blocks": (
        "delete table inet sentryfw; add table inet sentryfw;"
        " add set inet sentryfw block4 { type ipv4_addr; flags timeout; }"
    ),
}  # fmt: skip


@pytest.mark.serial
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_by_another_program_is_repaired_within_a_second(
    lab: Lab, start_daemon: StartDaemon, damage: str
) -> None:
    daemon = start_daemon(CONFIG)
    _block_some(lab, daemon)
    shape, blocks, configured = _shape(lab), _blocks(lab), _configured(lab)
    at = time.monotonic()
    lab.nft(damage)
    took = _repair_time(lab, lambda: daemon.status()["healed"]["count"] == 1, "repaired")
    elapsed = time.monotonic() - at
    assert took < REPAIR_LIMIT_S
    assert _shape(lab) == shape
    assert _configured(lab) == configured
    now = _blocks(lab)
    assert now.keys() == blocks.keys()
    for address, before in blocks.items():
        after = now[address]
        assert (after.timeout, after.family) == (before.timeout, before.family)
        assert before.expires - elapsed - 2 < after.expires <= before.expires + 0.5
    [note] = wait_for(lambda: _notes(daemon, "healed"), "the event")
    assert note["by"] == "nft"
    assert f"changed by nft (pid {note['pid']})" in daemon.log()
    lab.probe(BYSTANDER[4], *UNLISTED)
    daemon.alert(BYSTANDER[4])
    [name] = [name for name, text in DAMAGE.items() if text == damage]
    survived(name, seconds=took)


def test_a_rule_deleted_by_its_handle_is_restored(lab: Lab, daemon: Sentry) -> None:
    shape = _shape(lab)
    listing = lab.nft("-a", "list chain inet sentryfw blocked_early")
    [handle] = [line.split()[-1] for line in listing.splitlines() if "@block4" in line]
    lab.nft(f"delete rule inet sentryfw blocked_early handle {handle}")
    took = _repair_time(lab, lambda: _shape(lab) == shape, "the rule is restored")
    assert took < REPAIR_LIMIT_S
    survived("a rule deleted", seconds=took)


def test_partners_survive_a_flush(lab: Lab, daemon: Sentry) -> None:
    lab.listen()
    lab.make_partner(BYSTANDER[4])
    daemon.ask(do="reconcile")
    wait_for(lambda: daemon.status()["reconciled"]["runs"] == 2, "reconciled")
    lab.nft("flush ruleset")
    wait_for(lambda: daemon.status()["healed"]["count"] == 1, "repaired")
    assert lab.elements("partner4") == {BYSTANDER[4]}


def test_a_block_deleted_through_nft_is_unblocked(lab: Lab, daemon: Sentry) -> None:
    _block_some(lab, daemon)
    lab.nft(f"delete element inet sentryfw block4 {{ {ATTACKER[4]} }}")
    [note] = wait_for(lambda: _notes(daemon, "unblocked"), "the event")
    assert (note["by"], note["addresses"]) == ("nft", [ATTACKER[4]])
    daemon.ask(do="reconcile")
    wait_for(lambda: daemon.status()["reconciled"]["runs"] == 2, "reconciled")
    assert not lab.is_blocked(ATTACKER[4])
    assert daemon.status()["reconciled"]["restored"] == 0
    with Ledger(daemon.settings.paths.ledger) as ledger:
        query = "SELECT unblocked_at FROM blocks WHERE address = ?"
        wait_for(lambda: ledger.database.read(query, (ATTACKER[4],))[-1][0], "recorded")
    daemon.stop()
    daemon.start()
    assert not lab.is_blocked(ATTACKER[4])
    lab.probe(ATTACKER[4], *UNLISTED)
    wait_for(lambda: lab.is_blocked(ATTACKER[4]), "judged again")


def test_a_network_deleted_through_nft_is_unblocked(lab: Lab, daemon: Sentry) -> None:
    _block_some(lab, daemon)
    lab.nft(f"delete element inet sentryfw block_net4 {{ {NET} }}")
    [note] = wait_for(lambda: _notes(daemon, "unblocked"), "the event")
    assert note["addresses"] == [NET]
    lab.nft("flush ruleset")
    wait_for(lambda: daemon.status()["healed"]["count"] == 1, "repaired")
    assert _elements(lab, "block_net4") == []
    assert len(_blocks(lab)) == MANY + 2


def test_a_rule_that_an_operator_added_is_kept(lab: Lab, daemon: Sentry) -> None:
    lab.nft("insert rule inet sentryfw divert_input tcp dport 7001 accept")
    lab.nft("add element inet sentryfw listed_tcp { 7002 }")
    lab.probe(ATTACKER[4], 7001, 7002, 7003)
    wait_for(lambda: lab.count("judged") == 1, "one of three is judged")
    daemon.ask(do="reconcile")
    wait_for(lambda: daemon.status()["reconciled"]["runs"] == 2, "reconciled")
    assert "dport 7001" in lab.nft("list chain inet sentryfw divert_input")
    assert daemon.status()["healed"] == {"count": 0}


def test_repairs_and_the_live_never_block_list_agree(lab: Lab, daemon: Sentry) -> None:
    """A repair restores the present list, not that of the start."""
    own = "198.18.0.77"

    def is_listed() -> bool:
        return own in lab.nft("list set inet sentryfw never_block4")

    lab.victim.ip("address", "add", f"{own}/24", "dev", INTERFACE)
    wait_for(is_listed, "never blocked")
    lab.nft("flush ruleset")
    wait_for(lambda: daemon.status()["healed"]["count"] == 1, "repaired")
    wait_for(is_listed, "never blocked still")
    lab.victim.ip("address", "del", f"{own}/24", "dev", INTERFACE)
    wait_for(lambda: not is_listed(), "removed from the list")
    lab.nft("flush chain inet sentryfw judge")
    wait_for(lambda: daemon.status()["healed"]["count"] == 2, "repaired again")
    assert not is_listed()


def test_repeated_damage_raises_the_alarm_and_delays_repairs(lab: Lab, daemon: Sentry) -> None:
    for times in range(1, 4):
        lab.nft("flush ruleset")
        wait_for(lambda: daemon.status()["healed"]["count"] == times, "repaired")  # noqa: B023
    lab.nft("flush ruleset")
    [alarm] = wait_for(lambda: _notes(daemon, "alarm"), "the alarm")
    assert (alarm["heals"], alarm["by"], alarm["next_repair_in_s"]) == (3, "nft", 1)
    wait_for(lambda: daemon.status()["healed"]["count"] == 4, "repaired after the delay")
    assert "ALARM: the table was repaired 3 times in a minute" in daemon.log()


@pytest.mark.parametrize("state", ["running", "hung"])
def test_an_uninstalled_table_is_not_restored(lab: Lab, daemon: Sentry, state: str) -> None:
    process = daemon.process
    if state == "hung":
        process.send_signal(signal.SIGSTOP)
    done = lab.victim.run(daemon.command[0].parent / "sentryfw", "-c", daemon.config, "uninstall")
    assert done.returncode == 0, done.stderr
    assert process.wait(10) == (-signal.SIGKILL if state == "hung" else 0)
    daemon.process = None
    assert lab.nft("list ruleset") == ""


def test_a_table_updated_by_install_is_not_repaired(lab: Lab, daemon: Sentry) -> None:
    with daemon.config.open("a") as file:
        file.write("[watch]\nlisted_tcp = [7001]\n")
    done = lab.victim.run(
        daemon.command[0].parent / "sentryfw", "-c", daemon.config, "install", "--no-service"
    )
    assert done.returncode == 0, done.stderr
    daemon.ask(do="reconcile")
    wait_for(lambda: daemon.status()["reconciled"]["runs"] == 2, "reconciled")
    assert lab.elements("listed_tcp") == {7001}
    lab.nft("flush ruleset")
    wait_for(lambda: daemon.status()["healed"]["count"] == 1, "repaired")
    assert lab.elements("listed_tcp") == {7001}


def test_commands_during_a_repair_are_not_lost(lab: Lab, daemon: Sentry) -> None:
    """Commands and a repairing daemon take turns."""
    _block_some(lab, daemon)
    sentryfw = daemon.command[0].parent / "sentryfw"
    words = [
        ["unblock", "100.64.0.7"], ["block", "100.65.0.1", "--timeout", "1h"],
        ["unblock", NET], ["block", "198.51.100.0/24"],
    ]  # fmt: skip
    commands = [lab.victim.popen([sentryfw, "-c", daemon.config, *line]) for line in words]
    lab.nft("flush ruleset")
    for command in commands:
        assert command.wait(20) == 0, command.communicate()
    wait_for(lambda: daemon.status()["healed"]["count"] >= 1, "repaired")
    daemon.ask(do="reconcile")
    wait_for(lambda: daemon.status()["reconciled"]["runs"] >= 2, "reconciled")
    blocks = _blocks(lab)
    assert "100.64.0.7" not in blocks
    assert NET not in blocks
    assert {"100.65.0.1", "198.51.100.0/24"} <= blocks.keys()
    assert len(blocks) == MANY + 3
    survived("four commands at once while the table is flushed")
