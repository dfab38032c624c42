"""nf_tables messages: values <-> bytes. Pure; socket.py carries them.

libnftables does the rest. These messages are what it cannot do well: single elements of block
sets, the xt queue target, and short reads that would otherwise cost a walk over every set of the
host. Numbers are those of linux/netfilter/nf_tables.h, nfnetlink.h and nf_tables_compat.h, under
their C names. nf_tables' integers are in network order.
"""

import struct
from typing import Final

from sentryfw.netlink.message import (
    HEADER,
    NLA_F_NESTED,
    NLM_F_ACK,
    NLM_F_REQUEST,
    MalformedMessage,
    Message,
    attribute,
    attributes,
)

NFNL_SUBSYS_NFTABLES: Final = 10
NFNL_MSG_BATCH_BEGIN: Final = 0x10
NFNL_MSG_BATCH_END: Final = 0x11
NFNLGRP_NFTABLES: Final = 7

NFT_MSG_NEWTABLE: Final = 0
NFT_MSG_GETTABLE: Final = 1
NFT_MSG_DELTABLE: Final = 2
NFT_MSG_NEWCHAIN: Final = 3
NFT_MSG_GETCHAIN: Final = 4
NFT_MSG_DELCHAIN: Final = 5
NFT_MSG_NEWRULE: Final = 6
NFT_MSG_GETRULE: Final = 7
NFT_MSG_DELRULE: Final = 8
NFT_MSG_NEWSET: Final = 9
NFT_MSG_GETSET: Final = 10
NFT_MSG_DELSET: Final = 11
NFT_MSG_NEWSETELEM: Final = 12
NFT_MSG_GETSETELEM: Final = 13
NFT_MSG_DELSETELEM: Final = 14
NFT_MSG_NEWGEN: Final = 15
NFT_MSG_NEWOBJ: Final = 18
NFT_MSG_GETOBJ: Final = 19
NFT_MSG_DELOBJ: Final = 20

NFPROTO_UNSPEC: Final = 0
NFPROTO_INET: Final = 1

NFTA_LIST_ELEM: Final = 1
NFTA_TABLE_NAME: Final = 1
NFTA_TABLE_USERDATA: Final = 6
NFTA_CHAIN_TABLE: Final = 1
NFTA_CHAIN_NAME: Final = 3
NFTA_CHAIN_HOOK: Final = 4
NFTA_CHAIN_POLICY: Final = 5
NFTA_CHAIN_TYPE: Final = 7
NFTA_CHAIN_USERDATA: Final = 12
NFTA_RULE_TABLE: Final = 1
NFTA_RULE_CHAIN: Final = 2
NFTA_RULE_HANDLE: Final = 3
NFTA_RULE_EXPRESSIONS: Final = 4
NFTA_RULE_USERDATA: Final = 7
NFTA_EXPR_NAME: Final = 1
NFTA_EXPR_DATA: Final = 2
NFTA_LOOKUP_SET: Final = 1
NFTA_LOOKUP_SET_ID: Final = 4
NFTA_PAYLOAD_BASE: Final = 2
NFTA_PAYLOAD_OFFSET: Final = 3
NFTA_PAYLOAD_LEN: Final = 4
NFTA_PAYLOAD_SREG: Final = 5
NFT_PAYLOAD_NETWORK_HEADER: Final = 1
NFT_PAYLOAD_TRANSPORT_HEADER: Final = 2
NFTA_TARGET_NAME: Final = 1
NFTA_TARGET_REV: Final = 2
NFTA_TARGET_INFO: Final = 3
NFTA_QUEUE_NUM: Final = 1
NFTA_QUEUE_TOTAL: Final = 2
NFTA_QUEUE_FLAGS: Final = 3
NFTA_SET_TABLE: Final = 1
NFTA_SET_NAME: Final = 2
NFTA_SET_FLAGS: Final = 3
NFTA_SET_KEY_TYPE: Final = 4
NFTA_SET_KEY_LEN: Final = 5
NFTA_SET_DATA_TYPE: Final = 6
NFTA_SET_DATA_LEN: Final = 7
NFTA_SET_POLICY: Final = 8
NFTA_SET_DESC: Final = 9
NFTA_SET_ID: Final = 10
NFTA_SET_TIMEOUT: Final = 11
NFTA_SET_GC_INTERVAL: Final = 12
NFTA_SET_USERDATA: Final = 13
NFTA_SET_OBJ_TYPE: Final = 15
NFTA_SET_EXPR: Final = 17
NFTA_SET_EXPRESSIONS: Final = 18
NFTA_SET_COUNT: Final = 20
NFTA_SET_ELEM_LIST_TABLE: Final = 1
NFTA_SET_ELEM_LIST_SET: Final = 2
NFTA_SET_ELEM_LIST_ELEMENTS: Final = 3
NFTA_SET_ELEM_LIST_SET_ID: Final = 4
NFTA_SET_ELEM_KEY: Final = 1
NFTA_SET_ELEM_FLAGS: Final = 3
NFTA_SET_ELEM_TIMEOUT: Final = 4
NFTA_SET_ELEM_EXPIRATION: Final = 5
NFTA_SET_ELEM_EXPR: Final = 7
NFTA_SET_ELEM_KEY_END: Final = 10
NFTA_SET_ELEM_EXPRESSIONS: Final = 11
NFTA_DATA_VALUE: Final = 1
NFTA_OBJ_TABLE: Final = 1
NFTA_OBJ_NAME: Final = 2
NFTA_OBJ_TYPE: Final = 3
NFTA_OBJ_DATA: Final = 4
NFTA_OBJ_USERDATA: Final = 8
NFTA_COUNTER_BYTES: Final = 1
NFTA_COUNTER_PACKETS: Final = 2
NFTA_GEN_PROC_PID: Final = 2
NFTA_GEN_PROC_NAME: Final = 3

