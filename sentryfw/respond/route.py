"""Blackhole routes by rtnetlink(7): PortSentry's KILL_ROUTE, without a command.

A route is not one-way as the nft block is: it also stops what this host sends to the address,
so connections that we open to it end as well. The source's packets still arrive; it is our
answers that have no way out. Ours are told from others by their protocol number.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from sentryfw import nlmsg as nl
from sentryfw.respond.lane import Failed

RTN_BLACKHOLE: Final = 6
RT_TABLE_MAIN: Final = 254
RTPROT_SENTRYFW: Final = 83
"""Free in iproute2's rt_protos; `ip route show proto 83` lists ours."""

_RTMSG: Final = struct.Struct("=BBBBBBBBI")
_RECEIVE: Final = 1 << 16
_PATIENCE: Final = 5.0

Network = IPv4Network | IPv6Network


class Routes:
    """Our blackhole routes in this network namespace. One socket for one thread, made at need."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._sequence = 0

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def apply(self, changes: dict[str, bool]) -> dict[str, str]:
        """Add and remove routes; those that the kernel refuses, each with its reason."""
        refused = {}
        for address, present in changes.items():
            try:
                self.add(address) if present else self.remove(address)
            except Failed as error:
                refused[address] = str(error)
        return refused

    def sync(self, addresses: set[str]) -> None:
        """Exactly these."""
        wanted = {_canonical(address) for address in addresses}
        there = self.routes()
        for network in there - wanted:
            self.remove(str(network))
        for network in wanted - there:
            self.add(str(network))

    def add(self, address: str) -> None:
        """Failed if the kernel refuses, or somebody else has a route there."""
        network = _canonical(address)
        code = self._request(nl.RTM_NEWROUTE, nl.NLM_F_CREATE | nl.NLM_F_EXCL, _route(network))
        if code == errno.EEXIST and network in self.routes():
            return
        if code:
            raise Failed(f"route to {network}: {os.strerror(code)}")

    def remove(self, address: str) -> None:
        """Nothing happens if there is none of ours."""
        network = _canonical(address)
        code = self._request(nl.RTM_DELROUTE, 0, _route(network))
        if code not in (0, errno.ESRCH):
            raise Failed(f"route to {network}: {os.strerror(code)}")

    def routes(self) -> set[Network]:
        """Ours, IPv4 and IPv6."""
        found = set()
        for body in self._dump():
            _, length, _, _, _, protocol, _, kind, _ = _RTMSG.unpack_from(body)
            if protocol == RTPROT_SENTRYFW and kind == RTN_BLACKHOLE:
                target = nl.attributes(body[_RTMSG.size :]).get(nl.RTA_DST)
                if target is not None:
                    found.add(ip_network((target, length)))
        return found

    def _request(self, kind: int, flags: int, body: bytes) -> int:
        """The errno that the kernel answers; 0: done."""
        for reply in self._ask(kind, flags | nl.NLM_F_ACK, body):
            if reply.kind == nl.NLMSG_ERROR and reply.sequence == self._sequence:
                return nl.error_of(reply)
        raise Failed("rtnetlink: no answer")

    def _dump(self) -> Iterator[bytes]:
        for reply in self._ask(nl.RTM_GETROUTE, nl.NLM_F_DUMP, _RTMSG.pack(*[0] * 9)):
            if reply.sequence != self._sequence:
                continue
            if reply.kind == nl.NLMSG_DONE:
                return
            if reply.kind == nl.NLMSG_ERROR:
                raise Failed(f"rtnetlink: {os.strerror(nl.error_of(reply))}")
            yield reply.body

    def _ask(self, kind: int, flags: int, body: bytes) -> Iterator[nl.Message]:
        self._sequence += 1
        header = nl.HEADER.pack(
            nl.HEADER.size + len(body), kind, flags | nl.NLM_F_REQUEST, self._sequence, 0
        )
        try:
            sock = self._open()
            sock.send(header + body)
            while True:
                yield from nl.messages(sock.recv(_RECEIVE))
        except OSError as error:
            self.close()
            raise Failed(f"rtnetlink: {error.strerror or error}") from error

    def _open(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
            )
            self._socket.settimeout(_PATIENCE)
        return self._socket


def _canonical(address: str) -> Network:
    return ip_network(address, strict=False)


def _route(network: Network) -> bytes:
    """struct rtmsg and its destination."""
    family = socket.AF_INET if network.version == 4 else socket.AF_INET6
    address = network.network_address.packed
    header = _RTMSG.pack(
        family, network.prefixlen, 0, 0, RT_TABLE_MAIN, RTPROT_SENTRYFW, 0, RTN_BLACKHOLE, 0
    )
    return header + nl.attribute(nl.RTA_DST, address)
