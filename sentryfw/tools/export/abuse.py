"""Scans in the formats of abuse desks, for an operator to review and send.

The addresses of this host are in xarf and dshield, whose readers need them, and not in abuseipdb,
which is published.

See docs/decisions.md: accusing-formats.
"""

import base64
import csv
import hashlib
import io
import json
import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from sentryfw.engine.model import Kind, Packet, address_text
from sentryfw.record.events import instant, timestamp
from sentryfw.record.records import DecisionRecord
from sentryfw.text import cell
from sentryfw.tools.export.blocks import AbuseReporter, Accused, Say
from sentryfw.tools.export.firewall import NAMESPACE

XARF_VERSION: Final = "4.0.0"
XARF_PROTOCOLS: Final = {
    "tcp": "tcp", "udp": "udp", "sctp": "sctp", "icmp": "icmp", "icmpv6": "icmp",
}  # fmt: skip
PORT_SCAN: Final = "14"
"""AbuseIPDB's category."""
MAX_ROWS: Final = 9_999
"""AbuseIPDB accepts 10,000 lines with the heading, and less than 2 MB
(abuseipdb.com/bulk-report)."""
MAX_COMMENT_LENGTH: Final = 180
"""Characters."""
NO_PORT: Final = "???"
"""An unknown port in DShield's format (isc.sans.edu/specs)."""
FLAGS: Final[dict[Kind, str]] = {
    "syn": "S", "fin": "F", "xmas": "FPU", "maimon": "FA", "ack": "A", "synfin": "SF", "urg": "U",
    "connect": "S",
}  # fmt: skip
_LETTERS: Final = "FSRPAU"
"""TCP flags, the lowest bit first."""


def xarf(found: Iterable[Accused], reporter: AbuseReporter, say: Say) -> Iterator[str]:
    """Yield one XARF v4 report a line (xarf.org, connection/port_scan). The schema requires the
    source port, for providers with many customers behind an address: a captured packet has it."""
    left_out = 0
    for accused in found:
        protocol = XARF_PROTOCOLS.get(_first(accused.entry)[1])
        ports = [packet.sport for packet in accused.packets if packet.sport]
        if protocol and ports:
            yield json.dumps(_xarf(accused, protocol, ports[-1], reporter)) + "\n"
        else:
            left_out += 1
    if left_out:
        say(f"left out: {left_out} (no captured packet with the source port, which xarf requires)")


def _xarf(accused: Accused, protocol: str, sport: int, reporter: AbuseReporter) -> dict[str, Any]:
    entry = accused.entry
    who = {"org": reporter.org, "contact": reporter.contact, "domain": reporter.domain}
    target, _, port = _first(entry)
    evidence = _evidence(accused).encode()
    name = f"{accused.address} {entry.blocked_at:.6f}"
    report: dict[str, Any] = {
        "xarf_version": XARF_VERSION, "report_id": str(uuid.uuid5(NAMESPACE, name)),
        "timestamp": instant(entry.blocked_at), "reporter": who, "sender": who,
        "source_identifier": accused.address, "source_port": sport,
        "category": "connection", "type": "port_scan",
        "evidence_source": "firewall_logs", "protocol": protocol, "destination_ip": target,
        "first_seen": instant(min(entry.first_seen, entry.blocked_at)),
        "last_seen": instant(entry.blocked_at),
        "description": _summary(entry),
        "evidence": [{
            "content_type": "text/plain", "description": "the probes that led to the block",
            "payload": base64.b64encode(evidence).decode(), "size": len(evidence),
            "hash": f"sha256:{hashlib.sha256(evidence).hexdigest()}",
        }],
    }  # fmt: skip
    if 1 <= port <= 65535:
        report["destination_port"] = port
    return report


def abuseipdb(found: Iterable[Accused], _reporter: AbuseReporter, say: Say) -> Iterator[str]:
    """Yield the bulk CSV of AbuseIPDB: the newest scan of each address."""
    newest = {accused.address: accused.entry for accused in found}
    yield "IP,Categories,ReportDate,Comment\r\n"
    for address, entry in list(newest.items())[:MAX_ROWS]:
        text = io.StringIO()
        row = (address, PORT_SCAN, instant(entry.blocked_at), _summary(entry)[:MAX_COMMENT_LENGTH])
        csv.writer(text).writerow(row)
        yield text.getvalue()
    if len(newest) > MAX_ROWS:
        say(f"left out: {len(newest) - MAX_ROWS} (AbuseIPDB accepts {MAX_ROWS} at once)")


def dshield(found: Iterable[Accused], reporter: AbuseReporter, _say: Say) -> Iterator[str]:
    """Yield the log format of DShield, a probe a line: time, author, count, source, port, target,
    port, protocol, flags; separated by tabs."""
    for accused in found:
        ports = {(packet.target, packet.dport): packet for packet in accused.packets}
        known = {(address_text(t), port): packet for (t, port), packet in ports.items()}
        for seen in accused.entry.trace:
            target, protocol, port = _split(seen.target)
            packet = known.get((target, port))
            when = datetime.fromtimestamp(seen.at, UTC).strftime("%Y-%m-%d %H:%M:%S +00:00")
            fields = (
                when, reporter.author, 1, accused.address, _sport(packet), target, port,
                protocol.upper(), _flags(packet, seen.kind) if protocol == "tcp" else "",
            )  # fmt: skip
            yield "\t".join(map(str, fields)) + "\n"


def _sport(packet: Packet | None) -> int | str:
    return packet.sport if packet is not None and packet.sport else NO_PORT


def _flags(packet: Packet | None, kind: Kind) -> str:
    if packet is None:
        return FLAGS.get(kind, "")
    return "".join(letter for bit, letter in enumerate(_LETTERS) if packet.flags >> bit & 1)


def _summary(entry: DecisionRecord) -> str:
    """Return a summary of the scan, without an address of this host."""
    services = dict.fromkeys(target.partition(" ")[2] for target in entry.sample)
    forged = ", source could be forged" if entry.forgeable else ""
    tool = "" if entry.tool in {"", "unknown"} else f", tool {entry.tool}"
    return cell(
        f"{entry.scan}: {entry.probes} probes to {entry.targets} targets ({' '.join(services)}),"
        f" kinds {' '.join(entry.kinds)}{tool}{forged}"
    )


def _evidence(accused: Accused) -> str:
    lines = [f"source {accused.address}: {_summary(accused.entry)}"]
    lines += [
        f"{timestamp(seen.at)} {seen.kind} probe to {seen.target}" for seen in accused.entry.trace
    ]
    return "\n".join(map(cell, lines)) + "\n"


def _first(entry: DecisionRecord) -> tuple[str, str, int]:
    return _split(entry.sample[0]) if entry.sample else ("", "", 0)


def _split(target: str) -> tuple[str, str, int]:
    """Split "192.0.2.1 tcp/22" into address, protocol and port."""
    address, _, service = target.partition(" ")
    protocol, _, port = service.partition("/")
    return address, protocol, int(port) if port.isdecimal() else 0


RENDER: Final[dict[str, Callable[[Iterable[Accused], AbuseReporter, Say], Iterator[str]]]] = {
    "xarf": xarf, "abuseipdb": abuseipdb, "dshield": dshield,
}  # fmt: skip
