"""Decoys: ports that look open. A finished handshake there is evidence that cannot be forged."""

import contextlib
import errno
import os
import signal
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sentryfw.tools.drill.namespace import add_address
from support.frames import ACK, FIN, SYN
from support.lab import (
    ATTACKER,
    BYSTANDER,
    INTERFACE,
    LISTED,
    UNLISTED,
    VICTIM,
    Lab,
    Sentry,
    drain,
    synacks,
)
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

StartDaemon = Callable[[str], Sentry]
DECOY = 23
OWN_PORT = 5278
TCP = f'[decoy]\ntcp = [{DECOY}, "100-200"]\n'
LAX = "[detect]\ntriggers = { connect = 64 }\n"
"""Connections to decoys alone block no source."""
both_families = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])


def _read(client: socket.socket) -> bytes:
    """Return the bytes received until the other side closes."""
    found = b""
    try:
        while data := client.recv(4096):
            found += data
    except ConnectionResetError:
        pass
    return found


def _visits(daemon: Sentry) -> int:
    return int(daemon.status()["decoys"]["visits"])


def _notes(daemon: Sentry) -> list[dict[str, Any]]:
    events = (event["sentryfw"] for event in daemon.events())
    return [event for event in events if event.get("event") == "decoy"]


def _decoy_process(daemon: Sentry) -> Path:
    """Return the directory in /proc of the daemon's child that is the decoy."""
    children = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children")
    for pid in children.read_text().split():
        if b"sentryfw.decoy.server" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return Path(f"/proc/{pid}")
    raise AssertionError("no decoy runs")


# --- evidence


@both_families
@pytest.mark.parametrize("port", [DECOY, 100, 151, 200])
def test_a_finished_handshake_blocks_at_once(
    lab: Lab, start_daemon: StartDaemon, family: int, port: int
) -> None:
    daemon = start_daemon(TCP)
    lab.listen(LISTED, family)
    lab.open(ATTACKER[family], port)
    found = daemon.alert(ATTACKER[family])["sentryfw"]
    assert found["kinds"] == ["connect"]
    assert found["sample"] == [f"{VICTIM[family]} tcp/{port}"]
    assert found["forgeable"] is False
    assert not lab.answers(ATTACKER[family])
    assert lab.answers(BYSTANDER[family])


@both_families
@pytest.mark.parametrize(
    "request_", [b"GET /a.png HTTP/1.1\r\nHost: a.example\r\n\r\n", b"\x16\x03\x01\x02\x00\x01"],
    ids=["http", "tls"],
)  # fmt: skip
def test_what_a_web_page_makes_a_browser_send_blocks_at_the_second_decoy(
    lab: Lab, start_daemon: StartDaemon, family: int, request_: bytes
) -> None:
    daemon = start_daemon(TCP)
    lab.listen(LISTED, family)
    for load in range(1, 4):  # the page is loaded again
        with lab.open(BYSTANDER[family], DECOY) as client:
            client.sendall(request_)
            wait_for(lambda load=load: len(_notes(daemon)) == load, "read")  # type: ignore[misc]
    assert lab.answers(BYSTANDER[family])
    assert not lab.is_blocked(BYSTANDER[family])
    for port in (DECOY, 100):
        with lab.open(ATTACKER[family], port) as client:
            client.sendall(request_)
            _read(client)
    found = daemon.alert(ATTACKER[family])["sentryfw"]
    assert (found["kinds"], found["forgeable"]) == (["syn", "connect"], False)
    assert not lab.answers(ATTACKER[family])


@both_families
def test_a_partner_is_blocked_for_evidence_that_cannot_be_forged(
    lab: Lab, start_daemon: StartDaemon, family: int
) -> None:
    daemon = start_daemon(TCP)
    lab.listen(LISTED, family)
    lab.make_partner(ATTACKER[family])
    lab.probe(ATTACKER[family], *UNLISTED)
    assert daemon.alert(ATTACKER[family], "allowed")["sentryfw"]["action"] == "confined"
    lab.open(ATTACKER[family], DECOY)
    wait_for(lambda: lab.is_blocked(ATTACKER[family]), "blocked")


@both_families
def test_a_visitor_does_not_become_a_partner(
    lab: Lab, start_daemon: StartDaemon, family: int
) -> None:
    daemon = start_daemon(TCP + LAX)
    client = lab.open(ATTACKER[family], DECOY)
    client.sendall(b"hello")
    wait_for(lambda: _notes(daemon), "the decoy read it")
    assert lab.elements(f"partner{family}") == set()


