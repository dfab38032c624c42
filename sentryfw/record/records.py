"""Plain records of decisions, probes and reactions, as the ledger and the events store them."""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, Final, Literal, NamedTuple
from zlib import crc32

from sentryfw.engine.model import (
    PROTOCOLS,
    Block,
    Confinement,
    DistributedScan,
    Evidence,
    Kind,
    Probe,
    Refusal,
    Target,
    address_text,
    parse_source,
    place_text,
    source_text,
)
from sentryfw.text import plain

MAX_COMMENT: Final = 200
"""Characters of a comment that are kept."""
BY_HAND: Final = "blocked by hand"
"""The reason of a block that an operator made, before the comment."""
LIST_REASON: Final = "list "
"""The reason of a block of an imported list, before the name of the list."""
STAMP_LENGTH: Final = 15
"""Characters of a time in the name of a decision."""
LOG_FIELDS: Final = "sentryfw"
"""The attribute of a log record that holds its fields; set through logging's `extra`."""


class ProbeTrace(NamedTuple):
    """One probe that a decision rests on."""

    at: float
    """Seconds since the epoch."""
    kind: Kind
    listed: bool
    target: str


class DecisionRecord(NamedTuple):
    """One block, or one scan that was not blocked. Times are seconds since the epoch."""

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
    trace: tuple[ProbeTrace, ...] = ()
    """The probes that the decision rests on, oldest first: the last one to each target."""
    inside: bool = False
    """Whether the source is inside; written to events, not to the ledger."""
    confined: bool = False
    """Whether the source, a partner, was confined to what it uses instead of blocked."""
    zone: str = ""
    """The zone that judged it; empty: the default zone."""

    @property
    def action(self) -> Literal["blocked", "confined", "refused"]:
        """The decision in a word."""
        if self.confined:
            return "confined"
        return "blocked" if self.blocked else "refused"


def event_id(entry: DecisionRecord) -> str:
    """Return the name of a decision in events, `explain` and captures. Names sort by time."""
    return f"{stamp(entry.blocked_at)}-{crc32(entry.address.encode()):08x}"


def entry_fields(entry: DecisionRecord) -> dict[str, dict[str, str]]:
    """Return the fields of a decision for a log record, as logging's `extra`."""
    fields = {
        "action": entry.action,
        "address": entry.address,
        "family": str(entry.family),
        "scan": entry.scan,
        "kinds": ",".join(entry.kinds),
        "targets": str(entry.targets),
        "probes": str(entry.probes),
        "timeout": f"{entry.timeout_s:.0f}",
        "offence": str(entry.offence),
        "reason": entry.reason,
        "tool": entry.tool,
        "event_id": event_id(entry),
    }
    return {LOG_FIELDS: fields}


def stamp(seconds: float) -> str:
    """Return microseconds since the epoch as hexadecimal text of one width until year 10000."""
    return f"{max(0, round(seconds * 1_000_000)):0{STAMP_LENGTH}x}"


def block_entry(block: Block, acknowledged: float, epoch: float) -> DecisionRecord:
    """Return the record of a block.

    `acknowledged`: clock value of the kernel's answer; `epoch`: wall clock minus that clock.
    """
    return _entry(block.evidence, epoch)._replace(
        blocked_at=acknowledged + epoch,
        timeout_s=block.timeout,
        offence=block.offence,
        forgeable=block.forgeable,
        reason=block.reason,
        blocked=True,
    )


def confinement_entry(decision: Confinement, acknowledged: float, epoch: float) -> DecisionRecord:
    """Return the record of a confinement; the arguments are those of block_entry()."""
    return _entry(decision.evidence, epoch)._replace(
        blocked_at=acknowledged + epoch,
        timeout_s=decision.timeout,
        offence=decision.offence,
        reason=decision.reason,
        confined=True,
    )


def refusal_entry(refusal: Refusal, epoch: float) -> DecisionRecord:
    """Return the record of a scan that was not blocked; `epoch`: see block_entry()."""
    return _entry(refusal.evidence, epoch)._replace(
        blocked_at=refusal.at + epoch, reason=refusal.reason
    )


