"""A model of the table in rulesets/*.nft: what it does with each packet of a capture.

    early_drop -> conntrack -> late_drop -> divert_input -> judge

TableModel.receive() returns the fate of one packet: dropped, passed, or judged with its Meta.
tests/kernel/test_replay_is_the_ruleset.py sends packets through the loaded table and through
this model and compares. Pure: the clock is an argument. Bounded: sets have the table's sizes.
Not modelled: the rate limits of judge.nft (a capture is judged whole), decoys, hosts behind
(divert_forward.nft), confinement, prefixes, the quota of partners, and interfaces.
"""

from collections.abc import Iterable
from ipaddress import IPv6Network
from typing import Final, Literal

from sentryfw.engine.classify import ACK, FIN, ICMP_REQUESTS, ICMPV6_REQUESTS, RST, SYN
from sentryfw.engine.model import Block, Meta, Packet, Source
from sentryfw.engine.packet import ICMP, ICMPV6, SCTP, TCP, UDP
from sentryfw.netfilter.schema import (
    DEFERRED_BITS,
    HALF_OPEN_BIT,
    PARTNER_BIT,
    PEER_BIT,
    SUSPECT_SET_SIZE,
    SUSPECT_TIMEOUT_S,
    UNLISTED_BIT,
)
from sentryfw.netfilter.verdicts import METAS
from sentryfw.tools.replay.conntrack import PURE_SYN, Connections, Flow
from sentryfw.tools.replay.learnt import Learnt
from sentryfw.tools.replay.sets import DynamicSet, Rules
from sentryfw.tools.replay.view import LEGITIMATE, Addresses, CaptureView, Network

Fate = Literal["outside", "sent", "answer", "dropped", "passed", "backscatter"]
"""outside: not between this side and another host; sent: by this side; answer: sent by this side to
a source that is blocked; passed: the engine does not see it."""

PRUNE_PERIOD_S: Final = 60.0
RAW_WINDOWS: Final = frozenset((512, 1024, 1025, 2048, 3072, 4096))
"""Windows of chain raw_syn_deferred."""
ZMAP_WINDOW_ID: Final = 65535, 54321
"""Window and IP ID of chain raw_syn_deferred."""
IDENT_PORT: Final = 113
LINK_LOCAL: Final = IPv6Network("fe80::/10")

_NEVER_SENT: Final = tuple(
    not flags & (SYN | RST | ACK) or any(
        flags & pair == pair for pair in (FIN | SYN, SYN | RST, FIN | RST)
    )
    for flags in range(256)
)  # fmt: skip
"""The four rules of divert_input.nft about flags that no stack sends."""


class BlockInForce:
    """A block, as far as packets meet it."""

    __slots__ = ("end", "forgeable")

    def __init__(self, end: float, *, forgeable: bool) -> None:
        self.end = end
        self.forgeable = forgeable
        """Live flows go on."""


