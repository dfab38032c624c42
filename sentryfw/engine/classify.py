"""What a packet is: (Packet, Meta) -> Probe | Stray.

The rules of this file. Everything that makes a packet evidence or no evidence lives here;
the TCP part is a table with one row for each of the 64 combinations of six flags, so that no
combination is left out. ECN's flags (RFC 3168) say nothing about a scan and are masked.
"""

from typing import Final

from sentryfw.engine.model import Kind, Meta, Packet, Probe, Stray, source_of
from sentryfw.engine.packet import TCP, UDP

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10
URG: Final = 0x20
FLAGS: Final = 0x3F

BACKSCATTER: Final = frozenset[Kind](("synack", "rst"))
"""Answers to packets that somebody else sent in our name."""
LATE: Final = frozenset[Kind](("ack", "maimon"))
"""What a partner still sends when conntrack has forgotten the connection."""
FORGEABLE: Final = frozenset[Kind](
    ("syn", "fin", "null", "xmas", "maimon", "ack", "synfin", "badflags", "udp")
)
"""Kinds that anybody can send in anybody's name: one packet, no answer needed."""


def _kind_of(flags: int) -> Kind:
    """nmap(1): -sS -sF -sN -sX -sM -sA; the rest after nf_conntrack_proto_tcp.c, tcp_valid_flags:
    what that table does not know, no stack sends."""
    if flags == 0:
        return "null"
    if flags & RST:
        return "rst" if not flags & (SYN | FIN | URG) else "badflags"
    if flags & (FIN | URG | PSH) == FIN | URG | PSH and not flags & ACK:
        return "xmas"  # PortSentry's: with or without SYN
    if flags & SYN:
        if flags == SYN:
            return "syn"
        if flags == SYN | ACK:
            return "synack"
        return "synfin" if flags & FIN and not flags & ACK else "badflags"
    if flags & ACK:
        return "maimon" if flags & FIN else "ack"
    return "fin" if flags == FIN else "badflags"


TCP_KINDS: Final[tuple[Kind, ...]] = tuple(_kind_of(flags) for flags in range(FLAGS + 1))
"""The kind of each combination of the six flags; the index is the flag byte, ECN masked."""

STRAYS: Final[dict[str, Stray]] = {
    "synack": Stray("backscatter"),
    "rst": Stray("backscatter"),
    "late": Stray("late packet of a partner"),
    "listed": Stray("listed"),
    "protocol": Stray("protocol not judged"),
    "source": Stray("no unicast source"),
}


def classify(packet: Packet, meta: Meta) -> Probe | Stray:
    """A probe, or why the packet is none."""
    kind: Kind
    if packet.protocol == TCP:
        kind = TCP_KINDS[packet.flags & FLAGS]
        if kind in BACKSCATTER:
            return STRAYS[kind]
        if meta.partner and kind in LATE:
            return STRAYS["late"]
    elif packet.protocol == UDP:
        kind = "udp"
    else:
        return STRAYS["protocol"]
    if not meta.unlisted:
        return STRAYS["listed"]
    if not _is_unicast(packet.source):
        return STRAYS["source"]
    return Probe(source_of(packet.source), (packet.target, packet.protocol, packet.dport), kind)


def _is_unicast(address: bytes) -> bool:
    """Whether a host can have this address: not 0/8, 127/8, 224/3 (RFC 1122, section 3.2.1.3),
    not ::/64 or ff00::/8 (RFC 4291, section 2.4)."""
    first = address[0]
    if len(address) == 4:
        return first not in (0, 127) and first < 224
    return first != 0xFF and (first != 0 or any(address[1:8]))
