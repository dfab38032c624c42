"""Decide about a scan: (Evidence, Meta) -> Block | Confinement | Refusal.

The rules of this file, in order; the first that applies decides.
1. Below the trigger: no decision is made.
2. A never-blocked source, a /64 if all of it is: refused.
3. A partner with forgeable evidence only, while partners are not confined: refused.
4. mode = "observe": refused, with everything that a block would have had.
5. The strongest level of the protocol families in the evidence: "observe" refuses.
6. Flood mode and fewer than two targets: refused; one forgeable packet is too little during a
   flood of forged ones.
7. Level "command": refused, and the external command is run.
8. A partner with forgeable evidence only: confined to what it uses.
9. The caps (caps.py): blocks a minute, active blocks.
10. Else block, with the timeout of the source's offence count. In a group (decoys, a distributed
   scan) the true source is unknown: it is blocked briefly, and no offence is counted.

See docs/decisions.md: one-packet-kinds, forgeable-timeout.
"""

from collections import OrderedDict
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network
from typing import Final, Literal, NamedTuple

from sentryfw.engine.caps import Caps
from sentryfw.engine.classify import FORGEABLE
from sentryfw.engine.model import (
    Block,
    Confinement,
    Evidence,
    Kind,
    Meta,
    Refusal,
    Source,
    Verdict,
)
from sentryfw.engine.networks import NetworkIndex

GROUP_TIMEOUT_S: Final = 600.0
"""Longest timeout, in seconds, of a block in a group: some of its members never sent a packet."""
MAX_OFFENDERS: Final = 100_000
"""Sources whose offences are kept in memory; the ledger keeps all."""


Level = Literal["block", "observe", "command"]
"""Reaction to a scan in a protocol family; PortSentry's BLOCK_TCP and BLOCK_UDP 1, 0, 2."""
Prefixes = Literal["off", "defer", "ipv6", "both"]
"""Reaction to a distributed scan: none, its strangers are deferred, those of its prefix dropped."""
_STRONGEST: Final[tuple[Level, ...]] = ("block", "command", "observe")
_NO_FAMILY: Final = frozenset[Kind](("sctp-init", "sctp-cookie-echo", "protocol", "icmp"))
"""Kinds that are neither TCP nor UDP; they block. PortSentry does not detect them."""


