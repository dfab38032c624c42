"""Balancers in front of this host: their checks are served, also while a backend is down.

HAProxy, nginx and keepalived check by themselves. keepalived does it only where its own kernel has
IPVS; a client here does it as well: handshake, and a reset at once or after the page (SO_LINGER 0).
"""

import shutil
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from support.lab import ATTACKER, UNLISTED, VICTIM, Lab, Sentry, drain
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

FAMILIES: Final = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
RUNNING: Final = tuple(range(8081, 8087))
DOWN: Final = (8090, 8091)
"""Ports of backends that are not running: two, because three are a scan of a stranger."""
ROUNDS: Final = 8
"""More rounds of all ports than any trigger."""
PATIENCE_S: Final = 120.0
FRONT: Final = 18080
ANSWER: Final = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


class Backends:
    """HTTP servers on the victim that count what they accept, by port."""

    def __init__(self, lab: Lab, family: int) -> None:
        self.accepted: Counter[int] = Counter()
        for port in RUNNING:
            listener = lab.listen(port, family)
            listener.settimeout(None)
            threading.Thread(target=self._serve, args=(listener, port), daemon=True).start()

    def _serve(self, listener: socket.socket, port: int) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # the lab is closed
                return
            self.accepted[port] += 1
            with client, suppress(OSError):
                client.settimeout(2)
                if client.recv(4096):
                    client.sendall(ANSWER)

    def rounds(self, ports: Iterable[int]) -> int:
        """Return how often each of some ports was used."""
        return min(self.accepted[port] for port in ports)


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


@contextmanager
def _running(lab: Lab, log: Path, *command: str | Path) -> Iterator[Any]:
    """Run a program on the balancer's host, until it is killed."""
    with log.open("w") as output:
        process = lab.attacker.popen(command, stdout=output, stderr=output)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(10)


# --- balancers


@contextmanager
def haproxy(lab: Lab, family: int, place: Path, check: str = "") -> Iterator[None]:
    """HAProxy, with checks every 300 ms."""
    if shutil.which("haproxy") is None:
        pytest.skip("needs haproxy")
    source = f"source {_host(ATTACKER[family])}"
    servers = "".join(
        f" server s{port} {_host(VICTIM[family])}:{port} {source} check inter 300ms fall 2 rise 1\n"
        for port in (*RUNNING, *DOWN)
    )
    config = place / "haproxy.cfg"
    config.write_text(
        "defaults\n mode http\n timeout connect 1s\n timeout client 2s\n timeout server 2s\n"
        f" timeout check 1s\nlisten front\n bind 127.0.0.1:{FRONT}\n{check}{servers}"
    )
    with _running(lab, place / "log", "haproxy", "-f", config):
        yield


@contextmanager
def haproxy_http(lab: Lab, family: int, place: Path) -> Iterator[None]:
    """HAProxy, with requests as checks."""
    with haproxy(lab, family, place, " option httpchk GET /\n"):
        yield


@contextmanager
def nginx(lab: Lab, family: int, place: Path) -> Iterator[None]:
    """nginx, whose checks are its clients' requests: it tries a failed backend again after 1 s."""
    if shutil.which("nginx") is None:
        pytest.skip("needs nginx")
    servers = "".join(
        f"server {_host(VICTIM[family])}:{port} max_fails=1 fail_timeout=1s;"
        for port in (*RUNNING, *DOWN)
    )
    config = place / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {place}/pid; error_log {place}/error;\n"
        f"events {{}} http {{ access_log off; client_body_temp_path {place}/b;\n"
        f"proxy_temp_path {place}/p; fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u;\n"
        f"scgi_temp_path {place}/s; upstream backends {{ {servers} }}\n"
        f"server {{ listen 127.0.0.1:{FRONT};\n"
        f"location / {{ proxy_pass http://backends; proxy_bind {ATTACKER[family]};\n"
        "proxy_connect_timeout 1s; } } }\n"
    )
    ended = threading.Event()
    with _running(lab, place / "log", "nginx", "-c", config, "-p", place):
        visitor = threading.Thread(target=_visit, args=(lab, ended))
        visitor.start()
        try:
            yield
        finally:
            ended.set()
            visitor.join()


def _visit(lab: Lab, ended: threading.Event) -> None:
    """Send requests to the balancer's front, one after another."""
    while not ended.wait(0.02):
        client = lab.attacker.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        with client, suppress(OSError):
            client.settimeout(5)
            client.connect(("127.0.0.1", FRONT))
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            client.recv(4096)


