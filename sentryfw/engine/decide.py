"""What follows from evidence: (Evidence, ...) -> Block | Refusal | None.

The rules of this file, in order; the first that applies decides.
1. Below the trigger: nothing.
2. A never-blocked address: refused. (nft lets its packets past us before; this is the second
   lock on the same door.)
3. A partner, with nothing but forgeable evidence: refused.
4. mode = "observe": refused, with everything that a block would have had.
5. The level of the protocol families it was seen in, the strongest of them: "observe" refuses.
6. Flood mode and fewer than two targets: refused; a single forgeable packet is too little
   while somebody is forging.
7. Level "command": refused, and the external command is run.
8. The caps: blocks a minute, size of the sets.
9. Else block, for the timeout that the source's offence count gives. In a group (decoys, a
   distributed scan) the true source is unknown: blocked briefly, and no offence is counted.
"""

import heapq
from collections import OrderedDict, deque
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, Literal, NamedTuple

from sentryfw.engine.classify import FORGEABLE
from sentryfw.engine.model import Block, Evidence, Kind, Meta, Refusal, Source, Verdict

GROUP_TIMEOUT: Final = 600.0
"""Seconds that members of a group are blocked at most: some of them never sent a packet."""
MAX_OFFENDERS: Final = 100_000
"""Sources whose offences are remembered in memory; the ledger remembers all."""


Level = Literal["block", "observe", "command"]
"""What follows from a scan in a protocol family; PortSentry's BLOCK_TCP and BLOCK_UDP 1, 0, 2."""
_STRONGEST: Final[tuple[Level, ...]] = ("block", "command", "observe")
_NO_FAMILY: Final = frozenset[Kind](("sctp-init", "sctp-cookie-echo", "protocol", "icmp"))
"""Kinds that are neither TCP nor UDP; PortSentry saw none of them. They block."""


class Policy(NamedTuple):
    """What the operator decided, for decide()."""

    timeouts: tuple[float, ...]
    """Seconds, by offence; the last one repeats."""
    mode: Literal["block", "observe"]
    unlisted: Verdict
    """What an unlisted probe gets: NF_DROP or NF_ACCEPT."""
    per_minute: int
    max_elements: int
    partners: bool
    never_block: tuple[IPv4Network | IPv6Network, ...]
    tcp: Level = "block"
    udp: Level = "block"
    repeats: bool = False
    """Whether probes count, not targets (Horizons.repeats): said so."""
    answered: frozenset[int] = frozenset()
    """UDP ports at which a decoy answers: what is sent there is judged and still accepted."""

    def level(self, kinds: Iterable[Kind]) -> Level:
        """The strongest level of the families that the kinds belong to."""
        levels = {
            "block" if kind in _NO_FAMILY else self.udp if kind == "udp" else self.tcp
            for kind in kinds
        }
        return next(level for level in _STRONGEST if level in levels)


class Caps:
    """Blocks in the last minute, and blocks that are alive."""

    def __init__(self, per_minute: int, max_elements: int) -> None:
        self._per_minute = per_minute
        self._max_elements = max_elements
        self._recent: deque[float] = deque()
        self._ends: list[float] = []

    def exceeded(self, now: float) -> str | None:
        """The cap that stands against one more block, by its config key."""
        while self._recent and self._recent[0] <= now - 60:
            self._recent.popleft()
        while self._ends and self._ends[0] <= now:
            heapq.heappop(self._ends)
        if len(self._recent) >= self._per_minute:
            return "block.per_minute"
        if len(self._ends) >= self._max_elements:
            return "block.max_elements"
        return None

    def count(self, now: float, timeout: float) -> None:
        self._recent.append(now)
        heapq.heappush(self._ends, now + timeout)

    def reconfigure(self, per_minute: int, max_elements: int) -> None:
        """Other limits for what is counted already."""
        self._per_minute = per_minute
        self._max_elements = max_elements

    def restore(self, ends: list[float]) -> None:
        """Blocks that were alive before: their ends on our clock."""
        self._ends = list(ends)
        heapq.heapify(self._ends)


