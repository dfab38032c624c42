"""The system tests of PortSentry 2.x, each with its number, and what they do not test.

Every test starts from a portsentry.conf that is imported. "Block" means more here than there: the
element is in the kernel, and the next packets of the source are dropped and counted.
"""

import re
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import pytest

from sentryfw.record.ledger import Ledger
from support.frames import ACK, FIN, SYN, udp_frame
from support.lab import ATTACKER, BYSTANDER, LISTED, VICTIM, Lab, Sentry, drain
from support.portsentry import BLOCK, SYSTEM_TESTS, Moved, move, told_by
from support.waiting import wait_for, wait_for_text

pytestmark = [pytest.mark.netns, pytest.mark.peers]

Start = Callable[[str], Sentry]
PORT: Final = 11
STEALTH: Final = "stealth"
CONNECT: Final = "connect"


def _cases(*rows: tuple[str, ...]) -> Any:
    """Return parameters whose first column is the number of PortSentry's test."""
    names = ",".join(f"p{index}" for index in range(len(rows[0])))
    return pytest.mark.parametrize(
        names, rows, ids=[f"{row[0]} {SYSTEM_TESTS[row[0]][0]}" for row in rows]
    )


def _probe(lab: Lab, how: str, source: str, port: int = PORT) -> None:
    """Send one probe, as the runner of PortSentry's tests does."""
    target = VICTIM[ip_address(source).version]
    if how == "udp":
        lab.udp(source).sendto(b"probe", (target, port))
    elif how == "connect":
        client = lab.start_opening(source)
        client.connect_ex((target, port))
    else:
        lab.probe(source, port)


def _assert_block_cycle(lab: Lab, moved: Moved, how: str, source: str, kind: str) -> None:
    """Check the alert, the history, the block in the kernel, and that it drops a second probe."""
    event = moved.daemon.alert(source, "blocked")
    assert event["sentryfw"]["sample"][-1].endswith(f"{'udp' if how == 'udp' else 'tcp'}/{PORT}")
    (line,) = moved.wait_for_history(1)
    protocol = "UDP" if how == "udp" else "TCP"
    assert f"Scan from: [{source}] ({source}) protocol: [{protocol}] port: [{PORT}]" in line
    assert f"type: [{kind}]" in line
    assert line.endswith("noblock: [false] blocked: [true]")
    assert lab.is_blocked(source)
    before = lab.dropped(source)
    _probe(lab, how, source)
    wait_for(lambda: lab.dropped(source) > before, "the next probe is dropped in the kernel")
    drain(moved.daemon)
    assert len(moved.history()) == 1
    assert len(moved.daemon.alerts(source)) == 1


# --- 001-004: connect mode, and the banner


@_cases(("001", "connect", "udp", "Connect"), ("002", "udp", "connect", "UDP"))
def test_connect_mode(
    lab: Lab, start_daemon: Start, tmp_path: Path, p0: str, p1: str, p2: str, p3: str
) -> None:
    moved = move(start_daemon, tmp_path, BLOCK, mode=CONNECT)
    _probe(lab, p1, ATTACKER[4])
    _assert_block_cycle(lab, moved, p1, ATTACKER[4], p3)
    before = lab.dropped(ATTACKER[4])
    _probe(lab, p2, ATTACKER[4])
    _probe(lab, p2, ATTACKER[4])
    wait_for(lambda: lab.dropped(ATTACKER[4]) >= before + 2, "the other protocol is dropped too")
    _probe(lab, p2, BYSTANDER[4])
    assert moved.daemon.alert(BYSTANDER[4])["dest_port"] == PORT


@_cases(("003",))
def test_the_banner_of_a_connection(lab: Lab, start_daemon: Start, tmp_path: Path, p0: str) -> None:
    conf = f'{BLOCK}PORT_BANNER="** UNAUTHORIZED ACCESS **"\n'
    moved = move(start_daemon, tmp_path, conf, mode=CONNECT)
    assert lab.open(ATTACKER[4], PORT).recv(100) == b"** UNAUTHORIZED ACCESS **"
    _assert_block_cycle(lab, moved, "connect", ATTACKER[4], "Connect")


@_cases(("004",))
def test_the_banner_of_a_datagram(lab: Lab, start_daemon: Start, tmp_path: Path, p0: str) -> None:
    conf = f'{BLOCK}PORT_BANNER="** UNAUTHORIZED ACCESS **"\n'
    moved = move(start_daemon, tmp_path, conf, mode=CONNECT)
    sender = lab.udp(ATTACKER[4])
    sender.settimeout(5)
    sender.sendto(b"probe", (VICTIM[4], PORT))
    assert sender.recv(100) == b"** UNAUTHORIZED ACCESS **"
    _assert_block_cycle(lab, moved, "udp", ATTACKER[4], "UDP")


