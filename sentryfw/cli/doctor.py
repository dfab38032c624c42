"""doctor: what SentryFW needs, what is missing, and how to get it."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from sentryfw.cli.network import findings
from sentryfw.cli.status import of_daemon
from sentryfw.config import Config
from sentryfw.errors import SentryError, Unsupported
from sentryfw.netfilter import features
from sentryfw.netfilter.libnftables import Libnftables
from sentryfw.netfilter.queue import require_library
from sentryfw.netfilter.table import Table

CONNTRACK_LOOSE: Final = Path("/proc/sys/net/netfilter/nf_conntrack_tcp_loose")


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
    running = of_daemon(config)
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
