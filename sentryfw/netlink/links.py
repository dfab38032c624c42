"""The interfaces of this network namespace, and the bridge, bond or VRF of each (RTM_GETLINK)."""

import socket
import sys
from typing import Final, NamedTuple

from sentryfw.netlink import message as nl
from sentryfw.netlink import route

HEADER_BYTES: Final = 16
"""The size of struct ifinfomsg."""


class Link(NamedTuple):
    """An interface."""

    name: str
    kind: str
    """The type of `ip link add`: bridge, bond, vlan ...; empty for hardware."""
    master: str
    """The bridge, bond or VRF that this is a port of: nft sees that one as the input interface."""


def links() -> list[Link]:
    """Return every interface of this network namespace."""
    names = dict(socket.if_nameindex())
    found = []
    for body in route.dump(route.RTM_GETLINK, bytes(HEADER_BYTES)):
        fields = nl.attributes(body[HEADER_BYTES:])
        kind = nl.attributes(fields.get(route.IFLA_LINKINFO, b"")).get(route.IFLA_INFO_KIND, b"")
        master = int.from_bytes(fields.get(route.IFLA_MASTER, b""), sys.byteorder)
        name = nl.name_of(fields.get(route.IFLA_IFNAME, b""))
        found.append(Link(name, nl.name_of(kind), names.get(master, "")))
    return found