def test_a_syn_is_not_a_visit_but_its_reset_is_half_a_probe(
    lab: Lab, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon(TCP + LAX)
    ports = range(100, 106)  # six, because half-open ones weigh half of a trigger of three
    for port in ports:
        lab.wire.received()
        # The attacker's kernel resets what it did not open. Each from a port of its own: behind the
        # redirection the next SYN would meet the half-open connection, and be judged for it.
        lab.probe(ATTACKER[4], port, sport=40000 + port)
        wait_for(lambda port=port: ATTACKER[4] in synacks(lab.wire.received(), port), "an answer")  # type: ignore[misc]
    found = daemon.alert(ATTACKER[4])["sentryfw"]
    assert found["sample"] == [f"{VICTIM[4]} tcp/{port}" for port in ports]
    assert _visits(daemon) == 0


@pytest.mark.parametrize("flags", [0, FIN, SYN | FIN, ACK], ids=["null", "fin", "synfin", "ack"])
def test_other_probes_of_a_decoy_port_are_judged(
    lab: Lab, start_daemon: StartDaemon, flags: int
) -> None:
    eager = "[detect]\ntrigger = 1\ntriggers = { null = 1, fin = 1, synfin = 1 }\n"
    daemon = start_daemon(TCP + eager)
    lab.probe(ATTACKER[4], DECOY, flags=flags)
    assert daemon.alert(ATTACKER[4])["sentryfw"]["sample"] == [f"{VICTIM[4]} tcp/{DECOY}"]


def test_never_blocked_sources_may_connect(lab: Lab, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(f'{TCP}[never_block]\naddresses = ["{ATTACKER[4]}"]\n')
    client = lab.open(ATTACKER[4], DECOY)
    client.sendall(b"it is me")
    assert _read(client) == b""
    wait_for(lambda: daemon.status()["engine"].get("connect, never blocked") == 1, "counted")
    assert daemon.alerts(ATTACKER[4]) == []
    assert not lab.is_blocked(ATTACKER[4])


def test_visits_add_up_with_other_probes(lab: Lab, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(f"{TCP}[detect]\ntrigger = 3\ntriggers = {{ connect = 3 }}\n")
    lab.open(ATTACKER[4], DECOY)
    lab.open(ATTACKER[4], 100)
    wait_for(lambda: _visits(daemon) == 2, "two visits")
    assert not lab.is_blocked(ATTACKER[4])
    lab.probe(ATTACKER[4], UNLISTED[0])
    assert daemon.alert(ATTACKER[4])["sentryfw"]["kinds"] == ["connect", "syn"]


# --- what a visitor sees


@both_families
def test_the_banner_is_shown_and_the_connection_closed(
    lab: Lab, start_daemon: StartDaemon, family: int
) -> None:
    start_daemon(f'{TCP}banner = "** GO AWAY **\\r\\n"\ntimeout = "1s"\n')
    client = lab.open(ATTACKER[family], DECOY)
    assert _read(client) == b"** GO AWAY **\r\n"
    wait_for(lambda: lab.is_blocked(ATTACKER[family]), "blocked")


def test_without_a_banner_nothing_is_sent_and_a_silent_connection_ends(
    lab: Lab, start_daemon: StartDaemon
) -> None:
    start_daemon(f'{TCP}timeout = "1s"\n{LAX}')
    client = lab.open(ATTACKER[4], DECOY)
    client.settimeout(4)
    assert _read(client) == b""


@both_families
def test_the_first_bytes_are_kept_though_the_source_is_blocked_by_then(
    lab: Lab, start_daemon: StartDaemon, family: int
) -> None:
    daemon = start_daemon(TCP)
    client = lab.open(ATTACKER[family], DECOY)
    wait_for(lambda: lab.is_blocked(ATTACKER[family]), "blocked")
    client.sendall(b"GET /\x1b[31m\r\n\xff" + b"A" * 1000)
    (note,) = wait_for(lambda: _notes(daemon), "the first bytes")
    assert note["payload"] == "GET /\\x1b[31m\\x0d\\x0a\\xff" + "A" * (256 - 13)
    assert (note["address"], note["target"], note["target_port"]) == (
        ATTACKER[family], VICTIM[family], DECOY,
    )  # fmt: skip
    assert _read(client) == b""


# --- what a decoy never is


def test_a_service_that_starts_on_a_decoy_port_wins(lab: Lab, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(TCP + 'banner = "decoy"\n' + LAX)
    assert lab.open(ATTACKER[4], DECOY).recv(5) == b"decoy"
    listener = lab.listen(DECOY)
    client = lab.open(ATTACKER[4], DECOY)
    server, _ = listener.accept()
    with server:
        server.sendall(b"service")
        assert client.recv(7) == b"service"
    wait_for(lambda: _visits(daemon) == 1, "its visit is reported")
    listener.close()
    assert lab.open(ATTACKER[4], DECOY).recv(5) == b"decoy"


def test_a_port_that_the_operator_redirects_is_not_a_decoy(
    lab: Lab, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon(TCP)
    lab.nft("add table ip site")
    lab.nft("add chain ip site pre { type nat hook prerouting priority dstnat; }")
    lab.nft(f"add rule ip site pre tcp dport {DECOY} redirect to :{LISTED}")
    listener = lab.listen()
    lab.open(ATTACKER[4], DECOY)
    server, _ = listener.accept()
    server.close()
    assert _visits(daemon) == 0


def test_a_port_that_is_listed_by_hand_is_not_a_decoy(lab: Lab, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(f"[watch]\nlisted_tcp = [{DECOY}]\n{TCP}")
    client = lab.start_opening(ATTACKER[4])
    client.settimeout(5)
    assert client.connect_ex((VICTIM[4], DECOY)) == errno.ECONNREFUSED
    assert _visits(daemon) == 0


@pytest.mark.parametrize("state", ["stranger", "suspect", "never blocked"])
def test_the_decoys_own_port_is_closed(lab: Lab, start_daemon: StartDaemon, state: str) -> None:
    spared = f'[never_block]\naddresses = ["{ATTACKER[4]}"]\n' if state == "never blocked" else ""
    daemon = start_daemon(f'{TCP}[block]\nunlisted = "accept"\n{spared}')
    if state == "suspect":
        lab.probe(ATTACKER[4], UNLISTED[0])
        wait_for(lambda: lab.elements("suspect4"), "a suspect")
    client = lab.start_opening(ATTACKER[4])
    client.settimeout(5)
    assert client.connect_ex((VICTIM[4], OWN_PORT)) == errno.ECONNREFUSED
    assert _visits(daemon) == 0
    if state != "never blocked":
        drain(daemon)
        assert daemon.status()["engine"]["syn"] >= 1  # it is a probe like any other


def test_another_program_on_the_decoys_port_gets_nothing(
    lab: Lab, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon(TCP)
    daemon.kill()
    wait_for(lambda: not lab.victim.run("ss", "-Hlnt", f"sport = :{OWN_PORT}").stdout, "freed")
    lab.listen(OWN_PORT)
    client = lab.start_opening(ATTACKER[4])
    client.connect_ex((VICTIM[4], DECOY))
    wait_for(lambda: lab.count("no_decoy") >= 1, "dropped")
    other = lab.open(ATTACKER[4], OWN_PORT)  # asked for by its own name, it is a service
    other.close()


def test_without_the_daemon_a_decoy_port_is_closed(lab: Lab, start_daemon: StartDaemon) -> None:
    start_daemon(TCP).stop()
    client = lab.start_opening(ATTACKER[4])
    client.settimeout(5)
    assert client.connect_ex((VICTIM[4], DECOY)) == errno.ECONNREFUSED


def test_a_port_that_is_taken_is_reported(lab: Lab, make_daemon: Callable[[str], Sentry]) -> None:
    lab.listen(OWN_PORT)
    sentry = make_daemon(TCP)
    process = sentry.launch()
    assert process.wait(20) == 1
    assert f"decoys: port {OWN_PORT}: Address already in use: set [decoy] port" in sentry.log()


# --- bounds


def test_the_decoy_has_no_privileges(lab: Lab, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(TCP)
    lab.open(ATTACKER[4], DECOY)
    daemon.alert(ATTACKER[4])  # it is at work, so it has given up what it had
    status = (_decoy_process(daemon) / "status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    assert "0" not in fields["Uid"].split()
    assert {int(fields[f"Cap{name}"], 16) for name in ("Prm", "Eff", "Amb")} == {0}
    assert fields["NoNewPrivs"] == "1"


def test_a_decoy_that_ends_is_started_again(lab: Lab, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(TCP + LAX)
    lab.open(ATTACKER[4], DECOY)
    wait_for(lambda: _visits(daemon) == 1, "a visit")
    before = _decoy_process(daemon)
    lab.victim.run("kill", "-9", before.name)
    wait_for(lambda: daemon.status()["decoys"]["restarts"] == 1, "started again", 20)
    assert "the decoy process ended with status -9" in daemon.log()
    lab.open(ATTACKER[4], 100)
    wait_for(lambda: _visits(daemon) == 2, "another visit")


@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
def test_a_source_that_resets_before_it_is_accepted_is_a_visitor(
    lab: Lab, start_daemon: StartDaemon, family: int
) -> None:
    """nmap -sT does this. Here the decoy is stopped, so the reset always comes first."""
    daemon = start_daemon(TCP)
    decoy = int(_decoy_process(daemon).name)
    os.kill(decoy, signal.SIGSTOP)
    client = lab.open(ATTACKER[family], DECOY)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    os.kill(decoy, signal.SIGCONT)
    event = daemon.alert(ATTACKER[family])["sentryfw"]
    assert (event["kinds"], event["sample"]) == (
        ["connect"], [f"{VICTIM[family]} tcp/{DECOY}"],
    )  # fmt: skip


def _open_sockets(process: Path) -> int:
    """Return the sockets of a process, by its /proc directory; visitors may leave."""
    held = 0
    for link in (process / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since the directory was read
            held += "socket" in link.readlink().name
    return held


def test_a_flood_of_visitors_harms_nothing_else(lab: Lab, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(f'{TCP}connections = 16\nbanner = "x"\n[detect]\nmode = "observe"\n')
    lab.listen()
    decoy = _decoy_process(daemon)
    visitors = [lab.start_opening(ATTACKER[4]) for _ in range(900)]
    for number, visitor in enumerate(visitors):
        visitor.connect_ex((VICTIM[4], 100 + number % 100))
    assert lab.answers(BYSTANDER[4])
    wait_for(lambda: _visits(daemon) >= 300, "visits are counted")
    assert _open_sockets(decoy) <= 16 + 8
    assert daemon.status()["queue"]["failures"] == 0
    resident = int((decoy / "statm").read_text().split()[1]) * 4096
    assert resident < 64 << 20


def test_many_blocked_at_once_by_visits(lab: Lab, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(TCP)
    sources = [f"198.18.0.{n}" for n in range(10, 60)]
    for source in sources:
        add_address(lab.attacker, INTERFACE, f"{source}/24")
        lab.open(source, DECOY)
    wait_for(lambda: all(map(lab.is_blocked, sources)), "all of them are blocked")
    assert daemon.status()["decoys"]["garbled"] == 0


# --- UDP

UDP = '[decoy]\nudp = [7, "9-11"]\nbanner = "** GO AWAY **"\n'


@both_families
@pytest.mark.parametrize("trigger", [1, 3], ids=["triggering", "below-the-trigger"])
def test_a_datagram_is_answered_with_the_banner(
    lab: Lab, start_daemon: StartDaemon, family: int, trigger: int
) -> None:
    daemon = start_daemon(f"{UDP}[detect]\ntrigger = {trigger}\n")
    sender = lab.udp(ATTACKER[family])
    sender.settimeout(5)
    sender.sendto(b"?", (VICTIM[family], 11))
    data, peer = sender.recvfrom(512)
    assert data == b"** GO AWAY **"
    assert peer[:2] == (VICTIM[family], 11)
    drain(daemon)
    assert lab.is_blocked(ATTACKER[family]) == (trigger == 1)
    assert daemon.status()["engine"]["udp"] == 1


def test_a_source_is_answered_once_and_a_service_never(lab: Lab, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(UDP + '[detect]\nmode = "observe"\n')
    service = lab._socket(lab.attacker, 4, socket.SOCK_DGRAM)
    service.bind((ATTACKER[4], 19))
    service.settimeout(1)
    service.sendto(b"?", (VICTIM[4], 7))
    sender = lab.udp(ATTACKER[4])
    sender.settimeout(5)
    sender.sendto(b"?", (VICTIM[4], 7))
    assert sender.recv(512) == b"** GO AWAY **"
    sender.settimeout(1)
    sender.sendto(b"?", (VICTIM[4], 9))
    for silent in (sender, service):
        with pytest.raises(TimeoutError):
            silent.recv(512)
    assert daemon.status()["engine"]["udp"] == 3


def test_every_datagram_is_judged_also_those_of_one_socket(
    lab: Lab, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon(UDP)
    sender = lab.udp(ATTACKER[4])
    for port in (7, 9, 10):
        sender.sendto(b"?", (VICTIM[4], port))
    found = daemon.alert(ATTACKER[4])["sentryfw"]
    assert found["sample"] == [f"{VICTIM[4]} udp/{port}" for port in (7, 9, 10)]
    assert found["forgeable"] is True


def test_without_a_banner_a_udp_decoy_is_an_unlisted_port(
    lab: Lab, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon('[decoy]\nudp = [7]\n[watch]\nmode = "traps"\n[detect]\ntrigger = 1\n')
    lab.udp(ATTACKER[4]).sendto(b"?", (VICTIM[4], 8))
    lab.udp(BYSTANDER[4]).sendto(b"?", (VICTIM[4], 7))
    daemon.alert(BYSTANDER[4])
    assert not lab.is_blocked(ATTACKER[4])
    assert daemon.status()["decoys"] is None


def test_a_udp_service_on_a_decoy_port_wins(lab: Lab, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(UDP)
    service = lab.bind_udp(7)
    service.settimeout(5)
    lab.udp(ATTACKER[4]).sendto(b"question", (VICTIM[4], 7))
    assert service.recv(512) == b"question"
    assert daemon.status()["engine"].get("udp", 0) == 0
