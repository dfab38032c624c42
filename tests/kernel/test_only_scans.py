"""Harmless traffic of real tools and of the real kernel does not lead to a block.

Each test fails without the rule that recognises its traffic. Late packets and broadcasts are in
test_only_scans_strays.py; transcripts over hours are in tests/engine/test_engine_only_scans.py.
"""

import shutil
import socket
import struct
from typing import Final

import pytest

from sentryfw.tools.drill.namespace import Namespace, add_address, connect
from support.frames import icmp_frame
from support.lab import ATTACKER, LISTED, UNLISTED, VICTIM, drain
from support.shared import Shared, accept
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

both_families = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])

HTTP: Final = (80, 443)


# --- services


@both_families
def test_connections_whose_flows_conntrack_forgot_go_on_unjudged(
    quiet: Shared, family: int
) -> None:
    listener = quiet.lab.listen(LISTED, family)
    pairs = [(quiet.lab.open(ATTACKER[family]), accept(listener)) for _ in range(10)]
    quiet.lab.victim.run("conntrack", "-F")
    for client, server in pairs:
        client.sendall(b"more")
        server.settimeout(5)
        assert server.recv(10) == b"more"
        server.sendall(b"answer")
        assert client.recv(10) == b"answer"
        server.close()
    assert quiet.count("judged") == 0


@both_families
def test_a_client_is_served_by_a_listener_that_starts_between_two_of_its_syns(
    quiet: Shared, family: int
) -> None:
    client = quiet.lab.start_opening(ATTACKER[family])
    client.connect_ex((VICTIM[family], LISTED))
    wait_for(lambda: quiet.count("judged") == 1, "the first SYN is judged")
    listener = quiet.lab.listen(LISTED, family)
    accept(listener).close()
    assert quiet.count("held") == 1


@both_families
def test_a_service_that_restarts_costs_its_clients_nothing(quiet: Shared, family: int) -> None:
    """Three times it is down, its open connections are reset, and clients try again."""
    lab = quiet.lab
    for restart in range(1, 4):
        listener = lab.listen(LISTED, family)
        client = lab.open(ATTACKER[family])
        server = accept(listener)
        listener.close()
        client.sendall(b"more")
        server.settimeout(5)
        assert server.recv(10) == b"more"  # an open connection needs no listener
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.close()
        lab.start_opening(ATTACKER[family]).connect_ex((VICTIM[family], LISTED))
        wait_for(lambda: quiet.count("judged") >= restart, "a SYN while it is down")  # noqa: B023
    lab.listen(LISTED, family)
    lab.open(ATTACKER[family])


def test_a_port_published_from_a_container_is_not_judged(quiet: Shared) -> None:
    """Ten ports by destination NAT, none of them with a socket on the host itself."""
    lab = quiet.lab
    ports = range(8080, 8090)
    with Namespace() as container:
        connect(lab.victim, container, ("docker0", "eth0"))
        add_address(lab.victim, "docker0", "172.17.0.1/16")
        add_address(container, "eth0", "172.17.0.2/16")
        container.ip("route", "add", "default", "via", "172.17.0.1")
        lab.victim.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        lab.nft(
            "table ip docker { chain prerouting { type nat hook prerouting priority dstnat;"
            ' iifname "veth0" tcp dport 8080-8089 dnat to 172.17.0.2; }; }'
        )
        try:
            listeners = [lab.listen(port, 4, container) for port in ports]
            for port, listener in zip(ports, listeners, strict=True):
                client = lab.open(ATTACKER[4], port)
                with accept(listener) as server:
                    client.sendall(b"hello")
                    assert server.recv(5) == b"hello"
        finally:
            lab.nft("delete table ip docker")
            lab.close_sockets()
    assert quiet.count("judged") == 0


# --- path traces

TRACES: Final = {
    "traceroute": ("traceroute", "-n", "-m", "8", "-w", "1"),
    "traceroute -I": ("traceroute", "-n", "-I", "-m", "8", "-w", "1"),
    "traceroute -T": ("traceroute", "-n", "-T", "-p", str(LISTED), "-m", "8", "-w", "1"),
    "traceroute -T, closed": ("traceroute", "-n", "-T", "-p", "80", "-m", "5", "-w", "0.2"),
    "traceroute -U": ("traceroute", "-n", "-U", "-m", "5", "-w", "0.2"),
    "tracepath": ("tracepath", "-n", "-m", "8"),
    "mtr": ("mtr", "-n", "-r", "-c", "2", "-i", "0.2", "-G", "0.5"),
    "mtr -u": ("mtr", "-n", "-r", "-c", "2", "-i", "0.2", "-G", "0.5", "-u"),
    "mtr -T": ("mtr", "-n", "-r", "-c", "2", "-i", "0.2", "-G", "0.5", "-T", "-P", str(LISTED)),
}
UNANSWERED: Final = ("traceroute -T, closed", "traceroute -U")
"""To one closed port, which does not answer: the path is not found, and no source is blocked."""


