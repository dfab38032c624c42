"""The attacks: scans by nmap, or the same scans forged by us if nmap is not installed."""

import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

from sentryfw.engine.model import Kind
from sentryfw.errors import SentryError
from sentryfw.tools.drill import forge
from sentryfw.tools.drill.namespace import Namespace

LISTED_PORT: Final = 80
PORTS: Final = range(1, 101)
"""The scanned ports, with the listed port."""
SCAN_TIMEOUT_S: Final = 120.0
PROBE_INTERVAL_S: Final = 0.002
"""Seconds between two probes of a forged scan."""


class Attack(NamedTuple):
    """A scan of nmap, and the kind of probe that the engine has to recognise."""

    option: str
    name: str
    kind: Kind
    flags: str
    """TCP flags in letters of FSRPAU, "" for none; or "udp" or "connect"."""


ATTACKS: Final = (
    Attack("-sS", "SYN", "syn", "S"),
    Attack("-sT", "connect", "syn", "connect"),
    Attack("-sF", "FIN", "fin", "F"),
    Attack("-sN", "NULL", "null", ""),
    Attack("-sX", "Xmas", "xmas", "FPU"),
    Attack("-sM", "Maimon", "maimon", "FA"),
    Attack("-sA", "ACK", "ack", "A"),
    Attack("-sU", "UDP", "udp", "udp"),
)


def tool(*, forge: bool) -> str:
    """Return the program that attacks: nmap, or our own forged packets if
    these are wanted or nmap is not in PATH."""
    return "forged packets" if forge or shutil.which("nmap") is None else "nmap"


def scan_with_nmap(attacker: Namespace, attack: Attack, target: str) -> None:
    """Scan with nmap. Raise SentryError if it fails or takes too long."""
    family = ["-6"] if ":" in target else []
    command = [
        "nmap", *family, "-n", "-Pn", attack.option, "-p", f"{PORTS[0]}-{PORTS[-1]}",
        "-T4", "--max-retries", "0", "--max-rtt-timeout", "200ms", target,
    ]  # fmt: skip
    try:
        done = attacker.run(*command, timeout=SCAN_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise SentryError(f"{' '.join(command)}: timed out after {SCAN_TIMEOUT_S:g} s") from None
    if done.returncode:
        raise SentryError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")


def scan_forged(attacker: Namespace, attack: Attack, source: str, target: str) -> None:
    """Send the probes of a scan, forged; a connect scan uses connect(2)."""
    if attack.flags == "connect":
        attacker.call(lambda: _connect_scan(source, target))
        return
    packets = list(_forge(attack, source, target))
    attacker.call(lambda: _send(packets, target))


def _connect_scan(source: str, target: str) -> None:
    """Connect as nmap -sT does: an established connection is reset at once."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    for port in PORTS:
        with socket.socket(family, socket.SOCK_STREAM) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.setblocking(False)
            client.bind((source, 0))
            client.connect_ex((target, port))
            time.sleep(PROBE_INTERVAL_S)


def _forge(attack: Attack, source: str, target: str) -> Iterator[bytes]:
    for port in PORTS:
        if attack.flags == "udp":
            yield forge.udp(source, target, port)
        else:
            yield forge.tcp(source, target, port, attack.flags)


def _send(packets: list[bytes], target: str) -> None:
    """Send whole IP packets: raw(7) for IPv4, an IPv6 socket with the header included (ipv6(7))."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        for packet in packets:
            sock.sendto(packet, (target, 0))
            time.sleep(PROBE_INTERVAL_S)
