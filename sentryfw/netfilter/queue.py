"""One NFQUEUE number: bound through netfilterqueue, read and answered by netfilter/nfqueue.py.

The library's own way of a packet is not used: an exception in its callback leaves the packet in
the kernel without a verdict, run() reads until the socket is empty (for ever in a flood), ENOBUFS
is swallowed, and a verdict is a system call of its own.
"""

import socket
import warnings
from typing import Final

from sentryfw.errors import NOT_ROOT, NoPrivilege, SentryError, Unsupported
from sentryfw.netfilter.netlink import SO_RCVBUFFORCE
from sentryfw.netfilter.nfqueue import MARK_MASK, Judge, Reader

_missing: str = ""
try:
    from netfilterqueue import COPY_PACKET, NetfilterQueue
except ImportError as error:  # an extension module: it asks for its C library when imported
    _missing = str(error)

COPY_RANGE: Final = 512
"""Bytes of a packet that are looked at: headers, with IPv6 extensions and TCP options."""
SOCKET_BUFFER: Final = 16 << 20


def require_library() -> None:
    """Unsupported if netfilterqueue, or the C library that it is made for, does not load."""
    if _missing:
        raise Unsupported(
            f"libnetfilter_queue does not load ({_missing}): apt install libnetfilter-queue1"
            " (dnf, apk: libnetfilter_queue; opkg: libnetfilter-queue1)"
        )


class PacketQueue:
    """One NFQUEUE number, bound. SentryError if somebody else has it."""

    def __init__(self, number: int, max_len: int, judge: Judge, mask: int = MARK_MASK) -> None:
        require_library()
        try:
            self._queue = NetfilterQueue()
        except OSError as error:
            raise NoPrivilege(f"NFQUEUE: {NOT_ROOT}") from error
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the buffer is forced below
            try:
                self._queue.bind(
                    number, _unused, max_len=max_len, mode=COPY_PACKET,
                    range=COPY_RANGE, sock_len=SOCKET_BUFFER,
                )  # fmt: skip
            except OSError as error:
                raise SentryError(
                    f"queue {number} is taken by another program (see"
                    " /proc/net/netfilter/nfnetlink_queue), or nfnetlink_queue is missing"
                    " (CONFIG_NETFILTER_NETLINK_QUEUE): stop it, or set [queue] number"
                ) from error
        self._socket = socket.socket(fileno=socket.dup(self._queue.get_fd()))
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BUFFER)
        self.reader = Reader(self._socket.recv, self._socket.send, judge, number, mask)
        """Who reads it, and what it counted."""

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        """Give the number back; packets still waiting are dropped by the kernel."""
        self._queue.unbind()
        self._socket.close()


def _unused(_: object) -> None:
    """netfilterqueue wants a callback; its own reading, which calls it, is never asked for."""
