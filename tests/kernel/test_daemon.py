"""The daemon's life: blocks without it, state across restarts, and refusals to start."""

import errno
import signal
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

import pytest

from sentryfw.errors import NotRunning
from sentryfw.netfilter.lock import TableLock
from sentryfw.netfilter.packet_queue import PacketQueue
from sentryfw.record.ledger import Ledger
from support.lab import ATTACKER, BYSTANDER, UNLISTED, VICTIM, Lab, Sentry, drain, waiting_packets
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

MakeDaemon = Callable[[str], Sentry]
both_families = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
FOREIGN: Final = """
table inet sentryfw {
    comment "somebody else's"
    chain input { type filter hook input priority filter; tcp dport 1 drop; }
}
"""


def _fails_to_start(sentry: Sentry) -> str:
    """Return the log of a start that ends in exit code 1."""
    process = sentry.launch()
    assert process.wait(20) == 1, sentry.log()
    return sentry.log()


def _block_attacker(lab: Lab, daemon: Sentry) -> None:
    lab.probe(ATTACKER[4], *UNLISTED)
    daemon.alert(ATTACKER[4])
    with Ledger(daemon.settings.paths.ledger) as ledger:
        wait_for(lambda: ledger.latest_blocks([ATTACKER[4]]), "the block is in the ledger")


@pytest.mark.parametrize("end", [Sentry.stop, Sentry.kill], ids=["SIGTERM", "kill-9"])
def test_without_the_daemon_the_host_answers_and_blocks_stay(
    lab: Lab, daemon: Sentry, end: Callable[[Sentry], None]
) -> None:
    lab.listen()
    _block_attacker(lab, daemon)
    end(daemon)
    assert not lab.answers(ATTACKER[4])
    assert lab.answers(BYSTANDER[4])
    client = lab.start_opening(BYSTANDER[4])
    client.settimeout(5)
    assert client.connect_ex((VICTIM[4], UNLISTED[0])) == errno.ECONNREFUSED


@pytest.mark.parametrize("end", [Sentry.stop, Sentry.kill], ids=["SIGTERM", "kill-9"])
def test_a_restarted_daemon_keeps_blocks_and_remembers_offences(
    lab: Lab, daemon: Sentry, end: Callable[[Sentry], None]
) -> None:
    _block_attacker(lab, daemon)
    [before] = lab.table.sets.blocked_sources()
    end(daemon)
    daemon.start()
    [after] = lab.table.sets.blocked_sources()
    assert after.address == ATTACKER[4]
    assert 0 < after.expires <= before.expires
    lab.nft("flush set inet sentryfw block4")
    lab.probe(ATTACKER[4], *UNLISTED)
    wait_for(lambda: len(daemon.alerts(ATTACKER[4])) == 2, "a second block")
    assert daemon.alert(ATTACKER[4])["sentryfw"]["offence"] == 2


@both_families
@pytest.mark.parametrize("end", [Sentry.stop, Sentry.kill], ids=["SIGTERM", "kill-9"])
def test_evidence_below_the_trigger_survives_a_restart(
    lab: Lab, daemon: Sentry, end: Callable[[Sentry], None], family: int
) -> None:
    """The restart falls between the second probe and the third."""
    started = time.time()
    lab.probe(ATTACKER[family], *UNLISTED[:2])
    with Ledger(daemon.settings.paths.ledger) as ledger:
        wait_for(lambda: len(ledger.probes(started - 1)) == 2, "both probes are in the ledger")
    end(daemon)
    daemon.start()
    assert daemon.status()["tracked_sources"] == 1
    lab.probe(BYSTANDER[family], UNLISTED[2])
    lab.probe(ATTACKER[family], UNLISTED[2])
    event = daemon.alert(ATTACKER[family])["sentryfw"]
    assert (event["targets"], event["offence"]) == (3, 1)
    assert {text.split("/")[1] for text in event["sample"]} == {str(port) for port in UNLISTED}
    assert started - 1 < datetime.fromisoformat(event["first_seen"]).timestamp() < time.time()
    assert not lab.is_blocked(BYSTANDER[family])


def test_evidence_that_ended_in_a_block_is_not_restored(lab: Lab, daemon: Sentry) -> None:
    _block_attacker(lab, daemon)
    daemon.kill()
    with Ledger(daemon.settings.paths.ledger) as ledger:
        ledger.unblocked(None, time.time())  # as `sentryfw unblock --all` does
    lab.nft("flush set inet sentryfw block4")
    daemon.start()
    assert daemon.status()["tracked_sources"] == 0
    lab.probe(ATTACKER[4], *UNLISTED[:2])
    wait_for(lambda: daemon.status()["engine"].get("syn") == 2, "two probes are judged")
    assert not lab.is_blocked(ATTACKER[4])


def test_a_restarted_daemon_keeps_partners_and_counters(lab: Lab, daemon: Sentry) -> None:
    lab.listen()
    lab.make_partner(BYSTANDER[4])
    lab.probe(ATTACKER[4], UNLISTED[0])
    wait_for(lambda: lab.count("judged") == 1, "judged")
    daemon.stop()
    daemon.start()
    assert lab.elements("partner4") == {BYSTANDER[4]}
    assert lab.count("judged") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_a_signal_ends_the_daemon_in_order(daemon: Sentry, number: signal.Signals) -> None:
    daemon.stop(number)
    notes = [e["sentryfw"]["event"] for e in daemon.events() if e["event_type"] == "sentryfw"]
    assert notes == ["start", "stop"]
    assert not daemon.settings.paths.control.exists()
    with pytest.raises(NotRunning):
        daemon.status()


