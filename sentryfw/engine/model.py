"""The values that travel through the engine.

None is ever changed. What every packet makes is a plain dataclass, whose fields
mypyc puts into a C struct (and a frozen one costs four times as much to build); what only a scan
makes is a tuple.

See docs/decisions.md: whole6, observation.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Final, Literal, NamedTuple, NewType

from sentryfw.engine.networks import LINK_LOCAL_ONLY, Whole6

Kind = Literal[
    "syn", "fin", "null", "xmas", "maimon", "ack", "synfin", "badflags", "urg", "udp",
    "sctp-init", "sctp-cookie-echo", "protocol", "icmp", "connect", "synack", "rst",
]  # fmt: skip
"""Kind of a packet, in nmap's words (nmap(1), PORT SCANNING TECHNIQUES). `urg` is out-of-band in
PortSentry's manual; `connect` is a handshake that a decoy finished."""

KINDS: Final[tuple[Kind, ...]] = (
    "syn", "fin", "null", "xmas", "maimon", "ack", "synfin", "badflags", "urg", "udp",
    "sctp-init", "sctp-cookie-echo", "protocol", "icmp", "connect", "synack", "rst",
)  # fmt: skip

Scan = Literal["portscan", "portsweep", "protocol-scan", "decoy-scan", "distributed-scan"]
"""Finding, in Snort's words: one target and many ports; one port and many targets; many protocols;
equal probes of several sources at once; many sources that share one target's ports."""

Action = Literal["pass", "count", "defer", "block", "confine", "refuse"]
"""pass: no evidence; count: evidence below the trigger; defer: only observed, it would have been
deferred; refuse: a scan, not blocked."""

Source = NewType("Source", bytes)
"""Unit of evidence and of blocks, in network byte order: an IPv4 address (4 bytes), an IPv6 /64
prefix (8 bytes), or a whole IPv6 address where addresses stand for themselves (16 bytes)."""

Group = dict[Source, None]
"""Sources that sent equal probes at once, in the order in which they were seen."""

Target = tuple[bytes, int, int]
"""Destination address in network byte order, IP protocol number, port."""

ARPHRD_ETHER: Final = b"\x00\x01"
"""Type of Ethernet addresses (linux/if_arp.h), in network byte order."""

PROTOCOLS: Final = {
    1: "icmp", 6: "tcp", 17: "udp", 33: "dccp", 58: "icmpv6", 132: "sctp", 136: "udp-lite",
}  # fmt: skip
"""Names of the protocols that have ports, or types in their place."""

DROP: Final = 0
"""NF_DROP (linux/netfilter.h)."""
ACCEPT: Final = 1
"""NF_ACCEPT (linux/netfilter.h)."""
REJECT: Final = 2
"""NF_ACCEPT, with the mark by which the ruleset refuses the packet (rulesets/reject.nft)."""
Verdict = Literal[0, 1, 2]


@dataclass(init=False)
class Meta:
    """Facts that the kernel's rules found out about a packet."""

    unlisted: bool
    """No socket on this host would receive it (False: a suspect's packet to a listed port, or an
    ACK to one outside a connection)."""
    partner: bool
    """A listed service served the source within the last day, and first more than a minute ago."""
    half_open: bool
    """The packet resets an unfinished handshake with a listed port."""
    peer: bool
    """The source recently answered a connection of ours."""
    deferred: bool
    """The packet is a SYN to a listed port that is to be deferred."""
    forwarded: bool
    """The packet goes to a host behind this one."""

    def __init__(
        self, *, unlisted: bool, partner: bool, half_open: bool = False, peer: bool = False,
        deferred: bool = False, forwarded: bool = False,
    ) -> None:  # fmt: skip
        self.forwarded = forwarded
        self.deferred = deferred
        self.unlisted = unlisted
        self.partner = partner
        self.half_open = half_open
        self.peer = peer


