"""Remote syslog: the message, three transports, and a server that goes away or stalls."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from sentryfw.config.respond import RemoteSyslog
from sentryfw.respond import syslog as module
from sentryfw.respond.syslog import SyslogSender, render
from sentryfw.tools.drill.namespace import Namespace
from support.reactions import (
    INCIDENT,
    REFUSED,
    Certificate,
    Results,
    SilentServer,
    SyslogServer,
)
from support.waiting import wait_for

MakeSender = Callable[..., SyslogSender]


@pytest.fixture
def make_sender(
    namespace: Namespace, results: Results, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeSender]:
    """Return a function that starts senders, whose thread is in the namespace."""
    monkeypatch.setattr(module, "MIN_RETRY_S", 0.05)
    made: list[SyslogSender] = []

    def make(**settings: Any) -> SyslogSender:
        values = {"host": "127.0.0.1", "timeout": 1, **settings}
        made.append(SyslogSender(RemoteSyslog.model_validate(values), results))
        namespace.call(made[-1].start)
        return made[-1]

    yield make
    for sender in made:
        sender.stop(time.monotonic() + 0.2)


def _numbered(number: int) -> Any:
    return INCIDENT._replace(address=f"198.18.1.{number}")


def _addresses(messages: list[str]) -> list[str]:
    return [message.split('address="')[1].split('"')[0] for message in messages]


# --- the message


def test_the_message_follows_rfc_5424() -> None:
    settings = RemoteSyslog(facility=4, enterprise=32473)
    message = render(INCIDENT, settings, "box").decode()
    head, _, rest = message.partition(" [")
    words = head.split(" ")
    assert words[0] == "<36>1"  # facility 4, severity 4
    assert words[1] == "2027-01-15T08:00:00.250000Z"
    assert words[2:4] == ["box", "sentryfwd"]
    assert words[4].isdecimal()
    assert words[5:] == ["blocked"]
    element, _, text = rest.partition("] ")
    assert element.startswith('sentryfw@32473 address="198.18.0.2" ip="198.18.0.2" port="111"')
    assert text == INCIDENT.sentence()


def test_a_refusal_is_less_severe() -> None:
    assert render(REFUSED, RemoteSyslog(facility=16), "box").startswith(b"<133>1 ")


def test_values_are_escaped() -> None:
    odd = INCIDENT._replace(reason='a "b" [c] \\d')
    assert rb'reason="a \"b\" [c\] \\d"' in render(odd, RemoteSyslog(), "box")


def test_a_host_without_a_name_is_nil() -> None:
    assert render(INCIDENT, RemoteSyslog(), "").split(b" ")[2] == b"-"


# --- transports


def test_udp_sends_one_datagram_a_message(namespace: Namespace, make_sender: MakeSender) -> None:
    server = namespace.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        sender = make_sender(transport="udp", port=server.getsockname()[1])
        for number in range(3):
            sender.put(_numbered(number))
        messages = [server.recv(1 << 16).decode() for _ in range(3)]
    assert _addresses(messages) == ["198.18.1.0", "198.18.1.1", "198.18.1.2"]
    assert all(message.startswith("<36>1 ") for message in messages)


def test_udp_over_ipv6(namespace: Namespace, make_sender: MakeSender) -> None:
    server = namespace.call(lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
    with server:
        server.bind(("::1", 0))
        server.settimeout(5)
        make_sender(host="::1", transport="udp", port=server.getsockname()[1]).put(INCIDENT)
        assert _addresses([server.recv(1 << 16).decode()]) == ["198.18.0.2"]


def test_tcp_counts_octets(namespace: Namespace, make_sender: MakeSender) -> None:
    with SyslogServer(namespace) as server:
        sender = make_sender(transport="tcp", port=server.port)
        for number in range(100):
            sender.put(_numbered(number))
        wait_for(lambda: len(server.messages) == 100, "all of them")
        assert _addresses(server.messages) == [f"198.18.1.{n}" for n in range(100)]
        assert len(server.connections) == 1


def test_tls_encrypts_and_checks_the_server(
    namespace: Namespace, make_sender: MakeSender, certificate: Certificate
) -> None:
    with SyslogServer(namespace, certificate) as server:
        sender = make_sender(transport="tls", port=server.port, ca=str(certificate.certificate))
        for number in range(5):
            sender.put(_numbered(number))
        wait_for(lambda: len(server.messages) == 5, "all of them")


@pytest.mark.parametrize(
    ("with_ca", "name", "reason"),
    [(False, None, "self-signed certificate"), (True, "other.example", "not valid for")],
    ids=["unknown-issuer", "another-name"],
)
def test_tls_sends_nothing_to_a_server_that_it_cannot_trust(
    namespace: Namespace,
    make_sender: MakeSender,
    certificate: Certificate,
    results: Results,
    with_ca: bool,  # noqa: FBT001 - of the table
    name: str | None,
    reason: str,
) -> None:
    settings: dict[str, Any] = {"server_name": name} if name else {}
    if with_ca:
        settings["ca"] = str(certificate.certificate)
    with SyslogServer(namespace, certificate) as server:
        make_sender(transport="tls", port=server.port, **settings).put(INCIDENT)
        failure = wait_for(results.failures, "said")[0]
        assert "certificate verify failed" in failure.detail
        assert reason in failure.detail
        assert server.messages == []


def test_tls_sends_its_own_certificate_on_request(
    namespace: Namespace, make_sender: MakeSender, certificate: Certificate
) -> None:
    import ssl  # noqa: PLC0415 - for the constant

    with SyslogServer(namespace, certificate) as server:
        assert server._context is not None
        server._context.verify_mode = ssl.CERT_REQUIRED
        server._context.load_verify_locations(certificate.certificate)
        make_sender(
            transport="tls", port=server.port, ca=str(certificate.certificate),
            certificate=str(certificate.certificate), key=str(certificate.key),
        ).put(INCIDENT)  # fmt: skip
        wait_for(lambda: len(server.messages) == 1, "it was let in")


# --- a server that is down


@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
def test_messages_spooled_while_the_server_is_down_are_sent_later(
    namespace: Namespace,
    make_sender: MakeSender,
    results: Results,
    certificate: Certificate,
    secure: bool,  # noqa: FBT001 - of the table
) -> None:
    with SyslogServer(namespace, certificate if secure else None) as server:
        tls = {"transport": "tls", "ca": str(certificate.certificate)}
        sender = make_sender(port=server.port, **(tls if secure else {"transport": "tcp"}))
        sender.put(_numbered(0))
        wait_for(lambda: len(server.messages) == 1, "the first")
        server.go_away()
        for number in range(1, 6):
            sender.put(_numbered(number))
        wait_for(results.failures, "the failure is said")
        server.come_back()
        wait_for(lambda: len(server.messages) == 6, "the rest")
        wait_for(lambda: sender.waiting == 0, "an empty spool")
    assert _addresses(server.messages) == [f"198.18.1.{n}" for n in range(6)]
    assert "refused" in results.failures()[0].detail or "reset" in results.failures()[0].detail
    assert results[-1].ok
    assert len(results.failures()) <= 3  # once a minute each


def test_a_full_spool_loses_the_oldest_and_counts_them(
    namespace: Namespace, make_sender: MakeSender, results: Results
) -> None:
    with SyslogServer(namespace) as server:
        server.go_away()
        sender = make_sender(transport="tcp", port=server.port, spool=10)
        for number in range(25):
            sender.put(_numbered(number))
        wait_for(results.failures, "nobody there")
        assert sender.waiting == 10
        server.come_back()
        wait_for(lambda: len(server.messages) == 10, "what was left")
        wait_for(lambda: any("15 messages lost" in r.detail for r in results), "said")
    assert _addresses(server.messages) == [f"198.18.1.{n}" for n in range(15, 25)]


STALL_S: Final = 10.0
"""Longer than a machine under load lets a process wait for its turn: 5.8 s were seen."""


def test_the_wait_for_a_stalled_server_is_bounded(
    namespace: Namespace, make_sender: MakeSender, results: Results
) -> None:
    with SilentServer(namespace) as server:
        sender = make_sender(transport="tcp", port=server.port, timeout=STALL_S, spool=100_000)
        slowest = 0.0
        big = INCIDENT._replace(reason="x" * 4000)
        for _ in range(5000):  # more than all the buffers between us hold
            begin = time.monotonic()
            sender.put(big)
            slowest = max(slowest, time.monotonic() - begin)
        failure = wait_for(results.failures, "given up", 3 * STALL_S)[0]
    assert "timed out" in failure.detail
    assert slowest < STALL_S


def test_pauses_double_up_to_the_maximum(monkeypatch: pytest.MonkeyPatch) -> None:
    sender = SyslogSender(RemoteSyslog(host="127.0.0.1", transport="tcp"), Results())
    pauses: list[float] = []

    def refuse(_: bytes) -> None:
        raise ConnectionRefusedError

    def rest(pause: float) -> bool:
        pauses.append(pause)
        return len(pauses) < 9

    monkeypatch.setattr(sender, "_send", refuse)
    monkeypatch.setattr(sender, "_sleep", rest)
    sender.put(INCIDENT)
    sender._run()
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]


def test_stopping_sends_what_it_can_and_reports_the_rest(
    namespace: Namespace, make_sender: MakeSender, results: Results
) -> None:
    with SyslogServer(namespace) as server:
        sender = make_sender(transport="tcp", port=server.port)
        for number in range(3):
            sender.put(_numbered(number))
        sender.stop(time.monotonic() + 5)
        wait_for(lambda: len(server.messages) == 3, "sent before the end")
        server.go_away()
        other = make_sender(transport="tcp", port=server.port)
        other.put(INCIDENT)
        wait_for(results.failures, "nobody there")
        begin = time.monotonic()
        other.stop(begin + 0.3)
        assert time.monotonic() - begin < 1
    assert results[-1].detail == "1 not sent: the daemon ended"


def test_missing_certificate_files_are_reported(
    namespace: Namespace, make_sender: MakeSender, results: Results, tmp_path: Path
) -> None:
    with SilentServer(namespace) as server:
        make_sender(transport="tls", port=server.port, ca=str(tmp_path / "no.pem")).put(INCIDENT)
        assert "No such file" in wait_for(results.failures, "said")[0].detail
