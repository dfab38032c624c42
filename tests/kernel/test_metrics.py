"""[metrics]: the outputs of a running daemon, and their values after a scan."""

import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sentryfw.errors import SentryError
from support.lab import ATTACKER, UNLISTED, Lab, Sentry, drain
from support.prometheus import value
from support.waiting import wait_for

pytestmark = pytest.mark.netns

StartDaemon = Callable[[str], Sentry]
MAX_RSS_KIB = 42 * 1024
PORT = 9577


def request(lab: Lab, text: bytes, address: Any = ("127.0.0.1", PORT)) -> bytes:
    """Return the whole answer of a server on the victim."""
    family = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
    with lab.victim.call(lambda: socket.socket(family, socket.SOCK_STREAM)) as client:
        client.settimeout(10)
        client.connect(address)
        client.sendall(text)
        return b"".join(iter(lambda: client.recv(1 << 16), b""))


def scrape(lab: Lab, address: Any = ("127.0.0.1", PORT)) -> str:
    head, _, body = request(lab, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", address).partition(
        b"\r\n\r\n"
    )
    assert head.startswith(b"HTTP/1.1 200 OK\r\n"), head
    assert b"Content-Type: text/plain; version=0.0.4" in head
    return body.decode()


def test_a_scan_is_in_the_metrics(lab: Lab, start_daemon: StartDaemon) -> None:
    lab.listen()
    daemon = start_daemon(f'[metrics]\nlisten = "127.0.0.1:{PORT}"')
    assert value(scrape(lab), "blocked_hosts", family="4") == 0
    lab.probe(ATTACKER[4], *UNLISTED)
    lab.probe(ATTACKER[6], *UNLISTED)
    daemon.alert(ATTACKER[4])
    daemon.alert(ATTACKER[6])
    assert not lab.answers(ATTACKER[4])
    wait_for(lambda: value(scrape(lab), "blocked_packets_total", stage="early") > 0, "a second on")
    text = scrape(lab)
    for family in "46":
        assert value(text, "blocked_hosts", family=family) == 1
        assert value(text, "blocks_total", reason="portscan", family=family) == 1
        assert value(text, "detections_total", kind="portscan", family=family) == 1
    assert value(text, "probes_total", kind="syn") == 6
    assert value(text, "packets_total", counter="judged") == 6
    assert value(text, "queue_packets_total") == 6
    assert value(text, "up") == 1
    assert value(text, "config_last_reload_successful") == 1
    assert ATTACKER[4] not in text
    assert daemon.status()["metrics"]["scrapes"] >= 3
    lab.nft("delete", "element", "inet", "sentryfw", "block4", f"{{ {ATTACKER[4]} }}")
    wait_for(lambda: value(scrape(lab), "unblocks_total", reason="manual") == 1, "an unblock")
    assert value(scrape(lab), "blocked_hosts", family="4") == 0


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
        (b"GET /metrics\r\n\r\n", b"400"),
        (b"\xff\xfe \x00 HTTP/1.1\r\n\r\n", b"405"),
        (b"HEAD /metrics?a=b HTTP/1.0\r\n\r\n", b"200"),
        (b"GET /metrics HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n", b""),
    ],
    ids=["elsewhere", "POST", "HTTP/0.9", "bytes", "HEAD", "too long"],
)
def test_a_request_that_is_not_a_scrape_is_answered_briefly(
    lab: Lab, start_daemon: StartDaemon, text: bytes, status: bytes
) -> None:
    daemon = start_daemon(f'[metrics]\nlisten = "127.0.0.1:{PORT}"')
    try:
        answer = request(lab, text)
    except ConnectionResetError:  # it did not read all of it
        answer = b""
    assert answer[9:12] == status
    assert len(answer) < 1000
    assert "up 1" in scrape(lab)
    assert "Traceback" not in daemon.log()


def test_silent_clients_are_disconnected_and_make_room(lab: Lab, start_daemon: StartDaemon) -> None:
    start_daemon(f'[metrics]\nlisten = "127.0.0.1:{PORT}"')
    silent = [
        lab.victim.call(lambda: socket.create_connection(("127.0.0.1", PORT))) for _ in "8" * 8
    ]
    assert request(lab, b"") == b""  # no ninth
    wait_for(lambda: _answers(lab), "the silent clients are disconnected", 15)
    for client in silent:
        client.close()


