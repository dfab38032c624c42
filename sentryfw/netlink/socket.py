"""Netlink sockets: transactions and queries to nf_tables, and the kernel's notifications."""

import errno
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Final, NoReturn, Self

from sentryfw.errors import NOT_ROOT, KernelError, NoPrivilege, Unsupported
from sentryfw.netlink.answers import AnswerRoom
from sentryfw.netlink.message import (
    HEADER,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLMSG_DONE,
    NLMSG_ERROR,
    Message,
    error_of,
    messages,
)
from sentryfw.netlink.nftables import NFPROTO_INET, NftRequest, batch, nft

NETLINK_NETFILTER: Final = 12
SOL_NETLINK: Final = 270
NETLINK_ADD_MEMBERSHIP: Final = 1
NETLINK_DROP_MEMBERSHIP: Final = 2
NETLINK_CAP_ACK: Final = 10
SO_SNDBUFFORCE: Final = 32
SO_RCVBUFFORCE: Final = 33

ANSWER_TIMEOUT_S: Final = 10.0
"""Seconds to wait for an answer. A transaction waits for other transactions only."""
DUMP_BYTES: Final = 1 << 18
"""Bytes read of a datagram of a dump."""
MAX_ANSWERS: Final = 256
"""Answers about one object each that one call reads."""
NOTIFICATION_BYTES: Final = 1 << 16
"""Bytes read of a notification."""
READ_BATCH: Final = 64
"""Notifications, of a page each, that are read before the event loop gets its turn."""
_KIND: Final = struct.Struct("=4xH2xI")
"""nlmsg_type and nlmsg_seq of struct nlmsghdr."""
_NOT_THERE: Final = struct.pack("=i", -errno.ENOENT)
"""error of struct nlmsgerr, behind that header."""


def enlarge(sock: socket.socket, size: int, *, send: bool = False) -> None:
    """Give a socket buffers of `size` bytes; `send`: that to the kernel, too.

    Root of a user namespace gets no more than net.core.rmem_max and wmem_max: the force needs
    CAP_NET_ADMIN in the first user namespace.
    """
    options = [(SO_RCVBUFFORCE, socket.SO_RCVBUF)]
    options += [(SO_SNDBUFFORCE, socket.SO_SNDBUF)] * send
    for forced, limited in options:
        try:
            sock.setsockopt(socket.SOL_SOCKET, forced, size)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, limited, size)


