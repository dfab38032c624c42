"""rtnetlink: dumps and changes of links, addresses and routes, and their notifications.

Numbers are those of linux/rtnetlink.h, nexthop.h, if_link.h, if_addr.h and net/if.h, under their C
names.
"""

import contextlib
import os
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

from sentryfw.errors import Unsupported
from sentryfw.netlink.message import (
    HEADER,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    Message,
    attribute,
    attributes,
    error_of,
    messages,
)
from sentryfw.netlink.socket import READ_BATCH, NotificationSocket

RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_NEWADDR: Final = 20
RTM_DELADDR: Final = 21
RTM_GETADDR: Final = 22
RTM_NEWROUTE: Final = 24
RTM_DELROUTE: Final = 25
RTM_GETROUTE: Final = 26
RTM_NEWNEXTHOP: Final = 104
RTM_DELNEXTHOP: Final = 105
RTM_GETNEXTHOP: Final = 106

IFA_ADDRESS: Final = 1
IFA_LOCAL: Final = 2
IFLA_IFNAME: Final = 3
IFLA_MASTER: Final = 10
IFLA_LINKINFO: Final = 18
IFLA_INFO_KIND: Final = 1
NHA_GATEWAY: Final = 6
RTA_DST: Final = 1
RTA_OIF: Final = 4
RTA_GATEWAY: Final = 5
RTA_MULTIPATH: Final = 9
RTA_TABLE: Final = 15
RTA_VIA: Final = 18
RTN_BLACKHOLE: Final = 6
RT_TABLE_UNSPEC: Final = 0
"""The table is in an attribute: the header's field has a byte."""
RT_TABLE_MAIN: Final = 254

RTMGRP_LINK: Final = 0x1
RTMGRP_IPV4_IFADDR: Final = 0x10
RTMGRP_IPV4_ROUTE: Final = 0x40
RTMGRP_IPV6_IFADDR: Final = 0x100
RTMGRP_IPV6_ROUTE: Final = 0x400
RTNLGRP_MPLS_ROUTE: Final = 27
RTNLGRP_NEXTHOP: Final = 32
"""Group of nexthop objects, since Linux 5.3; an older kernel ignores it."""
GROUPS: Final = (
    RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR | RTMGRP_IPV6_ROUTE
    | 1 << RTNLGRP_MPLS_ROUTE - 1 | 1 << RTNLGRP_NEXTHOP - 1
)  # fmt: skip

IFF_UP: Final = 0x1
SOL_NETLINK: Final = 270
NETLINK_GET_STRICT_CHK: Final = 12
"""Socket option of netlink(7): a dump is filtered by the fields of its request."""

ANSWER_TIMEOUT_S: Final = 5.0
"""Seconds that RouteSocket waits for an answer."""
_DATAGRAM_BYTES: Final = 1 << 16
_LINK: Final = struct.Struct("=BxHiII")  # struct ifinfomsg
_ROUTE: Final = struct.Struct("=BBBBBBBBI")  # struct rtmsg
_NEXTHOP_BYTES: Final = 8
"""Size of struct nhmsg."""
_PATH: Final = struct.Struct("=HBBi")  # struct rtnexthop

Address = IPv4Address | IPv6Address


class HostChange(NamedTuple):
    """A change of this host's addresses or routes."""

    addresses: bool = False
    """An address or the name of an interface changed."""
    routes: bool = False
    """A default route changed, a route has a gateway that was not known, or a link changed whose
    routes the kernel removes without a message."""
    lapsed: bool = False
    """Another route with a gateway was removed: that gateway may be one no longer."""

    def __bool__(self) -> bool:
        return any(self)

    def also(self, other: "HostChange") -> "HostChange":
        """Return both changes as one."""
        return HostChange(*(mine or its for mine, its in zip(self, other, strict=True)))


EVERYTHING: Final = HostChange(addresses=True, routes=True)


