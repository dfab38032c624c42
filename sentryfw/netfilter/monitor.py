"""Notifications of changes to our table by other processes (group NFNLGRP_NFTABLES).

A transaction arrives as one message for each of its changes and a last one, NFT_MSG_NEWGEN, with
the process that made it. Transactions of our own sockets are skipped unread. A socket that overran
(ENOBUFS) has lost notifications: that counts as a change of unknown content.
"""

import contextlib
from collections.abc import Callable, Collection, Iterator
from typing import Final, NamedTuple

from sentryfw.errors import Unsupported
from sentryfw.netfilter.schema import OFF_TABLE, TABLE
from sentryfw.netlink import nftables as nl
from sentryfw.netlink.message import HEADER, Message, attributes, name_of
from sentryfw.netlink.set_elements import Element, elements_of
from sentryfw.netlink.socket import NETLINK_NETFILTER, READ_BATCH, NotificationSocket
from sentryfw.text import plain

SOCKET_BUFFER_BYTES: Final = 16 << 20
"""The notifications of 5,000 elements overran the default buffer (measured)."""
MAX_TRANSACTION_ELEMENTS: Final = 100_000
"""Elements of one transaction that are kept; more count as lost notifications."""

DELETIONS: Final = {
    nl.NFT_MSG_DELTABLE: "table",
    nl.NFT_MSG_DELCHAIN: "chain",
    nl.NFT_MSG_DELRULE: "rule",
    nl.NFT_MSG_DELSET: "set",
    nl.NFT_MSG_DELOBJ: "counter",
}
CREATIONS: Final = frozenset(
    {nl.NFT_MSG_NEWTABLE, nl.NFT_MSG_NEWCHAIN, nl.NFT_MSG_NEWRULE, nl.NFT_MSG_NEWSET}
)

_OUR_FAMILY: Final = bytes((nl.NFPROTO_INET,))
_OUR_NAME: Final = nl.text(nl.NFTA_TABLE_NAME, TABLE)
"""The first attribute of every nf_tables notification names the table."""
_OFF_NAME: Final = nl.text(nl.NFTA_TABLE_NAME, OFF_TABLE)


class ElementChange(NamedTuple):
    """An element that a transaction added to a set or deleted from it."""

    set: str
    element: Element
    present: bool
    """Whether the element was added."""


class TableChange(NamedTuple):
    """One transaction of another process on our table."""

    pid: int
    process: str
    taken: frozenset[str]
    """The kinds of objects that were deleted: table, chain, rule, set, counter."""
    made: bool
    """Whether a table, chain, rule or set was created, which may replace one of ours."""
    items: tuple[ElementChange, ...]
    """In their order: a transaction may delete an element and add it again."""
    overrun: bool = False
    """Whether notifications were lost, so that other changes are unknown."""
    switched_off: bool = False
    """Whether the table was made that switches SentryFW off."""

    @property
    def culprit(self) -> str:
        """The process, for an operator."""
        return f"{self.process} (pid {self.pid})" if self.pid else self.process


OVERRUN: Final = TableChange(
    0, "unknown process (notifications were lost)", frozenset(), False, (), overrun=True
)


class Monitor:
    """Changes of our table in this network namespace, for an event loop."""

    def __init__(self, own: Callable[[], Collection[int]]) -> None:
        """`own` returns the netlink ports of our own sockets."""
        try:
            self._socket = NotificationSocket(NETLINK_NETFILTER, buffer_bytes=SOCKET_BUFFER_BYTES)
            self._socket.join(nl.NFNLGRP_NFTABLES)
        except OSError as error:
            raise Unsupported(
                f"the kernel does not notify of changes to nf_tables: {error.strerror}"
            ) from error
        self._own = own
        self._transactions = TransactionReader()
        self.overruns = 0
        """Times that notifications were lost."""

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def read(self, budget: int = READ_BATCH) -> list[TableChange]:
        """Return the transactions that are complete; read at most `budget` datagrams."""
        found: list[TableChange] = []
        own = self._own()
        for data in self._socket.receive(budget):
            if data is None:
                self.overruns += 1
                self._transactions = TransactionReader()
                found.append(OVERRUN)
            else:
                found += self._transactions.read(data, own)
        return found

    def drain(self) -> None:
        """Discard all notifications up to now."""
        self._socket.drain()
        self._transactions = TransactionReader()

    @contextlib.contextmanager
    def muted(self) -> Iterator[None]:
        """Receive no notifications within the context.

        The kernel would report a million elements of our own one by one, which costs as much again
        as adding them.
        """
        self._socket.leave(nl.NFNLGRP_NFTABLES)
        try:
            yield
        finally:
            self._socket.join(nl.NFNLGRP_NFTABLES)


class TransactionReader:
    """Notifications as bytes -> transactions on our table. Pure."""

    def __init__(self) -> None:
        self._pending = _Pending()

    def read(self, data: bytes, own: Collection[int] = ()) -> list[TableChange]:
        """Return the transactions that end in a datagram, except those of the ports in `own`."""
        found: list[TableChange] = []
        offset = 0
        while offset + 20 <= len(data):
            size, kind, _, _, port = HEADER.unpack_from(data, offset)
            if size < 20 or offset + size > len(data):
                break  # a kernel does not send this
            if kind >> 8 == nl.NFNL_SUBSYS_NFTABLES and port not in own:
                change = self._message(kind & 0xFF, data[offset + 16 : offset + size])
                if change is not None:
                    found.append(change)
            offset += size + (-size & 3)
        return found

    def _message(self, kind: int, body: bytes) -> TableChange | None:
        if kind == nl.NFT_MSG_NEWGEN:
            pending, self._pending = self._pending, _Pending()
            return pending.change(body)
        if body[:1] != _OUR_FAMILY:
            return None
        if body.startswith(_OUR_NAME, 4):
            self._pending.note(kind, body)
        elif kind == nl.NFT_MSG_NEWTABLE and body.startswith(_OFF_NAME, 4):
            self._pending.switched_off = True
        return None


class _Pending:
    """A transaction whose last message has not arrived."""

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self.made = False
        self.items: list[ElementChange] = []
        self.overrun = False
        self.switched_off = False

    def note(self, kind: int, body: bytes) -> None:
        """Add one message of the transaction."""
        if kind in DELETIONS:
            self.taken.add(DELETIONS[kind])
        elif kind in CREATIONS:
            self.made = True
        elif kind in (nl.NFT_MSG_NEWSETELEM, nl.NFT_MSG_DELSETELEM):
            if len(self.items) >= MAX_TRANSACTION_ELEMENTS:
                self.overrun = True
            else:
                self.items += _element_changes(body, present=kind == nl.NFT_MSG_NEWSETELEM)

    def change(self, generation: bytes) -> TableChange | None:
        """Return the whole transaction; None if it did not touch our table."""
        if not (self.taken or self.made or self.items or self.switched_off):
            return None
        fields = attributes(generation[4:])
        return TableChange(
            int.from_bytes(fields.get(nl.NFTA_GEN_PROC_PID, b"")),
            plain(name_of(fields.get(nl.NFTA_GEN_PROC_NAME, b""))) or "unknown process",
            frozenset(self.taken), self.made, tuple(self.items), overrun=self.overrun,
            switched_off=self.switched_off,
        )  # fmt: skip


def _element_changes(body: bytes, *, present: bool) -> list[ElementChange]:
    fields = attributes(body[4:])
    name = name_of(fields.get(nl.NFTA_SET_ELEM_LIST_SET, b""))
    message = Message(0, 0, 0, body)
    return [ElementChange(name, element, present) for element in elements_of(message)]