@dataclass(init=False)
class Packet:
    """Header fields of one IPv4 or IPv6 packet."""

    source: bytes
    """Address, 4 or 16 bytes, network order."""
    target: bytes
    protocol: int
    """IP protocol number of the transport header."""
    sport: int
    dport: int
    flags: int
    """TCP flags, the low byte (RFC 9293, section 3.1); the type of SCTP's first chunk (RFC 9260,
    section 3.2) or of an ICMP message; 0 for other protocols."""
    transport: int
    """Offset of the transport header in the packet, bytes."""
    payload: bytes
    """The packet itself."""
    hardware: bytes
    """Ethernet address of the frame's sender, 6 bytes; empty if it is not known."""

    def __init__(
        self, source: bytes, target: bytes, protocol: int, sport: int, dport: int, flags: int,
        transport: int, payload: bytes, hardware: bytes = b"",
    ) -> None:  # fmt: skip
        self.source = source
        self.target = target
        self.protocol = protocol
        self.sport = sport
        self.dport = dport
        self.flags = flags
        self.transport = transport
        self.payload = payload
        self.hardware = hardware


class Malformed(NamedTuple):
    """A packet whose headers contradict themselves, with the reason."""

    reason: str


@dataclass(init=False)
class Probe:
    """One packet that is evidence."""

    source: Source
    target: Target
    kind: Kind
    listed: bool
    """Whether the port is listed; such a probe weighs half, because clients send it too."""

    def __init__(self, source: Source, target: Target, kind: Kind, *, listed: bool = False) -> None:
        self.source = source
        self.target = target
        self.kind = kind
        self.listed = listed


class Stray(NamedTuple):
    """A packet that is not evidence, with the reason: backscatter, a late packet of a partner."""

    reason: str
    silent: bool = False
    """Whether it gets no answer, unless its source answered us before."""


class Seen(NamedTuple):
    """The last probe to one target."""

    target: Target
    at: float
    """Clock value."""
    kind: Kind
    listed: bool


class Evidence(NamedTuple):
    """Evidence against a source at one moment."""

    source: Source
    targets: int
    """Distinct targets within the window that decided, or within `window`."""
    probes: int
    """Packets, retransmits included, since first_seen."""
    kinds: tuple[Kind, ...]
    """In order of appearance."""
    first_seen: float
    last_seen: float
    score: float
    """Sum of the targets' shares of a trigger within `window`; a scan from 1 up."""
    slow_score: float
    """Sum of the targets' shares of a slow trigger within `slow_window`."""
    scan: Scan
    sample: tuple[Target, ...]
    """Some of the targets, oldest first."""
    is_new: bool = False
    """Whether the last probe went to a target not seen before."""
    companions: tuple[Source, ...] = ()
    """Other sources of the group: those that sent equal probes at once, or share the ports."""
    tool: str = "unknown"
    """Tool that sent the last probe, by its header fields."""
    last: Probe | None = None
    """The probe that decided, or None if no single one did."""
    address: bytes = b""
    """Source address of that probe: within an IPv6 /64, the address that sent it."""
    trace: tuple[Seen, ...] = ()
    """The last probe to each target, oldest first."""
    inside: bool = False
    """Whether the source is in a zone that leads inside."""
    zone: str = ""
    """The zone that judged it; empty: the default zone."""
    is_sender: bool = False
    """Whether the source sent behind decoys: it was alone in all of several groups."""


class Block(NamedTuple):
    """A decision to block, with its explanation."""

    source: Source
    timeout: float
    """Seconds."""
    offence: int
    """1 for the first block of this source."""
    forgeable: bool
    """Whether another host could have sent the packets with this source address."""
    reason: str
    evidence: Evidence
    at: float
    """Clock value of the packet that decided."""
    displaces: Source | None = None
    """The source whose block gives way to this one."""


class Confinement(NamedTuple):
    """A decision to confine a partner to the services that it uses."""

    source: Source
    timeout: float
    """Seconds."""
    offence: int
    """1 for the first block or confinement of this source."""
    reason: str
    evidence: Evidence
    at: float
    """Clock value of the packet that decided."""


