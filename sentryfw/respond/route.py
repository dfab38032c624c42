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

from sentryfw.respond.lane import Failed

RTM_NEWROUTE: Final = 24
RTM_DELROUTE: Final = 25
RTM_GETROUTE: Final = 26
NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_DUMP: Final = 0x300
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
RTA_DST: Final = 1
RTN_BLACKHOLE: Final = 6
RT_TABLE_MAIN: Final = 254
RTPROT_SENTRYFW: Final = 83
"""Free in iproute2's rt_protos; `ip route show proto 83` lists ours."""

_HEADER: Final = struct.Struct("=IHHII")
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
        code = self._request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, _route(network))
        if code == errno.EEXIST and network in self.routes():
            return
        if code:
            raise Failed(f"route to {network}: {os.strerror(code)}")

    def remove(self, address: str) -> None:
        """Nothing happens if there is none of ours."""
        network = _canonical(address)
        code = self._request(RTM_DELROUTE, 0, _route(network))
        if code not in (0, errno.ESRCH):
            raise Failed(f"route to {network}: {os.strerror(code)}")

    def routes(self) -> set[Network]:
        """Ours, IPv4 and IPv6."""
        found = set()
        for body in self._dump():
            _, length, _, _, _, protocol, _, kind, _ = _RTMSG.unpack_from(body)
            if protocol == RTPROT_SENTRYFW and kind == RTN_BLACKHOLE:
                for name, value in _attributes(body[_RTMSG.size :]):
                    if name == RTA_DST:
                        found.add(ip_network((value, length)))
        return found

    def _request(self, kind: int, flags: int, body: bytes) -> int:
        """The errno that the kernel answers; 0: done."""
        for sequence, answer, data in self._ask(kind, flags | NLM_F_ACK, body):
            if answer == NLMSG_ERROR and sequence == self._sequence:
                return int(-struct.unpack_from("=i", data)[0])
        raise Failed("rtnetlink: no answer")

    def _dump(self) -> Iterator[bytes]:
        for sequence, answer, data in self._ask(RTM_GETROUTE, NLM_F_DUMP, _RTMSG.pack(*[0] * 9)):
            if sequence != self._sequence:
                continue
            if answer == NLMSG_DONE:
                return
            if answer == NLMSG_ERROR:
                raise Failed(f"rtnetlink: {os.strerror(-struct.unpack_from('=i', data)[0])}")
            yield data

    def _ask(self, kind: int, flags: int, body: bytes) -> Iterator[tuple[int, int, bytes]]:
        self._sequence += 1
        header = _HEADER.pack(
            _HEADER.size + len(body), kind, flags | NLM_F_REQUEST, self._sequence, 0
        )
        try:
            sock = self._open()
            sock.send(header + body)
            while True:
                yield from _messages(sock.recv(_RECEIVE))
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
    return header + struct.pack("=HH", 4 + len(address), RTA_DST) + address


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(sequence, type, body)."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        size, kind, _, sequence, _ = _HEADER.unpack_from(data, offset)
        if size < _HEADER.size:
            return
        yield sequence, kind, data[offset + _HEADER.size : offset + size]
        offset += size + (-size & 3)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + 4 <= len(data):
        size, name = struct.unpack_from("=HH", data, offset)
        if size < 4:
            return
        yield name, data[offset + 4 : offset + size]
        offset += size + (-size & 3)
