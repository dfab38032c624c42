"""The helper: it does what is configured, for whom it is meant, and checks what it is told."""

import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sentryfw.config_respond import Respond
from sentryfw.errors import SentryError
from sentryfw.respond.helper import Helper, Server, check_owner
from sentryfw.respond.lane import Failed
from support.processes import below
from support.reactions import INCIDENT, SIX
from support.waiting import wait_for

Serve = Callable[..., Helper]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "respond.sock"


@pytest.fixture
def serve(path: Path) -> Iterator[Serve]:
    """A server with these settings, and the daemon's side of it."""
    listeners: list[socket.socket] = []

    def start(settings: dict[str, Any], users: set[int] | None = None) -> Helper:
        respond = Respond.model_validate(settings)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        listener.listen(64)
        listeners.append(listener)
        server = Server(respond, {0} if users is None else users)
        threading.Thread(target=server.serve, args=(listener,), daemon=True).start()
        return Helper(path, respond)

    yield start
    for listener in listeners:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _say(path: Path, line: bytes) -> dict[str, Any]:
    """What it answers to bytes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.connect(str(path))
        client.sendall(line + b"\n")
        with client.makefile("rb") as stream:
            return dict(json.loads(stream.readline() or b"{}"))


def _deny(path: Path) -> dict[str, Any]:
    return {"hosts_deny": {"enabled": True, "path": str(path)}}


def test_lines_come_and_go(serve: Serve, tmp_path: Path) -> None:
    deny = tmp_path / "hosts.deny"
    deny.write_text("x: y\n")
    helper = serve(_deny(deny))
    assert helper.apply({"198.18.0.2": True, "2001:2:0:1::/64": True}) == {}
    assert "ALL: 198.18.0.2\nALL: [2001:2:0:1::]/64\n" in deny.read_text()
    helper.sync({f"198.18.{n >> 8}.{n & 255}" for n in range(20_000)})
    assert deny.read_text().count("ALL: ") == 20_000
    helper.sync(set())
    assert deny.read_text() == "x: y\n"


def test_the_command_is_run_and_how_it_ended_is_told(serve: Serve, tmp_path: Path) -> None:
    said = tmp_path / "said"
    code = f'echo "$1 $SENTRYFW_KINDS" > {said}; [ "$1" != 198.18.0.2 ]'
    helper = serve({"command": {"argv": ["/bin/sh", "-c", code, "x", "{ip}"]}})
    assert helper.run_command(SIX) == "/bin/sh: ended with status 0"
    assert said.read_text() == "2001:2:0:1::2 syn,udp\n"
    with pytest.raises(Failed, match="/bin/sh: ended with status 1"):
        helper.run_command(INCIDENT)


def test_what_is_not_configured_is_not_done(serve: Serve, tmp_path: Path) -> None:
    helper = serve({})
    for ask in (lambda: helper.run_command(INCIDENT), lambda: helper.sync(set())):
        with pytest.raises(Failed, match="is not configured"):
            ask()
    assert list(tmp_path.iterdir()) == [tmp_path / "respond.sock"]


def test_somebody_else_is_not_answered(serve: Serve, path: Path, tmp_path: Path) -> None:
    deny = tmp_path / "hosts.deny"
    serve(_deny(deny), users={12345})
    answer: dict[str, Any] = {}
    with suppress(ConnectionError):  # it may hang up before we have said anything
        answer = _say(path, b'{"do": "sync", "addresses": ["198.18.0.2"]}')
    assert answer == {}
    assert not deny.exists()


@pytest.mark.parametrize(
    "request_",
    [
        b"", b"nonsense", b"[]", b"null", b"{}", b'{"do": "apply"}', b'{"do": ["x"]}',
        b'{"do": "apply", "changes": {"ALL": true}}',
        b'{"do": "apply", "changes": {"198.18.0.2\\nALL: ALL": true}}',
        b'{"do": "sync", "addresses": ["198.18.0.2", "sshd: ALL"]}',
        b'{"do": "command"}', b'{"do": "command", "incident": {"ip": "198.18.0.2"}}',
        b'{"do": "shell", "argv": ["/bin/sh"]}', b"\xff\xfe",
    ],
)  # fmt: skip
def test_a_request_that_is_none_changes_nothing_and_it_goes_on(
    serve: Serve, path: Path, tmp_path: Path, request_: bytes
) -> None:
    deny = tmp_path / "hosts.deny"
    ran = tmp_path / "ran"
    helper = serve({**_deny(deny), "command": {"argv": ["/usr/bin/touch", str(ran)]}})
    assert set(_say(path, request_)) == {"failed"}
    assert not deny.exists()
    assert not ran.exists()
    helper.apply({"198.18.0.2": True})
    assert "ALL: 198.18.0.2\n" in deny.read_text()


@pytest.mark.parametrize(
    "fields",
    [
        {"ip": "$(id)"}, {"address": "x"}, {"reason": "two\nlines"}, {"scan": "--option"},
        {"host": "\x1b[31m"}, {"tool": "x" * 301}, {"reason": "\u202e"},
    ],
    ids=["ip", "address", "newline", "option", "escape", "long", "not-ascii"],
)  # fmt: skip
def test_a_word_that_could_be_more_is_refused(
    serve: Serve, tmp_path: Path, fields: dict[str, Any]
) -> None:
    ran = tmp_path / "ran"
    helper = serve({"command": {"argv": ["/usr/bin/touch", str(ran)]}})
    with pytest.raises(Failed, match="no request"):
        helper.run_command(INCIDENT._replace(**fields))
    assert not ran.exists()


def test_a_command_ends_when_the_daemon_has_gone(serve: Serve, path: Path) -> None:
    serve({"command": {"argv": ["/bin/sleep", "62"], "timeout": 60}})

    def sleepers() -> bool:
        return any(child.words[:2] == ["/bin/sleep", "62"] for child in below(os.getpid()))

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(path))
        request = {"do": "command", "incident": INCIDENT._asdict()}
        client.sendall(json.dumps(request).encode() + b"\n")
        wait_for(sleepers, "it runs")
    wait_for(lambda: not sleepers(), "it is gone")


def test_clients_that_say_nothing_do_not_keep_others_out(
    serve: Serve, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sentryfw.respond.helper.PATIENCE", 1.0)
    helper = serve(_deny(tmp_path / "hosts.deny"))
    silent = []
    for _ in range(20):
        silent.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        silent[-1].connect(str(path))
    begin = time.monotonic()
    while time.monotonic() - begin < 20:
        with suppress(Failed):
            helper.apply({"198.18.0.2": True})
            break
    for client in silent:
        client.close()
    assert "198.18.0.2" in (tmp_path / "hosts.deny").read_text()


def test_nobody_there_is_a_failure_that_says_what_to_do(path: Path) -> None:
    with pytest.raises(Failed, match=r"No such file or directory.*sentryfw install"):
        Helper(path, Respond()).sync(set())


def test_a_socket_that_is_not_roots_is_not_trusted(path: Path) -> None:
    """Somebody else's program, listening where ours should."""
    code = (
        "import os, socket, sys\n"
        "listener = socket.socket(socket.AF_UNIX)\n"
        "os.setuid(65534)\n"
        "listener.bind(sys.argv[1]); listener.listen()\n"
        "print(flush=True)\n"
        "client, _ = listener.accept()\n"
        "print(len(client.recv(10)))\n"
    )
    path.parent.chmod(0o777)
    for parent in path.parents:
        if parent.stat().st_uid == 0 and parent.name.startswith("pytest"):
            parent.chmod(parent.stat().st_mode | 0o011)
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        program.stdout.readline()
        with pytest.raises(Failed, match="not root's"):
            Helper(path, Respond()).sync(set())
        assert program.stdout.read() == "0\n"  # it was told nothing


@pytest.mark.parametrize("which", ["file", "directory"])
@pytest.mark.parametrize(
    "change",
    [lambda place: os.chown(place, 65534, 0), lambda place: place.chmod(0o775),
     lambda place: place.chmod(0o757)],
    ids=["owner", "group", "others"],
)  # fmt: skip
def test_commands_of_root_come_from_a_file_of_root_alone(
    tmp_path: Path, change: Callable[[Path], None], which: str
) -> None:
    directory = tmp_path / "etc"
    directory.mkdir(mode=0o755)
    path = directory / "sentryfw.toml"
    path.write_text("")
    path.chmod(0o644)
    check_owner(path)
    change(path if which == "file" else directory)
    with pytest.raises(SentryError, match="writable by root alone"):
        check_owner(path)
    assert stat.S_ISREG(path.stat().st_mode)
