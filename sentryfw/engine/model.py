"""The values that travel through the engine.

None is ever changed. What every packet makes is a plain dataclass, whose fields mypyc puts into a C
struct (and a frozen one costs four times as much to build); what only a scan makes is a tuple.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Final, Literal, NamedTuple, NewType

Kind = Literal[
    "syn", "fin", "null", "xmas", "maimon", "ack", "synfin", "badflags", "urg", "udp",
    "sctp-init", "sctp-cookie-echo", "protocol", "icmp", "connect", "synack", "rst",
]  # fmt: skip
"""What one packet is, in nmap's words (nmap(1), PORT SCANNING TECHNIQUES); `urg` is what
PortSentry's manual calls out-of-band, `connect` a handshake that a decoy finished."""

KINDS: Final[tuple[Kind, ...]] = (
    "syn", "fin", "null", "xmas", "maimon", "ack", "synfin", "badflags", "urg", "udp",
    "sctp-init", "sctp-cookie-echo", "protocol", "icmp", "connect", "synack", "rst",
)  # fmt: skip

Scan = Literal["portscan", "portsweep", "protocol-scan", "decoy-scan", "distributed-scan"]
"""The finding, in Snort's words: one target and many ports; one port and many targets; many
protocols; one scan in several names at once; many sources that share one target's ports."""

Action = Literal["pass", "count", "block", "refuse"]
"""pass: no evidence; count: evidence below the trigger; refuse: a scan, not blocked."""

Source = NewType("Source", bytes)
"""Whom evidence is held against, in network byte order: an IPv4 address (4 bytes), an IPv6
/64 prefix (8 bytes), or a whole link-local address (16 bytes), whose /64 says nothing."""

Group = dict[Source, None]
"""Sources that sent the same at the same moments, in the order in which they were seen."""

Target = tuple[bytes, int, int]
"""Destination address in network byte order, IP protocol number, port."""

PROTOCOLS: Final = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}
"""Names of the protocols that have ports, or something in their place."""

DROP: Final = 0
"""NF_DROP (linux/netfilter.h)."""
ACCEPT: Final = 1
"""NF_ACCEPT (linux/netfilter.h)."""
Verdict = Literal[0, 1]


@dataclass(init=False)
class Meta:
    """What the kernel knows of a packet beside its bytes."""

    unlisted: bool
    """Nothing on this host would receive it (False: a suspect's packet to a listed port)."""
    partner: bool
    """The source finished a handshake with a listed service lately."""
    half_open: bool
    """It resets a connection to a listed port that was never finished."""
    peer: bool
    """The source answered a connection of ours lately."""
    inside: bool
    """It came in by an interface that leads inside."""

    def __init__(
        self, *, unlisted: bool, partner: bool, half_open: bool = False, peer: bool = False,
        inside: bool = False,
    ) -> None:  # fmt: skip
        self.unlisted = unlisted
        self.partner = partner
        self.half_open = half_open
        self.peer = peer
        self.inside = inside


@dataclass(init=False)
class Packet:
    """The header fields that decide, out of one IPv4 or IPv6 packet."""

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

    def __init__(
        self, source: bytes, target: bytes, protocol: int, sport: int, dport: int, flags: int,
        transport: int, payload: bytes,
    ) -> None:  # fmt: skip
        self.source = source
        self.target = target
        self.protocol = protocol
        self.sport = sport
        self.dport = dport
        self.flags = flags
        self.transport = transport
        self.payload = payload


class Malformed(NamedTuple):
    """A packet that lies about itself, with the reason; a value, never an exception."""

    reason: str


@dataclass(init=False)
class Probe:
    """One packet that was sent to nothing."""

    source: Source
    target: Target
    kind: Kind
    listed: bool
    """To a port that something listens on: it weighs half, because clients do it too."""

    def __init__(self, source: Source, target: Target, kind: Kind, *, listed: bool = False) -> None:
        self.source = source
        self.target = target
        self.kind = kind
        self.listed = listed


