"""Measure listed services: an HTTP server (nginx) and its clients (wrk), with and without SentryFW.

Three equal hosts: no firewall, SentryFW, and a drop rule after `ct state established accept`, as in
a plain host firewall. They are measured in turns, idle and under a flood of a fixed rate. The idle
cost is compared with both: without a firewall there is no connection tracking either.
"""

import re
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from bench.build import PEERS
from bench.figures import Figure, noted, share_of, spread_of
from bench.frames import syn
from bench.lab import VICTIM, Daemon, Lab, stop_sending, wait_for
from bench.latency import SPOOFED
from bench.peers import NONE, US, inside

BARE: Final = "bare drop"
FLOOD_PER_S: Final = 200_000
"""SYNs a second of new sources."""
CONNECTION_COUNT: Final = 32
BULK_BYTES: Final = 1 << 20
MODES: Final = {
    "connections": ("-H", "Connection: close", f"http://{VICTIM}/"),
    "throughput": (f"http://{VICTIM}/bulk",),
}
_RATE: Final = re.compile(r"^Requests/sec:\s+([\d.]+)", re.MULTILINE)
_P99: Final = re.compile(r"^\s+99%\s+([\d.]+)(us|ms|s)$", re.MULTILINE)
_MILLISECONDS: Final = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass
class Host:
    """A defended host with its server."""

    name: str
    lab: Lab


def figures(runs: int, seconds: float) -> list[Figure]:
    with ExitStack() as stack:
        hosts = [_host(stack, name) for name in (NONE, US, BARE)]
        flooded = hosts[1:]
        found = []
        for mode, unit in (("connections", "conn/s"), ("throughput", "MiB/s")):
            found += _compare(mode, unit, hosts, {NONE: 0.98, BARE: 0}, runs, seconds, flood=False)
        for mode, unit in (("connections", "conn/s"), ("throughput", "MiB/s")):
            found += _compare(mode, unit, flooded, {BARE: 0.95}, runs, seconds, flood=True)
    return found


def _host(stack: ExitStack, name: str) -> Host:
    lab = stack.enter_context(Lab())
    for here in (lab.victim, lab.attacker):
        lab.sysctl(here, "net.ipv4.ip_local_port_range", "1024 65000")
        lab.sysctl(here, "net.ipv4.tcp_tw_reuse", 1)
        lab.sysctl(here, "net.ipv4.tcp_max_syn_backlog", 8192)
    serve = f"head -c {BULK_BYTES} /dev/zero > /srv/bulk; exec nginx -c /etc/nginx/bench.conf"
    lab.victim.popen(inside("http", "/bin/sh", "-c", serve), stdout=None, stderr=None)
    wait_for(lambda: _is_listening(lab), "nginx listens")
    if name == US:
        stack.enter_context(Daemon(lab))
    elif name == BARE:
        lab.nft(lab.victim, (PEERS / "nft" / "drop.nft").read_text())
    return Host(name, lab)


def _is_listening(lab: Lab) -> bool:
    return ":80 " in lab.victim.run("ss", "-Hltn").stdout


def _compare(
    mode: str,
    unit: str,
    hosts: list[Host],
    goals: dict[str, float],
    runs: int,
    seconds: float,
    *,
    flood: bool,
) -> list[Figure]:
    """Measure the hosts in turns and compare ours with the others; a goal of 0 is none."""
    rates: dict[str, list[float]] = {host.name: [] for host in hosts}
    tails: dict[str, list[float]] = {host.name: [] for host in hosts}
    for number in range(runs):
        for host in hosts if number % 2 else hosts[::-1]:
            rate, tail = _load(host.lab, mode, seconds, flood=flood)
            rates[host.name].append(rate)
            tails[host.name].append(tail)
    where = "under flood" if flood else "idle"
    found = [
        share_of(f"HTTP {mode}, {where}" + (f", of {of}" if not goal else ""), rates, unit, US, of,
                 goal)
        for of, goal in goals.items()
    ]  # fmt: skip
    if mode == "connections":
        medians = {name: sorted(values)[len(values) // 2] for name, values in tails.items()}
        ours = medians.pop(US)
        p99 = noted(f"HTTP p99 latency, {where}", ours, "ms", spread_of(tails[US]), medians)
        found.append(p99._replace(ratio=ours / medians[next(iter(goals))]))
    return found


def _load(lab: Lab, mode: str, seconds: float, *, flood: bool) -> tuple[float, float]:
    """Return requests (or MiB) a second, and the 99th percentile of their time in ms."""
    sending = None
    if flood:
        frames = lab.frames("flood", [syn(SPOOFED, 7000 + number) for number in range(64)])
        sending = lab.start_sending(
            frames, "--rate", FLOOD_PER_S, "--spoof", SPOOFED, "--seconds", 99
        )
        time.sleep(0.5)
    command = ["wrk", "-t1", f"-c{CONNECTION_COUNT}", f"-d{seconds:g}s", "--latency", *MODES[mode]]
    done = lab.attacker.run(*inside("http", *command), timeout=seconds + 60)
    if sending is not None:
        stop_sending(sending)
    rate, tail = _RATE.search(done.stdout), _P99.search(done.stdout)
    assert rate, done.stdout + done.stderr
    assert tail, done.stdout + done.stderr
    factor = BULK_BYTES / (1 << 20) if mode == "throughput" else 1
    return float(rate[1]) * factor, float(tail[1]) * _MILLISECONDS[tail[2]]