def dump(kind: int, header: bytes) -> Iterator[bytes]:
    """Send an RTM_GET* for all objects of a kind; yield the body of each reply."""
    request = HEADER.pack(HEADER.size + len(header), kind, NLM_F_REQUEST | NLM_F_DUMP, 1, 0)
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    ) as sock:
        sock.send(request + header)
        while True:
            for reply in messages(sock.recv(_DATAGRAM_BYTES)):
                if reply.kind in (NLMSG_DONE, NLMSG_ERROR):
                    return
                yield reply.body


class NextHop(NamedTuple):
    """A path of a route."""

    gateway: Address | None
    """None: the destination is on the link, or at the other end of a point-to-point link."""
    interface: int
    """Its index; 0 if the message names none."""


def next_hops(body: bytes) -> Iterator[NextHop]:
    """Yield the paths of a route; `body`: of RTM_NEWROUTE or RTM_DELROUTE."""
    fields = attributes(body[_ROUTE.size :])
    if RTA_MULTIPATH in fields:
        yield from _paths(fields[RTA_MULTIPATH])
    else:
        interface = int.from_bytes(fields.get(RTA_OIF, b""), sys.byteorder)
        yield NextHop(_gateway(fields), interface)


def nexthop_gateway(body: bytes) -> Address | None:
    """Return the gateway of a nexthop object; `body`: of RTM_NEWNEXTHOP."""
    return _address(attributes(body[_NEXTHOP_BYTES:]).get(NHA_GATEWAY, b""))


def _paths(data: bytes) -> Iterator[NextHop]:
    offset = 0
    while offset + _PATH.size <= len(data):
        size, _, _, interface = _PATH.unpack_from(data, offset)
        if size < _PATH.size:
            return
        yield NextHop(_gateway(attributes(data[offset + _PATH.size : offset + size])), interface)
        offset += size + (-size & 3)


def _gateway(fields: dict[int, bytes]) -> Address | None:
    """Return the gateway of a path. RTA_VIA (struct rtvia: family, address) has one of another
    family than the route: `default via inet6 fe80::1`."""
    if RTA_VIA in fields:
        return _address(fields[RTA_VIA][2:])
    return _address(fields.get(RTA_GATEWAY, b""))


def _address(packed: bytes) -> Address | None:
    return ip_address(packed) if len(packed) in (4, 16) and any(packed) else None


class RouteEntry(NamedTuple):
    """A route to a network, as the kernel reports it."""

    network: IPv4Network | IPv6Network
    protocol: int
    """The program that added the route, as in `ip route show proto`."""
    kind: int
    """RTN_*."""
    table: int = RT_TABLE_MAIN


def packed_route(route: RouteEntry) -> bytes:
    """Pack the body of RTM_NEWROUTE or RTM_DELROUTE."""
    network = route.network
    family = socket.AF_INET if network.version == 4 else socket.AF_INET6
    header = _ROUTE.pack(
        family, network.prefixlen, 0, 0, RT_TABLE_UNSPEC, route.protocol, 0, route.kind, 0
    )
    return (
        header
        + attribute(RTA_DST, network.network_address.packed)
        + attribute(RTA_TABLE, route.table.to_bytes(4, sys.byteorder))
    )


class RouteSocket:
    """A socket for changes of routes and for one thread, opened when it is needed.

    Raises OSError; the next call opens another socket.
    """

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._sequence = 0

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def request(self, kind: int, flags: int, body: bytes) -> int:
        """Send a request; return the errno that the kernel answers, 0 for success."""
        for reply in self._ask(kind, flags | NLM_F_ACK, body):
            if reply.kind == NLMSG_ERROR and reply.sequence == self._sequence:
                return error_of(reply)
        raise TimeoutError("no answer")

    def routes(self, protocol: int = 0) -> Iterator[RouteEntry]:
        """Yield the routes with a destination, IPv4 and IPv6. `protocol`: of these alone, where the
        kernel can filter (since 4.20)."""
        for reply in self._ask(RTM_GETROUTE, NLM_F_DUMP, _ROUTE.pack(*[0] * 5, protocol, 0, 0, 0)):
            if reply.sequence != self._sequence:
                continue
            if reply.kind == NLMSG_DONE:
                return
            if reply.kind == NLMSG_ERROR:
                raise OSError(error_of(reply), os.strerror(error_of(reply)))
            _, length, _, _, small, found, _, kind, _ = _ROUTE.unpack_from(reply.body)
            fields = attributes(reply.body[_ROUTE.size :])
            table = int.from_bytes(fields.get(RTA_TABLE, bytes([small])), sys.byteorder)
            if RTA_DST in fields:
                yield RouteEntry(ip_network((fields[RTA_DST], length)), found, kind, table)

    def _ask(self, kind: int, flags: int, body: bytes) -> Iterator[Message]:
        """Send one message and yield the replies until the caller stops."""
        self._sequence += 1
        size = HEADER.size + len(body)
        header = HEADER.pack(size, kind, flags | NLM_F_REQUEST, self._sequence, 0)
        try:
            sock = self._open()
            sock.send(header + body)
            while True:
                yield from messages(sock.recv(_DATAGRAM_BYTES))
        except OSError:
            self.close()
            raise

    def _open(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
            )
            self._socket.settimeout(ANSWER_TIMEOUT_S)
            with contextlib.suppress(OSError):  # without it a dump is not filtered
                self._socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        return self._socket


