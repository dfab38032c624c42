"""Interfaces and what they belong to (RTM_GETLINK): by which name packets come in."""

import socket
import sys
from typing import Final, NamedTuple

from sentryfw import nlmsg as nl
from sentryfw.netfilter.host import dump

HEADER: Final = 16
"""Bytes of struct ifinfomsg."""


class Link(NamedTuple):
    name: str
    kind: str
    """As in `ip link add type`: bridge, bond, vlan ...; empty for hardware."""
    master: str
    """The bridge, bond or VRF that it is a port of; packets come in by that one."""


def links() -> list[Link]:
    """Every interface of this network namespace."""
    names = dict(socket.if_nameindex())
    found = []
    for body in dump(nl.RTM_GETLINK, bytes(HEADER)):
        fields = nl.attributes(body[HEADER:])
        kind = nl.attributes(fields.get(nl.IFLA_LINKINFO, b"")).get(nl.IFLA_INFO_KIND, b"")
        master = int.from_bytes(fields.get(nl.IFLA_MASTER, b""), sys.byteorder)
        name = nl.name_of(fields.get(nl.IFLA_IFNAME, b""))
        found.append(Link(name, nl.name_of(kind), names.get(master, "")))
    return found
