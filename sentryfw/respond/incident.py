"""What reactions are told of a decision: one flat value, in words."""

from typing import Final, Literal, NamedTuple

from sentryfw.config_respond import PLACEHOLDERS
from sentryfw.engine.model import PROTOCOLS, Block, Kind, Refusal, address_text, source_text

HANDSHAKE: Final = frozenset(("connect",))
"""Kinds that PortSentry's own modes tcp and udp would have seen."""


class Incident(NamedTuple):
    """A block, or a scan that was not blocked; times are seconds since the epoch."""

    action: Literal["blocked", "refused"]
    address: str
    """What is blocked: 192.0.2.1, 2001:db8::/64."""
    ip: str
    """The one address that sent the deciding probe."""
    protocol: str
    port: int
    target: str
    kind: Kind | Literal[""]
    """Of the deciding probe."""
    mode: str
    """PortSentry's word: atcp, audp, stcp, sudp, tcp, udp."""
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
    """The name of `ip`, where it is known."""

    @property
    def family(self) -> int:
        return 6 if ":" in self.address else 4

    def fields(self) -> dict[str, str]:
        """What a command is told, by placeholder."""
        return {name: _text(getattr(self, name)) for name in PLACEHOLDERS}

    def sentence(self) -> str:
        """One line for people."""
        name = f" ({self.host})" if self.host else ""
        what = f"{self.scan} ({', '.join(self.kinds)}) at {self.protocol}/{self.port}"
        if self.action == "blocked":
            offence = f", offence {self.offence}" if self.offence else ""
            return (
                f"blocked {self.address}{name} for {self.timeout:.0f}s: {what},"
                f" {self.reason}{offence}"
            )
        return f"not blocked {self.address}{name}: {what}, because: {self.reason}"


def incident_of(decision: Block | Refusal, at: float, epoch: float, prefix: str) -> Incident:
    """`at`: clock value of what happened; `epoch`: wall clock less that clock; `prefix`: "a"
    where all unlisted ports are watched, "s" where chosen ones are."""
    evidence = decision.evidence
    last = evidence.last
    address, number, port = last.target if last else (b"\0\0\0\0", 0, 0)
    protocol = PROTOCOLS.get(number, str(number))
    kind = last.kind if last else ""
    is_block = isinstance(decision, Block)
    return Incident(
        action="blocked" if is_block else "refused",
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
        timeout=decision.timeout if isinstance(decision, Block) else 0.0,
        offence=decision.offence if isinstance(decision, Block) else 0,
        forgeable=decision.forgeable if isinstance(decision, Block) else True,
        tool=evidence.tool,
        reason=decision.reason,
    )


def _plain(decision: Block | Refusal) -> str:
    return source_text(decision.source).partition("/")[0]


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:.0f}" if isinstance(value, float) else str(value)