# --- 005-008: levels


@_cases(("005", "connect", "Connect"), ("006", "udp", "UDP"))
def test_level_0_only_reports(
    lab: Lab, start_daemon: Start, tmp_path: Path, p0: str, p1: str, p2: str
) -> None:
    moved = move(start_daemon, tmp_path, 'BLOCK_TCP="0"\nBLOCK_UDP="0"\n', mode=CONNECT)
    lab.listen()
    for _ in range(2):
        _probe(lab, p1, ATTACKER[4])
    counted = "connect" if p1 == "connect" else "udp"
    wait_for(lambda: moved.daemon.status()["engine"].get(counted) == 2, "both are counted")
    (line,) = moved.wait_for_history(1)
    assert f"type: [{p2}]" in line
    assert line.endswith("noblock: [true] blocked: [false]")
    assert moved.daemon.alert(ATTACKER[4], "allowed")["sentryfw"]["reason"] == "observe"
    assert not lab.is_blocked(ATTACKER[4])
    assert lab.open(ATTACKER[4])


@_cases(("007", "connect"), ("008", "udp"))
def test_level_2_runs_the_command_only(
    lab: Lab, start_daemon: Start, tmp_path: Path, p0: str, p1: str
) -> None:
    command = told_by(lab, tmp_path)
    levels = 'BLOCK_TCP="2"\nBLOCK_UDP="2"\n'
    conf = f'{levels}KILL_RUN_CMD="{command} $TARGET$ $PORT$"\n'
    moved = move(start_daemon, tmp_path, conf, mode=CONNECT)
    _probe(lab, p1, ATTACKER[4])
    assert wait_for_text(moved.told, "the command ran") == f"{ATTACKER[4]} {PORT} free\n"
    assert not lab.is_blocked(ATTACKER[4])


# --- 009-013: trigger and reactions


@_cases(("009",))
def test_scan_trigger_2(lab: Lab, start_daemon: Start, tmp_path: Path, p0: str) -> None:
    moved = move(start_daemon, tmp_path, f'{BLOCK}SCAN_TRIGGER="2"\n', mode=STEALTH)
    _probe(lab, "syn", ATTACKER[4])
    drain(moved.daemon)
    assert moved.daemon.status()["engine"]["syn"] == 1
    assert moved.history() == []
    assert not lab.is_blocked(ATTACKER[4])
    _probe(lab, "syn", ATTACKER[4])
    _assert_block_cycle(lab, moved, "syn", ATTACKER[4], "TCP SYN/Normal scan")


@_cases(("010",))
def test_a_script_in_kill_route(lab: Lab, start_daemon: Start, tmp_path: Path, p0: str) -> None:
    conf = f'{BLOCK}KILL_ROUTE="{told_by(lab, tmp_path)} $TARGET$"\n'
    moved = move(start_daemon, tmp_path, conf, mode=STEALTH)
    _probe(lab, "syn", ATTACKER[4])
    assert wait_for_text(moved.told, "the script ran") == f"{ATTACKER[4]} blocked\n"


@_cases(("011", "0", "blocked"), ("012", "1", "free"))
def test_the_command_after_and_before_the_block(
    lab: Lab, start_daemon: Start, tmp_path: Path, p0: str, p1: str, p2: str
) -> None:
    command = told_by(lab, tmp_path)
    conf = (
        f'{BLOCK}KILL_ROUTE="/sbin/iptables -I INPUT -s $TARGET$ -j DROP"\n'
        f'KILL_RUN_CMD="{command} $TARGET$ $PORT$ $MODE$"\nKILL_RUN_CMD_FIRST="{p1}"\n'
    )
    moved = move(start_daemon, tmp_path, conf, mode=CONNECT)
    _probe(lab, "connect", ATTACKER[4])
    wait_for(lambda: lab.is_blocked(ATTACKER[4]), "blocked")
    told = wait_for_text(moved.told, "the command ran")
    words, _, is_blocked = told.strip().rpartition(" ")
    assert words == f"{ATTACKER[4]} {PORT} tcp"
    if p2 == "blocked":
        assert is_blocked == "blocked"
    # Before: it is started before, and the block does not wait for it; their order is a race.


