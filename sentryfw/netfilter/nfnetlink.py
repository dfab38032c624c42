"""nfnetlink messages: values <-> bytes. Pure; netfilter/netlink.py carries them.

Only what libnftables cannot do well is here: single elements of block sets, the xt queue
target, and the small read-outs that would otherwise cost a walk over every set of the host.
Numbers are those of linux/netfilter/nf_tables.h, nfnetlink.h and nf_tables_compat.h, under
their C names. Attributes are struct nlattr: length and type in host order, the payload padded
to four bytes; nf_tables' integers are in network order.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from sentryfw.nlmsg import (  # noqa: F401 - nfnetlink is netlink: one name for both
    HEADER,
    NLA_F_NESTED,
    NLA_TYPE_MASK,
    NLM_F_ACK,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    MalformedMessage,
    Message,
    attribute,
    attribute_list,
    attributes,
    error_of,
    messages,
    name_of,
)

NFNL_SUBSYS_NFTABLES: Final = 10
NFNL_MSG_BATCH_BEGIN: Final = 0x10
NFNL_MSG_BATCH_END: Final = 0x11

NFT_MSG_GETTABLE: Final = 1
NFT_MSG_NEWTABLE: Final = 0
NFT_MSG_DELTABLE: Final = 2
NFT_MSG_NEWCHAIN: Final = 3
NFT_MSG_NEWRULE: Final = 6
NFT_MSG_GETRULE: Final = 7
NFT_MSG_DELRULE: Final = 8
NFT_MSG_GETSET: Final = 10
NFT_MSG_NEWSETELEM: Final = 12
NFT_MSG_GETSETELEM: Final = 13
NFT_MSG_DELSETELEM: Final = 14
NFT_MSG_GETOBJ: Final = 19

NFPROTO_UNSPEC: Final = 0
NFPROTO_INET: Final = 1

NFTA_LIST_ELEM: Final = 1
NFTA_TABLE_NAME: Final = 1
NFTA_TABLE_USERDATA: Final = 6
NFTA_CHAIN_TABLE: Final = 1
NFTA_CHAIN_NAME: Final = 3
NFTA_RULE_TABLE: Final = 1
NFTA_RULE_CHAIN: Final = 2
NFTA_RULE_HANDLE: Final = 3
NFTA_RULE_EXPRESSIONS: Final = 4
NFTA_RULE_USERDATA: Final = 7
NFTA_EXPR_NAME: Final = 1
NFTA_EXPR_DATA: Final = 2
NFTA_TARGET_NAME: Final = 1
NFTA_TARGET_REV: Final = 2
NFTA_TARGET_INFO: Final = 3
NFTA_QUEUE_NUM: Final = 1
NFTA_QUEUE_TOTAL: Final = 2
NFTA_QUEUE_FLAGS: Final = 3
NFTA_SET_TABLE: Final = 1
NFTA_SET_NAME: Final = 2
NFTA_SET_COUNT: Final = 20
NFTA_SET_ELEM_LIST_TABLE: Final = 1
NFTA_SET_ELEM_LIST_SET: Final = 2
NFTA_SET_ELEM_LIST_ELEMENTS: Final = 3
NFTA_SET_ELEM_KEY: Final = 1
NFTA_SET_ELEM_FLAGS: Final = 3
NFTA_SET_ELEM_TIMEOUT: Final = 4
NFTA_SET_ELEM_EXPIRATION: Final = 5
NFTA_SET_ELEM_EXPR: Final = 7
NFTA_SET_ELEM_EXPRESSIONS: Final = 11
NFTA_DATA_VALUE: Final = 1
NFTA_OBJ_TABLE: Final = 1
NFTA_OBJ_NAME: Final = 2
NFTA_OBJ_TYPE: Final = 3
NFTA_OBJ_DATA: Final = 4
NFTA_COUNTER_BYTES: Final = 1
NFTA_COUNTER_PACKETS: Final = 2

NFT_OBJECT_COUNTER: Final = 1
NFT_SET_ELEM_INTERVAL_END: Final = 0x1
NFT_QUEUE_FLAG_BYPASS: Final = 0x01
NFQ_FLAG_BYPASS: Final = 0x01

UDATA_COMMENT: Final = 0
"""NFTNL_UDATA_TABLE_COMMENT and NFTNL_UDATA_RULE_COMMENT (libnftnl/udata.h)."""

_GENERIC = struct.Struct("!BBH")  # struct nfgenmsg
_U16 = struct.Struct("!H")
_U32 = struct.Struct("!I")
_U64 = struct.Struct("!Q")


class Element(NamedTuple):
    """An element of a set with timeouts."""

    key: bytes
    timeout: float
    """Configured lifetime, seconds; 0 for ever."""
    expires: float
    """Left of it, seconds."""
    packets: int
    """Dropped because of it, by its own counter."""
    bytes: int
    is_end: bool = False
    """In an interval set: the first key that an interval does not cover any more."""


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def u16(kind: int, value: int) -> bytes:
    return attribute(kind, _U16.pack(value))


def u32(kind: int, value: int) -> bytes:
    return attribute(kind, _U32.pack(value))


def u64(kind: int, value: int) -> bytes:
    return attribute(kind, _U64.pack(value))


def message(
    kind: int,
    body: bytes,
    *,
    flags: int,
    sequence: int,
    family: int = NFPROTO_INET,
    resource: int = 0,
) -> bytes:
    """struct nlmsghdr, struct nfgenmsg, attributes. `kind` is the whole nlmsg_type."""
    return (
        HEADER.pack(20 + len(body), kind, flags | NLM_F_REQUEST, sequence, 0)
        + _GENERIC.pack(family, 0, resource)
        + body
    )


def nft(kind: int, body: bytes, *, flags: int = 0, sequence: int = 0) -> bytes:
    """A message to nf_tables, in family inet."""
    return message(NFNL_SUBSYS_NFTABLES << 8 | kind, body, flags=flags, sequence=sequence)


def batch(requests: list[tuple[int, int, bytes]], sequence: int, *, commit: bool = True) -> bytes:
    """A transaction of (NFT_MSG_*, flags, body), numbered from `sequence` up; the last one is
    acknowledged. Without its end the kernel checks it and takes it back (nft -c)."""
    parts = [_batch_mark(NFNL_MSG_BATCH_BEGIN, sequence)]
    last = len(requests) - 1
    for index, (kind, flags, body) in enumerate(requests):
        ack = NLM_F_ACK if index == last else 0
        parts.append(nft(kind, body, flags=flags | ack, sequence=sequence + 1 + index))
    if commit:
        parts.append(_batch_mark(NFNL_MSG_BATCH_END, sequence + len(requests) + 1))
    return b"".join(parts)


def _batch_mark(kind: int, sequence: int) -> bytes:
    return message(
        kind, b"", flags=0, sequence=sequence, family=NFPROTO_UNSPEC,
        resource=NFNL_SUBSYS_NFTABLES,
    )  # fmt: skip


def set_element(table: str, name: str, key: bytes, timeout: float | None = None) -> bytes:
    """Body of NFT_MSG_{NEW,DEL,GET}SETELEM for one key; `timeout` in seconds."""
    element = nested(NFTA_SET_ELEM_KEY, attribute(NFTA_DATA_VALUE, key))
    if timeout is not None:
        element += u64(NFTA_SET_ELEM_TIMEOUT, max(1, round(timeout * 1000)))
    return set_name(table, name) + nested(
        NFTA_SET_ELEM_LIST_ELEMENTS, nested(NFTA_LIST_ELEM, element)
    )


def interval_elements(intervals: list[tuple[int, int]], size: int) -> bytes:
    """NFTA_SET_ELEM_LIST_ELEMENTS of (first, last) addresses of `size` bytes, as nft sends them:
    a start, and an end one beyond the last, unless that is the last there is."""
    elements = []
    for first, last in intervals:
        elements.append(nested(NFTA_LIST_ELEM, _interval_key(first, size)))
        if last + 1 < 1 << size * 8:
            flag = u32(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END)
            elements.append(nested(NFTA_LIST_ELEM, flag + _interval_key(last + 1, size)))
    return nested(NFTA_SET_ELEM_LIST_ELEMENTS, *elements)


def _interval_key(address: int, size: int) -> bytes:
    return nested(NFTA_SET_ELEM_KEY, attribute(NFTA_DATA_VALUE, address.to_bytes(size)))


def set_name(table: str, name: str) -> bytes:
    return text(NFTA_SET_ELEM_LIST_TABLE, table) + text(NFTA_SET_ELEM_LIST_SET, name)


def queue_target_rule(table: str, chain: str, queue: int, comment: str) -> bytes:
    """Body of NFT_MSG_NEWRULE with the xt target NFQUEUE, revision 3.

    struct xt_NFQ_info_v3 (linux/netfilter/xt_NFQUEUE.h) is three u16 in host order, padded to
    eight bytes as xt targets are (XT_ALIGN).
    """
    info = struct.pack("=HHHxx", queue, 1, NFQ_FLAG_BYPASS)
    target = (
        text(NFTA_TARGET_NAME, "NFQUEUE")
        + u32(NFTA_TARGET_REV, 3)
        + attribute(NFTA_TARGET_INFO, info)
    )
    return rule(table, chain, "target", target, comment)


def queue_rule(table: str, chain: str, queue: int, comment: str) -> bytes:
    """Body of NFT_MSG_NEWRULE with the nft queue statement; features.py asks with it."""
    data = (
        u16(NFTA_QUEUE_NUM, queue)
        + u16(NFTA_QUEUE_TOTAL, 1)
        + u16(NFTA_QUEUE_FLAGS, NFT_QUEUE_FLAG_BYPASS)
    )
    return rule(table, chain, "queue", data, comment)


def rule(table: str, chain: str, expression: str, data: bytes, comment: str) -> bytes:
    """Body of NFT_MSG_NEWRULE with one expression."""
    note = comment.encode() + b"\0"
    return (
        text(NFTA_RULE_TABLE, table)
        + text(NFTA_RULE_CHAIN, chain)
        + nested(
            NFTA_RULE_EXPRESSIONS,
            nested(
                NFTA_LIST_ELEM,
                text(NFTA_EXPR_NAME, expression) + nested(NFTA_EXPR_DATA, data),
            ),
        )
        + attribute(NFTA_RULE_USERDATA, bytes((UDATA_COMMENT, len(note))) + note)
    )


def elements_of(reply: Message) -> Iterator[Element]:
    """The elements in a reply to NFT_MSG_GETSETELEM."""
    outer = attributes(reply.body[4:])
    for _, item in attribute_list(outer.get(NFTA_SET_ELEM_LIST_ELEMENTS, b"")):
        fields = attributes(item)
        key = attributes(fields.get(NFTA_SET_ELEM_KEY, b"")).get(NFTA_DATA_VALUE, b"")
        packets, size = _element_counter(fields)
        yield Element(
            key,
            _u64_of(fields.get(NFTA_SET_ELEM_TIMEOUT)) / 1000,
            _u64_of(fields.get(NFTA_SET_ELEM_EXPIRATION)) / 1000,
            packets,
            size,
            bool(int.from_bytes(fields.get(NFTA_SET_ELEM_FLAGS, b"")) & NFT_SET_ELEM_INTERVAL_END),
        )


def set_count(reply: Message) -> int | None:
    """How many elements a set holds, in the reply to NFT_MSG_GETSET; None where the kernel does
    not say (6.1 does not, 6.18 does). What has ended counts until it is collected."""
    count = attributes(reply.body[4:]).get(NFTA_SET_COUNT)
    return None if count is None else int.from_bytes(count)


def count_elements(reply: Message) -> int:
    outer = attributes(reply.body[4:])
    return sum(1 for _ in attribute_list(outer.get(NFTA_SET_ELEM_LIST_ELEMENTS, b"")))


def _element_counter(fields: dict[int, bytes]) -> tuple[int, int]:
    expression = fields.get(NFTA_SET_ELEM_EXPR)
    if expression is None:
        listed = attributes(fields.get(NFTA_SET_ELEM_EXPRESSIONS, b""))
        expression = listed.get(NFTA_LIST_ELEM, b"")
    return counter_of(attributes(expression).get(NFTA_EXPR_DATA, b""))


def counter_of(data: bytes) -> tuple[int, int]:
    """(packets, bytes) of a counter expression or object."""
    fields = attributes(data)
    return _u64_of(fields.get(NFTA_COUNTER_PACKETS)), _u64_of(fields.get(NFTA_COUNTER_BYTES))


def comment_of(userdata: bytes) -> str | None:
    """The comment in a table's or rule's user data (type, length, value)."""
    offset = 0
    while offset + 2 <= len(userdata):
        kind, size = userdata[offset], userdata[offset + 1]
        if kind == UDATA_COMMENT:
            return userdata[offset + 2 : offset + 2 + size].rstrip(b"\0").decode(errors="replace")
        offset += 2 + size
    return None


def _u64_of(payload: bytes | None) -> int:
    if payload is None:
        return 0
    if len(payload) != 8:
        raise MalformedMessage(f"a number of {len(payload)} bytes, not 8")
    return int.from_bytes(payload)