@both_families
@pytest.mark.parametrize("tool", TRACES)
def test_a_path_trace_reaches_us_and_is_not_blocked(quiet: Shared, tool: str, family: int) -> None:
    quiet.lab.listen(LISTED, family)
    name, *options = TRACES[tool]
    if shutil.which(name) is None:
        pytest.skip(f"needs {name}")
    for _ in range(2):
        done = quiet.lab.attacker.run(name, f"-{family}", *options, VICTIM[family])
        assert done.returncode == 0, done.stderr
        found = [line for line in done.stdout.splitlines()[1:] if VICTIM[family] in line]
        assert bool(found) == (tool not in UNANSWERED), done.stdout


@both_families
def test_probes_of_the_path_s_mtu_are_answered_and_cause_no_block(
    quiet: Shared, family: int
) -> None:
    """Echo requests of every size with DF set, and fragmented ones."""
    quiet.lab.attacker.ip("link", "set", "veth0", "mtu", "1500")
    for mode in ("do", "dont"):
        for size in (500, 1300, 1452, 1472 if family == 4 else 1452, 4000):
            if mode == "do" and size > 1472:
                continue
            done = quiet.lab.attacker.run(
                "ping", f"-{family}", "-n", "-M", mode, "-s", str(size), "-c", "3", "-i", "0.01",
                "-W", "2", VICTIM[family],
            )  # fmt: skip
            assert " 0% packet loss" in done.stdout, done.stdout + done.stderr


# --- pings


@both_families
def test_a_flood_of_two_hundred_pings_is_answered_and_causes_no_block(
    quiet: Shared, family: int
) -> None:
    done = quiet.lab.attacker.run(
        "ping", f"-{family}", "-n", "-f", "-c", "200", "-W", "2", VICTIM[family]
    )
    assert "200 received, 0% packet loss" in done.stdout


@both_families
def test_two_hundred_pings_of_one_packet_are_answered_and_cause_no_block(
    quiet: Shared, family: int
) -> None:
    """Each with an identifier of its own, so that conntrack takes each for a new one."""
    kind, answer = (8, 0) if family == 4 else (128, 129)
    lab = quiet.lab
    source, target = ATTACKER[family], VICTIM[family]
    lab.wire.send(*(icmp_frame(lab.ether, source, target, kind, n << 16) for n in range(200)))
    seen: list[bytes] = []

    def all_answered() -> bool:
        at = 34 if family == 4 else 54
        seen.extend(frame for frame in lab.wire.received() if frame[at : at + 1] == bytes([answer]))
        return len(seen) >= 200

    wait_for(all_answered, "200 answers")
    assert quiet.count("judged") == 200


# --- ordinary use


@both_families
def test_a_happy_eyeballs_client_is_not_blocked(quiet: Shared, family: int) -> None:
    """RFC 8305: of two connections to 80 and two to 443 one is kept, the others are reset while
    they are half open; five times over."""
    lab = quiet.lab
    for port in HTTP:
        lab.listen(port, family)
    for attempt in range(5):
        for port in HTTP:
            lab.probe(ATTACKER[family], port, sport=30000 + attempt)
            lab.probe(ATTACKER[family], port, sport=31000 + attempt)
    wait_for(lambda: quiet.count("half_open") == 20, "20 are reset")
    lab.open(ATTACKER[family], HTTP[1])


class Browser:
    """One of many: opens connections to listed ports, and leaves them in every way there is."""

    def __init__(self, quiet: Shared, source: str) -> None:
        self.lab = quiet.lab
        self.source = source
        self.family = 6 if ":" in source else 4
        self.servers = {port: self.lab.listen(port, self.family) for port in HTTP}

    def visit(self, number: int) -> None:
        port = HTTP[number % 2]
        if number % 10 == 9:  # an answer that it does not want any more
            self.lab.probe(self.source, port, sport=10000 + number)
            return
        if number % 100 == 50:  # an old bookmark: nothing listens there
            client = self.lab.start_opening(self.source)
            client.connect_ex((VICTIM[self.family], 8080))
            client.close()
            return
        client = self.lab.open(self.source, port)
        with accept(self.servers[port]) as server:
            # Not earlier: what follows the handshake's last segment at once may be looked up on
            # another CPU while no socket is hashed, and is reset (inet_hashtables.c in the kernel).
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            if number % 7 == 0:  # the client aborts
                _reset(client)
            elif number % 11 == 0:  # the server aborts
                _reset(server)
            else:
                server.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
                client.recv(100)
        client.close()


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_five_thousand_connections_like_a_browser_s_cause_no_block(quiet: Shared) -> None:
    """A client of each family: finished, aborted by either side, reset half-open, and tried again
    and again at a port that is closed."""
    browsers = [Browser(quiet, source) for source in (ATTACKER[4], ATTACKER[6])]
    for number in range(5000):
        browsers[number % 2].visit(number // 2)
        if number % 500 == 499:
            drain(quiet.sentry)
    assert quiet.count("half_open") >= 450
    assert quiet.count("judged") == 50


@both_families
def test_a_scan_of_the_same_ports_is_recognised(fresh: Shared, family: int) -> None:
    """Counterpart: this lab and this daemon do block."""
    fresh.lab.probe(ATTACKER[family], *UNLISTED)
    assert fresh.await_alert()["blocked"]