@_cases(("013",))
def test_route_and_hosts_deny_last_as_long_as_the_block(
    lab: Lab, start_daemon: Start, tmp_path: Path, p0: str
) -> None:
    conf = (
        f'{BLOCK}KILL_ROUTE="/sbin/route add -host $TARGET$ reject"\n'
        'KILL_HOSTS_DENY="ALL: $TARGET$ : DENY"\n'
    )
    (tmp_path / "hosts.deny").write_text("# mine\n")
    moved = move(start_daemon, tmp_path, conf, mode=STEALTH)
    _probe(lab, "syn", ATTACKER[4])
    wait_for(lambda: f"ALL: {ATTACKER[4]} : DENY" in moved.deny.read_text(), "the line")
    wait_for(
        lambda: ATTACKER[4] in lab.victim.ip("route", "show", "type", "blackhole"), "the route"
    )
    _cli(lab, moved.daemon, "unblock", ATTACKER[4])
    wait_for(lambda: moved.deny.read_text() == "# mine\n", "the line is gone")
    wait_for(lambda: not lab.victim.ip("route", "show", "type", "blackhole"), "the route is gone")


# --- 014-016, 100: stealth mode


@_cases(
    ("014", "syn", "TCP SYN/Normal scan"),
    ("015", "udp", "UDP"),
    ("100", "syn", "TCP SYN/Normal scan"),
)
def test_stealth_mode(
    lab: Lab, start_daemon: Start, tmp_path: Path, p0: str, p1: str, p2: str
) -> None:
    moved = move(start_daemon, tmp_path, BLOCK, mode=STEALTH)
    _probe(lab, p1, ATTACKER[4])
    _assert_block_cycle(lab, moved, p1, ATTACKER[4], p2)


@_cases(("016",))
def test_the_host_itself_is_never_judged(
    lab: Lab, start_daemon: Start, tmp_path: Path, p0: str
) -> None:
    moved = move(start_daemon, tmp_path, BLOCK, mode=STEALTH)
    for address in ("127.0.0.1", VICTIM[4]):
        done = lab.victim.run("nmap", "-n", "-Pn", "-sT", "-p", str(PORT), address)
        assert "closed" in done.stdout
    lab.probe(VICTIM[4], PORT)  # forged with the host's own address, from outside
    _probe(lab, "syn", BYSTANDER[4])
    moved.daemon.alert(BYSTANDER[4])
    drain(moved.daemon)
    assert [block.address for block in lab.table.sets.blocked_sources()] == [BYSTANDER[4]]
    assert moved.daemon.status()["engine"]["syn"] == 1


# --- 018-021: nmap


@pytest.mark.nmap
@_cases(
    ("018", "-sS", "TCP SYN/Normal scan"),
    ("019", "-sN", "TCP NULL scan"),
    ("020", "-sX", "TCP XMAS scan"),
    ("021", "-sF", "TCP FIN scan"),
)
def test_nmaps_scans_by_name(
    lab: Lab, start_daemon: Start, tmp_path: Path, p0: str, p1: str, p2: str
) -> None:
    moved = move(start_daemon, tmp_path, BLOCK, mode=STEALTH)
    options = ["-n", "-Pn", "--max-retries", "0", "-S", ATTACKER[4], "-e", "veth0"]
    lab.attacker.run("nmap", *options, p1, "-p", str(PORT), VICTIM[4])
    _assert_block_cycle(lab, moved, "syn", ATTACKER[4], p2)
    assert [block.address for block in lab.table.sets.blocked_sources()] == [ATTACKER[4]]


# --- 023-027, 101: ports


RANGES: Final = 'TCP_PORTS="1,5-11"\nUDP_PORTS="1,7-11"\n'


@_cases(("023", CONNECT), ("024", STEALTH), ("101", STEALTH))
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_port_ranges(
    lab: Lab, start_daemon: Start, tmp_path: Path, protocol: str, p0: str, p1: str
) -> None:
    moved = move(start_daemon, tmp_path, RANGES + BLOCK, mode=p1)
    # A connection would send its SYN again a second later, and be reported again.
    how = "udp" if protocol == "udp" else "connect" if p1 == CONNECT else "syn"
    inside = (1, 5, 11) if protocol == "tcp" else (1, 7, 11)
    outside = (2, 4, 12) if protocol == "tcp" else (2, 6, 12)
    for port in outside:
        _probe(lab, how, ATTACKER[4], port)
    for count, port in enumerate(inside, 1):
        _probe(lab, how, ATTACKER[4], port)
        wait_for(lambda count=count: len(moved.daemon.alerts(ATTACKER[4])) == count, "reported")  # type: ignore[misc]
        assert moved.daemon.alerts(ATTACKER[4])[-1]["dest_port"] == port
        wait_for(lambda: lab.is_blocked(ATTACKER[4]), "blocked")
        _cli(lab, moved.daemon, "unblock", ATTACKER[4])


