"""The incident: a decision as one flat value in words, which reactions get."""

from typing import Final, Literal, NamedTuple

from sentryfw.config.respond import PLACEHOLDERS
from sentryfw.engine.model import (
    PROTOCOLS,
    Block,
    Confinement,
    Kind,
    Refusal,
    address_text,
    source_text,
)
from sentryfw.text import in_zone

Decision = Block | Confinement | Refusal
"""The values that reactions get."""
HANDSHAKE: Final = frozenset(("connect",))
"""Kinds that PortSentry's modes tcp and udp detected."""


class Incident(NamedTuple):
    """A block, a confinement, or a refusal. Times are seconds since the epoch."""

    action: Literal["blocked", "confined", "refused"]
    address: str
    """The source: 192.0.2.1, 2001:db8::/64."""
    ip: str
    """The one address that sent the deciding probe."""
    protocol: str
    port: int
    target: str
    kind: Kind | Literal[""]
    """Kind of the deciding probe."""
    mode: str
    """PortSentry's name of the mode: atcp, audp, stcp, sudp, tcp, udp."""
    scan: str
    kinds: tuple[Kind, ...]
    targets: int
    probes: int
    first_seen: float
    at: float
    timeout: float
    offence: int
    forgeable: bool
    tool: str
    reason: str
    host: str = ""
    """The name of `ip`; empty if it is not known."""
    inside: bool = False
    """Whether the source is in a zone that leads inside."""
    zone: str = ""
    """The zone that judged it; empty: the default zone."""

    @property
    def family(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.address else 4

    def fields(self) -> dict[str, str]:
        """Return the values of the placeholders, by name."""
        return {name: _text(getattr(self, name)) for name in PLACEHOLDERS}

    def sentence(self) -> str:
        """Return one line for people."""
        name = f" ({self.host})" if self.host else ""
        scan = f"{self.scan}{in_zone(self.zone)} ({', '.join(self.kinds)})"
        what = f"{scan} at {self.protocol}/{self.port}"
        if self.action == "blocked":
            offence = f", offence {self.offence}" if self.offence else ""
            return (
                f"blocked {self.address}{name} for {self.timeout:.0f}s: {what},"
                f" {self.reason}{offence}"
            )
        if self.action == "confined":
            return (
                f"confined the partner {self.address}{name} for {self.timeout:.0f}s to what it"
                f" uses: {what}, {self.reason}"
            )
        return f"not blocked {self.address}{name}: {what}, because: {self.reason}"


def incident_of(decision: Decision, at: float, epoch: float, prefix: str) -> Incident:
    """Return the incident of a decision.

    `at`: clock value of the decision; `epoch`: wall clock minus that clock; `prefix` of the mode:
    "a" if all unlisted ports are watched, "s" if chosen ports are.
    """
    evidence = decision.evidence
    last = evidence.last
    address, number, port = last.target if last else (b"\0\0\0\0", 0, 0)
    protocol = PROTOCOLS.get(number, str(number))
    kind = last.kind if last else ""
    return Incident(
        action=_action(decision),
        address=source_text(decision.source),
        ip=address_text(evidence.address) if evidence.address else _plain(decision),
        protocol=protocol,
        port=port,
        target=address_text(address),
        kind=kind,
        mode=protocol if kind in HANDSHAKE else prefix + protocol,
        scan=evidence.scan,
        kinds=evidence.kinds,
        targets=evidence.targets,
        probes=evidence.probes,
        first_seen=evidence.first_seen + epoch,
        at=at + epoch,
        timeout=0.0 if isinstance(decision, Refusal) else decision.timeout,
        offence=0 if isinstance(decision, Refusal) else decision.offence,
        forgeable=decision.forgeable if isinstance(decision, Block) else True,
        tool=evidence.tool,
        reason=decision.reason,
        inside=evidence.inside,
        zone=evidence.zone,
    )


def _action(decision: Decision) -> Literal["blocked", "confined", "refused"]:
    if isinstance(decision, Block):
        return "blocked"
    return "confined" if isinstance(decision, Confinement) else "refused"


def _plain(decision: Decision) -> str:
    return source_text(decision.source).partition("/")[0]


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:.0f}" if isinstance(value, float) else str(value)
