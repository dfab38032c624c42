"""doctor: the requirements of SentryFW, what is missing, and how to get it."""

import itertools
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import typer

from sentryfw.cli import output
from sentryfw.cli.arguments import Json, load_config, new_app
from sentryfw.cli.commands.status import daemon_status
from sentryfw.config.model import Config
from sentryfw.config.types import matches
from sentryfw.errors import SentryError, Unsupported
from sentryfw.netfilter import features
from sentryfw.netfilter.libnftables import Libnftables
from sentryfw.netfilter.packet_queue import require_library
from sentryfw.netfilter.table import Table
from sentryfw.netlink.links import Link, links
from sentryfw.origin.origins import Origins
from sentryfw.query import conntrack_room, neighbours, saved_ruleset
from sentryfw.query.notices import control_notices

SYSCTL: Final = Path("/proc/sys/net")
BRIDGE_FILTERS: Final = ("bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables")
FORWARDING: Final = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")

BRIDGED_UNSEEN: Final = (
    "packets that are bridged from port to port are neither judged nor blocked; packets that are"
    " routed or meant for this host are. Blocks apply to bridged packets with br_netfilter:"
    " net.bridge.bridge-nf-call-iptables = 1, and bridge-nf-call-ip6tables"
)
BRIDGED_AS_ROUTED: Final = (
    "br_netfilter shows bridged packets as routed, with this interface for both sides: with"
    " watch.forward connections from inside are judged, too. Do not watch this bridge, or route"
    " instead"
)
ANYBODY: Final = "192.0.2.1"
"""An address to look up, which shows whether a database is broken."""
CONNTRACK_LOOSE: Final = Path("/proc/sys/net/netfilter/nf_conntrack_tcp_loose")

app = new_app()


class Check(NamedTuple):
    """The result of one check."""

    check: str
    state: str
    """ok, info, warn or fail."""
    detail: str


@app.command("doctor")
def doctor_command(context: typer.Context, json: Json = False) -> None:
    """Check what SentryFW needs. Reports what is missing and how to get it."""
    checks = doctor(load_config(context))
    rows = [check._asdict() for check in checks]
    if json:
        output.print_json(rows)
    else:
        output.print_rows(rows, Check._fields, "SentryFW doctor")
    raise typer.Exit(health(checks))


def doctor(config: Config) -> list[Check]:
    """Check every requirement; one that fails does not prevent the others."""
    parts = (
        _library(),
        _kernel(),
        _installation(config),
        _system(),
        _network(config),
        _origins(config),
    )
    return [*itertools.chain.from_iterable(parts), *_neighbours(config)]


def health(checks: list[Check]) -> int:
    """Return the exit code: 6 if the system lacks something, else 0."""
    return Unsupported.exit_code if any(check.state == "fail" for check in checks) else 0


def _library() -> Iterator[Check]:
    try:
        version = Libnftables().run("describe tcp dport") and _nft_version()
        yield Check("libnftables", "ok", version)
    except SentryError as error:
        yield Check("libnftables", "fail", str(error))
    try:
        require_library()
        yield Check("libnetfilter_queue", "ok", "loads")
    except SentryError as error:
        yield Check("libnetfilter_queue", "fail", str(error))


