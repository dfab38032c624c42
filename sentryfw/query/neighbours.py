"""Services without a plain socket, and port knocking, on this host: for `doctor`.

IPVS takes packets after we have judged them, SCTP has no socket lookup in nft, knockd reads from
the wire, and knocking rules of nft remember a source at ports that nothing listens at. Without a
line in the configuration their clients look like scanners.

See docs/false-alarms.md.
"""

import json
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, NamedTuple

from sentryfw.config.model import Config
from sentryfw.config.types import PortRange
from sentryfw.netfilter.schema import TABLE

PROC: Final = Path("/proc")
KNOCKD: Final = "knockd"
_MAX_NAMED: Final = 10
"""Ports that a finding names."""


class Neighbour(NamedTuple):
    """Something on this host whose clients need a line in the configuration."""

    check: str
    detail: str


class HiddenService(NamedTuple):
    """A port at which something receives that no socket shows."""

    protocol: str
    port: int


def find(config: Config, ruleset: str, proc: Path = PROC) -> Iterator[Neighbour]:
    """Yield what needs a line. `ruleset`: nft's JSON of all tables; empty if it cannot be read."""
    yield from _missing(config, "ipvs", ipvs(proc), "IPVS takes its packets after us")
    yield from _missing(config, "sctp", sctp(proc), "nft cannot look SCTP's sockets up")
    if knockd_runs(proc):
        text = "knockd runs: list the ports of its sequences, or who knocks is blocked:"
        yield Neighbour("knockd", f"{text} watch.listed_tcp = [7000, 8000]")
    why = "rules of other tables remember who probes there, and we judge before them"
    yield from _missing(config, "knocking", knocking(ruleset), why)


def _missing(
    config: Config, check: str, services: Iterable[HiddenService], why: str
) -> Iterator[Neighbour]:
    """Yield one finding for each protocol whose ports are not all listed by hand."""
    listed: dict[str, tuple[PortRange, ...]] = {
        "tcp": config.watch.listed_tcp,
        "udp": config.watch.listed_udp,
        "sctp": config.watch.listed_sctp,
    }
    found = sorted(set(services))
    for protocol, ranges in listed.items():
        ports = [
            service.port
            for service in found
            if service.protocol == protocol
            and not any(first <= service.port <= last for first, last in ranges)
        ]
        if ports:
            named = ", ".join(map(str, ports[:_MAX_NAMED]))
            yield Neighbour(check, f"{why}: watch.listed_{protocol} = [{named}]")


def ipvs(proc: Path = PROC) -> Iterator[HiddenService]:
    """Yield the virtual services of IPVS; those by firewall mark have no port.

    A line of /proc/net/ip_vs: TCP  C6120001:0050 rr, or TCP  [2001:...]:0050 rr.
    """
    for line in _lines(proc / "net" / "ip_vs"):
        words = line.split()
        if len(words) > 1 and words[0] in ("TCP", "UDP", "SCTP"):
            address, _, port = words[1].rpartition(":")
            if address and _is_hex(port):
                yield HiddenService(words[0].lower(), int(port, 16))


def sctp(proc: Path = PROC) -> Iterator[HiddenService]:
    """Yield the listening SCTP endpoints.

    A line of /proc/net/sctp/eps: ENDPT SOCK STY SST HBKT LPORT UID INODE LADDRS; 10 is listening.
    """
    for line in _lines(proc / "net" / "sctp" / "eps"):
        words = line.split()
        is_listening = len(words) > 8 and words[3] == "10" and words[5].isdecimal()
        if is_listening and not all(map(_is_loopback, words[8:])):
            yield HiddenService("sctp", int(words[5]))


def knockd_runs(proc: Path = PROC) -> bool:
    """Return whether a process is called knockd."""
    names = (line for path in proc.glob("[0-9]*/comm") for line in _lines(path))
    return KNOCKD in names


def knocking(ruleset: str) -> Iterator[HiddenService]:
    """Yield the ports at which a rule of another table adds the source to a set."""
    try:
        items = json.loads(ruleset)["nftables"] if ruleset else []
    except (ValueError, KeyError, TypeError):
        return
    rules = (item["rule"] for item in items if isinstance(item, dict) and "rule" in item)
    for rule in rules:
        expressions = rule.get("expr", [])
        if rule.get("table") != TABLE and any(map(_remembers_source, expressions)):
            yield from (service for part in expressions for service in _ports(part))


def _remembers_source(expression: dict[str, Any]) -> bool:
    added = expression.get("set")
    return isinstance(added, dict) and added.get("op") in ("add", "update") and (
        "saddr" in json.dumps(added.get("elem"))
    )  # fmt: skip


def _ports(expression: dict[str, Any]) -> Iterator[HiddenService]:
    match = expression.get("match", {})
    left = match.get("left", {}).get("payload", {}) if isinstance(match.get("left"), dict) else {}
    if left.get("field") != "dport" or match.get("op") not in ("==", "in"):
        return
    protocols = ("tcp", "udp") if left["protocol"] == "th" else (left["protocol"],)
    right = match["right"]
    for port in right["set"] if isinstance(right, dict) and "set" in right else [right]:
        if isinstance(port, int):
            yield from (HiddenService(protocol, port) for protocol in protocols)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:  # the kernel has no such module, or the process has ended
        return []


def _is_hex(text: str) -> bool:
    return 0 < len(text) <= 4 and all(char in "0123456789abcdefABCDEF" for char in text)


def _is_loopback(text: str) -> bool:
    try:
        return ip_address(text.lstrip("*")).is_loopback
    except ValueError:
        return False
