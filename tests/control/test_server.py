"""The server of the control socket: its answers, the callers it accepts, and wrong clients."""

import asyncio
import contextlib
import itertools
import json
import os
import re
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sentryfw.control import peer, server
from sentryfw.control.client import MAX_LINE_BYTES, Answer, ask, ask_stream
from sentryfw.control.server import (
    MAX_CLIENTS,
    MAX_CLIENTS_PER_USER,
    MAX_KEPT_CLIENTS,
    REQUEST_TIMEOUT_S,
    STREAM_BATCH,
    ControlServer,
)
from sentryfw.errors import NotFound, SentryError
from support.waiting import wait_for

VERB = re.compile(r'"do": "([a-z-]+)"')


@pytest.fixture
def path() -> Iterator[Path]:
    """Not under pytest's tmp_path: a UNIX socket's path has room for 107 bytes."""
    home = Path(tempfile.mkdtemp(prefix="sentryfw-"))
    yield home / "control.sock"
    shutil.rmtree(home)


UNPRIVILEGED = 65534
GROUP = 54321
"""The daemon's group, where a test wants one."""


def _answer(request: Answer) -> server.Reply:
    if request.get("do") == "fail":
        raise NotFound("no such thing")
    if request.get("do") == "list":
        return _numbers(request.get("count", 0))
    return {"echo": request}


def _numbers(count: int) -> server.Stream:
    for number in range(count):
        yield {"number": number}
    if count < 0:
        yield {"number": 0}
        raise SentryError("the table is gone")


