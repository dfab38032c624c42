"""The rows of the ledger's tables as records, and back: one mapper a table.

`..._COLUMNS` names the columns in the order of the row that the mapper of the table takes.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from sentryfw.record.database import Row
from sentryfw.record.records import DecisionRecord, ProbeRecord, ProbeTrace, Reaction

BLOCK_COLUMNS: Final = (
    "address, family, scan, kinds, targets, probes, first_seen, blocked_at, timeout_s, offence,"
    " forgeable, tool, reason, sample, zone"
)
REFUSAL_COLUMNS: Final = (
    "address, at, reason, scan, kinds, targets, probes, first_seen, sample, tool, timeout_s,"
    " offence, zone"
)
PROBE_COLUMNS: Final = "address, at, kind, listed, target, zone"
TRACE_COLUMNS: Final = "at, kind, listed, target"
REACTION_COLUMNS: Final = "reaction, address, ok, detail, at, seconds"

ParseWords = Callable[[str], list[str]]


def words(text: str) -> list[str]:
    """Parse a JSON list of strings; return an empty list for a damaged value."""
    try:
        found = json.loads(text)
    except ValueError:
        return []
    return [str(word) for word in found] if isinstance(found, list) else []


def block_record(
    row: Sequence[Any], trace: Iterable[ProbeTrace] = (), parse: ParseWords = json.loads
) -> DecisionRecord:
    """Map a row of `blocks`. Raise ValueError if a list is not JSON, unless `parse` accepts it."""
    (
        address, family, scan, kinds, targets, probes, first_seen, blocked_at, timeout_s, offence,
        forgeable, tool, reason, sample, zone,
    ) = row  # fmt: skip
    return DecisionRecord(
        address=address,
        family=family,
        scan=scan,
        kinds=parse(kinds),
        targets=targets,
        probes=probes,
        first_seen=first_seen,
        blocked_at=blocked_at,
        timeout_s=timeout_s,
        offence=offence,
        forgeable=bool(forgeable),
        tool=tool,
        reason=reason,
        sample=parse(sample),
        blocked=True,
        trace=tuple(trace),
        zone=zone,
    )


def block_row(record: DecisionRecord) -> Row:
    """Return the row of `blocks` for a block."""
    return (
        record.address, record.family, record.scan, json.dumps(record.kinds), record.targets,
        record.probes, record.first_seen, record.blocked_at, record.timeout_s, record.offence,
        record.forgeable, record.tool, record.reason, json.dumps(record.sample), record.zone,
    )  # fmt: skip


def refusal_record(row: Sequence[Any], trace: Iterable[ProbeTrace] = ()) -> DecisionRecord:
    """Map a row of `refusals`. Raise ValueError if a list is not JSON.

    A refusal with a timeout is a confinement.
    """
    (
        address, at, reason, scan, kinds, targets, probes, first_seen, sample, tool, timeout_s,
        offence, zone,
    ) = row  # fmt: skip
    return DecisionRecord(
        address=address,
        family=6 if ":" in address else 4,
        scan=scan,
        kinds=json.loads(kinds),
        targets=targets,
        probes=probes,
        first_seen=first_seen,
        blocked_at=at,
        timeout_s=timeout_s,
        offence=offence,
        forgeable=True,
        tool=tool,
        reason=reason,
        sample=json.loads(sample),
        blocked=False,
        trace=tuple(trace),
        confined=timeout_s > 0,
        zone=zone,
    )


def refusal_row(record: DecisionRecord) -> Row:
    """Return the row of `refusals` for a refusal or a confinement."""
    return (
        record.address, record.blocked_at, record.reason, record.scan, json.dumps(record.kinds),
        record.targets, record.probes, record.first_seen, json.dumps(record.sample), record.tool,
        record.timeout_s, record.offence, record.zone,
    )  # fmt: skip


def probe_record(row: Sequence[Any]) -> ProbeRecord:
    """Map a row of `probes`."""
    address, at, kind, listed, target, zone = row
    return ProbeRecord(
        address=address, at=at, kind=kind, listed=bool(listed), target=target, zone=zone
    )


def probe_trace(row: Sequence[Any]) -> ProbeTrace:
    """Map a row of `traces`."""
    at, kind, listed, target = row
    return ProbeTrace(at=at, kind=kind, listed=bool(listed), target=target)


def reaction_record(row: Sequence[Any]) -> Reaction:
    """Map a row of `reactions`."""
    reaction, address, ok, detail, at, seconds = row
    return Reaction(
        reaction=reaction, address=address, ok=bool(ok), detail=detail, at=at, seconds=seconds
    )
