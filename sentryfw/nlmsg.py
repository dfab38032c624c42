"""Netlink messages as netlink(7) and rtnetlink(7) have them: values <-> bytes. Pure.

What nfnetlink, the host's addresses and routes, and the blackhole routes of a reaction have in
common. Numbers are those of linux/netlink.h, rtnetlink.h, if_link.h and if_addr.h, under their C
names; numbers and attributes (struct nlattr: length and type, the payload padded to four bytes)
are in host order.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_DUMP: Final = 0x300
NLM_F_CREATE: Final = 0x400
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_APPEND: Final = 0x800
NLM_F_DUMP_INTR: Final = 0x10

NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3

NLA_F_NESTED: Final = 0x8000
NLA_TYPE_MASK: Final = 0x3FFF

RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_NEWADDR: Final = 20
RTM_DELADDR: Final = 21
RTM_GETADDR: Final = 22
RTM_NEWROUTE: Final = 24
RTM_DELROUTE: Final = 25
RTM_GETROUTE: Final = 26

IFA_ADDRESS: Final = 1
IFA_LOCAL: Final = 2
IFLA_IFNAME: Final = 3
IFLA_MASTER: Final = 10
IFLA_LINKINFO: Final = 18
IFLA_INFO_KIND: Final = 1
RTA_DST: Final = 1
RTA_GATEWAY: Final = 5
RTA_MULTIPATH: Final = 9

HEADER: Final = struct.Struct("=IHHII")
"""struct nlmsghdr: length of all, type, flags, sequence, port."""
_ATTRIBUTE: Final = struct.Struct("=HH")


class Message(NamedTuple):
    """One netlink message as it came in."""

    kind: int
    """nlmsg_type; for nf_tables the low byte is NFT_MSG_*."""
    flags: int
    sequence: int
    body: bytes
    """What follows struct nlmsghdr."""


class MalformedMessage(ValueError):
    """A message that is no netlink message."""


def attribute(kind: int, payload: bytes) -> bytes:
    size = 4 + len(payload)
    return _ATTRIBUTE.pack(size, kind) + payload + bytes(-size & 3)


def messages(data: bytes) -> Iterator[Message]:
    """The messages of one datagram. MalformedMessage where a length lies."""
    offset = 0
    while offset < len(data):
        if offset + 16 > len(data):
            raise MalformedMessage(f"{len(data) - offset} bytes left, a header has 16")
        size, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
        if size < 16 or offset + size > len(data):
            raise MalformedMessage(f"message of {size} bytes, {len(data) - offset} are there")
        yield Message(kind, flags, sequence, data[offset + 16 : offset + size])
        offset += size + (-size & 3)


def attributes(data: bytes) -> dict[int, bytes]:
    """Type -> payload; of types that come twice the last. MalformedMessage on a lying length."""
    return dict(attribute_list(data))


def attribute_list(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + 4 <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, offset)
        if size < 4 or offset + size > len(data):
            raise MalformedMessage(f"attribute of {size} bytes, {len(data) - offset} are there")
        yield kind & NLA_TYPE_MASK, data[offset + 4 : offset + size]
        offset += size + (-size & 3)


def error_of(reply: Message) -> int:
    """The errno in NLMSG_ERROR, positive; 0 is an acknowledgement."""
    if len(reply.body) < 4:
        raise MalformedMessage("NLMSG_ERROR without an error")
    return -int(struct.unpack_from("=i", reply.body)[0])


def name_of(payload: bytes) -> str:
    return payload.rstrip(b"\0").decode(errors="replace")
