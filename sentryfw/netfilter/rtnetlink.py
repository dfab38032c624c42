"""Changes of addresses, default routes and links: the kernel's rtnetlink notifications.

For an event loop: read() says whether anything changed that decides whom this host depends on.
Notifications that were lost (ENOBUFS) count as a change.
"""

import errno
import socket
import struct
from typing import Final, NamedTuple

from sentryfw import nlmsg as nl
from sentryfw.errors import Unsupported

RTMGRP_LINK: Final = 0x1
RTMGRP_IPV4_IFADDR: Final = 0x10
RTMGRP_IPV4_ROUTE: Final = 0x40
RTMGRP_IPV6_IFADDR: Final = 0x100
RTMGRP_IPV6_ROUTE: Final = 0x400
GROUPS: Final = (
    RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR | RTMGRP_IPV6_ROUTE
)

IFF_UP: Final = 0x1

BUDGET: Final = 64
"""Datagrams before the event loop gets its turn: a router's routes change by the thousand."""
DATAGRAM: Final = 1 << 16
_LINK: Final = struct.Struct("=BxHiII")  # struct ifinfomsg


class Change(NamedTuple):
    """What changed, as far as it matters."""

    addresses: bool = False
    """Or an interface's name."""
    routes: bool = False
    """A default route, or a link whose routes come and go with it unsaid."""

    def __bool__(self) -> bool:
        return self.addresses or self.routes

    def also(self, other: "Change") -> "Change":
        return Change(self.addresses or other.addresses, self.routes or other.routes)


EVERYTHING: Final = Change(addresses=True, routes=True)


class HostMonitor:
    """The notifications of this network namespace."""

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK,
                socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
                socket.NETLINK_ROUTE,
            )
            self._socket.bind((0, GROUPS))
        except OSError as error:
            raise Unsupported(f"no notifications of addresses: {error.strerror}") from error
        self._links: dict[int, tuple[bytes, bool]] = {}

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def read(self, budget: int = BUDGET) -> Change:
        """What the notifications that are there say; at most `budget` datagrams are looked at."""
        found = Change()
        for _ in range(budget):
            try:
                data = self._socket.recv(DATAGRAM)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                found = EVERYTHING
                continue
            for message in nl.messages(data):
                found = found.also(self.change(message))
        return found

    def change(self, message: nl.Message) -> Change:
        kind, body = message.kind, message.body
        if kind in (nl.RTM_NEWADDR, nl.RTM_DELADDR):
            return Change(addresses=True)
        if kind in (nl.RTM_NEWROUTE, nl.RTM_DELROUTE):
            return Change(routes=len(body) > 1 and body[1] == 0)  # rtm_dst_len
        if kind in (nl.RTM_NEWLINK, nl.RTM_DELLINK) and len(body) >= _LINK.size:
            return EVERYTHING if self._is_new(kind, body) else Change()
        return Change()

    def _is_new(self, kind: int, body: bytes) -> bool:
        """Whether a link came, went, was renamed, or changed between up and down; statistics and
        carriers make messages, too."""
        family, _, index, flags, _ = _LINK.unpack_from(body)
        if family != socket.AF_UNSPEC:  # a bridge's port
            return False
        if kind == nl.RTM_DELLINK:
            self._links.pop(index, None)
            return True
        name = nl.attributes(body[_LINK.size :]).get(nl.IFLA_IFNAME, b"")
        state = (name, bool(flags & IFF_UP))
        before = self._links.get(index)
        self._links[index] = state
        return state != before
