"""Find rules of other tables that may give a packet another destination.

Before connection tracking a packet has the destination that its sender wrote. Where another program
redirects (DNAT, REDIRECT, TPROXY) or hides hosts (SNAT), that is not yet where it goes.
Numbers are those of linux/netfilter/nf_tables.h.
"""

from typing import Final

from sentryfw.netlink import nftables as nl
from sentryfw.netlink.message import attribute_list, attributes, name_of
from sentryfw.netlink.socket import NfnetlinkSocket

_EXPRESSIONS: Final = frozenset({"nat", "masq", "redir", "tproxy"})
_HARMLESS_TARGETS: Final = frozenset(
    {
        "AUDIT", "CHECKSUM", "CLASSIFY", "CONNMARK", "CONNSECMARK", "CT", "DSCP", "ECN", "HL",
        "IDLETIMER", "LED", "LOG", "MARK", "NFLOG", "NFQUEUE", "NOTRACK", "RATEEST", "REJECT",
        "SECMARK", "SET", "TCPMSS", "TCPOPTSTRIP", "TOS", "TRACE", "TTL",
    }
)  # fmt: skip
"""Targets of iptables-nft that leave the destination as it is (iptables-extensions(8))."""
_DESTINATIONS: Final = {
    nl.NFT_PAYLOAD_NETWORK_HEADER: range(16, 40),
    nl.NFT_PAYLOAD_TRANSPORT_HEADER: range(4),
}
"""Bytes of a header that may be the destination: IPv4's address is the first four of the first."""


def redirecting_table(netlink: NfnetlinkSocket, own: str) -> str:
    """Return the name of a table with a rule that may redirect; empty if there is none.

    `own`: a table inet whose rules do not count. Raise SentryError if the kernel does not answer.
    """
    for reply in netlink.dump(nl.NFT_MSG_GETRULE, b"", "rules", nl.NFPROTO_UNSPEC):
        family = reply.body[0]
        fields = attributes(reply.body[4:])
        table = name_of(fields.get(nl.NFTA_RULE_TABLE, b""))
        if (family, table) == (nl.NFPROTO_INET, own):
            continue
        if redirects(fields.get(nl.NFTA_RULE_EXPRESSIONS, b"")):
            return table
    return ""


def redirects(expressions: bytes) -> bool:
    """Return whether a rule may give a packet another destination.

    `expressions`: the payload of NFTA_RULE_EXPRESSIONS. Raise MalformedMessage.
    """
    return any(_redirects(attributes(item)) for _, item in attribute_list(expressions))


def _redirects(expression: dict[int, bytes]) -> bool:
    name = name_of(expression.get(nl.NFTA_EXPR_NAME, b""))
    data = expression.get(nl.NFTA_EXPR_DATA, b"")
    if name == "target":
        return name_of(attributes(data).get(nl.NFTA_TARGET_NAME, b"")) not in _HARMLESS_TARGETS
    if name == "payload":
        return _writes_destination(attributes(data))
    return name in _EXPRESSIONS


def _writes_destination(payload: dict[int, bytes]) -> bool:
    base = int.from_bytes(payload.get(nl.NFTA_PAYLOAD_BASE, b""))
    offset = int.from_bytes(payload.get(nl.NFTA_PAYLOAD_OFFSET, b""))
    end = offset + int.from_bytes(payload.get(nl.NFTA_PAYLOAD_LEN, b""))
    place = _DESTINATIONS.get(base, range(0))
    return nl.NFTA_PAYLOAD_SREG in payload and offset < place.stop and end > place.start