class Policy(NamedTuple):
    """The operator's choices that decisions depend on."""

    timeouts: tuple[float, ...]
    """Seconds, by offence; the last one repeats."""
    mode: Literal["block", "observe"]
    unlisted: Verdict
    """Verdict of a probe to an unlisted port."""
    per_minute: int
    max_elements: int
    partners: bool
    """Whether partners are exempt from blocks by forgeable evidence."""
    never_block: NetworkIndex
    tcp: Level = "block"
    udp: Level = "block"
    prefixes: Prefixes = "defer"
    repeats: bool = False
    """Whether probes count instead of targets (Horizons.repeats); a block's reason names both."""
    confine: bool = True
    """Whether an exempt partner is confined to what it uses."""
    answered: frozenset[int] = frozenset()
    """UDP ports at which a decoy answers; probes to them are judged and accepted."""
    decoys: frozenset[int] = frozenset()
    """TCP ports at which a decoy answers: no client resets connections to them."""
    spared: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks that are never blocked for what they send to this zone."""

    def blocked_prefixes(self) -> tuple[int, ...]:
        """Return the lengths, in bytes, of the places whose strangers are blocked: prefixes, and
        hardware addresses, which belong to one machine in either family."""
        if self.mode == "observe" or self.prefixes in ("off", "defer"):
            return ()
        return (3, 6, 7, 8) if self.prefixes == "both" else (6, 7, 8)

    def level(self, kinds: Iterable[Kind]) -> Level:
        """Return the strongest level of the families that the kinds belong to."""
        levels = {
            "block" if kind in _NO_FAMILY else self.udp if kind == "udp" else self.tcp
            for kind in kinds
        }
        return next(level for level in _STRONGEST if level in levels)


class Decider:
    """Makes decisions; remembers offences and counts blocks."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._never_block = policy.never_block
        self._spared = NetworkIndex(policy.spared)
        self.caps = Caps(policy.per_minute, policy.max_elements)
        self._offences: OrderedDict[Source, int] = OrderedDict()

    def reconfigure(self, policy: Policy) -> None:
        """Replace the policy; offences and active blocks stay counted."""
        self._never_block = policy.never_block
        self._spared = NetworkIndex(policy.spared)
        self.policy = policy
        self.caps.reconfigure(policy.per_minute, policy.max_elements)

    def restore_offences(self, offences: dict[Source, int]) -> None:
        self._offences.update(offences)

    def share(self, other: "Decider") -> None:
        """Use the caps, offences and common never-block networks of another decider."""
        self.caps = other.caps
        self._never_block = other._never_block  # noqa: SLF001
        self._offences = other._offences  # noqa: SLF001 - of the same class

    def confine(self, *, is_possible: bool) -> None:
        """Confine partners from now on, or refuse to do anything about their scans."""
        self.policy = self.policy._replace(confine=is_possible)

    def judge(
        self, evidence: Evidence, meta: Meta, now: float, *, flood: bool
    ) -> Block | Confinement | Refusal:
        """Return the decision about a source whose evidence makes a scan."""
        forgeable = FORGEABLE.issuperset(evidence.kinds)
        spared = forgeable and meta.partner and self.policy.partners
        obstacle = self._obstacle(evidence, now, forgeable=forgeable, flood=flood, spared=spared)
        if obstacle is not None:
            return Refusal(evidence.source, obstacle, evidence, now)
        if spared:
            offence, timeout = self._next_offence(evidence.source)
            reason = self._reason(evidence)
            return Confinement(evidence.source, timeout, offence, reason, evidence, now)
        if evidence.scan in {"decoy-scan", "distributed-scan"} and not evidence.is_sender:
            return self.block_briefly(evidence, now)
        offence, timeout = self._next_offence(evidence.source)
        displaced = self.caps.count(
            evidence.source, now, timeout, forgeable=forgeable, offence=offence
        )
        return Block(
            evidence.source, timeout, offence, forgeable=forgeable, reason=self._reason(evidence),
            evidence=evidence, at=now, displaces=displaced,
        )  # fmt: skip

    def _next_offence(self, source: Source) -> tuple[int, float]:
        """Count an offence; return its number and its timeout in seconds."""
        offence = self._offences.pop(source, 0) + 1
        self._offences[source] = offence
        if len(self._offences) > MAX_OFFENDERS:
            self._offences.popitem(last=False)
        timeouts = self.policy.timeouts
        return offence, timeouts[min(offence, len(timeouts)) - 1]

    def _reason(self, evidence: Evidence) -> str:
        horizon = "window" if evidence.score >= 1 else "slow window"
        what = _counted(evidence.targets, "distinct target")
        if self.policy.repeats:
            what = f"{_counted(evidence.probes, 'probe')} to {what}"
        last = evidence.last
        decoy = ", sent behind decoys" if evidence.is_sender else ""
        if last is not None and last.kind == "connect":
            decoy = f", with the decoy at tcp/{last.target[2]}"
        return f"{what} within the {horizon}{decoy}"

    def block_briefly(self, evidence: Evidence, now: float) -> Block:
        """Return a brief block of a member of a group, without an offence."""
        others = len(evidence.companions)
        reason = f"the true source is unknown: {others} more sent the same"
        if evidence.scan == "distributed-scan":
            reason = f"one of {others} sources that share the ports of one target"
        timeout = min(self.policy.timeouts[0], GROUP_TIMEOUT_S)
        displaced = self.caps.count(evidence.source, now, timeout, forgeable=True, offence=0)
        return Block(
            evidence.source, timeout, 0, forgeable=True, reason=reason, evidence=evidence, at=now,
            displaces=displaced,
        )  # fmt: skip

    def revoke_offence(self, source: Source) -> None:
        """Subtract one offence: the source may not have sent the packets it was blocked for."""
        count = self._offences.pop(source, 0)
        if count > 1:
            self._offences[source] = count - 1

    def is_protected(self, address: bytes) -> bool:
        """Return whether this address is never blocked; others of its /64 may be."""
        return self._never_block.holds(address) or self._spared.holds(address)

    def _obstacle(
        self, evidence: Evidence, now: float, *, forgeable: bool, flood: bool, spared: bool
    ) -> str | None:
        policy = self.policy
        if self._never_block.holds(evidence.source) or self._spared.holds(evidence.source):
            return "never_block"
        if evidence.address and self.is_protected(evidence.address):
            return "never_block"  # others of its /64 may not be
        if spared and not policy.confine:
            return "partner"
        level = policy.level(evidence.kinds)
        if policy.mode == "observe" or level == "observe":
            return "observe"
        if forgeable and flood and evidence.targets < 2:
            return "flood"
        if level == "command":
            return "command"
        return None if spared else self.caps.exceeded(evidence.source, now, forgeable=forgeable)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
