"""The connection with a hub: a real redis-server on a UNIX socket, and servers that lie."""

import contextlib
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from sentryfw.config.fleet import FleetHub
from sentryfw.errors import SentryError
from sentryfw.fleet.link import hub as module
from sentryfw.fleet.link.hub import MAX_REPLY_BYTES, Hub, stream_of
from sentryfw.fleet.link.stream_items import HubFault
from support.fleet_entries import made, sealed
from support.waiting import wait_for

needs_redis = pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs redis-server")


@pytest.fixture
def home() -> Iterator[Path]:
    made_here = Path(mkdtemp(prefix="sentryfw-"))
    yield made_here
    shutil.rmtree(made_here)


@pytest.fixture
def server(home: Path) -> Iterator[Path]:
    """A redis-server; the path of its socket."""
    path = home / "redis.sock"
    with subprocess.Popen(
        ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", home],
        stdout=subprocess.DEVNULL,
    ) as process:
        wait_for(lambda: _listens(path), "it listens")
        yield path
        process.kill()


def _listens(path: Path) -> bool:
    """Return whether connections are accepted; the socket's file is there a moment earlier."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def connected(path: Path, own: str = "fw1", **settings: object) -> Hub:
    found = Hub(FleetHub.model_validate({"url": f"unix://{path}", **settings}), own)
    found.connect()
    return found


@needs_redis
def test_the_number_is_the_id_so_nothing_is_there_twice(server: Path) -> None:
    hub = connected(server)
    assert hub.last(["fw1", "fw2"]) == {"fw1": 0, "fw2": 0}
    assert hub.add([made(5, "fw1"), made(6, "fw1")]) == 0
    assert hub.add([made(5, "fw1"), made(6, "fw1"), made(8, "fw1")]) == 2
    assert hub.last(["fw1"]) == {"fw1": 8}
    [stream] = connected(server, "fw2").read({"fw1": 5})
    assert [item.seq for item in stream.items] == [6, 8]
    assert stream.items[0] == made(6, "fw1")
    hub.close()


@needs_redis
def test_a_seal_is_added_with_its_part_and_read_with_it(
    server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = connected(server)
    part = sealed([made(7, "fw1"), made(8, "fw1")], "fw1")
    assert hub.add(part) == 0
    assert hub.add([*part, made(9, "fw1")]) == 2, "entries alone are counted"
    assert hub.last(["fw1"]) == {"fw1": 9}
    [stream] = connected(server, "fw2").read({"fw1": 0})
    assert stream.items == [*part, made(9, "fw1")]
    assert stream.refused == {}
    [stream] = connected(server, "fw2").read({"fw1": 0}, count=3)
    assert (stream.items, stream.cursor) == (part, 8)
    [stream] = connected(server, "fw2").read({"fw1": 8})
    assert stream.items == [made(9, "fw1")], "a seal of what was read is not asked for"
    monkeypatch.setattr(module, "BLOCK_S", 0.05)
    assert connected(server, "fw2").read({"fw1": 9}) == []
    hub.close()


@needs_redis
def test_reading_waits_and_is_bounded(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_S", 0.05)
    hub = connected(server)
    assert hub.read({"fw2": 0}) == []
    hub.add([made(number, "fw1") for number in range(1, 11)])
    [stream] = hub.read({"fw1": 0, "fw2": 0}, count=4)
    assert stream.cursor == 4


@needs_redis
def test_a_member_that_adds_anything_is_read_past_it(server: Path) -> None:
    hub = connected(server)
    hub._ask([("XADD", stream_of("fw2"), "7-3", "x", "y")])
    hub._ask([("XADD", stream_of("fw2"), "7-4", "entry", "e", "signature", "s")])
    hub._ask([("XADD", stream_of("fw2"), "9-0", "entry", made(9).entry, "signature",
               made(9).signature)])  # fmt: skip
    [stream] = hub.read({"fw2": 0})
    assert [item.seq for item in stream.items] == [9]
    assert stream.refused == {"wrong-id": 2}
    hub._ask([("XADD", stream_of("fw2"), "9-5", "x", "y")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_S", 0.05)
        assert hub.read({"fw2": 9}) == [], "odd ids of a number that was read are not asked for"


@needs_redis
def test_members_report_how_far_they_are(server: Path) -> None:
    hub = connected(server)
    hub.tell('{"read": {}}')
    hub.tell('{"read": {"fw2": 1}}')
    assert connected(server, "fw2").told(["fw1", "fw3"]) == {"fw1": b'{"read": {"fw2": 1}}'}


@needs_redis
def test_a_full_hub_takes_all_of_a_part_or_nothing(server: Path) -> None:
    hub = connected(server)
    hub.add([made(1, "fw1")])
    hub._ask([("CONFIG", "SET", "maxmemory", "1")])
    with pytest.raises(HubFault, match="memory of the hub is full"):
        hub.add([made(number, "fw1") for number in range(2, 30)])
    hub.connect()
    hub._ask([("CONFIG", "SET", "maxmemory", "0")])
    assert hub.last(["fw1"]) == {"fw1": 1}
    assert hub.add([made(2, "fw1")]) == 0


@needs_redis
def test_an_answer_that_is_too_long_ends_the_connection(
    server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_REPLY_BYTES", 4096)
    hub = connected(server)
    hub.add([made(number, "fw1") for number in range(1, 40)])
    with pytest.raises(HubFault, match="an answer of more than"):
        hub.read({"fw1": 0})
    hub.connect()
    assert hub.last(["fw1"]) == {"fw1": 39}


@needs_redis
def test_sentinels_that_do_not_know_the_server_are_named(server: Path) -> None:
    config = FleetHub.model_validate({"sentinels": [f"unix://{server}"]})
    with pytest.raises(HubFault):
        Hub(config, "fw1").connect()


# --- hubs that lie


@contextlib.contextmanager
def lying(home: Path, *answers: bytes) -> Iterator[Path]:
    """Serve one connection: an answer to each thing that is sent."""
    path = home / "liar.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            client, _ = listener.accept()
            with client, contextlib.suppress(OSError):
                for answer in answers:
                    while b"SETINFO" in client.recv(65536):
                        client.sendall(b"+OK\r\n" * 2)
                    client.sendall(answer)
                client.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield path
        thread.join(10)


@pytest.mark.parametrize(
    "answer",
    [
        b"+OK\r\n", b":7\r\n", b"$3\r\nabc\r\n", b"-ERR no\r\n", b"*1\r\n*1\r\n$1\r\na\r\n",
        b"*1\r\n*2\r\n$12\r\nsentryfw:fw9\r\n*0\r\n",
        b"*1\r\n*2\r\n$12\r\nsentryfw:fw2\r\n*1\r\n*2\r\n$3\r\n1-0\r\n*0\r\n",
        b"*99999999\r\n", b"?nonsense\r\n", b"$999999999999999\r\n", b"*-7\r\n",
    ],
    ids=["status", "number", "text", "error", "pair", "stranger", "backwards", "promises", "noise",
         "huge", "negative"],
)  # fmt: skip
def test_a_hub_that_lies_ends_in_a_fault(
    home: Path, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.5)
    with lying(home, answer) as path:
        hub = connected(path, "fw1")
        try:
            found = hub.read({"fw2": 5})
        except HubFault:
            return
        finally:
            hub.close()
        assert all(item.items == [] for item in found)


def test_a_transaction_that_was_not_acknowledged_is_a_fault(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.5)
    for answers in (b"*0\r\n", b"*1\r\n$3\r\n9-0\r\n", b"*-1\r\n"):
        (home / "liar.sock").unlink(missing_ok=True)
        with lying(home, b"+OK\r\n+QUEUED\r\n" + answers) as path:
            hub = connected(path, "fw1")
            with pytest.raises(HubFault):
                hub.add([made(5, "fw1")])
            hub.close()


def test_without_the_library_the_error_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(SentryError, match="python3-redis"):
        Hub(FleetHub(url="unix:///none"), "fw1").connect()


def test_nothing_that_listens_is_named(home: Path) -> None:
    with pytest.raises(HubFault, match=r"fleet\.hub|missing"):
        connected(home / "none.sock")


def test_a_password_that_cannot_be_read_is_named(home: Path) -> None:
    with pytest.raises(SentryError, match="password_file"):
        connected(home / "none.sock", password_file=home / "none")
    (home / "secret").write_bytes(b"\xff")
    with pytest.raises(SentryError, match="not ASCII"):
        connected(home / "none.sock", password_file=home / "secret")


def test_an_answer_has_room_for_what_is_asked_for() -> None:
    assert MAX_REPLY_BYTES > module.MAX_READ_ENTRIES * 2048
