"""Engine values -> the plain records that the ledger and the events are made of."""

from ipaddress import ip_address
from typing import Final, NamedTuple
from zlib import crc32

from sentryfw.engine.model import (
    PROTOCOLS,
    Block,
    Evidence,
    Kind,
    Probe,
    Refusal,
    Target,
    address_text,
    parse_source,
    source_text,
)

LOG_FIELDS: Final = "sentryfw"
"""The attribute of a log record that holds its fields: logging's `extra`."""


class Trace(NamedTuple):
    """One probe that a block or a refusal rests on."""

    at: float
    """Seconds since the epoch."""
    kind: Kind
    listed: bool
    target: str


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
    trace: tuple[Trace, ...] = ()
    """The probes that it rests on, oldest first: the last one to each target."""
    inside: bool = False
    """Whether the source is inside: said in events, not kept in the ledger."""


def event_id(entry: Entry) -> str:
    """What names a block or a refusal in events, in `explain` and in captures; sorts by time."""
    return f"{stamp(entry.blocked_at)}-{crc32(entry.address.encode()):08x}"


def entry_fields(entry: Entry) -> dict[str, dict[str, str]]:
    """What the log is told of a block or a refusal, for `extra`."""
    fields = {
        "action": "blocked" if entry.blocked else "refused",
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
    """Microseconds since the epoch, of one width until the year 10000."""
    return f"{max(0, round(seconds * 1_000_000)):015x}"


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
        tool=evidence.tool,
        reason="",
        sample=[target_text(target) for target in evidence.sample],
        blocked=False,
        trace=tuple(
            Trace(seen.at + epoch, seen.kind, seen.listed, target_text(seen.target))
            for seen in evidence.trace
        ),
        inside=evidence.inside,
    )


class Sight(NamedTuple):
    """One probe below the trigger, kept so that evidence survives a restart."""

    address: str
    at: float
    """Seconds since the epoch."""
    kind: Kind
    listed: bool
    target: str


def sight_of(probe: Probe, at: float) -> Sight:
    return Sight(source_text(probe.source), at, probe.kind, probe.listed, target_text(probe.target))


def probe_of(sight: Sight) -> Probe:
    """The way back. ValueError where the text is none of ours."""
    address, _, service = sight.target.partition(" ")
    name, _, port = service.partition("/")
    protocol = _NUMBERS.get(name)
    target = (ip_address(address).packed, int(name) if protocol is None else protocol, int(port))
    return Probe(parse_source(sight.address), target, sight.kind, listed=sight.listed)


_NUMBERS: Final = {name: number for number, name in PROTOCOLS.items()}


class Reaction(NamedTuple):
    """What became of one reaction to a block or a refusal."""

    reaction: str
    address: str
    """Empty where it concerns many."""
    ok: bool
    detail: str
    at: float
    """Seconds since the epoch."""
    seconds: float
    """How long it took."""


class Named(NamedTuple):
    """The name of a host, as a resolver told it."""

    address: str
    host: str
    at: float


def target_text(target: Target) -> str:
    address, protocol, port = target
    return f"{address_text(address)} {PROTOCOLS.get(protocol, protocol)}/{port}"