class Refusal(NamedTuple):
    """A decision not to block a scan, with the reason."""

    source: Source
    reason: str
    evidence: Evidence
    at: float


class DistributedScan(NamedTuple):
    """A scan that many sources make together."""

    place: bytes
    """The prefix that the sources share (3 bytes: an IPv4 /24, 6 and 7: an IPv6 /48 and /56), their
    hardware address (8 bytes: its type before it), or their target's address (4 or 16 bytes)."""
    timeout: float
    """Seconds for which strangers there are deferred."""
    sources: tuple[Source, ...]
    """Some of them."""
    targets: tuple[Target, ...]
    """Some of them."""
    first_seen: float
    at: float
    """Clock value of the packet that decided."""
    is_new: bool
    """Whether it was not known a moment ago."""
    is_blocked: bool = False
    """Whether strangers of the prefix are dropped, too, for as long."""


@dataclass(init=False)
class Outcome:
    """Verdict of one packet, and the decisions that follow from it."""

    verdict: Verdict
    action: Action
    blocks: tuple[Block, ...]
    refusals: tuple[Refusal, ...]
    confinement: Confinement | None
    probe: Probe | None
    """A probe below the trigger to a target not seen before; it goes into the ledger."""
    distributed: DistributedScan | None
    """A distributed scan that the packet belongs to, found or prolonged by it."""

    def __init__(
        self, verdict: Verdict, action: Action = "pass", *, blocks: tuple[Block, ...] = (),
        refusals: tuple[Refusal, ...] = (), confinement: Confinement | None = None,
        probe: Probe | None = None, distributed: DistributedScan | None = None,
    ) -> None:  # fmt: skip
        self.distributed = distributed
        self.confinement = confinement
        self.verdict = verdict
        self.action = action
        self.blocks = blocks
        self.refusals = refusals
        self.probe = probe


def source_of(address: bytes, whole: Whole6 = LINK_LOCAL_ONLY) -> Source:
    """Return the source of an address: an IPv4 address, an IPv6 /64, or the whole IPv6 address
    where addresses stand for themselves."""
    return Source(address if len(address) == 4 else whole.key(address))


def place_text(place: bytes) -> str:
    """Return the place of a distributed scan as text: 192.0.2.0/24, 2001:db8::/48, an address,
    02:00:5e:10:00:01."""
    if len(place) == 3:
        return f"{IPv4Address(place + bytes(1))}/24"
    if len(place) in (6, 7):
        return f"{IPv6Address(place.ljust(16, bytes(1)))}/{len(place) * 8}"
    if len(place) == 8:
        return place[len(ARPHRD_ETHER) :].hex(":")
    return address_text(place)


def source_of_key(key: bytes) -> Source:
    """Return the source of a set's element, 4 or 16 bytes: a zero identifier is a /64."""
    return Source(key[:8] if len(key) == 16 and key[8:] == bytes(8) else key)


def source_text(source: Source) -> str:
    """Return a source as text: 192.0.2.1, 2001:db8::/64, fe80::1."""
    if len(source) == 4:
        return str(IPv4Address(bytes(source)))
    if len(source) == 8:
        return f"{IPv6Address(source + bytes(8))}/64"
    return str(IPv6Address(bytes(source)))


def parse_source(text: str, whole: Whole6 | None = None) -> Source:
    """Return the source that source_text() has written. Raise ValueError for other text.

    With `whole` the text is a person's: an IPv6 address outside of these networks is its /64.
    """
    if "/" not in text:
        address = (IPv6Address(text) if ":" in text else IPv4Address(text)).packed
        return source_of_key(address) if whole is None else source_of(address, whole)
    network = IPv6Network(text, strict=False)
    if network.prefixlen != 64:
        raise ValueError(f"{text} is not a /64")
    return Source(network.network_address.packed[:8])


def address_text(address: bytes) -> str:
    """Return an address of 4 or 16 bytes as text."""
    return str(IPv4Address(address) if len(address) == 4 else IPv6Address(address))
