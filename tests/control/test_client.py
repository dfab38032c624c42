"""The client of the control socket, against servers that answer wrongly or not."""

import contextlib
import json
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sentryfw.control import client as client_module
from sentryfw.control.client import (
    ask,
    ask_stream,
    ask_stream_unprivileged,
    ask_unprivileged,
)
from sentryfw.errors import NoPrivilege, NotRunning, SentryError


@pytest.fixture
def path() -> Iterator[Path]:
    """Not under pytest's tmp_path: a UNIX socket's path has room for 107 bytes."""
    home = Path(tempfile.mkdtemp(prefix="sentryfw-"))
    yield home / "control.sock"
    shutil.rmtree(home)


@contextlib.contextmanager
def answering(path: Path, data: bytes) -> Iterator[list[bytes]]:
    """Serve one client, who gets `data` for its request; yield the requests."""
    requests: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            client, _ = server.accept()
            with client:
                requests.append(client.recv(1000))
                client.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        yield requests
        thread.join(5)


def test_a_request_is_one_line_of_json(path: Path) -> None:
    with answering(path, b'{"pid": 1}\n') as requests:
        assert ask(path, {"do": "status", "text": "\n"}) == {"pid": 1}
    assert requests == [b'{"do":"status","text":"\\n"}\n']


def test_a_stream_ends_at_its_end(path: Path) -> None:
    with answering(path, b'{"n": 1}\n{"n": 2}\n{"end": true}\n{"n": 3}\n'):
        assert list(ask_stream(path, {"do": "list"})) == [{"n": 1}, {"n": 2}]


def test_without_a_socket_the_daemon_is_not_running(path: Path) -> None:
    with pytest.raises(NotRunning, match="the daemon is not running: start sentryfwd"):
        ask(path, {"do": "status"})


def test_with_a_socket_of_a_killed_daemon_it_is_not_running(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    with pytest.raises(NotRunning):
        ask(path, {"do": "status"})


def test_a_silent_daemon_is_not_running(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as mute:
        mute.bind(str(path))
        mute.listen()
        with pytest.raises(NotRunning):
            ask(path, {"do": "status"}, 0.05)


def test_a_connection_that_is_closed_without_an_answer_is_an_error(path: Path) -> None:
    with answering(path, b""), pytest.raises(SentryError, match="without an answer: try again"):
        ask(path, {"do": "status"})


@pytest.mark.parametrize("data", [b"220 hello\n", b"[1]\n", b"\xff\n"], ids=repr)
def test_an_answer_that_is_not_an_object_is_an_error_with_the_path(path: Path, data: bytes) -> None:
    with (
        answering(path, data),
        pytest.raises(SentryError, match=f"{path}: the daemon's answer is not a JSON object"),
    ):
        ask(path, {"do": "status"})


def test_a_truncated_stream_is_an_error(path: Path) -> None:
    with (
        answering(path, b'{"number": 0}\n{"num'),
        pytest.raises(SentryError, match="the daemon's answer is not a JSON object"),
    ):
        list(ask_stream(path, {"do": "list"}))


@pytest.mark.parametrize(
    ("code", "kind", "exit_code"),
    [
        pytest.param(4, NoPrivilege, 4, id="no privilege"),
        pytest.param(78, SentryError, 78, id="configuration"),
        pytest.param(None, SentryError, 1, id="no code"),
        pytest.param("4", SentryError, 1, id="text"),
        pytest.param(256, SentryError, 1, id="too large"),
    ],
)
def test_an_error_is_raised_with_its_exit_code(
    path: Path, code: Any, kind: type[SentryError], exit_code: int
) -> None:
    answer = json.dumps({"error": "it failed", "code": code}).encode() + b"\n"
    with answering(path, answer), pytest.raises(kind, match=r"^it failed$") as caught:
        ask(path, {"do": "status"})
    assert caught.value.exit_code == exit_code


def test_a_caller_without_privilege_learns_both_ways(path: Path) -> None:
    for call in (
        lambda: ask_unprivileged(path, {"do": "status"}),
        lambda: list(ask_stream_unprivileged(path, {"do": "list"})),
    ):
        with pytest.raises(NotRunning, match=r"systemctl start sentryfw\), or run this with sudo"):
            call()


def test_a_caller_without_privilege_is_answered_like_any_other(path: Path) -> None:
    with answering(path, b'{"pid": 1}\n'):
        assert ask_unprivileged(path, {"do": "status"}) == {"pid": 1}
    path.unlink()
    with answering(path, b'{"n": 1}\n{"end": true}\n'):
        assert list(ask_stream_unprivileged(path, {"do": "list"})) == [{"n": 1}]


@pytest.mark.netns  # needs root, to stop being root
def test_a_socket_of_another_user_names_the_group(path: Path) -> None:
    path.parent.chmod(0o755)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        path.chmod(0o600)
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            try:
                ask(path, {"do": "status"})
            except NoPrivilege as error:
                os._exit(0 if "only root and the group sentryfw" in str(error) else 2)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_refusal_that_comes_before_the_request_is_the_answer(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server with too many clients closes before it has read anything."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen()

        def refused(_: Any) -> bytes:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b'{"error": "too many clients"}\n')
            return b"a request\n"

        monkeypatch.setattr(client_module, "encode", refused)
        with pytest.raises(SentryError, match="too many clients"):
            ask(path, {"do": "status"})
