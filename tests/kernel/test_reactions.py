"""Reactions of the real daemon: they follow a block, may fail, and never delay a verdict."""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from sentryfw.record.ledger import Ledger
from sentryfw.record.records import Reaction
from support import origins
from support.frames import tcp_frame, udp_frame
from support.https import HttpsServer
from support.lab import ATTACKER, BYSTANDER, UNLISTED, VICTIM, Lab, Sentry, drain
from support.reactions import SilentServer, SmtpServer, make_certificate
from support.waiting import wait_for, wait_for_text

pytestmark = [pytest.mark.netns]

StartDaemon = Callable[[str], Sentry]
TRIGGER_1: Final = "[detect]\ntrigger = 1\n"


def _quoted(value: object) -> str:
    return json.dumps(str(value))


def _deny(path: Path) -> str:
    return f"[respond.hosts_deny]\nenabled = true\npath = {_quoted(path)}\n"


def _command(argv: list[str], more: str = "") -> str:
    return f"[respond.command]\nargv = {json.dumps(argv)}\n{more}\n"


def _reactions(daemon: Sentry, address: str) -> list[Reaction]:
    with Ledger(daemon.settings.paths.ledger) as ledger:
        return ledger.reactions(address)


def _cli(lab: Lab, daemon: Sentry, *words: str) -> str:
    command = [sys.executable, "-P", "-m", "sentryfw", "-c", daemon.config, *words]
    done = lab.victim.run(*command)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if not line.startswith("#")]