class Stray(NamedTuple):
    """A packet that is never evidence, and why: backscatter, a late packet of a partner."""

    reason: str


class Seen(NamedTuple):
    """The last probe to one target."""

    target: Target
    at: float
    """Clock value."""
    kind: Kind
    listed: bool


class Evidence(NamedTuple):
    """What is held against a source, now."""

    source: Source
    targets: int
    """Distinct targets within the window that fired, or within `window`."""
    probes: int
    """Packets, retransmits included, since first_seen."""
    kinds: tuple[Kind, ...]
    """In order of appearance."""
    first_seen: float
    last_seen: float
    score: float
    """Shares of a trigger within `window`; a scan from 1 up."""
    slow_score: float
    """Shares of a slow trigger within `slow_window`."""
    scan: Scan
    sample: tuple[Target, ...]
    """Some of the targets, oldest first."""
    is_new: bool = False
    """Whether the last probe went to a target not seen before."""
    companions: tuple[Source, ...] = ()
    """Sources that sent the very same probes at the same moments."""
    tool: str = "unknown"
    """What sent the last probe, by its header fields."""
    last: Probe | None = None
    """The probe that decided; None where no single one did."""
    address: bytes = b""
    """Where that probe came from: within an IPv6 /64, the one address that sent it."""
    trace: tuple[Seen, ...] = ()
    """The last probe to each target, oldest first."""
    inside: bool = False
    """Whether the source is inside."""


class Block(NamedTuple):
    """A decision to block, with all that explains it."""

    source: Source
    timeout: float
    """Seconds."""
    offence: int
    """1 for the first block of this source."""
    forgeable: bool
    """Whether somebody else could have sent the evidence in the source's name."""
    reason: str
    evidence: Evidence
    at: float
    """Clock value of the packet that decided."""


class Refusal(NamedTuple):
    """A scan that is not answered with a block, and why."""

    source: Source
    reason: str
    evidence: Evidence
    at: float


@dataclass(init=False)
class Outcome:
    """Everything that follows from one packet."""

    verdict: Verdict
    action: Action
    blocks: tuple[Block, ...]
    refusals: tuple[Refusal, ...]
    probe: Probe | None
    """A probe below the trigger to a target not seen before: evidence that has to last."""

    def __init__(
        self, verdict: Verdict, action: Action = "pass", *, blocks: tuple[Block, ...] = (),
        refusals: tuple[Refusal, ...] = (), probe: Probe | None = None,
    ) -> None:  # fmt: skip
        self.verdict = verdict
        self.action = action
        self.blocks = blocks
        self.refusals = refusals
        self.probe = probe


def source_of(address: bytes) -> Source:
    """The unit that is blocked: an IPv4 address, an IPv6 /64, a link-local IPv6 address.

    A link-local address (fe80::/10, RFC 4291 section 2.5.6) stands for itself: its /64 is
    shared by every neighbour.
    """
    if len(address) == 4 or (address[0] == 0xFE and address[1] & 0xC0 == 0x80):
        return Source(address)
    return Source(address[:8])


def source_text(source: Source) -> str:
    """As an operator writes it: 192.0.2.1, 2001:db8::/64, fe80::1."""
    if len(source) == 4:
        return str(IPv4Address(bytes(source)))
    if len(source) == 8:
        return f"{IPv6Address(source + bytes(8))}/64"
    return str(IPv6Address(bytes(source)))


def parse_source(text: str) -> Source:
    """The source that an address, or an IPv6 /64, belongs to. ValueError if it is neither."""
    if "/" not in text:
        address = IPv6Address(text) if ":" in text else IPv4Address(text)
        return source_of(address.packed)
    network = IPv6Network(text, strict=False)
    if network.prefixlen != 64:
        raise ValueError(f"{text} is no /64")
    return Source(network.network_address.packed[:8])


def address_text(address: bytes) -> str:
    """An address of 4 or 16 bytes in its usual notation."""
    return str(IPv4Address(address) if len(address) == 4 else IPv6Address(address))