class HostMonitor:
    """Changes of addresses, gateways and links in this network namespace.

    For an event loop. Lost notifications (ENOBUFS) count as a change of everything.
    """

    def __init__(self) -> None:
        try:
            self._socket = NotificationSocket(socket.NETLINK_ROUTE, GROUPS)
        except OSError as error:
            raise Unsupported(
                f"the kernel does not notify of address changes: {error.strerror}"
            ) from error
        self._links: dict[int, tuple[bytes, bool]] = {}
        self._gateways: set[Address] = set()

    def know(self, gateways: Iterable[Address]) -> None:
        """Set the gateways that are known: a route to one of them is not a change."""
        self._gateways = set(gateways)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def read(self, budget: int = READ_BATCH) -> HostChange:
        """Return the change in the waiting notifications; read at most `budget` datagrams."""
        found = HostChange()
        for data in self._socket.receive(budget):
            if data is None:
                found = EVERYTHING
                continue
            for message in messages(data):
                found = found.also(self.change(message))
        return found

    def change(self, message: Message) -> HostChange:
        """Return the change that one notification reports."""
        kind, body = message.kind, message.body
        if kind in (RTM_NEWADDR, RTM_DELADDR):
            return HostChange(addresses=True)
        if kind in (RTM_NEWROUTE, RTM_DELROUTE) and len(body) >= _ROUTE.size:
            gateways = {hop.gateway for hop in next_hops(body)}
            change = self._gateways_changed(gateways, gone=kind == RTM_DELROUTE)
            return change._replace(routes=change.routes or body[1] == 0)  # rtm_dst_len
        if kind in (RTM_NEWNEXTHOP, RTM_DELNEXTHOP) and len(body) >= _NEXTHOP_BYTES:
            gateways = {nexthop_gateway(body)}
            return self._gateways_changed(gateways, gone=kind == RTM_DELNEXTHOP)
        if kind in (RTM_NEWLINK, RTM_DELLINK) and len(body) >= _LINK.size:
            return EVERYTHING if self._is_new(kind, body) else HostChange()
        return HostChange()

    def _gateways_changed(self, gateways: set[Address | None], *, gone: bool) -> HostChange:
        found = {gateway for gateway in gateways if gateway is not None}
        if gone:
            return HostChange(lapsed=bool(found & self._gateways))
        fresh = found - self._gateways
        self._gateways |= fresh
        return HostChange(routes=bool(fresh))

    def _is_new(self, kind: int, body: bytes) -> bool:
        """Return whether a link was added, removed, renamed, or went up or down.

        The kernel sends the same messages for statistics and carriers.
        """
        family, _, index, flags, _ = _LINK.unpack_from(body)
        if family != socket.AF_UNSPEC:  # a bridge's port
            return False
        if kind == RTM_DELLINK:
            self._links.pop(index, None)
            return True
        name = attributes(body[_LINK.size :]).get(IFLA_IFNAME, b"")
        state = (name, bool(flags & IFF_UP))
        before = self._links.get(index)
        self._links[index] = state
        return state != before
