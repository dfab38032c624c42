"""Visitors that are kept: nothing of theirs is read, so that the window of their connection closes.

Their number is the caller's to bound; each takes a socket with the smallest receive buffer. See
docs/decisions.md: decoy-hold.
"""

import select
import socket
import struct
import time
from collections import OrderedDict
from contextlib import suppress
from typing import Final

SMALLEST_BUFFER_BYTES: Final = 1
"""The kernel raises it to its minimum (SOCK_MIN_RCVBUF): a window of about 1 KiB."""
RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER without a time: a close resets, and the kernel keeps nothing."""
LEFT: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
TLS_HANDSHAKE: Final = b"\x16\x03"


class Holds:
    """The visitors that are kept, oldest first."""

    def __init__(self, seconds: float) -> None:
        """`seconds`: for which a visitor is kept; 0: none is."""
        self._seconds = seconds
        self._held: OrderedDict[int, tuple[float, socket.socket]] = OrderedDict()
        """Ends and sockets by descriptor, in the order of their ends."""
        self._left = select.epoll()

    def __len__(self) -> int:
        return len(self._held)

    @property
    def is_wanted(self) -> bool:
        """Whether visitors are kept."""
        return self._seconds > 0

    @property
    def first_end(self) -> float | None:
        """The time of time.monotonic() at which the oldest is given up; None if there is none."""
        return next((end for end, _ in self._held.values()), None)

    def fileno(self) -> int:
        """Return the descriptor that is readable when a visitor left."""
        return self._left.fileno()

    def add(self, visitor: socket.socket) -> None:
        """Keep a visitor. Raise OSError if its connection is gone."""
        visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._left.register(visitor, LEFT)
        self._held[visitor.fileno()] = (time.monotonic() + self._seconds, visitor)

    def close_left(self) -> None:
        """Close the connections of visitors that left."""
        for descriptor, _ in self._left.poll(0):
            self._end(descriptor)

    def expire(self) -> None:
        """Give up the visitors whose time is over."""
        now = time.monotonic()
        while (end := self.first_end) is not None and end <= now:
            self.give_up_oldest()

    def give_up_oldest(self) -> bool:
        """Reset the oldest connection; return whether there was one."""
        descriptor = next(iter(self._held), None)
        if descriptor is not None:
            self._end(descriptor)
        return descriptor is not None

    def close(self) -> None:
        """Give up all visitors."""
        while self.give_up_oldest():
            pass
        self._left.close()

    def _end(self, descriptor: int) -> None:
        _, visitor = self._held.pop(descriptor)
        with suppress(OSError):
            self._left.unregister(descriptor)
        visitor.close()


def prepare(listening: socket.socket) -> None:
    """Let the connections of a socket that will listen begin with the smallest window."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALLEST_BUFFER_BYTES)


def is_of_browser(payload: bytes) -> bool:
    """Return whether first bytes are what any web page makes a browser send: a request of HTTP with
    a Host, or a handshake of TLS. Its user would wait, and did nothing."""
    lines = payload.lower().split(b"\n")
    has_host = any(line.startswith(b"host:") for line in lines[1:])
    return payload.startswith(TLS_HANDSHAKE) or (b" http/1." in lines[0] and has_host)
