"""replay: run it, show it."""

from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

from sentryfw.cli import output
from sentryfw.config import Config
from sentryfw.engine.model import address_text, source_text
from sentryfw.errors import SentryError, UsageError
from sentryfw.replay import Finding, Network, Result, Service
from sentryfw.replay import replay as run_replay

COLUMNS: Final = (
    "address", "action", "scan", "kinds", "targets", "probes", "decision_ms", "tool",
    "packets_after", "answers_after", "first_seen", "reason",
)  # fmt: skip
SHORT_COLUMNS: Final = ("address", "scan", "kinds", "probes", "ms", "tool", "after", "answers")
"""What fits a terminal of 80 columns."""
PROTOCOLS: Final = {"tcp": 6, "udp": 17, "sctp": 132}
SHOWN: Final = 8
"""Guessed addresses and ports that are named; the others are counted."""


def run(
    path: Path, config: Config, local: list[str] | None, listed: list[str] | None, *, json: bool
) -> int:
    """The exit code: 1 if the capture is broken, or none."""
    result = run_replay(
        path,
        config,
        tuple(_network(text) for text in local or ()),
        None if listed is None else _services(",".join(listed)),
    )
    rows = [_row(finding) for finding in result.findings.values()]
    guessed = [name for name, told in (("local", local), ("listed", listed)) if told is None]
    if json:
        output.print_json(_document(path, result, rows, guessed))
    else:
        _print(path, result, rows, guessed)
    return 0 if result.error is None else SentryError.exit_code


def _document(
    path: Path, result: Result, rows: list[dict[str, Any]], guessed: list[str]
) -> dict[str, Any]:
    error = result.error
    return {
        "capture": str(path),
        "packets": result.packets,
        "fates": dict(result.fates),
        "guess": {"guessed": guessed, "local": _local(result), "listed": _listed(result)},
        "sources": rows,
        "error": error and {"byte": error.byte, "reason": error.reason},
    }


def _print(path: Path, result: Result, rows: list[dict[str, Any]], guessed: list[str]) -> None:
    if result.packets or result.error is None:
        title = f"{len(rows)} sources in {result.packets} packets"
        output.print_rows(rows, COLUMNS, title, short=([_short(r) for r in rows], SHORT_COLUMNS))
        for name, found in (("local", _local(result)), ("listed", _listed(result))):
            how = f"guessed; --{name} says otherwise" if name in guessed else "as told"
            output.note(f"{name}: {_some(found)} ({how})")
        for line in _remarks(result):
            output.note(line)
    if result.error is not None:
        output.note(f"sentryfw: {path}: {result.error}")


def _remarks(result: Result) -> list[str]:
    fates = result.fates
    unread = [f"{n} packets of {name} not read" for name, n in fates.items() if "link" in name]
    if fates["malformed"]:
        unread.append(f"{fates['malformed']} packets cut short or malformed, not judged")
    if result.packets and not result.view.local:
        unread.append("no side of the capture looks scanned: say which one is, with --local")
    if result.more:
        unread.append(f"{result.more} more decisions, of sources beyond the list's limit")
    return unread


def _row(finding: Finding) -> dict[str, Any]:
    return {
        "address": source_text(finding.source),
        "family": "ipv4" if len(finding.source) == 4 else "ipv6",
        "action": "blocked" if finding.blocked else "refused",
        "scan": finding.scan,
        "kinds": list(finding.kinds),
        "targets": finding.targets,
        "probes": finding.probes,
        "first_seen": _time(finding.first_seen),
        "decided_at": _time(finding.decided_at),
        "decision_ms": round((finding.decided_at - finding.first_seen) * 1000, 3),
        "tool": finding.tool,
        "reason": finding.reason,
        "blocks": finding.blocks,
        "packets_after": finding.packets_after,
        "answers_after": finding.answers_after,
    }


def _short(row: dict[str, Any]) -> dict[str, Any]:
    return {
        **row,
        "ms": row["decision_ms"],
        "after": row["packets_after"],
        "answers": row["answers_after"],
    }


def _time(seconds: float) -> str | None:
    """ISO 8601 in UTC; None for what no calendar has."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")
    except (ValueError, OverflowError, OSError):
        return None


def _local(result: Result) -> list[str]:
    """Addresses without their prefix length where it says nothing."""
    return [
        str(n.network_address if n.prefixlen == n.max_prefixlen else n) for n in result.view.local
    ]


def _listed(result: Result) -> list[str]:
    names = {number: name for name, number in PROTOCOLS.items()}
    everywhere = [f"{names[protocol]}/{port}" for protocol, port in sorted(result.view.listed)]
    if len(result.view.local) == 1:
        ports = sorted({socket[1:] for socket in result.view.sockets} - result.view.listed)
        return everywhere + [f"{names[protocol]}/{port}" for protocol, port in ports]
    return everywhere + [
        f"{names[protocol]}/{port} on {address_text(address)}"
        for address, protocol, port in sorted(result.view.sockets)
    ]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more if names else "nothing"


def _network(text: str) -> Network:
    try:
        return ip_network(text.strip(), strict=False)
    except ValueError:
        raise UsageError(f"--local: {text!r} is neither an address nor a network") from None


def _services(text: str) -> frozenset[Service]:
    """tcp/22,udp/53,tcp/6000-6010; nothing: no port is listed."""
    found: set[Service] = set()
    for word in filter(None, (part.strip() for part in text.split(","))):
        name, _, ports = word.lower().partition("/")
        first, _, last = ports.partition("-")
        if name not in PROTOCOLS or not (first.isdecimal() and (last or first).isdecimal()):
            raise UsageError(f"--listed: {word!r} is no port: write tcp/22 or udp/6000-6010")
        low, high = int(first), int(last or first)
        if not low <= high <= 65535:
            raise UsageError(f"--listed: {word!r} is no port range within 0-65535")
        found.update((PROTOCOLS[name], port) for port in range(low, high + 1))
    return frozenset(found)
