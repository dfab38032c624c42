"""Netlink messages and attributes as netlink(7) defines them: values <-> bytes. Pure.

nfnetlink, rtnetlink and the kernel's notifications share this format. Numbers are those of
linux/netlink.h, under their C names. Headers and attributes (struct nlattr: length and type, the
payload padded to four bytes) are in host order.
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

NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3

NLA_F_NESTED: Final = 0x8000
NLA_TYPE_MASK: Final = 0x3FFF

HEADER: Final = struct.Struct("=IHHII")
"""struct nlmsghdr: length of the whole message, type, flags, sequence number, port."""
_ATTRIBUTE: Final = struct.Struct("=HH")


class Message(NamedTuple):
    """A netlink message from the kernel."""

    kind: int
    """nlmsg_type; for nf_tables the low byte is NFT_MSG_*."""
    flags: int
    sequence: int
    body: bytes
    """The bytes after struct nlmsghdr."""


class MalformedMessage(ValueError):
    """Bytes that do not form a netlink message: a length in them is wrong."""


def attribute(kind: int, payload: bytes) -> bytes:
    """Pack one attribute."""
    size = 4 + len(payload)
    return _ATTRIBUTE.pack(size, kind) + payload + bytes(-size & 3)


def messages(data: bytes) -> Iterator[Message]:
    """Yield the messages of one datagram. Raise MalformedMessage if a length is wrong."""
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
    """Return the payload of each attribute by its type; the last one of a type counts.

    Raise MalformedMessage if a length is wrong.
    """
    return dict(attribute_list(data))


def attribute_list(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (type, payload) of each attribute. Raise MalformedMessage if a length is wrong."""
    offset = 0
    while offset + 4 <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, offset)
        if size < 4 or offset + size > len(data):
            raise MalformedMessage(f"attribute of {size} bytes, {len(data) - offset} are there")
        yield kind & NLA_TYPE_MASK, data[offset + 4 : offset + size]
        offset += size + (-size & 3)


def raw_attributes(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield (type, the padded bytes of the whole attribute, payload) of each attribute.

    Raise MalformedMessage if a length is wrong.
    """
    offset = 0
    for kind, payload in attribute_list(data):
        size = 4 + len(payload)
        end = offset + size + (-size & 3)
        yield kind, data[offset:end].ljust(end - offset, b"\0"), payload
        offset = end


def error_of(reply: Message) -> int:
    """Return the errno in NLMSG_ERROR as a positive number; 0 is an acknowledgement."""
    if len(reply.body) < 4:
        raise MalformedMessage("NLMSG_ERROR without an error")
    return -int(struct.unpack_from("=i", reply.body)[0])


def name_of(payload: bytes) -> str:
    """Return the text of a NUL-terminated string attribute."""
    return payload.rstrip(b"\0").decode(errors="replace")
