"""Blocks in the formats of firewalls and threat intelligence, as iterators of lines."""

import csv
import io
import json
import uuid
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_network
from typing import Any, Final

from sentryfw import __version__
from sentryfw.record.events import instant, timestamp
from sentryfw.record.records import DecisionRecord
from sentryfw.text import cell, nft_duration
from sentryfw.tools.export.blocks import ExportedBlock

TABLE: Final = "sentryfw_export"
"""The name of the table on the host that loads the export."""
NAMESPACE: Final = uuid.UUID("5e47f1a0-0c1d-5b52-9c55-2f6b5a1d7e10")
"""The namespace of UUIDs (version 5), which are the same in every export."""
IDENTITY: Final = f"identity--{uuid.uuid5(NAMESPACE, 'sentryfw')}"
PROVEN_PERCENT: Final = 90
FORGEABLE_PERCENT: Final = 50
"""Confidence, in the scale of STIX 2.1, appendix A: high, medium."""
COLUMNS: Final = (
    "address", "family", "scan", "kinds", "targets", "probes", "first_seen", "blocked_at",
    "timeout_s", "expires_in_s", "offence", "forgeable", "tool", "reason", "dropped_packets",
    "zone",
)  # fmt: skip


def plain(found: Iterable[ExportedBlock]) -> Iterator[str]:
    """Yield one address or network a line."""
    yield from (f"{address}\n" for address in dict.fromkeys(item.address for item in found))


def cidr(found: Iterable[ExportedBlock]) -> Iterator[str]:
    """Yield one network a line, each with its prefix length."""
    yield from (f"{network}\n" for network in dict.fromkeys(item.network for item in found))


def nft(found: Iterable[ExportedBlock]) -> Iterator[str]:
    """Yield a table with two sets, for `nft -f` on any host; elements expire with the blocks."""
    timeouts: dict[int, dict[str, float | None]] = {4: {}, 6: {}}
    for item in found:
        timeouts[item.family][item.network] = item.left
    yield f"# SentryFW {__version__}: use as: ip saddr @blocked4 drop; ip6 saddr @blocked6 drop\n"
    yield f"table inet {TABLE} {{\n"
    for family, elements in timeouts.items():
        yield f"\tset blocked{family} {{\n\t\ttype ipv{family}_addr\n\t\tflags interval, timeout\n"
        disjoint = _disjoint(elements, family)
        if disjoint:
            yield "\t\telements = {\n"
            yield from (f"\t\t\t{network}{_timeout(elements[network])},\n" for network in disjoint)
            yield "\t\t}\n"
        yield "\t}\n"
    yield "}\n"


def _disjoint(elements: Iterable[str], family: int) -> list[str]:
    """Return the networks that are not within another one: an interval set rejects overlaps."""
    width = 32 if family == 4 else 128
    kept: list[str] = []
    end = -1
    for network in sorted(map(ip_network, elements), key=lambda n: (int(n[0]), n.prefixlen)):
        if int(network[0]) > end:
            kept.append(str(network))
            end = int(network[0]) + (1 << (width - network.prefixlen)) - 1
    return kept


def _timeout(left: float | None) -> str:
    return f" timeout {nft_duration(left)}" if left else ""


def table_of(found: Iterable[ExportedBlock]) -> Iterator[str]:
    """Yield CSV (RFC 4180) with a heading. No field is a formula to a spreadsheet."""
    yield _csv_line(COLUMNS)
    for item in found:
        facts = _facts(item)
        facts["kinds"] = " ".join(facts["kinds"] or ())
        yield _csv_line("" if facts[name] is None else facts[name] for name in COLUMNS)


def objects(found: Iterable[ExportedBlock]) -> Iterator[str]:
    """Yield a JSON array, an object a line; null for unknown values."""
    before = "[\n"
    for item in found:
        yield before + json.dumps({**_facts(item), "origin": item.origin.item()})
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def _facts(item: ExportedBlock) -> dict[str, Any]:
    entry = item.entry
    scan: tuple[Any, ...] = (None,) * 7
    decision: tuple[Any, ...] = (None,) * 4
    if entry is not None:
        scan = (
            entry.scan, entry.kinds, entry.targets, entry.probes, timestamp(entry.first_seen),
            timestamp(entry.blocked_at), entry.timeout_s,
        )  # fmt: skip
        decision = entry.offence, entry.forgeable, entry.tool, entry.reason
    left = None if item.left is None else round(item.left)
    zone = None if entry is None else entry.zone
    found = (item.address, f"ipv{item.family}", *scan, left, *decision, item.packets, zone)
    return dict(zip(COLUMNS, found, strict=True))


def _csv_line(fields: Iterable[object]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow([_harmless(field) for field in fields])
    return text.getvalue()


def _harmless(field: object) -> object:
    """Return a value without control characters, and not as a formula: a ledger can be edited."""
    if not isinstance(field, str) or not field:
        return field
    text = cell(field)
    return f"'{text}" if text[0] in "=+-@" else text


def stix(found: Iterable[ExportedBlock]) -> Iterator[str]:
    """Yield a STIX 2.1 bundle of indicators (OASIS stix-v2.1-os, section 4.7)."""
    yield f'{{"type": "bundle", "id": "bundle--{uuid.uuid4()}", "objects": [\n'
    start = instant(0.0, "milliseconds")
    yield json.dumps({
        "type": "identity", "spec_version": "2.1", "id": IDENTITY, "created": start,
        "modified": start, "name": f"SentryFW {__version__}", "identity_class": "system",
    })  # fmt: skip
    for item in found:
        if item.entry is not None:
            yield ",\n" + json.dumps(_indicator(item, item.entry))
    yield "\n]}\n"


def _indicator(item: ExportedBlock, entry: DecisionRecord) -> dict[str, Any]:
    at = instant(entry.blocked_at, "milliseconds")
    kind = f"ipv{item.family}-addr:value"
    operator = "ISSUBSET" if "/" in item.address else "="
    indicator = {
        "type": "indicator", "spec_version": "2.1",
        "id": f"indicator--{uuid.uuid5(NAMESPACE, f'{item.address} {at}')}",
        "created_by_ref": IDENTITY, "created": at, "modified": at,
        "name": f"{cell(entry.scan or 'block')} by {item.address}",
        "description": f"{cell(entry.reason)}; {cell(entry.kinds)}; tool {cell(entry.tool)}",
        "indicator_types": ["malicious-activity"],
        "pattern": f"[{kind} {operator} '{item.address}']", "pattern_type": "stix",
        "valid_from": at, "confidence": FORGEABLE_PERCENT if entry.forgeable else PROVEN_PERCENT,
        "external_references": [{"source_name": "mitre-attack", "external_id": "T1595.001"}],
    }  # fmt: skip
    if entry.timeout_s:
        end = entry.blocked_at + max(entry.timeout_s, 0.001)
        indicator["valid_until"] = instant(end, "milliseconds")
    return indicator


RENDER: Final[dict[str, Callable[[Iterable[ExportedBlock]], Iterator[str]]]] = {
    "plain": plain, "cidr": cidr, "nft": nft, "csv": table_of, "json": objects, "stix": stix,
}  # fmt: skip
