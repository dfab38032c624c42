"""One request to a real HTTPS server: what arrives, what is refused, errors without the token."""

import socket
import subprocess
import sys
import threading
from typing import Any

import pytest

from sentryfw.respond.webhook import post as module
from sentryfw.respond.webhook.post import Posted, post
from support.https import HttpsServer
from support.reactions import Certificate, make_certificate

SECRET = "s3cret-token"  # noqa: S105 - of a test


def send(url: str, certificate: Certificate | None, **more: Any) -> Posted:
    request = {
        "method": "POST", "url": url, "headers": {"X-Key": SECRET}, "body": "caf\u00e9",
        "ca": str(certificate.certificate) if certificate else None, "timeout": 5.0, **more,
    }  # fmt: skip
    return post(**request)


def test_a_request_arrives_as_it_is(server: HttpsServer, certificate: Certificate) -> None:
    assert send(server.url("/a?b=c"), certificate) == Posted("", 200)
    [received] = server.received
    assert (received.method, received.path, received.body) == ("POST", "/a?b=c", "caf\u00e9")
    assert received.headers["X-Key"] == SECRET


def test_a_certificate_of_another_authority_is_refused(server: HttpsServer) -> None:
    posted = send(server.url(), None)
    assert "certificate verify failed" in posted.error
    assert server.received == []


def test_a_certificate_of_another_name_is_refused(tmp_path_factory: Any) -> None:
    other = make_certificate(tmp_path_factory.mktemp("other"), "push.example.org")
    with HttpsServer(other) as server:
        posted = send(server.url(), other)
        assert "certificate verify failed" in posted.error
        assert server.received == []


def test_a_program_on_this_host_may_speak_http() -> None:
    with HttpsServer(None) as server:
        assert send(server.url(scheme="http"), None).error == ""


@pytest.mark.parametrize(
    ("status", "headers", "error", "wait"),
    [
        (404, {}, "the server answered 404", 0.0),
        (429, {"Retry-After": "120"}, "the server answered 429", 120.0),
        (503, {"Retry-After": "99999999"}, "the server answered 503", 3600.0),
        (503, {"Retry-After": "tomorrow"}, "the server answered 503", 0.0),
        (302, {"Location": "http://127.0.0.1/"}, "answered 302, and redirects are not", 0.0),
    ],
)
def test_another_status_is_a_failure(
    server: HttpsServer, certificate: Certificate, status: int, headers: dict[str, str],
    error: str, wait: float,
) -> None:  # fmt: skip
    server.answers.append((status, headers))
    posted = send(server.url(), certificate)
    assert error in posted.error
    assert (posted.status, posted.retry_after) == (status, wait)
    assert len(server.received) == 1


def test_a_server_that_is_away_is_a_failure(certificate: Certificate) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert "refused" in send(f"https://127.0.0.1:{port}/", certificate).error


def test_a_silent_server_costs_its_timeout(certificate: Certificate) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/"
        assert "time" in send(url, certificate, timeout=0.3).error


@pytest.mark.parametrize("answer", [b"nonsense\r\n\r\n", b"", b"HTTP/1.1 200"])
def test_an_answer_that_is_none_is_a_failure(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        posted = send(f"http://127.0.0.1:{server.getsockname()[1]}/{SECRET}", None)
    assert posted.error or answer == b"HTTP/1.1 200"
    assert SECRET not in posted.error


@pytest.mark.parametrize(
    "more",
    [
        {"headers": {"X": f"{SECRET}\r\nY: z"}},
        {"ca": "/missing"},
        {"url": f"http://127.0.0.1/\n{SECRET}"},
    ],
)
def test_no_failure_quotes_the_token(more: dict[str, Any], certificate: Certificate) -> None:
    posted = send(more.pop("url", f"https://127.0.0.1:1/{SECRET}"), certificate, **more)
    assert posted.error
    assert SECRET not in posted.error


def test_a_child_that_ends_without_an_answer_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMMAND", [sys.executable, "-I", "-c", "raise SystemExit(3)"])
    assert send("https://127.0.0.1:1/", None).error.endswith("status 3")
    monkeypatch.setattr(module, "COMMAND", ["/nonexistent"])
    assert "cannot start" in send("https://127.0.0.1:1/", None).error
    monkeypatch.setattr(module, "START_TIMEOUT_S", 0.1)
    monkeypatch.setattr(module, "COMMAND", ["/bin/sleep", "60"])
    assert send("https://127.0.0.1:1/", None, timeout=0.1).error == "no end within 0.1s"


def test_the_daemons_side_loads_nothing_of_http() -> None:
    code = (
        "import sys; from sentryfw.respond.webhook import sender\n"
        "print([m for m in ('http.client', 'ssl', 'urllib.request', 'email') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], check=True, capture_output=True, text=True
    )
    assert done.stdout == "[]\n"