def distributed_fields(found: DistributedScan) -> dict[str, object]:
    """Return the fields of the event about a distributed scan."""
    return {
        "place": place_text(found.place),
        "deferred_s": found.timeout,
        "blocked_s": found.timeout if found.is_blocked else 0.0,
        "seconds": round(found.at - found.first_seen, 3),
        "sources": [source_text(source) for source in found.sources],
        "targets": [target_text(target) for target in found.targets],
    }


def manual_entry(
    address: str, family: int, timeout: float, now: float, comment: str = ""
) -> DecisionRecord:
    """Return the record of a block that an operator made; `timeout`: seconds, 0: forever."""
    why = plain(comment.strip())[:MAX_COMMENT]
    return DecisionRecord(
        address=address,
        family=family,
        scan="",
        kinds=[],
        targets=0,
        probes=0,
        first_seen=now,
        blocked_at=now,
        timeout_s=timeout,
        offence=0,
        forgeable=False,
        tool="",
        reason=f"{BY_HAND}: {why}" if why else BY_HAND,
        sample=[],
        blocked=True,
    )


def list_entry(name: str, address: str, timeout: float, now: float) -> DecisionRecord:
    """Return the record of a block of an imported list; `timeout`: seconds."""
    family = 6 if ":" in address else 4
    return manual_entry(address, family, timeout, now)._replace(reason=f"{LIST_REASON}{name}")


def _entry(evidence: Evidence, epoch: float) -> DecisionRecord:
    return DecisionRecord(
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
        tool=evidence.tool,
        reason="",
        sample=[target_text(target) for target in evidence.sample],
        blocked=False,
        trace=tuple(
            ProbeTrace(
                at=seen.at + epoch,
                kind=seen.kind,
                listed=seen.listed,
                target=target_text(seen.target),
            )
            for seen in evidence.trace
        ),
        inside=evidence.inside,
        zone=evidence.zone,
    )


class ProbeRecord(NamedTuple):
    """One probe below the trigger, kept so that evidence survives a restart."""

    address: str
    at: float
    """Seconds since the epoch."""
    kind: Kind
    listed: bool
    target: str
    zone: str = ""
    """The zone that it came in by; empty: the default zone."""


def record_of(probe: Probe, at: float, zone: str = "") -> ProbeRecord:
    """Return the record of a probe that arrived `at` seconds since the epoch."""
    return ProbeRecord(
        address=source_text(probe.source),
        at=at,
        kind=probe.kind,
        listed=probe.listed,
        target=target_text(probe.target),
        zone=zone,
    )


def probe_of(record: ProbeRecord) -> Probe:
    """Return the probe of a record. Raise ValueError if its text is damaged."""
    address, _, service = record.target.partition(" ")
    name, _, port = service.partition("/")
    protocol = _NUMBERS.get(name)
    target = (ip_address(address).packed, int(name) if protocol is None else protocol, int(port))
    return Probe(parse_source(record.address), target, record.kind, listed=record.listed)


_NUMBERS: Final = {name: number for number, name in PROTOCOLS.items()}


class Reaction(NamedTuple):
    """The result of one reaction to a decision."""

    reaction: str
    address: str
    """The source of the decision; empty if the result concerns many."""
    ok: bool
    detail: str
    at: float
    """Seconds since the epoch."""
    seconds: float
    """Duration of the reaction."""


class Named(NamedTuple):
    """The name of a host, as a resolver reported it."""

    address: str
    host: str
    at: float
    """Seconds since the epoch."""


class Located(NamedTuple):
    """The origin of a source, as databases of the operator's say."""

    address: str
    origin: Mapping[str, Any]
    """ECS's fields below `source`, and `labels`."""
    at: float
    """Seconds since the epoch."""


def target_text(target: Target) -> str:
    """Return a target as text: "192.0.2.1 tcp/22"."""
    address, protocol, port = target
    return f"{address_text(address)} {PROTOCOLS.get(protocol, protocol)}/{port}"
