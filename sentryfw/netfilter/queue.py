"""NFQUEUE through netfilterqueue: packets in, verdicts out, for an event loop.

Three traps of the library are closed here. An exception in its callback leaves the packet in
the kernel without a verdict: on_packet() gives one in `finally`. run(block=False) reads until
the socket is empty, for ever in a flood: run_socket() gets a socket with a budget. ENOBUFS is
swallowed: the same socket counts it.
"""

import errno
import socket
import warnings
from collections.abc import Callable
from typing import Any, Final

from sentryfw.engine.model import ACCEPT, Meta, Verdict
from sentryfw.errors import NOT_ROOT, NoPrivilege, SentryError, Unsupported

_missing: str = ""
try:
    from netfilterqueue import COPY_PACKET, NetfilterQueue
except ImportError as error:  # an extension module: it asks for its C library when imported
    _missing = str(error)

UNLISTED_BIT: Final = 0x10000000
INSIDE_BIT: Final = 0x08000000
PARTNER_BIT: Final = 0x20000000
HALF_OPEN_BIT: Final = 0x40000000
PEER_BIT: Final = 0x80000000
MARK_MASK: Final = 0xF0000000
"""The packet mark's bits that rulesets/judge.nft sets and the verdict clears."""
MARK_MASK_INSIDE: Final = MARK_MASK | INSIDE_BIT
"""Likewise, where rulesets/inside.nft is loaded; else that bit is somebody else's."""

COPY_RANGE: Final = 512
"""Bytes of a packet that are looked at: headers, with IPv6 extensions and TCP options."""
SOCKET_BUFFER: Final = 16 << 20
BUDGET: Final = 128
"""Packets judged before the event loop gets its turn."""

METAS: Final = {
    bits: Meta(
        unlisted=bool(bits & UNLISTED_BIT),
        partner=bool(bits & PARTNER_BIT),
        half_open=bool(bits & HALF_OPEN_BIT),
        peer=bool(bits & PEER_BIT),
        inside=bool(bits & INSIDE_BIT),
    )
    for bits in range(0, MARK_MASK_INSIDE + 1, INSIDE_BIT)
}

Judge = Callable[["QueuedPacket"], None]


def require_library() -> None:
    """Unsupported if netfilterqueue, or the C library that it is made for, does not load."""
    if _missing:
        raise Unsupported(
            f"libnetfilter_queue does not load ({_missing}): apt install libnetfilter-queue1"
            " (dnf, apk: libnetfilter_queue; opkg: libnetfilter-queue1)"
        )


class QueuedPacket:
    """A packet that waits in the kernel for our verdict."""

    __slots__ = ("_mask", "_packet", "meta", "payload", "settled")

    def __init__(self, packet: Any, mask: int = MARK_MASK) -> None:  # noqa: ANN401 - netfilterqueue.Packet, untyped
        self.settled = False
        """Whether it has its verdict."""
        self._packet = packet
        self._mask = mask
        self.payload: bytes = packet.get_payload() if packet.get_payload_len() else b""
        self.meta = METAS[packet.get_mark() & mask]

    def verdict(self, verdict: Verdict) -> None:
        """NF_ACCEPT or NF_DROP; the mark is as it was before our table saw the packet."""
        packet = self._packet
        if verdict == ACCEPT:
            packet.set_mark(packet.get_mark() & ~self._mask)
            packet.accept()
        else:
            packet.drop()
        self.settled = True


class PacketQueue:
    """One NFQUEUE number, bound. SentryError if somebody else has it."""

    def __init__(self, number: int, max_len: int, judge: Judge, mask: int = MARK_MASK) -> None:
        self._judge = judge
        self._mask = mask
        self.failures = 0
        """Packets whose judging raised; they were accepted."""
        self.last_failure: Exception | None = None
        self.received = 0
        """Packets that came out of the queue."""
        self.skipped = 0
        """Packets that the kernel numbered but found no room for in our socket: it dropped them."""
        self._last_id = 0
        require_library()
        try:
            self._queue = NetfilterQueue()
        except OSError as error:
            raise NoPrivilege(f"NFQUEUE: {NOT_ROOT}") from error
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the buffer is forced below
            try:
                self._queue.bind(
                    number, self._on_packet, max_len=max_len, mode=COPY_PACKET,
                    range=COPY_RANGE, sock_len=SOCKET_BUFFER,
                )  # fmt: skip
            except OSError as error:
                raise SentryError(
                    f"queue {number} is taken by another program (see"
                    " /proc/net/netfilter/nfnetlink_queue), or nfnetlink_queue is missing"
                    " (CONFIG_NETFILTER_NETLINK_QUEUE): stop it, or set [queue] number"
                ) from error
        self._socket = BudgetedSocket(self._queue.get_fd())

    def fileno(self) -> int:
        return int(self._queue.get_fd())

    @property
    def overruns(self) -> int:
        """Times the kernel had no room in our socket and dropped packets (ENOBUFS)."""
        return self._socket.overruns

    @property
    def is_drained(self) -> bool:
        """Whether the last look found nothing more."""
        return self._socket.is_drained

    def receive(self) -> None:
        """Judge what is there, at most BUDGET messages."""
        self._socket.budget = BUDGET
        self._queue.run_socket(self._socket)  # type: ignore[arg-type]

    def close(self) -> None:
        """Give the number back; packets still waiting are dropped by the kernel."""
        self._queue.unbind()
        self._socket.close()

    def _on_packet(self, packet: Any) -> None:  # noqa: ANN401 - netfilterqueue.Packet, untyped
        queued = None
        number = packet.id
        self.received += 1
        self.skipped += (number - self._last_id - 1) & 0xFFFFFFFF
        self._last_id = number
        try:
            queued = QueuedPacket(packet, self._mask)
            self._judge(queued)
        except Exception as error:  # noqa: BLE001 - whatever it is, the packet is not stuck
            self.failures += 1
            self.last_failure = error
        finally:
            if queued is None or not queued.settled:
                _settle(packet)


def _settle(packet: Any) -> None:  # noqa: ANN401 - netfilterqueue.Packet, untyped
    """Accept a packet that has no verdict yet; the library refuses a second one."""
    try:
        packet.accept()
    except RuntimeError:
        return


class BudgetedSocket:
    """What run_socket() reads from: the queue's descriptor, so many times."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=socket.dup(descriptor))
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, SOCKET_BUFFER)
        self.budget = 0
        self.overruns = 0
        self.is_drained = True

    def recv(self, size: int) -> bytes:
        """One message. BlockingIOError when there is none, or the budget is spent."""
        if not self.budget:
            raise BlockingIOError(errno.EAGAIN, "budget spent")
        self.budget -= 1
        self.is_drained = False
        try:
            return self._socket.recv(size)
        except BlockingIOError:
            self.is_drained = True
            raise
        except OSError as error:
            self.overruns += error.errno == errno.ENOBUFS
            raise

    def close(self) -> None:
        self._socket.close()


_SO_RCVBUFFORCE: Final = 33
