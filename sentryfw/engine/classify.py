"""Classify a packet: (Packet, Meta) -> Probe | Stray.

The rules of this file. Only this module and strays.py decide whether a packet is evidence. The
TCP part is a table with one row for each of the 64 combinations of six flags, so that no
combination is left out. ECN's flags (RFC 3168) are masked: they do not depend on the scan.
"""

from collections.abc import Mapping
from typing import Final

from sentryfw.engine.model import Kind, Meta, Packet, Probe, Stray, source_of
from sentryfw.engine.packet import DCCP, HIDDEN, ICMP, ICMPV6, SCTP, TCP, UDP
from sentryfw.engine.strays import LATE, REPEATED, is_of_stack, udp_stray

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10
URG: Final = 0x20
FLAGS: Final = 0x3F

SCTP_INIT: Final = 1
SCTP_COOKIE_ECHO: Final = 10

DCCP_ANSWERS: Final = frozenset((1, 7))
"""Response and Reset (RFC 4340, section 5.1)."""

ICMP_REQUESTS: Final = {
    8: "echo", 13: "timestamp", 15: "information", 17: "address mask", 42: "extended echo",
}  # fmt: skip
"""Requests that find out whether a host exists (RFC 792, RFC 950, RFC 8335)."""
ICMPV6_REQUESTS: Final = {128: "echo", 139: "node information", 160: "extended echo"}
"""Requests of ICMPv6 (RFC 4443, section 4.1; RFC 4620; RFC 8335)."""

BACKSCATTER: Final = frozenset[Kind](("synack", "rst"))
"""Kinds that answer packets which another host sent with our address as the source. A reset of a
connection that the source began is evidence (Meta.half_open)."""
FORGEABLE: Final = frozenset[Kind](
    (
        "syn", "fin", "null", "xmas", "maimon", "ack", "synfin", "badflags", "urg", "udp",
        "sctp-init", "sctp-cookie-echo", "protocol", "icmp", "rst",
    )
)  # fmt: skip
"""Kinds that any host can send with any source address: one packet, no answer needed."""
UNCERTAIN: Final = frozenset[Kind](("sctp-init", "sctp-cookie-echo", "protocol", "icmp"))
"""Kinds that the kernel may receive itself; they are evidence, and not dropped as unlisted."""


def _kind_of(flags: int) -> Kind:
    """Return the kind of a TCP packet: nmap(1)'s -sS -sF -sN -sX -sM -sA, or `badflags`.

    `badflags` are combinations that tcp_valid_flags (nf_conntrack_proto_tcp.c) does not list: no
    stack sends them. That table ignores PSH, and lists SYN with URG.
    """
    if flags == 0:
        return "null"
    if flags & RST:
        return "rst" if not flags & (SYN | FIN | URG) else "badflags"
    if flags & (FIN | URG | PSH) == FIN | URG | PSH and not flags & ACK:
        return "xmas"  # with or without SYN, as in PortSentry
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
"""Kinds that a partner still sends after conntrack has forgotten the connection. To a listed port
they are evidence, too, half a target: ACK scans find out what is filtered."""
_BACKSCATTER: Final = Stray("backscatter")
_BROADCAST: Final = b"\xff\xff\xff\xff"
_LISTED: Final = Stray("listed")
_NO_REQUEST: Final = Stray("no request")
_NO_UNICAST: Final = Stray("no unicast source", silent=True)


def classify(packet: Packet, meta: Meta) -> Probe | Stray:
    """Return the probe that a packet is, or the reason why it is not evidence."""
    if meta.deferred:
        return _probe(packet, "syn", packet.dport, listed=True)
    if meta.half_open:
        return _probe(packet, "rst", packet.dport, listed=True)
    if packet.protocol == TCP:
        return _classify_tcp(packet, meta)
    if packet.protocol != UDP:
        return _classify_other(packet, meta)
    stray = udp_stray(packet)
    if stray is not None:
        return stray if _is_unicast(packet.source) else _NO_UNICAST
    return _probe(packet, "udp", packet.dport) if meta.unlisted else _LISTED


def _classify_tcp(packet: Packet, meta: Meta) -> Probe | Stray:
    kind = TCP_KINDS[packet.flags & FLAGS]
    if kind in BACKSCATTER:
        return _BACKSCATTER
    if kind == "fin" and is_of_stack(packet):
        kind = "maimon"
    if kind in LATE_KINDS:
        if meta.partner or meta.peer:
            return LATE
        return _probe(packet, kind, packet.dport, listed=not meta.unlisted)
    if meta.peer and kind == "badflags" and packet.flags & FLAGS & ~PSH == FIN | SYN | ACK:
        return REPEATED
    return _probe(packet, kind, packet.dport) if meta.unlisted else _LISTED


def refine(packet: Packet, probe: Probe, decoys: frozenset[int], seen: Mapping[str, int]) -> Probe:
    """Return the probe with what the packet alone does not show.

    `decoys`: TCP ports at which a decoy answers; `seen`: the number of probes so far, by kind.
    """
    if packet.protocol == HIDDEN:  # its port is not visible: each may be another one
        number = seen[probe.kind] & 0xFFFF
        return Probe(probe.source, (packet.target, HIDDEN, number), probe.kind)
    if probe.kind == "rst" and packet.dport in decoys:
        return Probe(probe.source, probe.target, "syn", listed=True)
    return probe


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
    if packet.protocol == DCCP and packet.flags in DCCP_ANSWERS:
        return _BACKSCATTER
    return _probe(packet, "protocol", packet.dport)  # 0 where the protocol has no ports


def _probe(packet: Packet, kind: Kind, port: int, *, listed: bool = False) -> Probe | Stray:
    if not _is_unicast(packet.source):
        return _NO_UNICAST
    target = (packet.target, packet.protocol, port)
    return Probe(source_of(packet.source), target, kind, listed=listed)


def _is_unicast(address: bytes) -> bool:
    """Return whether a host can have this address: not 0/8, 127/8, 224/4, 255.255.255.255 (RFC
    1122, section 3.2.1.3), not ::/64 or ff00::/8 (RFC 4291, section 2.4). Linux takes 240/4."""
    first = address[0]
    if len(address) == 4:
        return first not in (0, 127) and (first & 0xF0 != 224) and address != _BROADCAST
    return first != 0xFF and (first != 0 or any(address[1:8]))
