"""Who changed our table: the kernel's notifications (group NFNLGRP_NFTABLES), for an event loop.

A transaction arrives as the messages of what it did and a last one, NFT_MSG_NEWGEN, with the
process that did it. What our own sockets did is known and skipped unread. A socket that overran
(ENOBUFS) has lost notifications: that is a change too, of nobody knows what.
"""

import contextlib
import errno
import socket
import struct
from collections.abc import Callable, Collection, Iterator
from typing import Final, NamedTuple

from sentryfw.errors import Unsupported
from sentryfw.netfilter import nfnetlink as nl
from sentryfw.netfilter.netlink import NETLINK_NETFILTER, SO_RCVBUFFORCE
from sentryfw.netfilter.table import TABLE

SOL_NETLINK: Final = 270
NETLINK_ADD_MEMBERSHIP: Final = 1
NETLINK_DROP_MEMBERSHIP: Final = 2
NFNLGRP_NFTABLES: Final = 7

NFT_MSG_DELCHAIN: Final = 5
NFT_MSG_DELRULE: Final = 8
NFT_MSG_NEWSET: Final = 9
NFT_MSG_DELSET: Final = 11
NFT_MSG_NEWGEN: Final = 15
NFT_MSG_DELOBJ: Final = 20
NFTA_GEN_PROC_PID: Final = 2
NFTA_GEN_PROC_NAME: Final = 3

SOCKET_BUFFER: Final = 16 << 20
"""A dump of 5,000 elements overran the default (measured, research/ecosystem.md 6.2)."""
DATAGRAM: Final = 1 << 16
BUDGET: Final = 64
"""Datagrams of the kernel, of a page each, that are read before the event loop gets its turn."""
MAX_NOTED: Final = 100_000
"""Elements of one transaction that are remembered; more than that is a reason to look anew."""

TAKEN: Final = {
    nl.NFT_MSG_DELTABLE: "table",
    NFT_MSG_DELCHAIN: "chain",
    NFT_MSG_DELRULE: "rule",
    NFT_MSG_DELSET: "set",
    NFT_MSG_DELOBJ: "counter",
}
MADE: Final = frozenset(
    {nl.NFT_MSG_NEWTABLE, nl.NFT_MSG_NEWCHAIN, nl.NFT_MSG_NEWRULE, NFT_MSG_NEWSET}
)

_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr
_OF_OUR_TABLE: Final = bytes((nl.NFPROTO_INET,)), nl.text(nl.NFTA_TABLE_NAME, TABLE)
"""Every nf_tables notification names its table first."""


class Item(NamedTuple):
    """An element that came or went."""

    set: str
    element: nl.Element
    present: bool
    """Whether it came."""


class Change(NamedTuple):
    """What one transaction of somebody else did to our table."""

    pid: int
    process: str
    taken: frozenset[str]
    """What was deleted: table, chain, rule, set, counter."""
    made: bool
    """A table, chain, rule or set was made, which may be one of ours put back or altered."""
    items: tuple[Item, ...]
    """In their order: an element may go and come in one transaction."""
    overrun: bool = False
    """Notifications were lost: nobody knows what changed."""

    @property
    def culprit(self) -> str:
        return f"{self.process} (pid {self.pid})" if self.pid else self.process


OVERRUN: Final = Change(0, "somebody, too much at once", frozenset(), False, (), overrun=True)


class Monitor:
    """The notifications of this network namespace. `own`: port ids of our own sockets."""

    def __init__(self, own: Callable[[], Collection[int]]) -> None:
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER
            )
            self._socket.bind((0, 0))
            self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES)
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BUFFER)
        except OSError as error:
            raise Unsupported(f"no notifications of nf_tables: {error.strerror}") from error
        self._socket.setblocking(False)
        self._own = own
        self._pending = _Pending()
        self.overruns = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def read(self, budget: int = BUDGET) -> list[Change]:
        """Transactions that are told whole by now; at most `budget` datagrams are looked at."""
        found: list[Change] = []
        own = self._own()
        for _ in range(budget):
            try:
                data = self._socket.recv(DATAGRAM)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.overruns += 1
                self._pending = _Pending()
                found.append(OVERRUN)
                continue
            found += self.changes(data, own)
        return found

    def drain(self) -> None:
        """Forget what there was to tell up to now."""
        while True:
            try:
                self._socket.recv(DATAGRAM)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
        self._pending = _Pending()

    @contextlib.contextmanager
    def deaf(self) -> Iterator[None]:
        """Hear nothing meanwhile: of a million elements of our own the kernel would tell one by
        one, and it costs as much again as adding them."""
        self._socket.setsockopt(SOL_NETLINK, NETLINK_DROP_MEMBERSHIP, NFNLGRP_NFTABLES)
        try:
            yield
        finally:
            self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES)

    def changes(self, data: bytes, own: Collection[int] = ()) -> list[Change]:
        """The transactions that end in a datagram."""
        found: list[Change] = []
        offset = 0
        while offset + 20 <= len(data):
            size, kind, _, _, port = _HEADER.unpack_from(data, offset)
            if size < 20 or offset + size > len(data):
                break  # a kernel does not send this
            if kind >> 8 == nl.NFNL_SUBSYS_NFTABLES and port not in own:
                change = self._message(kind & 0xFF, data[offset + 16 : offset + size])
                if change is not None:
                    found.append(change)
            offset += size + (-size & 3)
        return found

    def _message(self, kind: int, body: bytes) -> Change | None:
        if kind == NFT_MSG_NEWGEN:
            pending, self._pending = self._pending, _Pending()
            return pending.change(body)
        family, name = _OF_OUR_TABLE
        if body[:1] == family and body.startswith(name, 4):
            self._pending.note(kind, body)
        return None


class _Pending:
    """A transaction of which the last message is still to come."""

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self.made = False
        self.items: list[Item] = []
        self.overrun = False

    def note(self, kind: int, body: bytes) -> None:
        if kind in TAKEN:
            self.taken.add(TAKEN[kind])
        elif kind in MADE:
            self.made = True
        elif kind in (nl.NFT_MSG_NEWSETELEM, nl.NFT_MSG_DELSETELEM):
            if len(self.items) >= MAX_NOTED:
                self.overrun = True
            else:
                self.items += _items(body, present=kind == nl.NFT_MSG_NEWSETELEM)

    def change(self, generation: bytes) -> Change | None:
        """What it was; None if it did not touch our table."""
        if not (self.taken or self.made or self.items):
            return None
        fields = nl.attributes(generation[4:])
        return Change(
            int.from_bytes(fields.get(NFTA_GEN_PROC_PID, b"")),
            _printable(nl.name_of(fields.get(NFTA_GEN_PROC_NAME, b""))),
            frozenset(self.taken), self.made, tuple(self.items), overrun=self.overrun,
        )  # fmt: skip


def _items(body: bytes, *, present: bool) -> list[Item]:
    fields = nl.attributes(body[4:])
    name = nl.name_of(fields.get(nl.NFTA_SET_ELEM_LIST_SET, b""))
    message = nl.Message(0, 0, 0, body)
    return [Item(name, element, present) for element in nl.elements_of(message)]


def _printable(name: str) -> str:
    """A process chooses its own name; ours go to logs and terminals."""
    return "".join(c if c.isprintable() else "?" for c in name) or "somebody"
