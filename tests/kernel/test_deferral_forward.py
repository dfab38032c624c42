"""Deferral at hosts behind: a raw-socket scanner finds none of their services, clients are served.

The clients are programs by name, in each place where a service can be.
"""

import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from kernel.conftest import StartDaemon
from sentryfw.tools.drill.namespace import Namespace
from support import raw_scanners
from support.frames import SYN, tcp_segment
from support.lab import ATTACKER, VICTIM, Lab, Sentry, synacks
from support.raw_scanners import Scan
from support.router import BEHIND, FORWARD, PUBLISH, PUBLISHED, SERVICE, Router
from support.waiting import wait_for

pytestmark = [pytest.mark.netns, pytest.mark.nmap]

OPEN: Final = (22, SERVICE, 443)
SETTINGS: Final = FORWARD.replace(f"tcp = [{SERVICE}]", f"tcp = {list(OPEN)}")
FAMILIES: Final = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
SCANNERS: Final = pytest.mark.parametrize(
    ("scan", "family"),
    [pytest.param(scan, family, id=name) for name, scan, family in raw_scanners.SCANNERS],
)


@pytest.fixture
def guard(router: Router, start_daemon: StartDaemon) -> Sentry:
    """The daemon, with three services of a host behind."""
    return start_daemon(SETTINGS)


def _listen(router: Router, family: int) -> None:
    for port in OPEN:
        router.listen(family, port)


@SCANNERS
def test_a_raw_scanner_finds_no_service_behind(
    router: Router, guard: Sentry, scan: Scan, family: int
) -> None:
    _listen(router, family)
    assert scan(guard.lab, BEHIND[family], OPEN) == set()
    assert guard.lab.count("deferred") >= len(OPEN)
    assert not guard.lab.is_blocked(ATTACKER[family]), "three listed ports are 1.5 targets of 3"
    assert guard.lab.elements(f"suspect{family}") == set()


@SCANNERS
def test_a_raw_scanner_finds_no_published_port(
    router: Router, guard: Sentry, scan: Scan, family: int
) -> None:
    guard.lab.nft(PUBLISH)
    _listen(router, family)
    assert scan(guard.lab, VICTIM[family], (PUBLISHED,)) == set()
    assert guard.lab.count("deferred") >= 1


@SCANNERS
def test_with_raw_syn_served_it_finds_them_all(
    router: Router, start_daemon: StartDaemon, scan: Scan, family: int
) -> None:
    lab = start_daemon(SETTINGS.replace("forward =", 'raw_syn = "serve"\nforward =')).lab
    _listen(router, family)
    assert scan(lab, BEHIND[family], OPEN) == set(OPEN)
    assert lab.count("deferred") == 0


@FAMILIES
def test_a_connect_scan_of_the_services_behind_is_served(
    router: Router, guard: Sentry, family: int
) -> None:
    _listen(router, family)
    assert raw_scanners.nmap(guard.lab, BEHIND[family], OPEN, "-sT") == set(OPEN)
    assert guard.lab.count("deferred") == 0


@FAMILIES
def test_a_suspicious_stack_is_served_behind_at_its_first_retransmission(
    router: Router, guard: Sentry, family: int
) -> None:
    lab = guard.lab
    _listen(router, family)
    frame = tcp_segment(
        lab.ether, ATTACKER[family], BEHIND[family], 20001, SERVICE, SYN, seq=7, ack=0,
        window=1024, options=bytes.fromhex("020405b4"),
    )  # fmt: skip
    began = time.monotonic()
    lab.wire.send(frame)
    wait_for(lambda: lab.count("deferred") == 1, "it is judged")
    wait_for(lambda: time.monotonic() >= began + 1.0, "a retransmission timeout")
    assert synacks(lab.wire.received(), SERVICE) == []
    lab.wire.send(frame)
    wait_for(lambda: ATTACKER[family] in synacks(lab.wire.received(), SERVICE), "a SYN/ACK")
    assert guard.status()["engine"]["came again"] == 1


# --- programs


class Place(NamedTuple):
    """A place of two services, as a client reaches them."""

    host: Namespace
    """The host that it runs on."""
    address: str
    http: int
    ssh: int
    """Port that leads to an SSH server."""


@pytest.fixture(params=["input", "forward", "published"])
def place(request: pytest.FixtureRequest, router: Router, guard: Sentry, family: int) -> Place:
    """A host with a web server and an SSH server."""
    lab = guard.lab
    if request.param == "input":
        return Place(lab.victim, VICTIM[family], 80, 22)
    if request.param == "forward":
        return Place(router.behind, BEHIND[family], 80, 22)
    lab.nft(PUBLISH)
    return Place(router.behind, VICTIM[family], PUBLISHED, PUBLISHED)


def _run_served_at_once(lab: Lab, *command: str) -> str:
    """Run a client; assert that none of its packets waited for a verdict or was dropped."""
    done = lab.attacker.run(*command)
    assert [lab.count(name) for name in ("deferred", "held", "judged", "queued")] == [0, 0, 0, 0]
    return done.stdout + done.stderr


@FAMILIES
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_is_served_at_once(place: Place, guard: Sentry, family: int, tmp_path: Path) -> None:
    (tmp_path / "page").write_text("a page of the service")
    server = place.host.popen(
        [sys.executable, "-I", "-m", "http.server", "80", "--bind", "::", "--directory", tmp_path],
        stdout=-3, stderr=-3,
    )  # fmt: skip
    try:
        _await_listener(place.host, 80)
        host = f"[{place.address}]" if family == 6 else place.address
        url = f"http://{host}:{place.http}/page"
        said = _run_served_at_once(guard.lab, "curl", "-sS", "--max-time", "5", url)
    finally:
        server.kill()
        server.wait()
    assert said == "a page of the service"


@FAMILIES
@pytest.mark.skipif(shutil.which("ssh") is None, reason="needs OpenSSH's client")
def test_openssh_is_served_at_once(
    router: Router, place: Place, guard: Sentry, family: int
) -> None:
    port = 22 if place.ssh == 22 else SERVICE
    listener = guard.lab.listen(port, family, place.host)
    listener.settimeout(5)
    seen: list[bytes] = []

    def serve() -> None:
        client, _ = listener.accept()
        with client:
            client.sendall(b"SSH-2.0-Lab\r\n")
            seen.append(client.recv(255))

    thread = threading.Thread(target=serve)
    thread.start()
    options = ["-F", "none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5"]
    try:
        _run_served_at_once(guard.lab, "ssh", *options, "-p", str(place.ssh), place.address)
    finally:
        thread.join()
    assert seen[0].startswith(b"SSH-2.0-OpenSSH")


def _await_listener(host: Namespace, port: int) -> None:
    def listens() -> bool:
        return f":{port} " in host.run("ss", "-Hltn").stdout

    wait_for(listens, "a listener")
