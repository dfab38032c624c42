"""status: what is there, what runs, what was counted."""

from pathlib import Path
from typing import Any, Final

from sentryfw import __version__, listing
from sentryfw.cli import remote
from sentryfw.config import Config
from sentryfw.control import ask
from sentryfw.errors import NoPrivilege, NotRunning
from sentryfw.netfilter.table import Table

QUEUES: Final = Path("/proc/net/netfilter/nfnetlink_queue")


def status(config: Config, table: Table) -> dict[str, Any]:
    """The state of table and daemon, from the kernel and, where it runs, the daemon; all of it
    from the daemon for who may not look at the kernel."""
    try:
        kernel = listing.kernel_state(table)
        daemon = of_daemon(config)
    except NoPrivilege:
        [kernel] = remote.ask_stream(config, {"do": "kernel"})
        daemon = remote.ask(config, {"do": "status"})
    return {
        "version": __version__,
        "installed": kernel["installed"],
        "daemon": "running" if daemon else "stopped",
        "pid": daemon.get("pid"),
        "compiled": daemon.get("compiled", False),
        "divert": kernel["divert"],
        "divert_reason": kernel["divert_reason"],
        "mode": config.detect.mode,
        "blocked4": kernel["blocked4"],
        "blocked6": kernel["blocked6"],
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
    """The kernel's own count of the queue, for root: what waits in it, and what was dropped
    because the queue or the daemon's socket was full. Empty without a daemon."""
    try:
        lines = QUEUES.read_text().splitlines()
    except OSError:
        return {}
    for fields in map(str.split, lines):
        if fields[0] == str(number):
            names = ("waiting", "dropped", "user_dropped")
            return dict(zip(names, map(int, (fields[2], fields[5], fields[6])), strict=True))
    return {}


def exit_code(state: dict[str, Any]) -> int:
    """As of a service: 0 it runs, 3 it does not, 5 there is nothing installed."""
    if not state["installed"]:
        return 5
    return 0 if state["daemon"] == "running" else 3


def of_daemon(config: Config) -> dict[str, Any]:
    """What the daemon says of itself; nothing where it does not run."""
    try:
        return ask(config.paths.control, {"do": "status"})
    except NotRunning:
        return {}
