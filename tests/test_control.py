"""The control socket: what it answers, to whom, and what it bears."""

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sentryfw import control_server
from sentryfw.control import MAX_LINE, Answer, ask, ask_stream
from sentryfw.control_server import CHUNK, MAX_CLIENTS, ControlServer
from sentryfw.errors import NotFound, NotRunning, SentryError
from support.waiting import wait_for


@pytest.fixture
def path() -> Iterator[Path]:
    """Not under pytest's tmp_path: a UNIX socket's path has room for 107 bytes."""
    home = Path(tempfile.mkdtemp(prefix="sentryfw-"))
    yield home / "control.sock"
    shutil.rmtree(home)


GROUP = 54321
"""The daemon's group, where a test wants one."""


def _answer(request: Answer) -> control_server.Reply:
    if request.get("do") == "fail":
        raise NotFound("no such thing")
    if request.get("do") == "list":
        return _numbers(request.get("count", 0))
    return {"echo": request}


def _numbers(count: int) -> control_server.Stream:
    for number in range(count):
        yield {"number": number}
    if count < 0:
        yield {"number": 0}
        raise SentryError("the table is gone")


@contextlib.contextmanager
def _serving(
    path: Path, answer: Callable[[Answer], control_server.Reply] = _answer
) -> Iterator[None]:
    """The server in a loop of its own."""
    loop = asyncio.new_event_loop()
    server = ControlServer(path, answer)
    loop.run_until_complete(server.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(server.stop)
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
    """What a client that does not keep to the protocol gets."""
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


def test_what_the_daemon_refuses_is_raised(served: Path) -> None:
    with pytest.raises(SentryError, match=r"^no such thing$"):
        ask(served, {"do": "fail"})
    assert ask(served, {"do": "more"}) == {"echo": {"do": "more"}}


def test_without_a_socket_the_daemon_is_not_running(path: Path) -> None:
    with pytest.raises(NotRunning, match="the daemon is not running"):
        ask(path, {"do": "status"})


def test_with_a_socket_of_a_killed_daemon_it_is_not_running(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    with pytest.raises(NotRunning):
        ask(path, {"do": "status"})


def test_a_daemon_that_says_nothing_is_not_waited_for(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as mute:
        mute.bind(str(path))
        mute.listen()
        with pytest.raises(NotRunning):
            ask(path, {"do": "status"}, 0.05)


def test_an_answer_that_is_no_json_is_said_with_its_path(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(path))
        other.listen()

        def babble() -> None:
            client, _ = other.accept()
            with client:
                client.recv(100)
                client.sendall(b"220 hello\n")

        thread = threading.Thread(target=babble)
        thread.start()
        with pytest.raises(SentryError, match=f"{path}: the daemon's answer is no JSON"):
            ask(path, {"do": "status"})
        thread.join(5)


# --- serving


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"status\n", "no JSON"),
        (b"\n", "no JSON"),
        (b"", "no JSON"),
        (b"\xff\xfe\n", "no JSON"),
        (b'{"do": "status"', "no JSON"),
        (b"[" * 50_000 + b"\n", "no JSON"),
        (b"[1]\n", "a request is a JSON object"),
        (b"null\n", "a request is a JSON object"),
    ],
    ids=["word", "empty line", "nothing", "bytes", "cut off", "deep", "list", "null"],
)
def test_what_is_no_request_is_answered_with_the_fault(
    served: Path, line: bytes, fault: str
) -> None:
    assert json.loads(_send(served, line)) == {"error": fault}


def test_a_line_without_end_is_not_answered_and_harms_nobody(served: Path) -> None:
    assert _send(served, b"x" * (MAX_LINE * 4)) == b""
    assert ask(served, {"do": "status"}) == {"echo": {"do": "status"}}


def test_a_client_that_says_nothing_is_let_go(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_server, "PATIENCE", 0.05)
    with _serving(path), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as mute:
        mute.settimeout(5)
        mute.connect(str(path))
        assert mute.recv(1) == b""


def test_a_client_that_leaves_early_harms_nobody(served: Path) -> None:
    for _ in range(MAX_CLIENTS - 1):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(str(served))
            client.sendall(b'{"do": "status"}\n')
    assert ask(served, {"do": "status"}) == {"echo": {"do": "status"}}


def test_no_more_clients_than_there_is_room_for(served: Path) -> None:
    """The one too many is let go; when another leaves, there is room again."""
    crowd = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(MAX_CLIENTS)]
    for client in crowd:
        client.connect(str(served))
    assert _send(served, b'{"do": "status"}\n') == b""
    for client in crowd:
        client.close()
    request = b'{"do": "status"}\n'
    assert json.loads(wait_for(lambda: _send(served, request), "room")) == {
        "echo": {"do": "status"}
    }