def _nft_version() -> str:
    nft = shutil.which("nft")
    if nft is None:
        return "the library is installed; nft(8) is not, and is not needed"
    done = subprocess.run([nft, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _kernel() -> Iterator[Check]:
    found = features.probe()
    for feature in found:
        optional = feature.name in {"queue statement", "xt NFQUEUE target"}
        bad = "info" if optional else "fail"
        yield Check(
            feature.name, "ok" if feature.present else bad, f"{feature.option}: {feature.detail}"
        )
    try:
        way, reason = features.pick_divert(found)
        yield Check("divert", "ok", f"{way}: {reason}")
    except Unsupported as error:
        yield Check("divert", "fail", str(error))


def _installation(config: Config) -> Iterator[Check]:
    table = Table()
    for text in control_notices(config.paths, table):
        yield Check("control", "warn", text)
    try:
        installed = table.is_installed()
    except SentryError as error:
        yield Check("table", "fail", str(error))
        return
    finally:
        table.close()
    if installed:
        yield Check("table", "ok", "table inet sentryfw is installed")
    else:
        yield Check("table", "warn", "not installed: run `sentryfw install`")
    running = daemon_status(config)
    if running:
        yield Check("daemon", "ok", f"running, pid {running['pid']}")
    else:
        yield Check("daemon", "warn", "not running: no packet is judged, and unlisted ports answer")
    if running.get("queue", {}).get("failures"):
        yield Check("queue", "warn", f"{running['queue']['failures']} packets passed unjudged")


def _system() -> Iterator[Check]:
    yield _conntrack()
    if shutil.which("nmap") is None:
        yield Check("nmap", "info", "not found: `sentryfw drill` forges its scans")
    for path in saved_ruleset.find():
        yield Check("saved ruleset", "warn", saved_ruleset.warning(path))


def _conntrack() -> Check:
    try:
        loose = CONNTRACK_LOOSE.read_text().strip()
    except OSError:
        return Check("conntrack", "warn", "nf_conntrack is not loaded; `sentryfw install` loads it")
    flows = conntrack_room.read()
    text = "" if flows is None else f", {flows.tracked} of {flows.limit} flows"
    warning = conntrack_room.warning(flows)
    return Check(
        "conntrack", "warn" if warning else "ok",
        warning or f"loaded, nf_conntrack_tcp_loose={loose}{text}",
    )  # fmt: skip


def _origins(config: Config) -> Iterator[Check]:
    """Check the files that say where sources come from."""
    origins = Origins.of_config(config)
    origins.of(ANYBODY)
    for path, database in origins.databases().items():
        built = time.strftime("%Y-%m-%d", time.gmtime(database.built))
        yield Check("origins", "ok", f"{path}: {database.kind}, built on {built}")
    for fault in origins.faults:
        yield Check("origins", "warn", fault)


def _neighbours(config: Config) -> Iterator[Check]:
    """Warn of services and rules whose clients would look like scanners."""
    try:
        ruleset = Libnftables().run("list ruleset", json_output=True)
    except SentryError:
        ruleset = ""  # _library() reports why
    for found in neighbours.find(config, ruleset):
        yield Check(found.check, "warn", f"{found.detail} (docs/false-alarms.md)")


# --- the network


def _network(config: Config) -> Iterator[Check]:
    """Check for networks whose packets SentryFW does not see."""
    present = links()
    for pattern in config.watch.interfaces:
        yield from _watched(pattern, present)
    yield from _zones(config, present)
    yield from _bridges(config, present)
    yield from _routing(config)


def _watched(pattern: str, present: list[Link]) -> Iterator[Check]:
    matching = [link for link in present if matches(link.name, [pattern])]
    if not matching:
        yield Check(
            "interface",
            "info",
            f"{pattern}: no such interface at present; it is watched as soon as it appears",
        )
    for link in matching:
        if not link.master:
            yield Check("interface", "ok", f"{link.name} is watched")
            continue
        fault = f"{link.name} is a port of {link.master}, the interface its packets arrive on"
        yield Check("interface", "warn", f"{fault}: write {link.master} into watch.interfaces")


def _zones(config: Config, present: list[Link]) -> Iterator[Check]:
    """Check which interfaces each zone has; check_zones() has seen that none is in two."""
    for zone in config.named_zones():
        for pattern in zone.interfaces:
            if not any(matches(link.name, [pattern]) for link in present):
                fault = f"{zone.name}: {pattern}: no such interface at present"
                yield Check("zone", "info", f"{fault}; it is judged as soon as it appears")
        found = [link for link in present if matches(link.name, zone.interfaces)]
        for port in (link for link in found if link.master):
            fault = f"{zone.name}: {port.name} is a port of {port.master}, the interface its"
            yield Check("zone", "warn", f"{fault} packets arrive on: write {port.master} instead")
        own = [link.name for link in found if not link.master]
        if own:
            yield Check("zone", "ok", f"{zone.name}: {', '.join(own)}")


def _bridges(config: Config, present: list[Link]) -> Iterator[Check]:
    shown = any(_is_on(name) for name in BRIDGE_FILTERS)
    for bridge in (link.name for link in present if link.kind == "bridge"):
        if sum(link.master == bridge for link in present) < 2:
            continue  # nothing is bridged by it
        if not shown:
            yield Check("bridge", "info", f"{bridge}: {BRIDGED_UNSEEN}")
        elif config.watch.forward and matches(bridge, config.watch.interfaces):
            yield Check("bridge", "warn", f"{bridge}: {BRIDGED_AS_ROUTED}")
        else:
            yield Check("bridge", "ok", f"{bridge}: blocks apply to bridged packets")


def _routing(config: Config) -> Iterator[Check]:
    routes = any(_is_on(name) for name in FORWARDING)
    if config.watch.forward and not routes:
        yield Check(
            "forward",
            "warn",
            "watch.forward is set, but this host does not route (ip_forward = 0)",
        )
    elif routes and not config.watch.forward:
        yield Check(
            "forward",
            "info",
            "this host routes; packets to hosts behind it are judged with watch.forward",
        )
    elif routes:
        yield Check("forward", "ok", "packets to hosts behind this one are judged")


def _is_on(name: str) -> bool:
    try:
        return (SYSCTL / name).read_text().strip() != "0"
    except OSError:  # no IPv6, no br_netfilter
        return False