class NfnetlinkSocket:
    """A socket to nf_tables for one thread. Raises KernelError with the errno of a refusal."""

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER
            )
        except OSError as error:
            raise Unsupported(
                f"the kernel lacks nfnetlink ({error.strerror}): it needs CONFIG_NETFILTER_NETLINK"
                " and CONFIG_NF_TABLES"
            ) from error
        self._socket.bind((0, 0))
        timeout = struct.pack("=qq", int(ANSWER_TIMEOUT_S), 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
        # Errors without the request, which has more bytes than AnswerRoom has for an answer.
        self._socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
        self._sequence = 0
        self._answers: AnswerRoom | None = None
        """Made by the first ask_each()."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    @property
    def port(self) -> int:
        """The socket's netlink port id, which the kernel puts into notifications."""
        return int(self._socket.getsockname()[0])

    def grow(self, size: int) -> None:
        """Make room for a transaction of `size` bytes."""
        enlarge(self._socket, size, send=True)

    def transact(self, requests: list[NftRequest], what: str, *, commit: bool = True) -> None:
        """Send one transaction and wait until the kernel has acknowledged it.

        `what` names it in errors.
        """
        begin = self._number(len(requests) + 2)
        self._send(batch(requests, begin, commit=commit), what)
        last = begin + len(requests)
        refused = 0
        while True:
            for reply in messages(self._receive(what)):
                if reply.kind != NLMSG_ERROR or not begin <= reply.sequence <= last:
                    continue  # the answer to an older request, which timed out
                refused = refused or error_of(reply)
                if reply.sequence in (begin, last):
                    _raise_for(refused, what)
                    return

    def rehearse(self, requests: list[NftRequest], what: str) -> list[int]:
        """Send a transaction without a commit; return the errno of each request, 0 if accepted.

        Raise KernelError if the kernel refuses the transaction as a whole.
        """
        begin = self._sequence + 1
        self._sequence += len(requests) + 2
        answered = [(kind, flags | NLM_F_ACK, body) for kind, flags, body in requests]
        self._send(batch(answered, begin, commit=False), what)
        codes: dict[int, int] = {}
        while len(codes) < len(requests):
            for reply in messages(self._receive(what)):
                if reply.kind != NLMSG_ERROR:
                    continue
                if reply.sequence == begin:
                    _raise_for(error_of(reply), what)
                elif begin < reply.sequence <= begin + len(requests):
                    codes[reply.sequence] = error_of(reply)
        return [codes[sequence] for sequence in sorted(codes)]

    def request(self, kind: int, body: bytes, what: str) -> Iterator[Message]:
        """Send one NFT_MSG_GET* and yield the answer. KernelError ENOENT without such an object."""
        yield from self._ask(kind, body, NLM_F_ACK, what)

    def dump(
        self, kind: int, body: bytes, what: str, family: int = NFPROTO_INET
    ) -> Iterator[Message]:
        """Send one NFT_MSG_GET* for all objects of a family and yield the answers."""
        yield from self._ask(kind, body, NLM_F_DUMP, what, family)

    def ask_each(self, kind: int, start: bytes, ends: list[bytes], what: str) -> list[bytes]:
        """Send an NFT_MSG_GET* for each of some hundred bodies, start + end, in one datagram.

        Return the answers, each a datagram, in order; empty where the object does not exist. The
        bodies have one size. The answers need room: call grow() before.
        """
        first = self._number(len(ends))
        header = nft(kind, start, sequence=0)
        size = (len(header) + len(ends[0])).to_bytes(4, sys.byteorder)
        before, after = size + header[4:8], header[12:]  # of nlmsg_seq
        self._send(
            b"".join(
                b"%b%b%b%b" % (before, number.to_bytes(4, sys.byteorder), after, end)
                for number, end in enumerate(ends, first)
            ),
            what,
        )
        answers: list[bytes] = []
        while len(answers) < len(ends):
            for data in self._receive_many(len(ends) - len(answers), what):
                kind, sequence = _KIND.unpack_from(data)
                if sequence != first + len(answers):
                    continue  # the answer to an older request, which timed out
                answers.append(data if kind != NLMSG_ERROR else _absent(data, what))
        return answers

    def ask_all(self, kind: int, body: bytes, count: int, what: str) -> list[bytes]:
        """Send one NFT_MSG_GET* for `count` objects.

        Return the answers, each a datagram, in order, up to the first object that does not exist:
        there the kernel stops. The answers need room: call grow() before.
        """
        sequence = self._number(1)
        self._send(nft(kind, body, sequence=sequence), what)
        answers: list[bytes] = []
        while len(answers) < count:
            answers += self._receive_many(count - len(answers), what)
            while answers and _KIND.unpack_from(answers[0])[1] != sequence:
                del answers[0]  # the answer to an older request, which timed out
            if answers and _KIND.unpack_from(answers[-1])[0] == NLMSG_ERROR:
                _absent(answers.pop(), what)
                break
        return answers

    def _number(self, count: int) -> int:
        """Reserve `count` sequence numbers of 32 bits; return the first."""
        if self._sequence + count >= 1 << 32:
            self._sequence = 0
        first = self._sequence + 1
        self._sequence += count
        return first

    def _ask(
        self, kind: int, body: bytes, flags: int, what: str, family: int = NFPROTO_INET
    ) -> Iterator[Message]:
        sequence = self._number(1)
        self._send(nft(kind, body, flags=flags, sequence=sequence, family=family), what)
        while True:
            for reply in messages(self._receive(what)):
                if reply.sequence != sequence:
                    continue
                if reply.kind == NLMSG_ERROR:
                    _raise_for(error_of(reply), what)
                    return
                if reply.kind == NLMSG_DONE:
                    return
                yield reply

    def _send(self, data: bytes, what: str) -> None:
        try:
            self._socket.send(data)
        except OSError as error:
            _raise_for(error.errno or errno.EIO, what)

    def _receive_many(self, count: int, what: str) -> list[bytes]:
        """Return at most `count` datagrams, and at least one."""
        if self._answers is None:
            self._answers = AnswerRoom(MAX_ANSWERS)
        try:
            return self._answers.receive(self._socket.fileno(), min(count, MAX_ANSWERS))
        except OSError as error:
            _raise_unanswered(error, what)

    def _receive(self, what: str, size: int = DUMP_BYTES) -> bytes:
        try:
            return self._socket.recv(size)
        except OSError as error:
            _raise_unanswered(error, what)


class NotificationSocket:
    """A non-blocking socket for the kernel's notifications. Raises OSError."""

    def __init__(self, protocol: int, groups: int = 0, buffer_bytes: int = 0) -> None:
        """`groups`: a bit mask. `buffer_bytes`: 0 keeps the default."""
        self._socket = socket.socket(
            socket.AF_NETLINK,
            socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
            protocol,
        )
        self._socket.bind((0, groups))
        if buffer_bytes:
            enlarge(self._socket, buffer_bytes)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def join(self, group: int) -> None:
        """Receive the notifications of a group, by its number."""
        self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)

    def leave(self, group: int) -> None:
        """Do not receive the notifications of a group."""
        self._socket.setsockopt(SOL_NETLINK, NETLINK_DROP_MEMBERSHIP, group)

    def receive(self, budget: int = READ_BATCH) -> Iterator[bytes | None]:
        """Yield at most `budget` of the waiting datagrams; None if notifications were lost."""
        for _ in range(budget):
            try:
                data = self._socket.recv(NOTIFICATION_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                yield None
            else:
                yield data

    def drain(self) -> None:
        """Discard the waiting notifications."""
        while any(True for _ in self.receive()):
            pass


def _absent(datagram: bytes, what: str) -> bytes:
    """Return no bytes for the error of an absent object; raise any other."""
    if datagram[HEADER.size : HEADER.size + 4] != _NOT_THERE:
        [reply] = messages(datagram)
        _raise_for(error_of(reply), what)
    return b""


def _raise_unanswered(error: OSError, what: str) -> NoReturn:
    """Raise KernelError for an answer that did not come; EAGAIN is the socket's timeout."""
    code = error.errno or errno.EIO
    raise KernelError(errno.ETIMEDOUT if code == errno.EAGAIN else code, what)


def _raise_for(code: int, what: str) -> None:
    if code == errno.EPERM:
        raise NoPrivilege(f"{what}: {NOT_ROOT}")
    if code:
        raise KernelError(code, what)