NFT_OBJECT_COUNTER: Final = 1
NFT_SET_ANONYMOUS: Final = 0x1
NFT_SET_EVAL: Final = 0x20
"""`flags dynamic`: rules add elements to the set."""
NFT_SET_ELEM_INTERVAL_END: Final = 0x1
NFT_QUEUE_FLAG_BYPASS: Final = 0x01
NFQ_FLAG_BYPASS: Final = 0x01

UDATA_COMMENT: Final = 0
"""NFTNL_UDATA_TABLE_COMMENT and NFTNL_UDATA_RULE_COMMENT (libnftnl/udata.h)."""

_GENERIC = struct.Struct("!BBH")  # struct nfgenmsg
_U16 = struct.Struct("!H")
_U32 = struct.Struct("!I")
_U64 = struct.Struct("!Q")

NftRequest = tuple[int, int, bytes]
"""(NFT_MSG_*, flags, body): one message of a transaction."""


def nested(kind: int, *attributes: bytes) -> bytes:
    """Pack an attribute that consists of attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    """Pack a string attribute, NUL-terminated."""
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
    """Pack struct nlmsghdr, struct nfgenmsg and attributes. `kind` is the whole nlmsg_type."""
    return (
        HEADER.pack(20 + len(body), kind, flags | NLM_F_REQUEST, sequence, 0)
        + _GENERIC.pack(family, 0, resource)
        + body
    )


def nft(
    kind: int, body: bytes, *, flags: int = 0, sequence: int = 0, family: int = NFPROTO_INET
) -> bytes:
    """Pack a message to nf_tables. `kind` is NFT_MSG_*."""
    whole_kind = NFNL_SUBSYS_NFTABLES << 8 | kind
    return message(whole_kind, body, flags=flags, sequence=sequence, family=family)


def batch(requests: list[NftRequest], sequence: int, *, commit: bool = True) -> bytes:
    """Pack a transaction, numbered from `sequence` up; the kernel acknowledges the last request.

    Without `commit` the end is missing: the kernel checks the requests and reverts them (nft -c).
    """
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


def set_name(table: str, name: str) -> bytes:
    """Pack the attributes that name a set in NFT_MSG_{NEW,DEL,GET}SETELEM."""
    return text(NFTA_SET_ELEM_LIST_TABLE, table) + text(NFTA_SET_ELEM_LIST_SET, name)


def queue_target_rule(table: str, chain: str, queue: int, comment: str) -> bytes:
    """Pack the body of NFT_MSG_NEWRULE with the xt target NFQUEUE, revision 3.

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
    """Pack the body of NFT_MSG_NEWRULE with the nft queue statement."""
    data = (
        u16(NFTA_QUEUE_NUM, queue)
        + u16(NFTA_QUEUE_TOTAL, 1)
        + u16(NFTA_QUEUE_FLAGS, NFT_QUEUE_FLAG_BYPASS)
    )
    return rule(table, chain, "queue", data, comment)


def rule(table: str, chain: str, expression: str, data: bytes, comment: str) -> bytes:
    """Pack the body of NFT_MSG_NEWRULE with one expression."""
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


def set_count(reply: Message) -> int | None:
    """Return the number of elements in a set, from the reply to NFT_MSG_GETSET.

    None if the kernel does not report it (6.1 does not, 6.18 does). Expired elements count until
    the kernel collects them.
    """
    count = attributes(reply.body[4:]).get(NFTA_SET_COUNT)
    return None if count is None else int.from_bytes(count)


def set_timeout(reply: Message) -> float:
    """Return the default timeout of a set in seconds, from the reply to NFT_MSG_GETSET; 0: none."""
    return u64_of(attributes(reply.body[4:]).get(NFTA_SET_TIMEOUT)) / 1000


def counter_of(data: bytes) -> tuple[int, int]:
    """Return (packets, bytes) of a counter expression or object."""
    fields = attributes(data)
    return u64_of(fields.get(NFTA_COUNTER_PACKETS)), u64_of(fields.get(NFTA_COUNTER_BYTES))


def u64_of(payload: bytes | None) -> int:
    """Return the number in an attribute of eight bytes; 0 without the attribute."""
    if payload is None:
        return 0
    if len(payload) != 8:
        raise MalformedMessage(f"a number of {len(payload)} bytes, not 8")
    return int.from_bytes(payload)


def comment_of(userdata: bytes) -> str | None:
    """Return the comment in the user data (type, length, value) of a table or rule."""
    offset = 0
    while offset + 2 <= len(userdata):
        kind, size = userdata[offset], userdata[offset + 1]
        if kind == UDATA_COMMENT:
            return userdata[offset + 2 : offset + 2 + size].rstrip(b"\0").decode(errors="replace")
        offset += 2 + size
    return None