def test_the_control_socket_ends_the_daemon(daemon: Sentry) -> None:
    assert daemon.ask(do="stop") == {}
    assert daemon.process.wait(5) == 0


def test_the_status_names_the_way_into_the_queue(lab: Lab, daemon: Sentry) -> None:
    status = daemon.status()
    listed = lab.victim.run("nft", "--debug=netlink", "list", "chain", "inet", "sentryfw", "judge")
    words = {"queue": "[ queue num 5277 bypass ]", "xt-nfqueue": "[ target name NFQUEUE rev 3 ]"}
    assert words[status["divert"]] in listed.stdout
    assert status["queue"]["number"] == 5277
    assert (status["queue"]["failures"], status["lost_records"]) == (0, 0)


def test_its_files_are_for_its_owner(daemon: Sentry) -> None:
    paths = daemon.settings.paths
    modes = {
        path.name: f"{path.stat().st_mode & 0o7777:o}"
        for path in (paths.control, paths.lock, paths.ledger, paths.events, paths.state)
    }
    assert modes.pop("control.sock") == "600"
    assert modes.pop("state") == "750"
    assert modes.pop(paths.lock.name) == "600"  # a reader could hold it
    assert set(modes.values()) == {"640"}


def test_a_second_daemon_is_refused(lab: Lab, daemon: Sentry) -> None:
    pid = daemon.process.pid
    second = lab.victim.run(*daemon.command)
    assert second.returncode == 1
    assert f"another sentryfwd is running (pid {pid})" in second.stderr
    assert daemon.status()["pid"] == pid
    lab.probe(ATTACKER[4], *UNLISTED)
    daemon.alert(ATTACKER[4])


def test_a_queue_number_that_is_taken_is_reported(lab: Lab, make_daemon: MakeDaemon) -> None:
    taken = lab.victim.call(lambda: PacketQueue(77, 64, lambda _: None))
    try:
        log = _fails_to_start(make_daemon("[queue]\nnumber = 77"))
    finally:
        taken.close()
    assert "queue 77 is bound by another program" in log
    assert "Traceback" not in log


def test_a_foreign_table_is_refused_and_left_alone(lab: Lab, make_daemon: MakeDaemon) -> None:
    lab.nft(FOREIGN)
    before = lab.nft("list ruleset")
    log = _fails_to_start(make_daemon(""))
    assert "a table inet sentryfw that SentryFW did not make" in log
    assert "somebody else's" in log
    assert "Traceback" not in log
    assert lab.nft("list ruleset") == before


def test_a_wrong_configuration_is_reported_with_every_fault(
    lab: Lab, make_daemon: MakeDaemon
) -> None:
    sentry = make_daemon("")
    with sentry.config.open("a") as file:
        file.write("[detect]\ntriger = 3\n[queue]\nnumber = 70000\n")
    process = sentry.launch()
    assert process.wait(20) == 78
    assert "detect.triger: unknown key, did you mean 'trigger'?" in sentry.log()
    assert "queue.number: " in sentry.log()
    assert lab.nft("list ruleset") == ""


def test_a_lost_event_file_does_not_stop_the_blocking(lab: Lab, make_daemon: MakeDaemon) -> None:
    """The event file lies on a full disk."""
    sentry = make_daemon("")
    log = sentry.settings.paths.log
    log.mkdir()
    (log / "events.json").touch()
    full = "mount --bind /dev/full {path}/events.json && exec {command}"
    shell = full.format(path=log, command=" ".join(map(str, sentry.command)))
    sentry.command = ["unshare", "--mount", "sh", "-c", shell]
    sentry.start()
    lab.probe(ATTACKER[4], *UNLISTED)
    wait_for(lambda: lab.is_blocked(ATTACKER[4]), "blocked")
    drain(sentry)
    wait_for(lambda: sentry.status()["lost_records"] >= 2, "the loss is counted")
    assert "event file: [Errno 28] No space left on device" in sentry.log()
    with Ledger(sentry.settings.paths.ledger) as ledger:
        wait_for(lambda: ledger.latest_blocks([ATTACKER[4]]), "the block is in the ledger")


def test_the_daemon_stops_in_time_in_a_flood(lab: Lab, daemon: Sentry) -> None:
    """The daemon is stopped while the queue fills; thousands wait when the signal comes."""
    daemon.process.send_signal(signal.SIGSTOP)
    lab.flood(15_000, UNLISTED[0])
    assert waiting_packets(lab.victim) > 2_000
    daemon.process.send_signal(signal.SIGCONT)
    daemon.stop()
    assert waiting_packets(lab.victim) == 0


def test_packets_are_held_while_the_daemon_starts(lab: Lab, daemon: Sentry) -> None:
    """Nothing passes unjudged between the queue's binding and the end of the restore."""
    daemon.stop()
    lock = TableLock(daemon.settings.paths.runtime)
    assert lock.take()  # the daemon waits for it before it makes the table
    try:
        daemon.process = daemon.launch()
        queues = ("cat", "/proc/net/netfilter/nfnetlink_queue")
        wait_for(lambda: lab.victim.run(*queues).stdout, "the queue is bound", 20)
        lab.probe(ATTACKER[4], *UNLISTED)
        wait_for(lambda: waiting_packets(lab.victim) == len(UNLISTED), "held")
        with pytest.raises(NotRunning):
            daemon.status()
    finally:
        lock.release()
    wait_for(daemon._is_ready, "the daemon answers", 20)
    assert daemon.alert(ATTACKER[4])["alert"]["action"] == "blocked"
