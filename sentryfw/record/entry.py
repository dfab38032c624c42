"""Engine values -> the plain records that the ledger and the events are made of."""

from typing import Final, NamedTuple

from sentryfw.engine.model import Block, Evidence, Refusal, Target, address_text, source_text

PROTOCOLS: Final = {6: "tcp", 17: "udp"}


class Entry(NamedTuple):
    """One block, or one scan that was not blocked; times are seconds since the epoch."""

    address: str
    family: int
    scan: str
    kinds: list[str]
    targets: int
    probes: int
    first_seen: float
    blocked_at: float
    timeout_s: float
    offence: int
    forgeable: bool
    tool: str
    reason: str
    sample: list[str]
    """Some of the targets, "192.0.2.1 tcp/22"."""
    blocked: bool


def block_entry(block: Block, acknowledged: float, epoch: float) -> Entry:
    """`acknowledged`: clock value of the kernel's answer; `epoch`: wall clock less that clock."""
    return _entry(block.evidence, epoch)._replace(
        blocked_at=acknowledged + epoch,
        timeout_s=block.timeout,
        offence=block.offence,
        forgeable=block.forgeable,
        reason=block.reason,
        blocked=True,
    )


def refusal_entry(refusal: Refusal, epoch: float) -> Entry:
    return _entry(refusal.evidence, epoch)._replace(
        blocked_at=refusal.at + epoch, reason=refusal.reason
    )


def manual_entry(address: str, family: int, timeout: float, now: float) -> Entry:
    return Entry(
        address, family, "", [], 0, 0, now, now, timeout, 0, False, "", "blocked by hand", [], True
    )


def _entry(evidence: Evidence, epoch: float) -> Entry:
    return Entry(
        address=source_text(evidence.source),
        family=4 if len(evidence.source) == 4 else 6,
        scan=evidence.scan,
        kinds=list(evidence.kinds),
        targets=evidence.targets,
        probes=evidence.probes,
        first_seen=evidence.first_seen + epoch,
        blocked_at=0.0,
        timeout_s=0.0,
        offence=0,
        forgeable=True,
        tool="unknown",
        reason="",
        sample=[target_text(target) for target in evidence.sample],
        blocked=False,
    )


def target_text(target: Target) -> str:
    address, protocol, port = target
    return f"{address_text(address)} {PROTOCOLS.get(protocol, protocol)}/{port}"
