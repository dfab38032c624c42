"""`conntrack -F`, without the program."""

import socket
import struct

from sentryfw.netlink.message import HEADER, NLM_F_ACK, NLM_F_REQUEST, error_of, messages
from sentryfw.netlink.socket import NETLINK_NETFILTER

CT_DELETE = 1 << 8 | 2
"""NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE; without a tuple it deletes every flow."""


def flush() -> None:
    """Delete every flow of the present network namespace."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as sock:
        header = HEADER.pack(HEADER.size + 4, CT_DELETE, NLM_F_REQUEST | NLM_F_ACK, 1, 0)
        sock.send(header + struct.pack("=BBH", socket.AF_UNSPEC, 0, 0))
        [reply] = messages(sock.recv(4096))
        assert error_of(reply) == 0