def test_the_socket_is_for_its_owner(served: Path) -> None:
    assert served.stat().st_mode & 0o777 == 0o600


def test_the_mask_of_the_daemon_is_as_before(path: Path) -> None:
    before = os.umask(0o022)
    try:
        with _serving(path):
            pass
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


@pytest.mark.netns  # needs root, to stop being root
@pytest.mark.parametrize("request_", [{"do": "status"}, {"do": "stop"}], ids=str)
def test_strangers_are_not_answered_even_through_an_open_door(
    served: Path, request_: Answer
) -> None:
    served.parent.chmod(0o755)
    served.chmod(0o666)
    line = json.dumps(request_).encode() + b"\n"
    assert _as_nobody(lambda: _send(served, line)) == b"answer: "


@pytest.mark.netns  # needs root, to stop being root
def test_strangers_find_the_door_closed_and_are_told_who_may(served: Path) -> None:
    served.parent.chmod(0o755)
    said = _as_nobody(lambda: json.dumps(ask(served, {"do": "status"})).encode())
    assert said.startswith(b"NoPrivilege: ")
    assert b"only root and the group sentryfw" in said


@pytest.fixture
def grouped(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A daemon that has a group, as the service has."""
    monkeypatch.setattr(control_server, "_group", lambda: GROUP)
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
@pytest.mark.parametrize("what", sorted(control_server.READ - {"list"}))
def test_the_group_may_ask_what_changes_nothing(
    grouped: Path, gid: int, groups: list[int], what: str
) -> None:
    said = _as_nobody(lambda: json.dumps(ask(grouped, {"do": what})).encode(), gid, groups)
    assert json.loads(said.removeprefix(b"answer: ")) == {"echo": {"do": what}}


@pytest.mark.netns  # needs root, to change groups
@pytest.mark.parametrize(
    "what", ["stop", "release", "release-all", "", "Status", None, ["status"], {"do": "status"}]
)
def test_the_group_may_change_nothing(grouped: Path, what: object) -> None:
    said = _as_nobody(lambda: json.dumps(ask(grouped, {"do": what})).encode(), GROUP)
    assert said == b"NoPrivilege: only root may ask that: run it with sudo"


@pytest.mark.netns  # needs root, to change groups
def test_the_socket_of_a_daemon_with_a_group_is_for_the_group(grouped: Path) -> None:
    assert grouped.stat().st_mode & 0o777 == 0o660


def _as_nobody(
    function: Callable[[], bytes], gid: int = 65534, groups: list[int] | None = None
) -> bytes:
    """What a function gives to uid 65534, in a child; an exception says its name and text."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups or [])
            os.setgid(gid)
            os.setuid(65534)
            os.write(write, b"answer: " + function())
        except BaseException as error:  # noqa: BLE001 - the child says it and ends
            os.write(write, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


# --- streams


@pytest.mark.parametrize("count", [0, 1, CHUNK, CHUNK + 1, 50_000])
def test_a_stream_is_whole_and_in_order(served: Path, count: int) -> None:
    answers = ask_stream(served, {"do": "list", "count": count})
    assert [answer["number"] for answer in answers] == list(range(count))


def test_a_fault_within_a_stream_is_raised_where_it_is(served: Path) -> None:
    answers = ask_stream(served, {"do": "list", "count": -1})
    assert next(answers) == {"number": 0}
    with pytest.raises(SentryError, match=r"^the table is gone$"):
        next(answers)


def test_a_stream_that_is_cut_off_is_no_whole_one(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(path))
        other.listen()

        def start_and_die() -> None:
            client, _ = other.accept()
            with client:
                client.recv(100)
                client.sendall(b'{"number": 0}\n{"num')

        thread = threading.Thread(target=start_and_die)
        thread.start()
        with pytest.raises(SentryError, match="the daemon's answer is no JSON"):
            list(ask_stream(path, {"do": "list"}))
        thread.join(5)


def test_who_does_not_read_a_stream_holds_nothing_up(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made no faster than it is read, others are answered meanwhile, and it is given up."""
    monkeypatch.setattr(control_server, "PATIENCE", 0.3)
    made: list[int] = []
    closed = threading.Event()

    def endless() -> control_server.Stream:
        try:
            for number in itertools.count():
                made.append(number)
                yield {"number": number, "text": "x" * 1000}
        finally:
            closed.set()

    def answer(request: Answer) -> control_server.Reply:
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
    ("place", "said"),
    [("missing/control.sock", "No such file or directory"), ("x" * 120, "too long")],
    ids=["no directory", "path too long"],
)
def test_a_socket_that_cannot_be_made_is_said_with_why(path: Path, place: str, said: str) -> None:
    where = path.parent / place

    async def start() -> Any:
        await ControlServer(where, _answer).start()

    with pytest.raises(SentryError, match=said):
        asyncio.run(start())
