"""Datagrams received by one call, through a pair of sockets."""

import errno
import os
import signal
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from sentryfw.netlink.answers import SLOT_BYTES, AnswerRoom

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("=qq", 0, 200_000))
    with ours, theirs:
        yield ours, theirs


def test_as_many_datagrams_as_wanted_come_in_order(pair: Pair) -> None:
    ours, theirs = pair
    sent = [bytes([number]) * (number + 1) for number in range(7)]
    for datagram in sent:
        theirs.send(datagram)
    room = AnswerRoom(4)
    assert room.receive(ours.fileno(), 4) == sent[:4]
    assert room.receive(ours.fileno(), 3) == sent[4:]


def test_what_came_before_the_timeout_is_returned(pair: Pair) -> None:
    ours, theirs = pair
    theirs.send(b"alone")
    room = AnswerRoom(4)
    assert room.receive(ours.fileno(), 4) == [b"alone"]
    with pytest.raises(OSError, match=os.strerror(errno.EAGAIN)):
        room.receive(ours.fileno(), 4)


def test_a_datagram_that_has_no_room_is_an_error(pair: Pair) -> None:
    ours, theirs = pair
    theirs.send(bytes(SLOT_BYTES))
    theirs.send(bytes(SLOT_BYTES + 1))
    room = AnswerRoom(2)
    assert room.receive(ours.fileno(), 1) == [bytes(SLOT_BYTES)]
    with pytest.raises(OSError, match=os.strerror(errno.EMSGSIZE)):
        room.receive(ours.fileno(), 1)


def test_a_signal_does_not_end_the_wait(pair: Pair) -> None:
    ours, theirs = pair
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("=qq", 20, 0))
    caught: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: caught.append(number))
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        signal.pthread_kill(main, signal.SIGUSR1)
        theirs.send(b"late")

    waker = threading.Timer(0.2, interrupt)
    waker.start()
    try:
        assert AnswerRoom(1).receive(ours.fileno(), 1) == [b"late"]
    finally:
        waker.join()
        signal.signal(signal.SIGUSR1, before)
    assert caught == [signal.SIGUSR1]
