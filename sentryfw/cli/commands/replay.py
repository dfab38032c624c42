"""replay: a capture, judged as the daemon would have."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from sentryfw.cli import output
from sentryfw.cli.arguments import Json, faultless_config, new_app
from sentryfw.config.model import Config
from sentryfw.config.types import parse_network
from sentryfw.engine.model import address_text, source_text
from sentryfw.errors import SentryError, UsageError
from sentryfw.tools.replay.judge import ReplayResult, SourceFinding
from sentryfw.tools.replay.run import replay as run_replay
from sentryfw.tools.replay.view import Network, Service

COLUMNS: Final = (
    "address", "action", "scan", "kinds", "targets", "probes", "decision_ms", "tool",
    "packets_after", "answers_after", "first_seen", "reason",
)  # fmt: skip
SHORT_COLUMNS: Final = ("address", "scan", "kinds", "probes", "ms", "tool", "after", "answers")
"""The columns that fit a terminal of 80 characters."""
PROTOCOLS: Final = {"tcp": 6, "udp": 17, "sctp": 132}
MAX_NAMED: Final = 8
"""Addresses and ports that are named in a remark; the others are counted."""

app = new_app()


@app.command("replay")
def replay_command(
    context: typer.Context,
    capture: Annotated[Path, typer.Argument(metavar="FILE.pcap|pcapng", show_default=False)],
    listed: Annotated[
        list[str] | None,
        typer.Option(metavar="PORTS", help="Listed ports, tcp/22,udp/53; default: a guess."),
    ] = None,
    local: Annotated[
        list[str] | None,
        typer.Option(metavar="CIDR", help="The scanned side; may repeat; default: a guess."),
    ] = None,
    not_local: Annotated[
        list[str] | None,
        typer.Option(metavar="CIDR", help="Never the scanned side in the guess; may repeat."),
    ] = None,
    json: Json = False,
) -> None:
    """Judge a capture as the daemon would have. Times are those of the capture."""
    raise typer.Exit(run(capture, faultless_config(context), local, listed, not_local, json=json))


def run(
    path: Path, config: Config, local: list[str] | None, listed: list[str] | None,
    not_local: list[str] | None = None, *, json: bool,
) -> int:  # fmt: skip
    """Replay a capture, print the result, and return the exit code: 1 if the file is not a capture
    or is damaged."""
    if local and not_local:
        raise UsageError("--not-local is for the guess: leave it out beside --local")
    result = run_replay(
        path,
        config,
        _networks("--local", local),
        None if listed is None else _services(",".join(listed)),
        _networks("--not-local", not_local),
    )
    rows = [_row(finding) for finding in result.findings.values()]
    guessed = [name for name, given in (("local", local), ("listed", listed)) if given is None]
    if json:
        output.print_json(_document(path, result, rows, guessed))
    else:
        _print(path, result, rows, guessed)
    return 0 if result.error is None else SentryError.exit_code


def _document(
    path: Path, result: ReplayResult, rows: list[dict[str, Any]], guessed: list[str]
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


def _print(
    path: Path, result: ReplayResult, rows: list[dict[str, Any]], guessed: list[str]
) -> None:
    if result.packets or result.error is None:
        title = f"{len(rows)} sources in {result.packets} packets"
        output.print_rows(rows, COLUMNS, title, short=([_short(r) for r in rows], SHORT_COLUMNS))
        for name, found in (("local", _local(result)), ("listed", _listed(result))):
            how = f"guessed; --{name} overrides" if name in guessed else "as given"
            output.note(f"{name}: {_some(found)} ({how})")
        for line in _remarks(result):
            output.note(line)
    if result.error is not None:
        output.note(f"sentryfw: {path}: {result.error}")


def _remarks(result: ReplayResult) -> list[str]:
    fates = result.fates
    unread = [f"{n} packets of {name} were not read" for name, n in fates.items() if "link" in name]
    if fates["cut short"]:
        unread.append(
            f"{fates['cut short']} packets were cut short by the capture (snap length) before their"
            " ports, and not judged"
        )
    if fates["malformed"]:
        unread.append(f"{fates['malformed']} packets were malformed, and not judged")
    if result.packets and not result.view.local:
        unread.append("no side of the capture looks scanned: name the scanned side with --local")
    if result.more:
        unread.append(f"{result.more} more decisions concern sources beyond the limit of this list")
    return unread


def _row(finding: SourceFinding) -> dict[str, Any]:
    return {
        "address": source_text(finding.source),
        "family": "ipv4" if len(finding.source) == 4 else "ipv6",
        "action": finding.action,
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
    """Return a time in ISO 8601, UTC; None if it is outside the calendar."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")
    except (ValueError, OverflowError, OSError):
        return None


def _local(result: ReplayResult) -> list[str]:
    """Return the local networks; those of one address without a prefix length."""
    return [
        str(n.network_address if n.prefixlen == n.max_prefixlen else n) for n in result.view.local
    ]


def _listed(result: ReplayResult) -> list[str]:
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
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more if names else "nothing"


def _networks(option: str, texts: list[str] | None) -> tuple[Network, ...]:
    found = []
    for text in texts or ():
        try:
            found.append(parse_network(text))
        except ValueError:
            raise UsageError(f"{option}: {text!r} is neither an address nor a network") from None
    return tuple(found)


def _services(text: str) -> frozenset[Service]:
    """Parse `tcp/22,udp/53,tcp/6000-6010`; an empty text means that no port is listed."""
    found: set[Service] = set()
    for word in filter(None, (part.strip() for part in text.split(","))):
        name, _, ports = word.lower().partition("/")
        first, _, last = ports.partition("-")
        if name not in PROTOCOLS or not (first.isdecimal() and (last or first).isdecimal()):
            raise UsageError(f"--listed: {word!r} is not a port: write tcp/22 or udp/6000-6010")
        low, high = int(first), int(last or first)
        if not low <= high <= 65535:
            raise UsageError(f"--listed: {word!r} is not a port range within 0-65535")
        found.update((PROTOCOLS[name], port) for port in range(low, high + 1))
    return frozenset(found)
