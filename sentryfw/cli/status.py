"""status and doctor: what is there, what runs, what is missing."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from sentryfw import __version__, listing
from sentryfw.cli import remote
from sentryfw.cli.network import findings
from sentryfw.config import Config
from sentryfw.control import ask
from sentryfw.errors import NoPrivilege, NotRunning, SentryError, Unsupported
from sentryfw.netfilter import features
from sentryfw.netfilter.libnftables import Libnftables
from sentryfw.netfilter.queue import require_library
from sentryfw.netfilter.table import Table

QUEUES: Final = Path("/proc/net/netfilter/nfnetlink_queue")
CONNTRACK_LOOSE: Final = Path("/proc/sys/net/netfilter/nf_conntrack_tcp_loose")


def status(config: Config, table: Table) -> dict[str, Any]:
    """The state of table and daemon, from the kernel and, where it runs, the daemon; all of it
    from the daemon for who may not look at the kernel."""
    try:
        kernel = listing.kernel_state(table)
        daemon = _daemon(config)
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


def _daemon(config: Config) -> dict[str, Any]:
    try:
        return ask(config.paths.control, {"do": "status"})
    except NotRunning:
        return {}


class Finding(NamedTuple):
    """One thing that doctor looked at."""

    check: str
    state: str
    """ok, info, warn or fail."""
    detail: str


def doctor(config: Config) -> list[Finding]:
    """Everything that SentryFW needs, each looked at by itself."""
    network = (Finding(*row) for row in findings(config))
    return [*_library(), *_kernel(), *_installation(config), *_system(), *network]


def _library() -> Iterator[Finding]:
    try:
        version = Libnftables().run("describe tcp dport") and _nft_version()
        yield Finding("libnftables", "ok", version)
    except SentryError as error:
        yield Finding("libnftables", "fail", str(error))
    try:
        require_library()
        yield Finding("libnetfilter_queue", "ok", "loads")
    except SentryError as error:
        yield Finding("libnetfilter_queue", "fail", str(error))


def _nft_version() -> str:
    nft = shutil.which("nft")
    if nft is None:
        return "the library is there; nft(8) is not, which is no fault"
    done = subprocess.run([nft, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _kernel() -> Iterator[Finding]:
    found = features.probe()
    for feature in found:
        optional = feature.name in {"queue statement", "xt NFQUEUE target"}
        bad = "info" if optional else "fail"
        yield Finding(
            feature.name, "ok" if feature.present else bad, f"{feature.option}: {feature.detail}"
        )
    try:
        way, reason = features.pick_divert(found)
        yield Finding("divert", "ok", f"{way}: {reason}")
    except Unsupported as error:
        yield Finding("divert", "fail", str(error))


def _installation(config: Config) -> Iterator[Finding]:
    table = Table()
    try:
        installed = table.is_installed()
    except SentryError as error:
        yield Finding("table", "fail", str(error))
        return
    finally:
        table.close()
    if installed:
        yield Finding("table", "ok", "table inet sentryfw is installed")
    else:
        yield Finding("table", "warn", "not installed: run `sentryfw install`")
    running = _daemon(config)
    if running:
        yield Finding("daemon", "ok", f"running, pid {running['pid']}")
    else:
        yield Finding("daemon", "warn", "not running: nothing is judged, unlisted ports are open")
    if running.get("queue", {}).get("failures"):
        yield Finding("queue", "warn", f"{running['queue']['failures']} packets went unjudged")


def _system() -> Iterator[Finding]:
    try:
        loose = CONNTRACK_LOOSE.read_text().strip()
    except OSError:
        yield Finding("conntrack", "warn", "nf_conntrack is not loaded yet; install loads it")
        return
    yield Finding("conntrack", "ok", f"loaded, nf_conntrack_tcp_loose={loose}")
    if shutil.which("nmap") is None:
        yield Finding("nmap", "info", "not found: `sentryfw drill` forges its scans with scapy")


def health(findings: list[Finding]) -> int:
    """doctor's exit code: 6 where the system lacks something, else 0."""
    return Unsupported.exit_code if any(item.state == "fail" for item in findings) else 0