class TableModel:
    """The state of the table at each packet of a capture."""

    def __init__(
        self,
        view: CaptureView,
        rules: Rules,
        never_block: Iterable[Network] = (),
        onlink: Iterable[Network] = (),
    ) -> None:
        """`onlink`: the networks of this side's neighbours."""
        neighbours = (*onlink, LINK_LOCAL)
        self._view = view
        self._local = Addresses(view.local)
        self._never_blocked = Addresses(never_block)
        self._onlink = Addresses(neighbours)
        self.learnt = Learnt((*neighbours, *rules.whole6))
        self._unwatched = rules.unwatched
        self._greylist = rules.greylist
        self._defers_raw_syn = rules.defers_raw_syn
        self._connections = Connections(view)
        self._suspects = DynamicSet(SUSPECT_SET_SIZE, SUSPECT_TIMEOUT_S)
        self._blocked: dict[Source, BlockInForce] = {}
        self._pruned = 0.0

    def __len__(self) -> int:
        """Return the number of flows, elements and blocks that are remembered."""
        return len(self._connections) + len(self._blocked) + len(self._suspects) + len(self.learnt)

    def block(self, block: Block) -> bool:
        """Block a source; return False if it was blocked already and only its timeout changed."""
        old = self._blocked.get(block.source)
        self._blocked[block.source] = BlockInForce(
            block.at + block.timeout, forgeable=block.forgeable
        )
        return old is None or old.end <= block.at

    def receive(self, packet: Packet, now: float) -> Fate | Meta:
        """Return the fate of one packet. A Meta: the engine judges it, and confirm() must follow
        if the engine accepts it."""
        source, target, protocol = packet.source, packet.target, packet.protocol
        if self._local[source]:
            return self._send(packet, now)
        if not self._local[target]:
            return "outside"
        block = self._find_block(source, now) if self._blocked else None
        tcp = protocol == TCP
        if block is not None and tcp and PURE_SYN[packet.flags]:
            return "dropped"  # early_drop
        flow = None
        if tcp or protocol == UDP:
            line = (source, target, protocol, packet.sport, packet.dport)
            flow = self._connections.find(line, packet, now)
        if block is not None and self._is_dropped_late(block, flow, packet, now):
            return "dropped"
        if flow is not None and self._connections.receive(flow, packet, now):
            return self._known(flow, packet, now)
        return self._divert(packet, now)

    def _is_dropped_late(
        self, block: BlockInForce, flow: Flow | None, packet: Packet, now: float
    ) -> bool:
        """Apply chain late_drop to a packet of a blocked source."""
        if flow is None:
            return True  # direction original, or invalid
        if flow.ours:
            return False
        return not (block.forgeable and flow.answered and self.learnt.was_served(packet, now))

    def confirm(self, packet: Packet, now: float) -> None:
        """Let conntrack keep the connection that an accepted packet starts."""
        self._connections.confirm(packet, now)

    def prune(self, now: float) -> None:
        """Forget blocks that have expired; call it once a second."""
        if now - self._pruned >= PRUNE_PERIOD_S:
            self._pruned = now
            self._blocked = {s: block for s, block in self._blocked.items() if block.end > now}

    # --- divert_input

    def _known(self, flow: Flow, packet: Packet, now: float) -> Fate | Meta:
        """Apply chain known."""
        flags = packet.flags
        if flow.ours:
            if packet.protocol == UDP or not flags & RST:
                self.learnt.learn_peer(packet.source, now)
        elif packet.protocol == TCP and flags & (SYN | RST) == RST:
            return self._reset_by_source(flow, packet, now)
        return "passed"

    def _reset_by_source(self, flow: Flow, packet: Packet, now: float) -> Fate | Meta:
        """Apply chain reset_by_source."""
        if self._never_blocked[packet.source] or self._unwatched.reset[packet.dport]:
            return "passed"
        if flow.assured and self.learnt.was_served(packet, now):
            return "passed"
        return self._judge(HALF_OPEN_BIT, packet.source, now)

    def _divert(self, packet: Packet, now: float) -> Fate | Meta:
        """Apply chain divert_input, from the suspect sets on."""
        source, protocol, port, flags = packet.source, packet.protocol, packet.dport, packet.flags
        tcp = protocol == TCP
        if not tcp and protocol != UDP:
            return self._divert_other(packet, now)
        listed = self._view.is_listed(packet.target, protocol, port)
        opens = not tcp or PURE_SYN[flags]
        if listed and opens and self._suspects.has(self.learnt.key(source), now):
            return self._suspect(packet, now)
        if (self._unwatched.tcp if tcp else self._unwatched.udp)[port]:
            return self._pass(packet, now)
        if tcp and _NEVER_SENT[flags]:
            return self._judge_unlisted(source, now)
        if listed:
            return self._listed(packet, now) if tcp else self._pass(packet, now)
        if tcp and (flags & RST or flags & (SYN | ACK) == SYN | ACK):
            return "backscatter"
        if tcp and port == IDENT_PORT and self.learnt.is_peer(self.learnt.key(source), now):
            return self._pass(packet, now)
        if self._onlink[source] and self.learnt.has_asked(protocol, port, now):
            return "dropped"
        return self._judge_unlisted(source, now)

    def _suspect(self, packet: Packet, now: float) -> Fate | Meta:
        """Apply chain suspect to what opens a connection to a listed port."""
        if self.learnt.is_used(packet, now):
            return self._pass(packet, now)
        if packet.protocol == TCP and self._is_deferred(packet, now):
            return self._judge(DEFERRED_BITS, packet.source, now)
        return self._judge(0, packet.source, now)

    def _listed(self, packet: Packet, now: float) -> Fate | Meta:
        """Apply chain listed to a TCP packet."""
        if PURE_SYN[packet.flags] and self._is_deferred(packet, now):
            return self._judge(DEFERRED_BITS, packet.source, now)
        if packet.flags & (SYN | RST | ACK) == ACK:
            return self._judge(0, packet.source, now)
        return self._pass(packet, now)

    def _is_deferred(self, packet: Packet, now: float) -> bool:
        """Apply chain defer_syn, without the sets that decisions fill."""
        greylisted = self._greylist[packet.dport]
        if not greylisted and not (self._defers_raw_syn and _is_raw_syn(packet)):
            return False
        return not self._never_blocked[packet.source] and not self.learnt.is_used(packet, now)

    def _pass(self, packet: Packet, now: float) -> Fate:
        self.confirm(packet, now)
        return "passed"

    def _divert_other(self, packet: Packet, now: float) -> Fate | Meta:
        """Apply chain divert_other: neither TCP nor UDP."""
        protocol = packet.protocol
        if protocol in (ICMP, ICMPV6):
            requests = ICMP_REQUESTS if protocol == ICMP else ICMPV6_REQUESTS
            passes = packet.flags not in requests
        elif protocol == SCTP:
            passes = self._view.is_listed(packet.target, SCTP, packet.dport)
        else:
            passes = protocol in LEGITIMATE
        if passes or self._unwatched.protocol:
            return "passed"
        return self._judge(UNLISTED_BIT, packet.source, now)

    # --- judge

    def _judge_unlisted(self, source: bytes, now: float) -> Meta:
        if not self._never_blocked[source]:
            self._suspects.update(self.learnt.key(source), now)
        return self._judge(UNLISTED_BIT, source, now)

    def _judge(self, mark: int, source: bytes, now: float) -> Meta:
        """Apply chain mark_source; return the Meta of the packet's mark bits."""
        key = self.learnt.key(source)
        if self.learnt.is_partner(key, now):
            mark |= PARTNER_BIT
        if self.learnt.is_peer(key, now):
            mark |= PEER_BIT
        return METAS[mark]

    def _find_block(self, source: bytes, now: float) -> BlockInForce | None:
        block = self._blocked.get(Source(self.learnt.key(source)))
        if block is None or block.end <= now or self._never_blocked[source]:
            return None
        return block

    # --- output

    def _send(self, packet: Packet, now: float) -> Fate:
        """Return the fate of a packet of this side."""
        source, target, protocol = packet.source, packet.target, packet.protocol
        blocked = bool(self._blocked) and self._find_block(target, now) is not None
        if protocol not in (TCP, UDP):
            return "answer" if blocked and _is_unreachable(packet) else "sent"
        line = (target, source, protocol, packet.dport, packet.sport)
        flow = self._connections.find(line, packet, now)
        if flow is not None:
            self._connections.send(line, flow, packet, now)
            if not flow.ours and not blocked:
                self.learnt.learn_reply(packet, now, assured=flow.assured)
            return "answer" if blocked and not flow.ours else "sent"
        if protocol == UDP:
            self.learnt.learn_asked(packet, now)
        judged = blocked or self._suspects.has(self.learnt.key(target), now)
        if self._starts(packet, judged=judged):
            self._connections.start(line, packet, now)
            return "sent"
        return "answer" if blocked else "sent"

    def _starts(self, packet: Packet, *, judged: bool) -> bool:
        """Return whether this side opens a connection. What it sends to a source whose packets were
        dropped here is the recorded answer to them: with the table, there was no connection."""
        if packet.protocol == TCP:
            if PURE_SYN[packet.flags]:
                return True
            return not judged and packet.flags & (SYN | FIN | RST | ACK) == ACK
        return not (judged and self._view.is_listed(packet.source, UDP, packet.sport))


def _is_raw_syn(packet: Packet) -> bool:
    """Apply chain raw_syn_deferred, and the test of the data offset before it."""
    at, payload = packet.transport, packet.payload
    if payload[at + 12] >> 4 >= 7:
        return False
    window = int.from_bytes(payload[at + 14 : at + 16])
    if window in RAW_WINDOWS:
        return True
    identity = int.from_bytes(payload[4:6]) if len(packet.source) == 4 else 0
    return (window, identity) == ZMAP_WINDOW_ID


def _is_unreachable(packet: Packet) -> bool:
    """Return whether a closed UDP port answers so: ICMP 3 (RFC 792), ICMPv6 1 (RFC 4443)."""
    return (packet.protocol, packet.flags) in ((ICMP, 3), (ICMPV6, 1))