@contextmanager
def keepalived(lab: Lab, family: int, place: Path) -> Iterator[None]:
    """keepalived with TCP_CHECK and HTTP_GET, each second."""
    if shutil.which("keepalived") is None:
        pytest.skip("needs keepalived")
    if not Path("/proc/net/ip_vs").exists():
        pytest.skip("keepalived checks nothing on a kernel without IPVS")
    source = f"bindto {ATTACKER[family]} connect_timeout 1"
    checks = (
        f"TCP_CHECK {{ {source} }}", f"HTTP_GET {{ url {{ path / status_code 200 }} {source} }}",
    )  # fmt: skip
    virtual = "198.18.9.9" if family == 4 else "2001:2:9::9"
    config = place / "keepalived.conf"
    config.write_text("".join(
        f"virtual_server {virtual} {port} {{ delay_loop 1\n lvs_sched rr\n lvs_method NAT\n"
        f" protocol TCP\n real_server {VICTIM[family]} {port} {{ {checks[port % 2]} }} }}\n"
        for port in (*RUNNING, *DOWN)
    ))  # fmt: skip
    command = ("keepalived", "-n", "-l", "-C", "-f", config, "-p", place / "p", "-c", place / "c")
    with _running(lab, place / "log", *command):
        yield


@contextmanager
def keepalived_like(lab: Lab, family: int, place: Path) -> Iterator[None]:
    """A client that does what keepalived does: half of its checks ask for a page."""
    del place
    ended = threading.Event()

    def check() -> None:
        while not ended.wait(0.1):
            for port in (*RUNNING, *DOWN):
                _check_as_keepalived(lab, family, port)

    checker = threading.Thread(target=check)
    checker.start()
    try:
        yield
    finally:
        ended.set()
        checker.join()


def _check_as_keepalived(lab: Lab, family: int, port: int) -> None:
    domain = socket.AF_INET if family == 4 else socket.AF_INET6
    client = lab.attacker.call(lambda: socket.socket(domain, socket.SOCK_STREAM))
    with client, suppress(TimeoutError):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.bind((ATTACKER[family], 0))
        client.settimeout(0.2)
        client.connect((VICTIM[family], port))
        if port % 2:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            while client.recv(4096):
                pass


class Balancer(NamedTuple):
    """A balancer, and the ports that serve it more than a handshake: it is a partner there."""

    run: Any
    served: tuple[int, ...] = RUNNING

    def rounds(self, lab: Lab, backends: Backends) -> int:
        """Return the number of checks of each port. HAProxy resets instead of an ACK, and so what
        it opens is not accepted."""
        if self.served:
            return backends.rounds(self.served)
        return lab.count("half_open") // len(RUNNING)

    def await_rounds(self, lab: Lab, backends: Backends) -> None:
        """Wait for ROUNDS more checks of each port."""
        enough = self.rounds(lab, backends) + ROUNDS
        wait_for(lambda: self.rounds(lab, backends) >= enough, "rounds of checks", PATIENCE_S)


BALANCERS: Final = {
    "haproxy-tcp": Balancer(haproxy, ()),
    "haproxy-http": Balancer(haproxy_http),
    "nginx": Balancer(nginx),
    "keepalived": Balancer(keepalived, RUNNING[::2]),
    "keepalived-like": Balancer(keepalived_like, RUNNING[::2]),
}


@FAMILIES
@pytest.mark.parametrize("balancer", BALANCERS.values(), ids=BALANCERS)
def test_a_balancer_is_served_while_backends_are_down(
    lab: Lab, daemon: Sentry, tmp_path: Path, balancer: Balancer, family: int
) -> None:
    backends = Backends(lab, family)
    with balancer.run(lab, family, tmp_path):
        balancer.await_rounds(lab, backends)
        wait_for(lambda: lab.count("judged") >= 2 * len(DOWN), "checks of what is down", PATIENCE_S)
        balancer.await_rounds(lab, backends)
    drain(daemon)
    assert daemon.alerts(ATTACKER[family]) == []
    assert not lab.is_blocked(ATTACKER[family])
    assert lab.elements(f"confine{family}") == set()


@FAMILIES
@pytest.mark.parametrize("balancer", BALANCERS.values(), ids=BALANCERS)
def test_the_scan_of_a_balancer_is_caught_and_a_partners_checks_go_on(
    lab: Lab, daemon: Sentry, tmp_path: Path, balancer: Balancer, family: int
) -> None:
    backends = Backends(lab, family)
    with balancer.run(lab, family, tmp_path):
        balancer.await_rounds(lab, backends)
        lab.nft("flush", "set", "inet", "sentryfw", f"fresh{family}")  # as a minute does
        lab.probe(ATTACKER[family], *UNLISTED)
        action = "allowed" if balancer.served else "blocked"
        daemon.alert(ATTACKER[family], action)
        drain(daemon)
        if balancer.served:
            assert len(lab.elements(f"confine{family}")) == 1
            balancer.await_rounds(lab, backends)
            return
        assert lab.is_blocked(ATTACKER[family])
        before = lab.count("half_open"), lab.dropped(ATTACKER[family])
        wait_for(lambda: lab.dropped(ATTACKER[family]) > before[1] + ROUNDS, "its next checks")
        assert lab.count("half_open") == before[0], "nothing of it is served"
