"""The parts of an explanation, as JSON."""

from typing import TypedDict

from sentryfw.query.foreign import MemberItem


class NeverBlockReason(TypedDict):
    """A network that is never blocked and contains the subject."""

    network: str
    why: str
    in_kernel: bool
    """Whether the kernel's set covers it."""


class ExplainHead(TypedDict):
    """The answer in short. Durations are in seconds; None without a block."""

    address: str
    source: str
    family: str
    installed: bool
    blocked: bool
    because: str
    timeout_s: float | None
    expires_in_s: float | None
    dropped_packets: int | None
    dropped_bytes: int | None
    within: list[str]
    """Blocked networks that contain it."""
    offences: int
    never_block: list[NeverBlockReason]
    partner: bool
    confined: bool
    """Whether it is confined to what it uses."""
    suspect: bool
    members: list[MemberItem]
    """The words of other members of the fleet about it."""


class ProbeItem(TypedDict):
    """One probe."""

    at: str
    kind: str
    target: str
    listed: bool
    forgeable: bool


class DecisionItem(TypedDict):
    """A block or a refusal, with its evidence."""

    id: str
    at: str
    scan: str
    kinds: list[str]
    targets: int
    probes: int
    first_seen: str
    timeout_s: float
    offence: int
    forgeable: bool
    tool: str
    zone: str
    """The zone that judged it; empty: the default zone, or by hand."""
    reason: str
    evidence: list[ProbeItem]


class BlockEnd(TypedDict):
    """The state of a block, and when it ended."""

    state: str
    ended_at: str | None


class BlockPart(DecisionItem, BlockEnd):
    """A block of the past or of now."""

    capture: bool
    """Whether its packets are kept."""
    dropped_packets: int | None
    """Packets that it has dropped, or had a minute before its end; None: not known."""


class RefusalPart(DecisionItem):
    """A refusal."""

    rule: str


class ReactionPart(TypedDict):
    """The result of a reaction."""

    reaction: str
    address: str
    ok: bool
    detail: str
    at: str
    seconds: float


class ExplainPart(TypedDict, total=False):
    """One answer of the stream: the head, or one item of a list."""

    head: ExplainHead
    blocks: BlockPart
    refusals: RefusalPart
    probes: ProbeItem
    reactions: ReactionPart
