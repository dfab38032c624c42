"""One NFQUEUE number: bound through netfilterqueue, read and answered by verdicts.py.

The library's run() is not used: an exception in its callback leaves the packet in the kernel
without a verdict, it reads until the socket is empty (for ever in a flood), it ignores ENOBUFS,
and it makes a system call for each verdict.

See docs/decisions.md: queue-reader, queue-overflow.
"""

import socket
import warnings
from typing import Final

from sentryfw.errors import NOT_ROOT, NoPrivilege, SentryError, Unsupported
from sentryfw.netfilter.schema import COPY_RANGE_BYTES
from sentryfw.netfilter.verdicts import Judge, Reader
from sentryfw.netlink.socket import enlarge

_missing: str = ""
try:
    from netfilterqueue import COPY_PACKET, NetfilterQueue
except ImportError as error:  # the extension module or its C library
    _missing = str(error)

SOCKET_BUFFER_BYTES: Final = 16 << 20


def require_library() -> None:
    """Raise Unsupported if netfilterqueue or its C library, libnetfilter_queue, does not load."""
    if _missing:
        raise Unsupported(
            f"libnetfilter_queue does not load ({_missing}): apt install libnetfilter-queue1"
            " (dnf, apk: libnetfilter_queue; opkg: libnetfilter-queue1)"
        )


class PacketQueue:
    """A bound NFQUEUE number. Raises SentryError if another program has bound it.

    From then on packets are held, until something reads `reader`.
    """

    def __init__(self, number: int, max_len: int, judge: Judge | None = None) -> None:
        """`judge`: may be given later, to use()."""
        require_library()
        try:
            self._queue = NetfilterQueue()
        except OSError as error:
            raise NoPrivilege(f"NFQUEUE: {NOT_ROOT}") from error
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # enlarge() sets the buffer
            try:
                self._queue.bind(
                    number, _unused, max_len=max_len, mode=COPY_PACKET,
                    range=COPY_RANGE_BYTES, sock_len=SOCKET_BUFFER_BYTES,
                )  # fmt: skip
            except OSError as error:
                raise SentryError(
                    f"queue {number} is bound by another program (see"
                    " /proc/net/netfilter/nfnetlink_queue), or nfnetlink_queue is missing"
                    " (CONFIG_NETFILTER_NETLINK_QUEUE): stop it, or set [queue] number"
                ) from error
        self._socket = socket.socket(fileno=socket.dup(self._queue.get_fd()))
        self._socket.setblocking(False)
        enlarge(self._socket, SOCKET_BUFFER_BYTES)
        self._number = number
        self.use(judge or _unused)

    def use(self, judge: Judge) -> None:
        """Judge the packets by `judge`, from the first one that is read."""
        self.reader = Reader(self._socket.recv, self._socket.send, judge, self._number)
        """The reader of the queue, with its counters."""

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        """Unbind the number; the kernel drops the packets that still wait."""
        self._queue.unbind()
        self._socket.close()


def _unused(_: object) -> None:
    """Serve as the callback that netfilterqueue requires, which only its run() would call, and as
    the judge until there is one."""