@contextlib.contextmanager
def _serving(
    path: Path, answer: Callable[[Answer], server.Reply] = _answer, link: int | None = None
) -> Iterator[None]:
    """Run the server in a loop of its own."""
    loop = asyncio.new_event_loop()
    served = ControlServer(path, answer, link)
    loop.run_until_complete(served.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(served.stop)
        asyncio.run_coroutine_threadsafe(_end_tasks(), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()


async def _end_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def served(path: Path) -> Iterator[Path]:
    with _serving(path):
        yield path


def _send(path: Path, data: bytes) -> bytes:
    """Send raw bytes, and return the answer to the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(10)
        client.connect(str(path))
        with contextlib.suppress(BrokenPipeError):
            client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        try:
            return client.makefile("rb").read()
        except ConnectionResetError:
            return b""


# --- asking


def test_a_request_is_answered(served: Path) -> None:
    assert ask(served, {"do": "status", "text": "ü\n"}) == {"echo": {"do": "status", "text": "ü\n"}}


def test_a_refused_request_is_raised_as_an_error(served: Path) -> None:
    with pytest.raises(SentryError, match=r"^no such thing$"):
        ask(served, {"do": "fail"})
    assert ask(served, {"do": "more"}) == {"echo": {"do": "more"}}


# --- serving


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"status\n", "not JSON"),
        (b"\n", "not JSON"),
        (b"", "not JSON"),
        (b"\xff\xfe\n", "not JSON"),
        (b'{"do": "status"', "not JSON"),
        (b"[" * 50_000 + b"\n", "not JSON"),
        (b"[1]\n", "a request is a JSON object"),
        (b"null\n", "a request is a JSON object"),
    ],
    ids=["word", "empty line", "nothing", "bytes", "cut off", "deep", "list", "null"],
)
def test_a_line_that_is_not_a_request_is_answered_with_the_fault(
    served: Path, line: bytes, fault: str
) -> None:
    assert json.loads(_send(served, line)) == {"error": fault}


def test_a_line_without_end_is_not_answered_and_harms_no_client(served: Path) -> None:
    assert _send(served, b"x" * (MAX_LINE_BYTES * 4)) == b""
    assert ask(served, {"do": "status"}) == {"echo": {"do": "status"}}


def test_a_silent_client_is_disconnected(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "ANSWER_TIMEOUT_S", 0.05)
    with _serving(path), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as mute:
        mute.settimeout(5)
        mute.connect(str(path))
        stream = mute.makefile("rb")
        assert json.loads(stream.readline()) == {
            "error": f"the request did not come within {REQUEST_TIMEOUT_S} s: try again"
        }
        assert stream.read() == b""


def test_a_client_that_leaves_early_harms_no_other(served: Path) -> None:
    for _ in range(MAX_CLIENTS - 1):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(str(served))
            client.sendall(b'{"do": "status"}\n')
    assert ask(served, {"do": "status"}) == {"echo": {"do": "status"}}


def test_clients_beyond_the_limit_are_disconnected(served: Path) -> None:
    """A client that leaves makes room."""
    crowd = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(MAX_CLIENTS)]
    for client in crowd:
        client.connect(str(served))
    request = b'{"do": "status"}\n'
    # Nothing where it was refused before its request came: then the connection is reset.
    assert _send(served, request) in (b"", b'{"error":"too many clients at once: try again"}\n')
    for client in crowd:
        client.close()
    wait_for(lambda: _send(served, request) == b'{"echo":{"do":"status"}}\n', "room")


class Users:
    """Readers whose connections count as those of the users that a test names."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._path = path
        self._uid = 0
        self.connected: list[socket.socket] = []
        self._accepted = 0
        monkeypatch.setattr(server, "peer_of", self._peer)
        monkeypatch.setattr(peer, "readers_group", lambda: GROUP)

    def _peer(self, _: socket.socket) -> peer.Peer:
        self._accepted += 1
        return peer.Peer(self._uid, frozenset({GROUP}))

    def ask(self, uid: int) -> Answer:
        """Ask as a user."""
        self._uid = uid
        return ask(self._path, {"do": "status"})

    def be_silent(self, uid: int, count: int) -> None:
        """Open connections of a user that ask nothing."""
        self._uid = uid
        for _ in range(count):
            before = self._accepted
            client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            client.connect(str(self._path))
            self.connected.append(client)
            wait_for(lambda: self._accepted > before, "accepted")  # noqa: B023

    def leave(self) -> None:
        for client in self.connected:
            client.close()


@pytest.fixture
def users(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Users]:
    monkeypatch.setattr(server, "REQUEST_TIMEOUT_S", 30.0)
    made = Users(path, monkeypatch)
    with _serving(path):
        yield made
        made.leave()


def test_silent_readers_keep_neither_root_nor_other_readers_out(users: Users) -> None:
    users.be_silent(1001, MAX_CLIENTS)
    assert users.ask(0), "root"
    assert users.ask(1002), "another reader"
    with pytest.raises(SentryError, match="too many clients"):
        users.ask(1001)


def test_many_silent_readers_leave_the_places_that_are_kept_for_root(users: Users) -> None:
    for uid in range(1001, 1001 + MAX_CLIENTS):
        users.be_silent(uid, MAX_CLIENTS_PER_USER)
    with pytest.raises(SentryError, match="too many clients"):
        users.ask(2000)
    users.be_silent(0, MAX_KEPT_CLIENTS - 1)
    assert users.ask(0)


def test_a_reader_that_leaves_makes_room_for_its_own_next_request(users: Users) -> None:
    users.be_silent(1001, MAX_CLIENTS_PER_USER)
    users.leave()
    assert wait_for(lambda: _answered(users, 1001), "room")


def _answered(users: Users, uid: int) -> bool:
    with contextlib.suppress(SentryError):
        return bool(users.ask(uid))
    return False


def test_a_request_that_does_not_come_at_once_is_not_waited_for(served: Path) -> None:
    started = time.monotonic()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(10)
        client.connect(str(served))
        client.sendall(b'{"do": ')
        assert client.makefile("rb").read().count(b"\n") == 1
    assert time.monotonic() - started < REQUEST_TIMEOUT_S + 2


@pytest.mark.parametrize(
    ("fails", "expected"), [(False, {"done": 1}), (True, {"error": "refused", "code": 1})]
)
def test_a_coroutine_is_answered_when_it_is_done(
    path: Path, *, fails: bool, expected: Answer
) -> None:
    async def change() -> Answer:
        await asyncio.sleep(0)
        if fails:
            raise SentryError("refused")
        return {"done": 1}

    with _serving(path, lambda _: change()):
        assert json.loads(_send(path, b'{"do": "reload"}\n')) == expected


@pytest.mark.root
def test_the_socket_is_for_its_owner(served: Path) -> None:
    assert served.stat().st_mode & 0o777 == 0o600


def test_the_umask_of_the_daemon_is_unchanged(path: Path) -> None:
    before = os.umask(0o022)
    try:
        with _serving(path):
            pass
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


@pytest.mark.netns  # needs root, to stop being root
@pytest.mark.parametrize("request_", [{"do": "status"}, {"do": "stop"}], ids=str)
def test_other_users_are_not_answered_even_if_the_mode_lets_them_in(
    served: Path, request_: Answer
) -> None:
    served.parent.chmod(0o755)
    served.chmod(0o666)
    line = json.dumps(request_).encode() + b"\n"
    assert _as_nobody(lambda: _send(served, line)) == b"answer: "


@pytest.mark.netns  # needs root, to stop being root
def test_the_mode_keeps_other_users_out_and_the_error_names_the_group(served: Path) -> None:
    served.parent.chmod(0o755)
    answer = _as_nobody(lambda: json.dumps(ask(served, {"do": "status"})).encode())
    assert answer.startswith(b"NoPrivilege: ")
    assert b"only root and the group sentryfw" in answer


@pytest.fixture
def grouped(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Serve as a daemon that has a group, like the service."""
    for module in (peer, server):
        monkeypatch.setattr(module, "readers_group", lambda: GROUP)
    path.parent.chmod(0o755)
    with _serving(path):
        os.chown(path, -1, GROUP)
        yield path


@pytest.mark.netns  # needs root, to change groups
@pytest.mark.parametrize(
    ("gid", "groups"),
    [(GROUP, []), (65534, [GROUP]), (65534, [*range(70_000, 70_200), GROUP])],
    ids=["primary", "supplementary", "one of many"],
)
@pytest.mark.parametrize("what", sorted(server.READ_ONLY - {"list"}))
def test_the_group_may_send_requests_that_change_nothing(
    grouped: Path, gid: int, groups: list[int], what: str
) -> None:
    answer = _as_nobody(lambda: json.dumps(ask(grouped, {"do": what})).encode(), gid, groups)
    assert json.loads(answer.removeprefix(b"answer: ")) == {"echo": {"do": what}}


def test_every_request_of_the_commands_is_known_to_change_something_or_not() -> None:
    """A reading command that asks for more must not end in 4 for the group."""
    changing = {
        "stop",
        "protect",
        "release",
        "release-all",
        "blocked",
        "reload",
        "fleet-outgoing",
        "fleet-incoming",
        "fleet-drop",
        "fleet-release",
    }
    package = Path(server.__file__).parents[1]
    sources = [path for part in ("cli", "query") for path in (package / part).rglob("*.py")]
    asked = {verb for path in sources for verb in VERB.findall(path.read_text())}
    assert len(asked) > 10
    assert asked - changing <= server.READ_ONLY


@pytest.mark.netns  # needs root, to change groups
@pytest.mark.parametrize(
    "what", ["stop", "release", "release-all", "", "Status", None, ["status"], {"do": "status"}]
)
def test_the_group_may_not_change_anything(grouped: Path, what: object) -> None:
    answer = _as_nobody(lambda: json.dumps(ask(grouped, {"do": what})).encode(), GROUP)
    assert answer == b"NoPrivilege: only root may ask that: run it with sudo"


@pytest.mark.netns  # needs root, to change groups
@pytest.mark.parametrize("what", [*sorted(server.CARRIED), "status", "stop", "fleet-drop"])
def test_the_links_user_may_carry_entries_and_change_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(server, "readers_group", lambda: GROUP)
    monkeypatch.setattr("sentryfw.control.peer.readers_group", lambda: GROUP)
    path.parent.chmod(0o755)
    with _serving(path, link=UNPRIVILEGED):
        os.chown(path, -1, GROUP)
        answer = _as_nobody(lambda: json.dumps(ask(path, {"do": what})).encode(), GROUP)
    is_allowed = what in server.CARRIED | server.READ_ONLY
    assert answer.startswith(b"answer: " if is_allowed else b"NoPrivilege: ")


@pytest.mark.netns  # needs root, to change groups
def test_the_socket_of_a_daemon_with_a_group_is_for_the_group(grouped: Path) -> None:
    assert grouped.stat().st_mode & 0o777 == 0o660


def _as_nobody(
    function: Callable[[], bytes], gid: int = 65534, groups: list[int] | None = None
) -> bytes:
    """Return the result of a function that a child runs as uid 65534, or its exception as text."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups or [])
            os.setgid(gid)
            os.setuid(65534)
            os.write(write, b"answer: " + function())
        except BaseException as error:  # noqa: BLE001 - the child reports it and ends
            os.write(write, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return answer


# --- streams


@pytest.mark.parametrize("count", [0, 1, STREAM_BATCH, STREAM_BATCH + 1, 50_000])
def test_a_stream_is_complete_and_in_order(served: Path, count: int) -> None:
    answers = ask_stream(served, {"do": "list", "count": count})
    assert [answer["number"] for answer in answers] == list(range(count))


def test_work_that_is_submitted_runs_in_the_thread_of_the_streams(path: Path) -> None:
    server = ControlServer(path, lambda _: {})
    assert server.submit(lambda: threading.current_thread().name).result(5).startswith("control")
    server.stop()
    with pytest.raises(RuntimeError):
        server.submit(list)


def test_a_fault_within_a_stream_is_raised_in_its_place(served: Path) -> None:
    answers = ask_stream(served, {"do": "list", "count": -1})
    assert next(answers) == {"number": 0}
    with pytest.raises(SentryError, match=r"^the table is gone$"):
        next(answers)


def test_a_client_that_does_not_read_its_stream_delays_no_other(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream is made as fast as it is read, and closed when the client does not read."""
    monkeypatch.setattr(server, "ANSWER_TIMEOUT_S", 0.3)
    made: list[int] = []
    closed = threading.Event()

    def endless() -> server.Stream:
        try:
            for number in itertools.count():
                made.append(number)
                yield {"number": number, "text": "x" * 1000}
        finally:
            closed.set()

    def answer(request: Answer) -> server.Reply:
        return endless() if request["do"] == "list" else {}

    with _serving(path, answer), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as mute:
        mute.connect(str(path))
        mute.sendall(b'{"do": "list"}\n')
        wait_for(lambda: made, "the stream has begun")
        assert ask(path, {"do": "status"}) == {}
        assert closed.wait(5)
    assert len(made) < 2000


def test_a_socket_that_a_killed_daemon_left_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    with _serving(path):
        assert ask(path, {"do": "status"}) == {"echo": {"do": "status"}}


def test_stopping_removes_the_socket(path: Path) -> None:
    with _serving(path):
        assert path.is_socket()
    assert not path.exists()


@pytest.mark.parametrize(
    ("place", "reason"),
    [("missing/control.sock", "No such file or directory"), ("x" * 120, "too long")],
    ids=["no directory", "path too long"],
)
def test_a_socket_that_cannot_be_made_is_an_error_with_its_reason(
    path: Path, place: str, reason: str
) -> None:
    where = path.parent / place

    async def start() -> Any:
        await ControlServer(where, _answer).start()

    with pytest.raises(SentryError, match=reason):
        asyncio.run(start())
