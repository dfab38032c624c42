"""Measure listed services: an HTTP server (nginx) and its clients (wrk), with and without SentryFW.

Three equal hosts: no firewall, SentryFW, and a drop rule after `ct state established accept`, as in
a plain host firewall. They are measured in turns, idle and under floods of fixed rates, whose
packets are counted at both ends: the same flood on both sides, or nothing can be compared. The
idle cost is compared with both: without a firewall there is no connection tracking either.
"""

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple

from bench.build import PEERS
from bench.figures import Figure, noted, share_of, spread_of
from bench.frames import syn
from bench.lab import FIRST_CPU, LAST_CPU, VICTIM, Daemon, Lab, counter, stop_sending, wait_for
from bench.latency import SPOOFED
from bench.peers import NONE, US, inside

BARE: Final = "bare drop"
FLOODS: Final = {
    "50,000 SYNs/s": 50_000,
    "100,000 SYNs/s": 100_000,
    "200,000 SYNs/s": 200_000,
    "the sender's most": 0,
}
"""SYNs a second of new sources; 0: as fast as the sender can."""
COUNTERS: Final = {US: "sentryfw", BARE: "purenft"}
"""The table of each host whose counter `judged` has the flood's packets."""
SETTLE_S: Final = 2.0
"""Seconds from the begin of a flood to the measurement: what changes at its begin has changed."""
SERVER_CPU: Final = str(FIRST_CPU)
"""The core of the server, on which the flood arrives, too."""
CLIENT_CPU: Final = str(LAST_CPU)
"""The core of its clients: left to the scheduler, the rates of one host differed by a third."""
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
            found += _compare(mode, unit, hosts, {NONE: 0, BARE: 1.0}, runs, seconds)
        for mode, unit in (("connections", "conn/s"), ("throughput", "MiB/s")):
            for flood in FLOODS:
                found += _compare(
                    mode, unit, flooded, {BARE: 1.0}, -(-runs // 2), min(seconds, 2), flood
                )
    return found


def _host(stack: ExitStack, name: str) -> Host:
    lab = stack.enter_context(Lab())
    for here in (lab.victim, lab.attacker):
        lab.sysctl(here, "net.ipv4.ip_local_port_range", "1024 65000")
        lab.sysctl(here, "net.ipv4.tcp_tw_reuse", 1)
        lab.sysctl(here, "net.ipv4.tcp_max_syn_backlog", 8192)
    bulk = f"head -c {BULK_BYTES} /dev/zero > /srv/bulk"
    serve = f"{bulk}; exec taskset -c {SERVER_CPU} nginx -c /etc/nginx/bench.conf"
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
    flood: str = "",
) -> list[Figure]:
    """Measure the hosts in turns and compare ours with the others; a goal of 0 is none.

    `flood`: one of FLOODS.
    """
    rates: dict[str, list[float]] = {host.name: [] for host in hosts}
    tails: dict[str, list[float]] = {host.name: [] for host in hosts}
    floods: dict[str, list[Flood]] = {host.name: [] for host in hosts}
    for number in range(runs):
        for host in hosts if number % 2 else hosts[::-1]:
            with _flooded(host, flood, floods[host.name]):
                rate, tail = _load(host.lab, mode, seconds)
            rates[host.name].append(rate)
            tails[host.name].append(tail)
    where = f"flood of {flood}" if flood else "idle"
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
        if flood:
            found.append(_counted(flood, floods))
    return found


class Flood(NamedTuple):
    """Packets of a flood at both ends, and how long it lasted."""

    sent: float
    arrived: int
    seconds: float


@contextmanager
def _flooded(host: Host, flood: str, counts: list[Flood]) -> Iterator[None]:
    """Send a flood within the context, and append its counts."""
    if not flood:
        yield
        return
    lab = host.lab
    frames = lab.frames("flood", [syn(SPOOFED, 7000 + number) for number in range(64)])
    before = counter(lab.victim, COUNTERS[host.name], "judged")
    sending = lab.start_sending(
        frames, "--rate", FLOODS[flood], "--spoof", SPOOFED, "--seconds", 99
    )
    time.sleep(SETTLE_S)
    yield
    done = stop_sending(sending)
    arrived = counter(lab.victim, COUNTERS[host.name], "judged") - before
    counts.append(Flood(done["sent"], arrived, done["seconds"]))


def _counted(flood: str, floods: dict[str, list[Flood]]) -> Figure:
    """Return the rate that arrived at each host, and how much of what was sent that is."""
    rates = {
        name: sum(f.arrived for f in counts) / sum(f.seconds for f in counts)
        for name, counts in floods.items()
    }
    shares = {
        name: sum(f.arrived for f in counts) / sum(f.sent for f in counts)
        for name, counts in floods.items()
    }
    arrived = ", ".join(f"{name} {100 * share:.1f} %" for name, share in shares.items())
    ours = rates.pop(US)
    figure = noted(
        f"flood of {flood}, arrived", ours, "packets/s", f"of those sent: {arrived}", rates
    )
    return figure._replace(ratio=ours / rates[BARE])


def _load(lab: Lab, mode: str, seconds: float) -> tuple[float, float]:
    """Return requests (or MiB) a second, and the 99th percentile of their time in ms."""
    command = [
        "taskset", "-c", CLIENT_CPU,
        "wrk", "-t1", f"-c{CONNECTION_COUNT}", f"-d{seconds:g}s", "--latency", *MODES[mode],
    ]  # fmt: skip
    done = lab.attacker.run(*inside("http", *command), timeout=seconds + 60)
    rate, tail = _RATE.search(done.stdout), _P99.search(done.stdout)
    assert rate, done.stdout + done.stderr
    assert tail, done.stdout + done.stderr
    factor = BULK_BYTES / (1 << 20) if mode == "throughput" else 1
    return float(rate[1]) * factor, float(tail[1]) * _MILLISECONDS[tail[2]]
