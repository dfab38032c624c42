"""A netlink socket to nfnetlink: send a transaction, wait for its acknowledgement."""

import errno
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Final, Self

from sentryfw.errors import NOT_ROOT, KernelError, NoPrivilege, Unsupported
from sentryfw.netfilter import nfnetlink as nl

NETLINK_NETFILTER: Final = 12
PATIENCE: Final = 10.0
"""Seconds to wait for an answer. A transaction waits for nobody but other transactions."""
RECEIVE: Final = 1 << 18
ANSWER: Final = 1 << 13
"""An answer about one thing is a datagram of less than a page."""
SO_RCVBUFFORCE: Final = 33
SO_SNDBUFFORCE: Final = 32
_KIND: Final = struct.Struct("=4xH2xI")
"""nlmsg_type and nlmsg_seq of struct nlmsghdr."""


class NfnetlinkSocket:
    """One socket, one thread. Raises KernelError with the errno of what was refused."""

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER
            )
        except OSError as error:
            raise Unsupported(
                f"the kernel has no nfnetlink ({error.strerror}): it needs CONFIG_NETFILTER_NETLINK"
                " and CONFIG_NF_TABLES"
            ) from error
        self._socket.bind((0, 0))
        self._timeout = struct.pack("=qq", int(PATIENCE), 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, self._timeout)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    @property
    def port(self) -> int:
        """What the kernel calls this socket, in what it tells others."""
        return int(self._socket.getsockname()[0])

    def grow(self, size: int) -> None:
        """Make room for a transaction of `size` bytes (needs CAP_NET_ADMIN, as all this does)."""
        for option in (SO_SNDBUFFORCE, SO_RCVBUFFORCE):
            self._socket.setsockopt(socket.SOL_SOCKET, option, size)

    def transact(
        self, messages: list[tuple[int, int, bytes]], what: str, *, commit: bool = True
    ) -> None:
        """One transaction; returns when the kernel has acknowledged it."""
        begin = self._number(len(messages) + 2)
        self._send(nl.batch(messages, begin, commit=commit), what)
        last = begin + len(messages)
        refused = 0
        while True:
            for reply in nl.messages(self._receive(what)):
                if reply.kind != nl.NLMSG_ERROR or not begin <= reply.sequence <= last:
                    continue  # the answer to something older that was given up
                refused = refused or nl.error_of(reply)
                if reply.sequence in (begin, last):
                    _raise_for(refused, what)
                    return

    def rehearse(self, messages: list[tuple[int, int, bytes]], what: str) -> list[int]:
        """A transaction that is never committed: the errno of each message, 0 where the kernel
        would take it. KernelError where it is refused as a whole."""
        begin = self._sequence + 1
        self._sequence += len(messages) + 2
        answered = [(kind, flags | nl.NLM_F_ACK, body) for kind, flags, body in messages]
        self._send(nl.batch(answered, begin, commit=False), what)
        codes: dict[int, int] = {}
        while len(codes) < len(messages):
            for reply in nl.messages(self._receive(what)):
                if reply.kind != nl.NLMSG_ERROR:
                    continue
                if reply.sequence == begin:
                    _raise_for(nl.error_of(reply), what)
                elif begin < reply.sequence <= begin + len(messages):
                    codes[reply.sequence] = nl.error_of(reply)
        return [codes[sequence] for sequence in sorted(codes)]

    def request(self, kind: int, body: bytes, what: str) -> Iterator[nl.Message]:
        """One NFT_MSG_GET*, one answer (none if there is no such thing: KernelError ENOENT)."""
        yield from self._ask(kind, body, nl.NLM_F_ACK, what)

    def dump(self, kind: int, body: bytes, what: str) -> Iterator[nl.Message]:
        """One NFT_MSG_GET* for all there is."""
        yield from self._ask(kind, body, nl.NLM_F_DUMP, what)

    def ask_each(
        self, kind: int, start: bytes, ends: list[bytes], what: str
    ) -> Iterator[tuple[int, bytes]]:
        """One NFT_MSG_GET* for each of some hundred bodies, start + end, in one datagram. (index,
        the reply's datagram) of those that there are. The answers need room: grow()."""
        first = self._number(len(ends))
        header = nl.nft(kind, start, sequence=0)
        size = (len(header) + len(ends[0])).to_bytes(4, sys.byteorder)
        before, after = size + header[4:8], header[12:]  # of nlmsg_seq
        self._send(
            b"".join(
                b"%b%b%b%b" % (before, number.to_bytes(4, sys.byteorder), after, end)
                for number, end in enumerate(ends, first)
            ),
            what,
        )
        waiting = len(ends)
        while waiting:
            data = self._receive(what, ANSWER)
            kind, sequence = _KIND.unpack_from(data)
            index = sequence - first
            if not 0 <= index < len(ends):
                continue  # the answer to something older that was given up
            waiting -= 1
            if kind == nl.NLMSG_ERROR:
                [reply] = nl.messages(data)
                if nl.error_of(reply) != errno.ENOENT:
                    _raise_for(nl.error_of(reply), what)
            else:
                yield index, data

    def _number(self, count: int) -> int:
        """The first of so many sequence numbers, which have 32 bits."""
        if self._sequence + count >= 1 << 32:
            self._sequence = 0
        first = self._sequence + 1
        self._sequence += count
        return first

    def _ask(self, kind: int, body: bytes, flags: int, what: str) -> Iterator[nl.Message]:
        sequence = self._number(1)
        self._send(nl.nft(kind, body, flags=flags, sequence=sequence), what)
        while True:
            for reply in nl.messages(self._receive(what)):
                if reply.sequence != sequence:
                    continue
                if reply.kind == nl.NLMSG_ERROR:
                    _raise_for(nl.error_of(reply), what)
                    return
                if reply.kind == nl.NLMSG_DONE:
                    return
                yield reply

    def _send(self, data: bytes, what: str) -> None:
        try:
            self._socket.send(data)
        except OSError as error:
            _raise_for(error.errno or errno.EIO, what)

    def _receive(self, what: str, size: int = RECEIVE) -> bytes:
        try:
            return self._socket.recv(size)
        except OSError as error:
            code = error.errno or errno.EIO
            _raise_for(errno.ETIMEDOUT if code == errno.EAGAIN else code, what)
            raise  # not reached: code is an error


def _raise_for(code: int, what: str) -> None:
    if code == errno.EPERM:
        raise NoPrivilege(f"{what}: {NOT_ROOT}")
    if code:
        raise KernelError(code, what)
