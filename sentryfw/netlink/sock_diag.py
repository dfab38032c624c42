"""sock_diag(7): the sockets of this network namespace that receive from any peer.

Numbers are those of linux/inet_diag.h, linux/sock_diag.h and net/tcp_states.h, under their C names.
"""

import socket
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from sentryfw.netlink.message import (
    HEADER,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    attributes,
    messages,
)

NETLINK_SOCK_DIAG: Final = 4
SOCK_DIAG_BY_FAMILY: Final = 20
INET_DIAG_SKV6ONLY: Final = 11
INET_DIAG_MARK: Final = 15
TCP_CLOSE: Final = 7
"""State of a UDP socket without a peer."""
TCP_LISTEN: Final = 10

TCP: Final = 6
UDP: Final = 17
STATES: Final = {TCP: TCP_LISTEN, UDP: TCP_CLOSE}
"""The state of a socket that receives from any peer, by protocol."""
ANSWER_TIMEOUT_S: Final = 5.0
_DATAGRAM_BYTES: Final = 1 << 16
_REQUEST: Final = struct.Struct("=BBxxI48x")  # struct inet_diag_req_v2
_REPLY: Final = struct.Struct("=4x2s2s16s16sI8s20x")  # struct inet_diag_msg
_MAPPED: Final = bytes(10) + b"\xff\xff"
"""The beginning of an IPv4-mapped address (RFC 4291, section 2.5.5.2)."""


class Receiver(NamedTuple):
    """A socket that receives from any peer."""

    protocol: int
    address: bytes
    """4 or 16 bytes; all zero: every address of that family."""
    port: int
    both: bool
    """Whether a socket at every IPv6 address receives IPv4, too."""
    interface: int
    """Index of the interface that it is bound to; 0: none."""
    mark: int
    """SO_MARK; 0 without CAP_NET_ADMIN."""
    cookie: bytes
    """The kernel's name of the socket, never used again."""

    def places(self) -> Iterator[tuple[bytes, int, int]]:
        """Yield each (address, protocol, port) at which it receives."""
        yield self.address, self.protocol, self.port
        if self.both:
            yield bytes(4), self.protocol, self.port


def receivers() -> list[Receiver]:
    """Return the TCP listeners and the UDP sockets without a peer. Raise OSError.

    Protocols that the kernel cannot report (CONFIG_INET_UDP_DIAG) are left out.
    """
    found: list[Receiver] = []
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG
    ) as sock:
        sock.settimeout(ANSWER_TIMEOUT_S)
        for protocol, state in STATES.items():
            for family in (socket.AF_INET, socket.AF_INET6):
                sock.send(packed_request(family, protocol, state))
                found += _answers(sock, family, protocol)
    return found


def packed_request(family: int, protocol: int, state: int) -> bytes:
    """Pack a request for all sockets of a family and a protocol that are in one state."""
    body = _REQUEST.pack(family, protocol, 1 << state)
    size = HEADER.size + len(body)
    return HEADER.pack(size, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 1, 0) + body


def _answers(sock: socket.socket, family: int, protocol: int) -> Iterator[Receiver]:
    while True:
        for reply in messages(sock.recv(_DATAGRAM_BYTES)):
            if reply.kind in (NLMSG_DONE, NLMSG_ERROR):
                return
            if reply.kind == SOCK_DIAG_BY_FAMILY and len(reply.body) >= _REPLY.size:
                yield receiver_of(reply.body, family, protocol)


def receiver_of(body: bytes, family: int, protocol: int) -> Receiver:
    """Return the socket in a reply; `body`: struct inet_diag_msg and its attributes."""
    port, _, address, _, interface, cookie = _REPLY.unpack_from(body)
    fields = attributes(body[_REPLY.size :])
    both = False
    if family == socket.AF_INET:
        address = address[:4]
    elif address.startswith(_MAPPED):
        address = address[12:]
    else:
        both = not any(address) and not any(fields.get(INET_DIAG_SKV6ONLY, b""))
    mark = struct.unpack("=I", fields.get(INET_DIAG_MARK, bytes(4)))[0]
    return Receiver(
        protocol, address, int.from_bytes(port), both=both, interface=interface, mark=mark,
        cookie=cookie,
    )  # fmt: skip