@_cases(("025", STEALTH), ("026", CONNECT), ("027", STEALTH))
def test_a_probe_of_another_port_is_ignored(
    lab: Lab, start_daemon: Start, tmp_path: Path, p0: str, p1: str
) -> None:
    moved = move(start_daemon, tmp_path, BLOCK, mode=p1)
    for how in ("connect", "syn", "udp"):
        _probe(lab, how, ATTACKER[4], 10)
    _probe(lab, "connect", BYSTANDER[4])
    moved.daemon.alert(BYSTANDER[4])
    assert moved.daemon.alerts(ATTACKER[4]) == []
    assert not lab.is_blocked(ATTACKER[4])


# --- 028-034: IPv6, and the ignore file


@_cases(("028", CONNECT, "Connect"), ("029", STEALTH, "TCP SYN/Normal scan"),
        ("030", STEALTH, "TCP SYN/Normal scan"))  # fmt: skip
def test_ipv6(lab: Lab, start_daemon: Start, tmp_path: Path, p0: str, p1: str, p2: str) -> None:
    moved = move(start_daemon, tmp_path, BLOCK, mode=p1)
    how = "connect" if p1 == CONNECT else "syn"
    _probe(lab, how, ATTACKER[6])
    _assert_block_cycle(lab, moved, how, ATTACKER[6], p2)
    assert [block.address for block in lab.table.sets.blocked_sources()] == ["2001:2:0:1::/64"]


@pytest.mark.parametrize("mode", [STEALTH, CONNECT])
@_cases(
    ("031", f"{ATTACKER[4]}/32"),
    ("032", ATTACKER[4]),
    ("033", f"{ATTACKER[6]}/128"),
    ("034", ATTACKER[6]),
)
def test_the_ignore_file(
    lab: Lab, start_daemon: Start, tmp_path: Path, mode: str, p0: str, p1: str
) -> None:
    moved = move(start_daemon, tmp_path, BLOCK, mode=mode, ignore=f"# friends\n{p1}\n")
    family = ip_address(p1.partition("/")[0]).version
    _assert_spared(lab, moved, family)


def _assert_spared(lab: Lab, moved: Moved, family: int) -> None:
    """Check that the attacker's probes have no effect, and the bystander's lead to a block."""
    for how in ("connect", "syn", "udp"):
        _probe(lab, how, ATTACKER[family])
        _probe(lab, how, BYSTANDER[family])
    moved.daemon.alert(BYSTANDER[family])
    drain(moved.daemon)
    assert all(not event["sentryfw"]["blocked"] for event in moved.daemon.alerts(ATTACKER[family]))
    assert not lab.is_blocked(ATTACKER[family])
    assert lab.is_blocked(BYSTANDER[family])
    assert all(ATTACKER[family] not in line for line in moved.history())


# --- behaviour that PortSentry's suite does not test


@pytest.mark.parametrize("flags", [SYN, FIN, ACK], ids=["syn", "fin", "ack"])
@pytest.mark.parametrize("mode", [STEALTH, CONNECT])
def test_packets_are_really_dropped(
    lab: Lab, start_daemon: Start, tmp_path: Path, mode: str, flags: int
) -> None:
    """Every packet of the source is dropped, also those to services; it gets no answer."""
    move(start_daemon, tmp_path, BLOCK, mode=mode)
    lab.listen()
    _probe(lab, "connect", ATTACKER[4])
    wait_for(lambda: lab.is_blocked(ATTACKER[4]), "blocked")
    lab.close_sockets()
    lab.listen()
    before = lab.dropped(ATTACKER[4])
    lab.wire.received()
    ports = (LISTED, PORT, 1, 9000)
    lab.probe(ATTACKER[4], *ports, flags=flags, sport=50000)
    lab.wire.send(udp_frame(lab.ether, ATTACKER[4], VICTIM[4], 50000, PORT))
    wait_for(lambda: lab.dropped(ATTACKER[4]) >= before + 5, "all of them are dropped")
    answers = [f for f in lab.wire.received() if f[12:14] == b"\x08\x00" and _to_port(f) == 50000]
    assert answers == []


