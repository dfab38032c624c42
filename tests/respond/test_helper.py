"""The helper: it acts by the configuration, for its users only, and checks each request."""

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

from sentryfw.config.respond import Respond
from sentryfw.errors import ReactionFailed, SentryError
from sentryfw.respond.helper import HelperClient, HelperServer, check_owner
from support.processes import below
from support.reactions import INCIDENT, SIX
from support.waiting import wait_for

pytestmark = pytest.mark.root  # a client or a file of another user is refused

Serve = Callable[..., HelperClient]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "respond.sock"


@pytest.fixture
def serve(path: Path) -> Iterator[Serve]:
    """Return a function that starts a server and returns its client."""
    listeners: list[socket.socket] = []

    def start(settings: dict[str, Any], users: set[int] | None = None) -> HelperClient:
        respond = Respond.model_validate(settings)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        listener.listen(64)
        listeners.append(listener)
        server = HelperServer(respond, {0} if users is None else users)
        threading.Thread(target=server.serve, args=(listener,), daemon=True).start()
        return HelperClient(path, respond)

    yield start
    for listener in listeners:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _say(path: Path, line: bytes) -> dict[str, Any]:
    """Send a line; return the answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.connect(str(path))
        client.sendall(line + b"\n")
        with client.makefile("rb") as stream:
            return dict(json.loads(stream.readline() or b"{}"))


def _deny(path: Path) -> dict[str, Any]:
    return {"hosts_deny": {"enabled": True, "path": str(path)}}


def test_lines_are_added_and_removed(serve: Serve, tmp_path: Path) -> None:
    deny = tmp_path / "hosts.deny"
    deny.write_text("x: y\n")
    helper = serve(_deny(deny))
    assert helper.apply({"198.18.0.2": True, "2001:2:0:1::/64": True}) == {}
    assert "ALL: 198.18.0.2\nALL: [2001:2:0:1::]/64\n" in deny.read_text()
    helper.sync({f"198.18.{n >> 8}.{n & 255}" for n in range(20_000)})
    assert deny.read_text().count("ALL: ") == 20_000
    helper.sync(set())
    assert deny.read_text() == "x: y\n"


def test_the_command_runs_and_its_end_is_reported(serve: Serve, tmp_path: Path) -> None:
    said = tmp_path / "said"
    code = f'echo "$1 $SENTRYFW_KINDS" > {said}; [ "$1" != 198.18.0.2 ]'
    helper = serve({"command": {"argv": ["/bin/sh", "-c", code, "x", "{ip}"]}})
    assert helper.run_command(SIX) == "/bin/sh: ended with status 0"
    assert said.read_text() == "2001:2:0:1::2 syn,udp\n"
    with pytest.raises(ReactionFailed, match="/bin/sh: ended with status 1"):
        helper.run_command(INCIDENT)


def test_a_reaction_that_is_not_configured_is_refused(serve: Serve, tmp_path: Path) -> None:
    helper = serve({})
    for ask in (lambda: helper.run_command(INCIDENT), lambda: helper.sync({"198.18.0.2"})):
        with pytest.raises(ReactionFailed, match="is not configured"):
            ask()
    assert list(tmp_path.iterdir()) == [tmp_path / "respond.sock"]


def test_other_users_get_no_answer(serve: Serve, path: Path, tmp_path: Path) -> None:
    deny = tmp_path / "hosts.deny"
    serve(_deny(deny), users={12345})
    answer: dict[str, Any] = {}
    with suppress(ConnectionError):  # it may close before the request is sent
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
def test_a_malformed_request_changes_nothing(
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
def test_a_field_that_could_be_more_than_a_word_is_refused(
    serve: Serve, tmp_path: Path, fields: dict[str, Any]
) -> None:
    ran = tmp_path / "ran"
    helper = serve({"command": {"argv": ["/usr/bin/touch", str(ran)]}})
    with pytest.raises(ReactionFailed, match="not a valid request"):
        helper.run_command(INCIDENT._replace(**fields))
    assert not ran.exists()


def test_a_command_ends_when_the_daemon_is_gone(serve: Serve, path: Path) -> None:
    serve({"command": {"argv": ["/bin/sleep", "62"], "timeout": 60}})

    def sleepers() -> bool:
        return any(child.words[:2] == ["/bin/sleep", "62"] for child in below(os.getpid()))

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(path))
        request = {"do": "command", "incident": INCIDENT._asdict()}
        client.sendall(json.dumps(request).encode() + b"\n")
        wait_for(sleepers, "it runs")
    wait_for(lambda: not sleepers(), "it is gone")


def test_silent_clients_do_not_exclude_others(
    serve: Serve, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sentryfw.respond.helper.ANSWER_TIMEOUT_S", 1.0)
    helper = serve(_deny(tmp_path / "hosts.deny"))
    silent = []
    for _ in range(20):
        silent.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        silent[-1].connect(str(path))
    begin = time.monotonic()
    while time.monotonic() - begin < 20:
        with suppress(ReactionFailed):
            helper.apply({"198.18.0.2": True})
            break
    for client in silent:
        client.close()
    assert "198.18.0.2" in (tmp_path / "hosts.deny").read_text()


def test_a_missing_helper_is_a_failure_with_advice(path: Path) -> None:
    with pytest.raises(ReactionFailed, match=r"No such file or directory.*sentryfw install"):
        HelperClient(path, Respond()).sync(set())


def test_a_socket_that_is_not_roots_is_not_trusted(path: Path) -> None:
    """A program of another user listens on the helper's socket."""
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
        if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:  # pytest's own
            parent.chmod(parent.stat().st_mode | 0o011)
    with subprocess.Popen(
        [sys.executable, "-I", "-c", code, path], stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        program.stdout.readline()
        with pytest.raises(ReactionFailed, match="does not belong to root"):
            HelperClient(path, Respond()).sync(set())
        assert program.stdout.read() == "0\n"  # it received nothing


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
