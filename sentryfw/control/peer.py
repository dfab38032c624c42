"""The process at the other end of a UNIX socket, as the kernel reports it."""

import os
import socket
import struct
from typing import Final, NamedTuple

SO_PEERGROUPS: Final = 59
MAX_GROUPS: Final = 256
"""Groups that fit Python's getsockopt(); of a process in more, only the primary one counts."""


class Peer(NamedTuple):
    """User and groups of a peer."""

    uid: int
    groups: frozenset[int]

    @property
    def may_change(self) -> bool:
        """Whether the peer is root or the daemon's own user."""
        return self.uid in (0, os.geteuid())

    @property
    def may_read(self) -> bool:
        """Whether the peer may change things, or is in the group of readers."""
        return self.may_change or readers_group() in self.groups


def readers_group() -> int | None:
    """Return the group whose members may read: the daemon's own, unless that is root's."""
    return os.getegid() or None


def peer_of(sock: socket.socket) -> Peer:
    """Return the peer by SO_PEERCRED, and its other groups by SO_PEERGROUPS (Linux 4.13)."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("=iII"))
    _, uid, gid = struct.unpack("=iII", credentials)
    try:
        packed = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 4 * MAX_GROUPS)
    except OSError:
        packed = b""
    return Peer(uid, frozenset((gid, *struct.unpack(f"={len(packed) // 4}I", packed))))
