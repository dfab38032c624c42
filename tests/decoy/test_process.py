"""The daemon's side of the decoys: sockets, reports, restart."""

import os
import signal
import socket
from collections.abc import Callable, Iterator

import pytest

from sentryfw.config.decoy import Decoy
from sentryfw.decoy import process as module
from sentryfw.decoy.process import Decoys
from sentryfw.decoy.wire import CONNECTED, PAYLOAD, REQUEST, Visit, encode
from sentryfw.errors import SentryError
from support.waiting import wait_for

VISIT = Visit(CONNECTED, bytes((198, 18, 0, 2)), 40000, bytes((198, 18, 0, 1)), 23)

Make = Callable[[], Decoys]


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def make(port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Return a function that starts decoys; SO_MARK would need a capability."""
    monkeypatch.setattr(module, "SO_MARK", socket.SO_PRIORITY)
    made: list[Decoys] = []

    def start() -> Decoys:
        made.append(Decoys(Decoy.model_validate({"tcp": [23], "port": port}), 1))
        return made[-1]

    yield start
    for decoys in made:
        decoys.close()


def test_reports_are_visits_and_others_are_counted(make: Make) -> None:
    decoys = make()
    for message in (encode(VISIT), b"not a message", encode(VISIT._replace(port=24))):
        decoys._theirs.send(message)
    assert list(decoys.receive()) == [VISIT]
    assert list(decoys.receive()) == []
    assert decoys.status() == {"running": True, "visits": 1, "garbled": 2, "restarts": 0}


def test_the_data_that_a_visitor_sends_is_not_another_visit(make: Make) -> None:
    decoys = make()
    for kind in (CONNECTED, PAYLOAD, REQUEST, PAYLOAD):
        decoys._theirs.send(encode(VISIT._replace(kind=kind)))
    assert [visit.kind for visit in decoys.receive()] == [CONNECTED, PAYLOAD, REQUEST, PAYLOAD]
    assert decoys.status()["visits"] == 2


def test_one_call_reads_a_batch(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MESSAGE_BATCH", 2)
    decoys = make()
    for _ in range(3):
        decoys._theirs.send(encode(VISIT))
    assert len(list(decoys.receive())) == 2
    assert len(list(decoys.receive())) == 1


def test_a_process_that_ended_is_started_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESTART_INTERVAL_S", 0.0)
    decoys = make()
    assert decoys.revive() is None
    os.kill(decoys._process.pid, signal.SIGKILL)
    wait_for(lambda: not decoys.is_running(), "it ended")
    assert decoys.revive() == "the decoy process ended with status -9 and was started again"
    assert decoys.is_running()
    assert decoys.restarts == 1


def test_a_process_that_ended_at_once_is_not_started_at_once(make: Make) -> None:
    decoys = make()
    os.kill(decoys._process.pid, signal.SIGKILL)
    wait_for(lambda: not decoys.is_running(), "it ended")
    assert decoys.revive() is None


def test_a_port_in_use_is_an_error_with_advice(make: Make, port: int) -> None:
    with (
        socket.create_server(("", port)),
        pytest.raises(SentryError, match=rf"decoys: port {port}: .* in use: set \[decoy\] port"),
    ):
        make()


def test_closing_frees_the_port_and_ends_the_process(make: Make, port: int) -> None:
    decoys = make()
    decoys.close()
    assert not decoys.is_running()
    socket.create_server(("", port)).close()