def test_the_origin_of_a_block_follows_as_an_event_and_is_in_the_mail(
    lab: Lab, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    """The daemon opens no database: a process of its own is asked, after the block."""
    files = origins.write_mmdb(
        tmp_path / "both.mmdb", {f"{ATTACKER[4]}/32": {**origins.GERMAN, **origins.SYSTEM}}
    )
    with SmtpServer(lab.victim) as server:
        mail = f'[respond.mail]\nto = ["a@example.org"]\nhost = "127.0.0.1"\nport = {server.port}\n'
        daemon = start_daemon(f"{TRIGGER_1}[geo]\ndatabases = [{_quoted(files)}]\n{mail}")
        lab.probe(ATTACKER[4], UNLISTED[0])
        daemon.alert(ATTACKER[4])
        [event] = wait_for(lambda: _origins(daemon), "the event")
        assert (event["src_ip"], event["sentryfw"]["address"]) == (ATTACKER[4], ATTACKER[4])
        assert event["source"]["geo"] == {"country_iso_code": "DE"}
        assert event["source"]["as"]["number"] == 64500
        wait_for(lambda: server.mails, "the mail")
    assert "[DE, AS64500 Example Net]" in server.mails[0].replace("\r\n", "\n").replace("\n", " ")
    pid = daemon.process.pid
    assert "both.mmdb" not in Path(f"/proc/{pid}/maps").read_text()
    assert "maxminddb" not in Path(f"/proc/{pid}/maps").read_text()


def _origins(daemon: Sentry) -> list[dict[str, Any]]:
    """Return the events about origins."""
    return [event for event in daemon.events() if event["sentryfw"].get("event") == "origin"]


@pytest.mark.parametrize("family", [4, 6])
def test_every_reaction_follows_a_block(
    lab: Lab, start_daemon: StartDaemon, tmp_path: Path, family: int
) -> None:
    deny, said, history = (tmp_path / name for name in ("hosts.deny", "said", "history"))
    deny.write_text("ALL: PARANOID")
    code = f'echo "$1 $2 $3 $SENTRYFW_ADDRESS" >> {said}'
    daemon = start_daemon(
        _deny(deny)
        + _command(["/bin/sh", "-c", code, "x", "{ip}", "{port}", "{mode}"])
        + "[respond.route]\nenabled = true\n"
        + f'[respond.history]\nformat = "portsentry1"\npath = {_quoted(history)}\n'
    )
    address = ATTACKER[family]
    name = address if family == 4 else "2001:2:0:1::/64"
    lab.probe(address, *UNLISTED)
    daemon.alert(address)
    wait_for(lambda: len(_reactions(daemon, name)) == 3, "three reactions in the ledger")
    assert {(r.reaction, r.ok) for r in _reactions(daemon, name)} == {
        ("command", True), ("hosts_deny", True), ("route", True),
    }  # fmt: skip
    assert said.read_text() == f"{address} {UNLISTED[-1]} atcp {name}\n"
    told = json.loads(_cli(lab, daemon, "explain", address, "--json"))["reactions"]
    assert {r["reaction"] for r in told if r["ok"]} == {"command", "hosts_deny", "route"}
    counted = json.loads(_cli(lab, daemon, "status", "--json"))["reactions"]
    assert counted["route"] == {"done": 1, "failed": 0, "waiting": 0}
    written = f"[{name[:-3]}]/64" if family == 6 else name
    assert _lines(deny) == ["ALL: PARANOID", f"ALL: {written}"]
    route = lab.victim.ip(f"-{family}", "route", "show", "proto", "83")
    assert route.startswith(f"blackhole {name}")
    tail = f"/{address} Port: {UNLISTED[-1]} TCP Blocked\n"
    wait_for(lambda: history.exists() and history.read_text().endswith(tail), "a history line")
    events = [e["sentryfw"]["reaction"] for e in daemon.events() if "reaction" in e["sentryfw"]]
    assert sorted(events) == ["command", "hosts_deny", "route"]


def test_a_failed_reaction_is_recorded_and_the_block_stays(
    lab: Lab, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon(_command(["/nonexistent/x"]) + _deny(tmp_path / "no" / "hosts.deny"))
    lab.probe(ATTACKER[4], *UNLISTED)
    assert daemon.alert(ATTACKER[4])["alert"]["action"] == "blocked"
    wait_for(lambda: len(_reactions(daemon, ATTACKER[4])) == 2, "both in the ledger")
    found = {r.reaction: (r.ok, r.detail) for r in _reactions(daemon, ATTACKER[4])}
    assert found["command"] == (False, "/nonexistent/x: No such file or directory")
    assert found["hosts_deny"][0] is False
    events = [e["sentryfw"] for e in daemon.events() if e["event_type"] == "sentryfw"]
    failed = {e["reaction"] for e in events if e["event"] == "reaction-failed"}
    assert failed == {"command", "hosts_deny"}
    assert f"command to {ATTACKER[4]} failed: /nonexistent/x: No such file" in daemon.log()
    assert lab.is_blocked(ATTACKER[4])
    assert daemon.status()["reactions"]["command"] == {"done": 0, "failed": 1, "waiting": 0}


# --- reactions that last as long as the block


def test_lines_and_routes_end_with_the_timeout(
    lab: Lab, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    deny = tmp_path / "hosts.deny"
    daemon = start_daemon(
        _deny(deny) + "[respond.route]\nenabled = true\n[block]\ntimeouts = [1]\n"
    )
    lab.probe(ATTACKER[4], *UNLISTED)
    daemon.alert(ATTACKER[4])
    wait_for(lambda: deny.exists() and _lines(deny), "a line")
    wait_for(lambda: not _lines(deny), "no line")
    wait_for(lambda: not lab.victim.ip("route", "show", "proto", "83"), "no route")
    assert not lab.is_blocked(ATTACKER[4])


@pytest.mark.parametrize("running", [True, False], ids=["daemon-runs", "daemon-is-down"])
def test_unblock_removes_line_and_route(
    lab: Lab,
    start_daemon: StartDaemon,
    tmp_path: Path,
    running: bool,  # noqa: FBT001 - of the table
) -> None:
    deny = tmp_path / "hosts.deny"
    daemon = start_daemon(_deny(deny) + "[respond.route]\nenabled = true\n")
    for family in (4, 6):
        lab.probe(ATTACKER[family], *UNLISTED)
        daemon.alert(ATTACKER[family])

    def routes() -> str:
        return "".join(lab.victim.ip(f"-{n}", "route", "show", "proto", "83") for n in (4, 6))

    wait_for(lambda: deny.exists() and len(_lines(deny)) == 2, "both lines")
    wait_for(lambda: routes().count("blackhole") == 2, "both routes")
    if not running:
        daemon.stop()
    _cli(lab, daemon, "unblock", ATTACKER[6])
    wait_for(lambda: _lines(deny) == [f"ALL: {ATTACKER[4]}"], "one line left")
    wait_for(lambda: "2001" not in routes(), "one route left")
    _cli(lab, daemon, "unblock", "--all")
    wait_for(lambda: not _lines(deny) and not routes(), "nothing left")


def test_a_block_by_hand_has_a_line_until_it_ends(
    lab: Lab, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    deny = tmp_path / "hosts.deny"
    daemon = start_daemon(_deny(deny))
    _cli(lab, daemon, "block", "203.0.113.9", "--timeout", "1s")
    wait_for(lambda: deny.exists() and _lines(deny) == ["ALL: 203.0.113.9"], "the line")
    wait_for(lambda: not _lines(deny), "no line")


def test_uninstall_removes_lines_and_routes(
    lab: Lab, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    deny = tmp_path / "hosts.deny"
    deny.write_text("ALL: PARANOID\n")
    daemon = start_daemon(_deny(deny) + "[respond.route]\nenabled = true\n")
    lab.probe(ATTACKER[4], *UNLISTED)
    daemon.alert(ATTACKER[4])
    wait_for(lambda: len(_lines(deny)) == 2, "a line")
    wait_for(lambda: lab.victim.ip("route", "show", "proto", "83"), "a route")
    daemon.stop()
    _cli(lab, daemon, "uninstall")
    assert deny.read_text() == "ALL: PARANOID\n"
    assert not lab.victim.ip("route", "show", "proto", "83")


def test_lines_after_a_restart_are_those_of_active_blocks(
    lab: Lab, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    """One line belongs to a block that has ended, and one is missing."""
    deny = tmp_path / "hosts.deny"
    daemon = start_daemon(_deny(deny))
    lab.probe(ATTACKER[4], *UNLISTED)
    daemon.alert(ATTACKER[4])
    live, gone = f"ALL: {ATTACKER[4]}\n", "ALL: 198.18.0.99\n"
    wait_for(lambda: deny.exists() and live in deny.read_text(), "the line")
    daemon.kill()
    deny.write_text(deny.read_text().replace(live, gone))
    daemon.start()
    wait_for(lambda: _lines(deny) == [live.strip()], "as the kernel has it")


def test_a_source_unblocked_with_nft_loses_its_line(
    lab: Lab, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    deny = tmp_path / "hosts.deny"
    daemon = start_daemon(_deny(deny))
    lab.probe(ATTACKER[6], *UNLISTED)
    daemon.alert(ATTACKER[6])
    wait_for(lambda: deny.exists() and _lines(deny), "the line")
    lab.nft("delete element inet sentryfw block6 { 2001:2:0:1:: }")
    wait_for(lambda: not _lines(deny), "no line")


# --- block levels


def test_observed_udp_makes_no_element_and_tcp_still_blocks(
    lab: Lab, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon('[block]\nudp = "observe"\n')
    lab.wire.send(*(udp_frame(lab.ether, ATTACKER[4], VICTIM[4], 40000, port) for port in UNLISTED))
    assert daemon.alert(ATTACKER[4], "allowed")["sentryfw"]["reason"] == "observe"
    assert not lab.is_blocked(ATTACKER[4])
    lab.probe(BYSTANDER[4], *UNLISTED)
    daemon.alert(BYSTANDER[4])
    assert lab.is_blocked(BYSTANDER[4])


def test_level_command_runs_the_command_and_blocks_no_source(
    lab: Lab, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    command = _command(["/bin/sh", "-c", f"echo {{action}} {{ip}} {{port}} >> {said}"])
    daemon = start_daemon('[block]\ntcp = "command"\n' + command)
    lab.probe(ATTACKER[4], *UNLISTED)
    assert daemon.alert(ATTACKER[4], "allowed")["sentryfw"]["reason"] == "command"
    assert wait_for_text(said, "the command") == f"refused {ATTACKER[4]} {UNLISTED[-1]}\n"
    assert not lab.is_blocked(ATTACKER[4])


# --- latency


def _latencies(lab: Lab, daemon: Sentry, network: int, count: int) -> list[float]:
    """Return seconds from probe to acknowledged block, for new sources; all are in the ledger."""
    sent: dict[str, float] = {}
    for number in range(count):
        address = f"203.0.{network}.{number + 1}"
        frame = tcp_frame(lab.ether, address, VICTIM[4], 40000, 7001)
        sent[address] = time.time()
        lab.wire.send(frame)
        time.sleep(0.01)
    drain(daemon)

    def entries() -> dict[str, Any]:
        with Ledger(daemon.settings.paths.ledger) as ledger:
            found = ledger.latest_blocks(sent)
        return found if len(found) == count else {}

    blocked = wait_for(entries, "every block is in the ledger")
    return [blocked[address].blocked_at - at for address, at in sent.items()]


@pytest.mark.serial
def test_hanging_reactions_delay_no_verdict_and_lose_no_block(
    lab: Lab, make_daemon: StartDaemon
) -> None:
    """The command sleeps for a minute, the mail server accepts connections and does not answer, and
    the syslog server does not read: 200 blocks are acknowledged as soon as without them."""
    plain = make_daemon(TRIGGER_1).start()
    _latencies(lab, plain, 100, 20)  # warm
    without = statistics.median(_latencies(lab, plain, 101, 200))
    plain.stop()
    with SilentServer(lab.victim) as server:
        place = f'host = "127.0.0.1"\nport = {server.port}\n'
        hanging = make_daemon(
            TRIGGER_1
            + _command(["/bin/sleep", "60"], 'timeout = "1m"')
            + f'[respond.mail]\nto = ["a@example.org"]\n{place}'
            + f'[respond.syslog]\ntransport = "tcp"\n{place}'
            + '[respond.dns]\nenabled = true\nservers = ["127.0.0.1"]\nport = 9\n'
        ).start()
        _latencies(lab, hanging, 102, 20)
        with_them = statistics.median(_latencies(lab, hanging, 103, 200))
        reactions = hanging.status()["reactions"]
        hanging.stop()  # also within a second
    print(f"without {without * 1000:.2f} ms, with {with_them * 1000:.2f} ms")
    assert reactions["command"]["waiting"] >= 200
    assert reactions["mail"]["done"] == 0
    assert with_them < 2 * without + 0.001


def test_background_processes_of_a_command_end_with_the_daemon(
    lab: Lab, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon(TRIGGER_1 + _command(["/bin/sleep", "61"], 'timeout = "2m"'))

    def sleepers() -> str:
        return lab.victim.run("pgrep", "-fx", "/bin/sleep 61").stdout

    lab.probe(ATTACKER[4], 7001)
    daemon.alert(ATTACKER[4])
    wait_for(sleepers, "it runs")
    daemon.stop()
    wait_for(lambda: not sleepers(), "it is gone")


def test_a_proven_block_is_sent_at_once_and_recorded(
    lab: Lab, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    certificate = make_certificate(tmp_path)
    with lab.victim.call(lambda: HttpsServer(certificate)) as server:
        daemon = start_daemon(
            "[decoy]\ntcp = [7400]\n"
            f"[[respond.webhook]]\nurl = {_quoted(server.url())}\n"
            f"ca = {_quoted(certificate.certificate)}\n"
        )
        visitor = lab.open(ATTACKER[4], 7400)
        daemon.alert(ATTACKER[4])
        wait_for(lambda: server.received, "sent", 20)
        [received] = server.received
        assert received.json["urgent"]
        assert [item["forgeable"] for item in received.json["incidents"]] == [False]
        wait_for(lambda: _reactions(daemon, ATTACKER[4]), "in the ledger")
        [result] = _reactions(daemon, ATTACKER[4])
        assert (result.reaction, result.ok) == ("webhook", True)
        visitor.close()
