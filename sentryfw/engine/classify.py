"""What a packet is: (Packet, Meta) -> Probe | Stray.

The rules of this file. Everything that makes a packet evidence or no evidence lives here and
in strays.py. The TCP part is a table with one row for each of the 64 combinations of six
flags, so that no combination is left out. ECN's flags (RFC 3168) say nothing about a scan and
are masked.
"""

from typing import Final

from sentryfw.engine.model import Kind, Meta, Packet, Probe, Stray, source_of
from sentryfw.engine.packet import HIDDEN, ICMP, ICMPV6, SCTP, TCP, UDP
from sentryfw.engine.strays import LATE, udp_stray

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10
URG: Final = 0x20
FLAGS: Final = 0x3F

SCTP_INIT: Final = 1
SCTP_COOKIE_ECHO: Final = 10

ICMP_REQUESTS: Final = {8: "echo", 13: "timestamp", 15: "information", 17: "address mask"}
"""RFC 792 and RFC 950: what asks, and so finds out whether somebody is there."""
ICMPV6_REQUESTS: Final = {128: "echo", 139: "node information"}
"""RFC 4443, section 4.1; RFC 4620."""

BACKSCATTER: Final = frozenset[Kind](("synack", "rst"))
"""Answers to packets that somebody else sent in our name."""
FORGEABLE: Final = frozenset[Kind](
    (
        "syn", "fin", "null", "xmas", "maimon", "ack", "synfin", "badflags", "urg", "udp",
        "sctp-init", "sctp-cookie-echo", "protocol", "icmp",
    )
)  # fmt: skip
"""Kinds that anybody can send in anybody's name: one packet, no answer needed."""
UNCERTAIN: Final = frozenset[Kind](("sctp-init", "sctp-cookie-echo", "protocol", "icmp"))
"""Kinds whose packets the kernel may well receive: evidence, but not dropped as unlisted."""


def _kind_of(flags: int) -> Kind:
    """nmap(1): -sS -sF -sN -sX -sM -sA; the rest after nf_conntrack_proto_tcp.c, tcp_valid_flags:
    what that table does not know, no stack sends. PSH it ignores, and SYN with URG it knows."""
    if flags == 0:
        return "null"
    if flags & RST:
        return "rst" if not flags & (SYN | FIN | URG) else "badflags"
    if flags & (FIN | URG | PSH) == FIN | URG | PSH and not flags & ACK:
        return "xmas"  # PortSentry's: with or without SYN
    if flags & SYN:
        if flags & FIN:
            return "badflags" if flags & ACK else "synfin"
        return "synack" if flags & ACK else "syn"
    if flags & ACK:
        return "maimon" if flags & FIN else "ack"
    if flags & URG and not flags & FIN:
        return "urg"
    return "fin" if flags == FIN else "badflags"


TCP_KINDS: Final[tuple[Kind, ...]] = tuple(_kind_of(flags) for flags in range(FLAGS + 1))
"""The kind of each combination of the six flags; the index is the flag byte, ECN masked."""

LATE_KINDS: Final = frozenset[Kind](("ack", "maimon"))
"""What a partner still sends when conntrack has forgotten the connection."""
_BACKSCATTER: Final = Stray("backscatter")
_LISTED: Final = Stray("listed")
_NO_REQUEST: Final = Stray("no request")
_NO_UNICAST: Final = Stray("no unicast source")


def classify(packet: Packet, meta: Meta) -> Probe | Stray:
    """A probe, or why the packet is none."""
    if meta.half_open:
        return _probe(packet, "syn", packet.dport, listed=True)
    if packet.protocol == TCP:
        kind = TCP_KINDS[packet.flags & FLAGS]
        if kind in BACKSCATTER:
            return _BACKSCATTER
        if kind in LATE_KINDS and (meta.partner or meta.peer):
            return LATE
    elif packet.protocol == UDP:
        stray = udp_stray(packet)
        if stray is not None:
            return stray
        kind = "udp"
    else:
        return _classify_other(packet, meta)
    if not meta.unlisted:
        return _LISTED
    return _probe(packet, kind, packet.dport)


def _classify_other(packet: Packet, meta: Meta) -> Probe | Stray:
    if not meta.unlisted:
        return _LISTED
    if packet.protocol == SCTP:
        if packet.flags == SCTP_INIT:
            return _probe(packet, "sctp-init", packet.dport)
        if packet.flags == SCTP_COOKIE_ECHO:
            return _probe(packet, "sctp-cookie-echo", packet.dport)
        return _BACKSCATTER
    if packet.protocol == HIDDEN:
        return _probe(packet, "badflags", 0)
    if packet.protocol in (ICMP, ICMPV6):
        requests = ICMP_REQUESTS if packet.protocol == ICMP else ICMPV6_REQUESTS
        return _probe(packet, "icmp", packet.flags) if packet.flags in requests else _NO_REQUEST
    return _probe(packet, "protocol", 0)


def _probe(packet: Packet, kind: Kind, port: int, *, listed: bool = False) -> Probe | Stray:
    if not _is_unicast(packet.source):
        return _NO_UNICAST
    target = (packet.target, packet.protocol, port)
    return Probe(source_of(packet.source), target, kind, listed=listed)


def _is_unicast(address: bytes) -> bool:
    """Whether a host can have this address: not 0/8, 127/8, 224/3 (RFC 1122, section 3.2.1.3),
    not ::/64 or ff00::/8 (RFC 4291, section 2.4)."""
    first = address[0]
    if len(address) == 4:
        return first not in (0, 127) and first < 224
    return first != 0xFF and (first != 0 or any(address[1:8]))