class Decider:
    """Decisions, and the memory they need: offences and caps."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.caps = Caps(policy.per_minute, policy.max_elements)
        self._offences: OrderedDict[Source, int] = OrderedDict()

    def reconfigure(self, policy: Policy) -> None:
        """Decide by this from now on; offences and live blocks stay counted."""
        self.policy = policy
        self.caps.reconfigure(policy.per_minute, policy.max_elements)

    def restore_offences(self, offences: dict[Source, int]) -> None:
        self._offences.update(offences)

    def share(self, other: "Decider") -> None:
        """From now on caps and offences are those of the other one."""
        self.caps = other.caps
        self._offences = other._offences  # noqa: SLF001 - of the same class

    def judge(self, evidence: Evidence, meta: Meta, now: float, *, flood: bool) -> Block | Refusal:
        """What follows from a scan, whatever made it one."""
        forgeable = FORGEABLE.issuperset(evidence.kinds)
        obstacle = self._obstacle(evidence, meta, now, forgeable=forgeable, flood=flood)
        if obstacle is not None:
            return Refusal(evidence.source, obstacle, evidence, now)
        if evidence.scan in {"decoy-scan", "distributed-scan"}:
            return self.shorten(evidence, now)
        offence = self._offences.pop(evidence.source, 0) + 1
        self._offences[evidence.source] = offence
        if len(self._offences) > MAX_OFFENDERS:
            self._offences.popitem(last=False)
        timeouts = self.policy.timeouts
        timeout = timeouts[min(offence, len(timeouts)) - 1]
        self.caps.count(now, timeout)
        horizon = "window" if evidence.score >= 1 else "slow window"
        what = f"{evidence.targets} distinct targets"
        if self.policy.repeats:
            what = f"{evidence.probes} probes to {what}"
        reason = f"{what} within the {horizon}"
        return Block(evidence.source, timeout, offence, forgeable, reason, evidence, now)

    def shorten(self, evidence: Evidence, now: float) -> Block:
        """A brief block of one of a group; an offence already counted for it is taken back."""
        others = len(evidence.companions)
        reason = f"the true source is unknown: {others} more sent the same"
        if evidence.scan == "distributed-scan":
            reason = f"one of {others} sources that share the ports of one target"
        timeout = min(self.policy.timeouts[0], GROUP_TIMEOUT)
        self.caps.count(now, timeout)
        return Block(evidence.source, timeout, 0, True, reason, evidence, now)

    def pardon(self, source: Source) -> None:
        """Take back one offence: the source may never have sent what it was blocked for."""
        count = self._offences.pop(source, 0)
        if count > 1:
            self._offences[source] = count - 1

    def spares(self, address: bytes) -> bool:
        """Whether this very address is never blocked, whoever shares its source."""
        return any(_within(Source(address), network) for network in self.policy.never_block)

    def _obstacle(
        self, evidence: Evidence, meta: Meta, now: float, *, forgeable: bool, flood: bool
    ) -> str | None:
        policy = self.policy
        if any(_within(evidence.source, network) for network in policy.never_block):
            return "never_block"
        if forgeable and meta.partner and policy.partners:
            return "partner"
        level = policy.level(evidence.kinds)
        if policy.mode == "observe" or level == "observe":
            return "observe"
        if forgeable and flood and evidence.targets < 2:
            return "flood"
        if level == "command":
            return "command"
        return self.caps.exceeded(now)


def _within(source: Source, network: IPv4Network | IPv6Network) -> bool:
    """Whether the source lies in the network. A /64 with one never-blocked address in it does
    not: nft spares that address ahead of the block."""
    if isinstance(network, IPv4Network):
        return len(source) == 4 and IPv4Address(bytes(source)) in network
    if len(source) == 4 or network.prefixlen > len(source) * 8:
        return False
    return IPv6Address(bytes(source).ljust(16, b"\0")) in network