def _answers(lab: Lab) -> bool:
    try:
        return request(lab, b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 404")
    except OSError:
        return False


def test_a_unix_socket_serves_the_group_and_goes_with_the_daemon(
    lab: Lab, make_daemon: StartDaemon
) -> None:
    daemon = make_daemon("")
    path = daemon.home / "runtime" / "metrics.sock"
    with daemon.config.open("a") as file:
        file.write(f'[metrics]\nlisten = "{path}"\n')
    daemon.start()
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert value(scrape(lab, str(path)), "up") == 1
    daemon.kill()
    assert path.exists()
    daemon.start()
    assert value(scrape(lab, str(path)), "up") == 1
    daemon.stop()
    assert not path.exists()


def test_the_text_file_is_complete_readable_and_reports_a_stopped_daemon(
    lab: Lab, make_daemon: StartDaemon
) -> None:
    daemon = make_daemon("")
    directory = daemon.home / "collector"
    directory.mkdir()
    path = directory / "sentryfw.prom"
    with daemon.config.open("a") as file:
        file.write(f'[metrics]\ntextfile = "{path}"\nevery = 1\n')
    daemon.start()
    wait_for(path.exists, "the file")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [p.name for p in directory.iterdir()] == ["sentryfw.prom"]
    lab.probe(ATTACKER[4], *UNLISTED)
    wait_for(lambda: value(path.read_text(), "blocked_hosts", family="4") == 1, "a new version")
    daemon.stop()
    assert value(path.read_text(), "up") == 0


@pytest.mark.parametrize("how", ["missing", "writable by all"])
def test_a_text_file_that_cannot_be_written_is_only_a_fault(
    lab: Lab, make_daemon: StartDaemon, how: str
) -> None:
    daemon = make_daemon("")
    directory = daemon.home / "collector"
    if how != "missing":
        directory.mkdir()
        directory.chmod(0o777)
    with daemon.config.open("a") as file:
        file.write(f'[metrics]\ntextfile = "{directory}/x.prom"\nevery = 1\n')
    daemon.start()
    wait_for(lambda: daemon.status()["metrics"]["fault"], "a fault")
    assert str(directory) in daemon.status()["metrics"]["fault"]
    lab.probe(ATTACKER[4], *UNLISTED)
    daemon.alert(ATTACKER[4])
    assert not Path(directory / "x.prom").exists()


def test_a_daemon_starts_although_its_address_is_taken(lab: Lab, start_daemon: StartDaemon) -> None:
    lab.listen(PORT)
    daemon = start_daemon(f'[metrics]\nlisten = "127.0.0.1:{PORT}"')
    assert f"127.0.0.1:{PORT}: Address already in use" in daemon.log()
    lab.probe(ATTACKER[4], *UNLISTED)
    daemon.alert(ATTACKER[4])


def test_a_reload_turns_them_on_and_off(lab: Lab, daemon: Sentry) -> None:
    before = daemon.config.read_text()
    daemon.config.write_text(before + f'[metrics]\nlisten = "127.0.0.1:{PORT}"\n')
    daemon.ask(do="reload")
    assert value(scrape(lab), "config_last_reload_successful") == 1
    daemon.config.write_text("detect = 1")
    with pytest.raises(SentryError):
        daemon.ask(do="reload")
    wait_for(
        lambda: value(scrape(lab), "config_last_reload_successful") == 0, "the refusal is exported"
    )
    daemon.config.write_text(before)
    daemon.ask(do="reload")
    with pytest.raises(ConnectionRefusedError):
        scrape(lab)


def test_with_them_the_daemon_holds_at_most_42_mib(lab: Lab, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(f'[metrics]\nlisten = "127.0.0.1:{PORT}"')
    scrape(lab)
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    assert int(line.split()[1]) <= MAX_RSS_KIB


def test_no_verdict_waits_for_them(lab: Lab, start_daemon: StartDaemon) -> None:
    """Scraped all the time, every scanner is blocked at its trigger."""
    daemon = start_daemon(f'[metrics]\nlisten = "127.0.0.1:{PORT}"')
    for number in range(10, 40):
        lab.probe(f"198.18.0.{number}", *UNLISTED)
        assert "up 1" in scrape(lab)
    drain(daemon)
    assert all(lab.is_blocked(f"198.18.0.{number}") for number in range(10, 40))
    assert daemon.status()["queue"]["failures"] == 0
