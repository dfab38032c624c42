"""Blackhole routes by rtnetlink(7): PortSentry's KILL_ROUTE, without a command.

Unlike a block in nft, a route is not one-way: it stops the packets that this host sends to the
address, so connections that we open to it end as well. The source's packets still arrive; our
answers do not leave. Our routes are recognised by their protocol number.
"""

import errno
import os
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from sentryfw.errors import ReactionFailed
from sentryfw.netlink import route
from sentryfw.netlink.message import NLM_F_CREATE, NLM_F_EXCL

RTPROT_SENTRYFW: Final = 83
"""Free in iproute2's rt_protos; `ip route show proto 83` lists ours."""

Network = IPv4Network | IPv6Network


class Routes:
    """Our blackhole routes in a table of this network namespace, for one thread."""

    def __init__(self, table: int = route.RT_TABLE_MAIN) -> None:
        self._table = table
        self._socket = route.RouteSocket()

    def close(self) -> None:
        """Close the socket, if it is open."""
        self._socket.close()

    def apply(self, changes: dict[str, bool]) -> dict[str, str]:
        """Add and remove routes; return those that the kernel refused, each with the reason."""
        refused = {}
        for address, present in changes.items():
            try:
                self.add(address) if present else self.remove(address)
            except ReactionFailed as error:
                refused[address] = str(error)
        return refused

    def sync(self, addresses: set[str]) -> None:
        """Make our routes those of exactly these addresses. Raise ReactionFailed if that fails."""
        wanted = {canonical(address) for address in addresses}
        there = self.routes()
        for network in there - wanted:
            self.remove(str(network))
        for network in wanted - there:
            self.add(str(network))

    def add(self, address: str) -> None:
        """Add a route. Raise ReactionFailed if the kernel refuses, or if it has another route."""
        network = canonical(address)
        code = self._request(route.RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, network)
        if code == errno.EEXIST and network in self.routes():
            return
        if code:
            raise ReactionFailed(f"route to {network}: {os.strerror(code)}")

    def remove(self, address: str) -> None:
        """Remove our route, if there is one. Raise ReactionFailed if the kernel refuses."""
        network = canonical(address)
        code = self._request(route.RTM_DELROUTE, 0, network)
        if code not in (0, errno.ESRCH):
            raise ReactionFailed(f"route to {network}: {os.strerror(code)}")

    def routes(self) -> set[Network]:
        """Return our routes, IPv4 and IPv6."""
        return {found.network for found in self._ours() if found.table == self._table}

    def tables(self) -> set[int]:
        """Return the tables that have routes of ours."""
        return {found.table for found in self._ours()}

    def _ours(self) -> list[route.RouteEntry]:
        """Return our routes of every table."""
        try:
            return [
                found
                for found in self._socket.routes(RTPROT_SENTRYFW)
                if (found.protocol, found.kind) == (RTPROT_SENTRYFW, route.RTN_BLACKHOLE)
            ]
        except OSError as error:
            raise ReactionFailed(f"rtnetlink: {error.strerror or error}") from error

    def _request(self, kind: int, flags: int, network: Network) -> int:
        """Send a request; return the errno of the kernel's answer, 0 for success."""
        entry = route.RouteEntry(network, RTPROT_SENTRYFW, route.RTN_BLACKHOLE, self._table)
        body = route.packed_route(entry)
        try:
            return self._socket.request(kind, flags, body)
        except OSError as error:
            raise ReactionFailed(f"rtnetlink: {error.strerror or error}") from error


def canonical(address: str) -> Network:
    """Return the network of a source."""
    return ip_network(address, strict=False)
