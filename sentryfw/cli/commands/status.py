"""status: the table, the daemon, and the counters of both."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from sentryfw import __version__
from sentryfw.cli import output, summary
from sentryfw.cli.answers import (
    ask,
    ask_stream_unprivileged,
    ask_unprivileged,
    collect,
    only,
)
from sentryfw.cli.arguments import Json, load_config, new_app
from sentryfw.config.model import Config
from sentryfw.errors import NoPrivilege, NotInstalled, NotRunning
from sentryfw.netfilter.table import Table
from sentryfw.query import blocks
from sentryfw.query.notices import notices
from sentryfw.query.summary import summary as in_short
from sentryfw.query.today import today
from sentryfw.record.events import timestamp
from sentryfw.text import local_time

QUEUES: Final = Path("/proc/net/netfilter/nfnetlink_queue")

PROC: Final = Path("/proc")

app = new_app()


@app.command("status")
def status_command(
    context: typer.Context,
    json: Json = False,
    all_: Annotated[bool, typer.Option("--all", help="Show every counter, too.")] = False,
) -> None:
    """Show whether it guards, and what needs attention. Ten lines, without --all."""
    state = status(load_config(context), Table())
    if json:
        output.print_json(state)
    elif all_:
        output.print_pairs(_dated(state), "SentryFW")
    else:
        output.print_lines(summary.lines(state), f"SentryFW {__version__}")
    raise typer.Exit(exit_code(state))


def status(config: Config, table: Table) -> dict[str, Any]:
    """Return the state of the table and of the daemon. Without CAP_NET_ADMIN the daemon answers for
    both."""
    try:
        kernel: Mapping[str, Any] = blocks.kernel_state(table)
        daemon = daemon_status(config)
        scans: Mapping[str, Any] | None = today(config.paths.ledger, midnight(), output.note)
    except NoPrivilege:
        control = config.paths.control
        kernel = only(control, ask_stream_unprivileged(control, {"do": "kernel"}))
        daemon = ask_unprivileged(config.paths.control, {"do": "status"})
        scans = _todays_scans(control)
    return {**_document(config, kernel, daemon), "notices": notices(config.paths, table),
            "today": scans,
            "summary": {**in_short(config, table, daemon, kernel["divert"])}}  # fmt: skip


def _document(
    config: Config, kernel: Mapping[str, Any], daemon: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "version": __version__,
        "installed": kernel["installed"],
        "daemon": "running" if daemon else "stopped",
        "pid": daemon.get("pid"),
        "started_at": _timestamp(daemon.get("started_at")),
        "memory_bytes": memory_bytes(daemon.get("pid")),
        "compiled": daemon.get("compiled", False),
        "divert": kernel["divert"],
        "divert_reason": kernel["divert_reason"],
        "mode": daemon.get("mode", config.detect.mode),
        "blocked4": kernel["blocked4"],
        "blocked6": kernel["blocked6"],
        "confined4": kernel["confined4"],
        "confined6": kernel["confined6"],
        "confine_paused": daemon.get("confine_paused", ""),
        "tracked_sources": daemon.get("tracked_sources", 0),
        "flood": daemon.get("flood", False),
        "counters": kernel["counters"],
        "engine": daemon.get("engine", {}),
        "queue": {
            **daemon.get("queue", {"number": config.queue.number}),
            "kernel": queue_counts(config.queue.number),
        },
        "overload": daemon.get("overload", {}),
        "lost_records": daemon.get("lost_records", 0),
        "unkept_probes": daemon.get("unkept_probes", 0),
        "faults": daemon.get("faults", {}),
        "reconciled": daemon.get("reconciled", {}),
        "healed": daemon.get("healed", {}),
        "never_block": daemon.get("never_block", {}),
        "reactions": daemon.get("reactions", {}),
        "decoys": daemon.get("decoys"),
        "metrics": daemon.get("metrics"),
        "reload": daemon.get("reload", {}),
    }


def queue_counts(number: int) -> dict[str, int]:
    """Return the kernel's counts of a queue, for root: packets that wait, and packets dropped
    because the queue (`dropped`) or the daemon's socket (`user_dropped`) was full. Empty if no
    process has bound the queue."""
    try:
        lines = QUEUES.read_text().splitlines()
    except OSError:
        return {}
    for fields in map(str.split, lines):
        if fields[0] == str(number):
            names = ("waiting", "dropped", "user_dropped")
            return dict(zip(names, map(int, (fields[2], fields[5], fields[6])), strict=True))
    return {}


def midnight() -> float:
    """Return when this day began, in seconds since the epoch, in this host's time zone."""
    return datetime.now().astimezone().replace(hour=0, minute=0, second=0).timestamp() // 1


def _timestamp(epoch: float | None) -> str | None:
    try:
        return None if epoch is None else timestamp(epoch)
    except (ValueError, OverflowError):  # the answer of a daemon that was taken over
        return None


def memory_bytes(pid: int | None) -> int | None:
    """Return the resident memory of a process; None if it cannot be read."""
    try:
        lines = (PROC / str(pid) / "status").read_text().splitlines()
    except OSError:
        return None
    sizes = (line.split()[1] for line in lines if line.startswith("VmRSS:"))
    return next((int(kib) * 1024 for kib in sizes), None)


def _todays_scans(control: Path) -> Mapping[str, Any] | None:
    found = collect(control, {"do": "today", "since": midnight()}, output.note)
    return found[-1] if found else None


def _dated(pairs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pairs with times in this host's zone in place of seconds since the epoch."""
    made: dict[str, Any] = {}
    for name, value in pairs.items():
        if isinstance(value, dict):
            made[name] = _dated(value)
        elif name in {"at", "last"} and isinstance(value, int | float):
            made[name] = local_time(value) if value else None
        else:
            made[name] = value
    return made


def exit_code(state: dict[str, Any]) -> int:
    """Return 0 if the daemon is running, 3 if it is not, 5 if nothing is installed."""
    if not state["installed"]:
        return NotInstalled.exit_code
    return 0 if state["daemon"] == "running" else NotRunning.exit_code


def daemon_status(config: Config) -> dict[str, Any]:
    """Return the daemon's own status; empty if it is not running."""
    try:
        return ask(config.paths.control, {"do": "status"})
    except NotRunning:
        return {}
