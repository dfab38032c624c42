"""Connection tracking of this network namespace: the number of flows, and whether it was flushed.

Numbers are those of linux/netfilter/nfnetlink_conntrack.h, nf_conntrack_common.h and nfnetlink.h,
under their C names.
"""

import errno
import os
import socket
import struct
from typing import Final, NamedTuple

from sentryfw.netlink.message import (
    HEADER,
    NLA_F_NESTED,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    Message,
    attribute,
    attributes,
    error_of,
    messages,
)
from sentryfw.netlink.socket import NETLINK_NETFILTER

NFNL_SUBSYS_CTNETLINK: Final = 1
IPCTNL_MSG_CT_NEW: Final = 0
IPCTNL_MSG_CT_DELETE: Final = 2
IPCTNL_MSG_CT_GET_STATS: Final = 5
CTA_STATS_GLOBAL_ENTRIES: Final = 1
CTA_STATS_GLOBAL_MAX_ENTRIES: Final = 2
CTA_TUPLE_ORIG: Final = 1
CTA_TUPLE_REPLY: Final = 2
CTA_STATUS: Final = 3
CTA_TIMEOUT: Final = 7
CTA_TUPLE_IP: Final = 1
CTA_TUPLE_PROTO: Final = 2
CTA_IP_V4_SRC: Final = 1
CTA_IP_V4_DST: Final = 2
CTA_IP_V6_SRC: Final = 3
CTA_IP_V6_DST: Final = 4
CTA_PROTO_NUM: Final = 1
IPS_SEEN_REPLY: Final = 1 << 1
IPS_ASSURED: Final = 1 << 2
IPS_CONFIRMED: Final = 1 << 3

OWN_FLOW_PROTOCOL: Final = 0xFF
OWN_FLOW_TIMEOUT_S: Final = 1 << 31
"""The kernel cuts it to 2^31 of its ticks: 25 days or more."""
ANSWER_TIMEOUT_S: Final = 1.0
_ANSWER_BYTES: Final = 1 << 12
_NFGENMSG: Final = struct.Struct("=BBH")


class Flows(NamedTuple):
    """The flows that connection tracking knows."""

    tracked: int
    limit: int
    """nf_conntrack_max; 0 if there is none, or the kernel does not report it."""


class _Ctnetlink:
    """A socket to connection tracking. For one thread. Raises OSError."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER
        )
        self._socket.settimeout(ANSWER_TIMEOUT_S)
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def ask(self, kind: int, family: int, flags: int, body: bytes = b"") -> Message:
        """Send one request; return the answer, or the acknowledgement."""
        self._sequence += 1
        size = HEADER.size + _NFGENMSG.size + len(body)
        kind |= NFNL_SUBSYS_CTNETLINK << 8
        header = HEADER.pack(size, kind, NLM_F_REQUEST | flags, self._sequence, 0)
        self._socket.send(header + _NFGENMSG.pack(family, 0, 0) + body)
        while True:
            for reply in messages(self._socket.recv(_ANSWER_BYTES)):
                if reply.sequence == self._sequence:
                    return reply


class ConntrackCounter(_Ctnetlink):
    """Asks the kernel for the number of flows; 10 us. For one thread. Raises OSError."""

    def read(self) -> Flows | None:
        """Return the number of flows and its limit; None if the kernel tracks none."""
        reply = self.ask(IPCTNL_MSG_CT_GET_STATS, socket.AF_UNSPEC, 0)
        if reply.kind == NLMSG_ERROR:
            return None
        found = attributes(reply.body[4:])
        entries = found.get(CTA_STATS_GLOBAL_ENTRIES)
        limit = int.from_bytes(found.get(CTA_STATS_GLOBAL_MAX_ENTRIES, b""))
        return None if entries is None else Flows(int.from_bytes(entries), limit)


class FlushDetector(_Ctnetlink):
    """Finds that connection tracking was flushed, by a flow of our own in each family.

    No packet can have its addresses (0.0.0.0, ::) or its protocol (255, reserved), it is not
    evicted (assured), and it expires after weeks, so only a flush removes it. The number of flows
    does not show a flush: many short flows that began together expire together.
    For one thread. Raises OSError.
    """

    def was_flushed(self) -> bool:
        """Return whether a flow of ours was gone, and make it again; true at the first call."""
        made = [self._make(family) for family in _ADDRESSES]
        return any(made)

    def remove(self) -> None:
        """Remove our flows."""
        for family in _ADDRESSES:
            reply = self.ask(
                IPCTNL_MSG_CT_DELETE, family, NLM_F_ACK, _tuple(CTA_TUPLE_ORIG, family)
            )
            _raise_unless(error_of(reply), errno.ENOENT)

    def _make(self, family: int) -> bool:
        """Make the flow of a family; return whether there was none."""
        body = (
            _tuple(CTA_TUPLE_ORIG, family) + _tuple(CTA_TUPLE_REPLY, family)
            + attribute(CTA_STATUS, _OWN_FLOW_STATUS.to_bytes(4))
            + attribute(CTA_TIMEOUT, OWN_FLOW_TIMEOUT_S.to_bytes(4))
        )  # fmt: skip
        flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
        code = error_of(self.ask(IPCTNL_MSG_CT_NEW, family, flags, body))
        _raise_unless(code, errno.EEXIST)
        return code == 0


_ADDRESSES: Final[dict[int, tuple[int, int, bytes]]] = {
    socket.AF_INET: (CTA_IP_V4_SRC, CTA_IP_V4_DST, bytes(4)),
    socket.AF_INET6: (CTA_IP_V6_SRC, CTA_IP_V6_DST, bytes(16)),
}
"""Attributes and address of our own flow."""
_OWN_FLOW_STATUS: Final = IPS_SEEN_REPLY | IPS_ASSURED | IPS_CONFIRMED


def _tuple(kind: int, family: int) -> bytes:
    """Return a direction of our own flow."""
    source, target, address = _ADDRESSES[family]
    return _nest(
        kind,
        _nest(CTA_TUPLE_IP, attribute(source, address) + attribute(target, address))
        + _nest(CTA_TUPLE_PROTO, attribute(CTA_PROTO_NUM, bytes([OWN_FLOW_PROTOCOL]))),
    )


def _nest(kind: int, payload: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, payload)


def _raise_unless(code: int, expected: int) -> None:
    if code not in (0, expected):
        raise OSError(code, os.strerror(code))