def _to_port(frame: bytes) -> int:
    return int.from_bytes(frame[36:38])


@pytest.mark.parametrize(
    ("entry", "spared"),
    [
        ("198.18.0.200/24", True),
        ("198.18.0.0/30", True),
        ("198.18.0.0/31", False),
        ("198.18.0.100/25", True),
        ("198.18.0.200/25", False),
        ("198.18.0.200/26", False),
        ("0.0.0.0/0", False),
        ("198.18.0.2 # the scanner of the auditors\r", True),
    ],
    ids=str,
)
def test_masks_of_the_ignore_file(
    lab: Lab,
    start_daemon: Start,
    tmp_path: Path,
    entry: str,
    spared: bool,  # noqa: FBT001
) -> None:
    """Administrators write host bits; PortSentry 2.x silently never matched such a line."""
    moved = move(start_daemon, tmp_path, BLOCK, mode=STEALTH, ignore=entry)
    _probe(lab, "syn", ATTACKER[4])
    _probe(lab, "syn", "198.18.0.3")
    drain(moved.daemon)
    assert lab.is_blocked(ATTACKER[4]) is not spared


def test_a_block_ends_and_the_source_can_be_blocked_again(
    lab: Lab, start_daemon: Start, tmp_path: Path
) -> None:
    moved = move(start_daemon, tmp_path, 'BLOCK_TCP="1"\n', mode=STEALTH)
    toml = moved.daemon.config.read_text()
    moved.daemon.stop()
    moved.daemon.config.write_text(
        toml.replace("\n[block]\n", '\n[block]\ntimeouts = ["2s", "1h"]\n')
    )
    moved.daemon.start()
    lab.listen()
    _probe(lab, "syn", ATTACKER[4])
    wait_for(lambda: lab.is_blocked(ATTACKER[4]), "blocked")
    assert not lab.answers(ATTACKER[4])
    wait_for(lambda: not lab.is_blocked(ATTACKER[4]), "the block has ended")
    assert lab.answers(ATTACKER[4])
    _probe(lab, "syn", ATTACKER[4])
    wait_for(lambda: lab.is_blocked(ATTACKER[4]), "blocked again")
    wait_for(lambda: len(moved.daemon.alerts(ATTACKER[4])) == 2, "told again")
    assert moved.daemon.alerts(ATTACKER[4])[-1]["sentryfw"]["offence"] == 2


@pytest.mark.parametrize("fault", ["missing", "status 3"])
def test_a_command_that_fails_is_reported_as_failed(
    lab: Lab, start_daemon: Start, tmp_path: Path, fault: str
) -> None:
    script = tmp_path / "fails"
    if fault != "missing":
        script.write_text("#!/bin/sh\nexit 3\n")
        script.chmod(0o755)
    conf = f'{BLOCK}KILL_RUN_CMD="{script} $TARGET$"\n'
    moved = move(start_daemon, tmp_path, conf, mode=STEALTH)
    _probe(lab, "syn", ATTACKER[4])
    with Ledger(moved.daemon.settings.paths.ledger) as ledger:
        found = wait_for(lambda: ledger.reactions(ATTACKER[4]), "what became of it")
    (reaction,) = [r for r in found if r.reaction == "command"]
    assert not reaction.ok
    expected = "No such file" if fault == "missing" else "ended with status 3"
    assert expected in reaction.detail
    assert lab.is_blocked(ATTACKER[4])


def test_the_history_survives_a_restart(lab: Lab, start_daemon: Start, tmp_path: Path) -> None:
    """PortSentry 2.x erased it at each start."""
    moved = move(start_daemon, tmp_path, BLOCK, mode=STEALTH)
    _probe(lab, "syn", ATTACKER[4])
    moved.wait_for_history(1)
    moved.daemon.stop()
    moved.daemon.start()
    assert lab.is_blocked(ATTACKER[4])
    _probe(lab, "syn", BYSTANDER[4])
    moved.wait_for_history(2)


def _cli(lab: Lab, daemon: Sentry, *words: str) -> str:
    program = Path(daemon.command[0]).with_name("sentryfw")
    done = lab.victim.run(program, "-c", daemon.config, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_system_test_of_portsentry_has_its_number_here() -> None:
    source = Path(__file__).read_text()
    rows = set(re.findall(r'\("(\d{3})"[,)]', source))
    assert rows == set(SYSTEM_TESTS)
    assert len(SYSTEM_TESTS) == 34
