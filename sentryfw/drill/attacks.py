"""The attacks: real nmap, or the same scans forged with scapy where nmap is missing."""

import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from sentryfw.engine.model import Kind
from sentryfw.errors import SentryError
from sentryfw.netns import Namespace

PORTS: Final = range(1, 101)
"""What is scanned: the listed port 80 is among them."""
SCAN_PATIENCE: Final = 120.0


class Attack(NamedTuple):
    """One of nmap's scans, and what it is to be recognised as."""

    option: str
    kind: Kind
    flags: str
    """TCP flags in scapy's letters; "" for none, "udp" and "connect" for what has none."""


ATTACKS: Final = (
    Attack("-sS", "syn", "S"),
    Attack("-sT", "syn", "connect"),
    Attack("-sF", "fin", "F"),
    Attack("-sN", "null", ""),
    Attack("-sX", "xmas", "FPU"),
    Attack("-sM", "maimon", "FA"),
    Attack("-sA", "ack", "A"),
    Attack("-sU", "udp", "udp"),
)


def nmap_is_there() -> bool:
    return shutil.which("nmap") is not None


def scan_with_nmap(attacker: Namespace, attack: Attack, target: str) -> None:
    """Real nmap, as fast as it likes."""
    family = ["-6"] if ":" in target else []
    command = [
        "nmap", *family, "-n", "-Pn", attack.option, "-p", f"{PORTS[0]}-{PORTS[-1]}",
        "-T4", "--max-retries", "0", "--max-rtt-timeout", "200ms", target,
    ]  # fmt: skip
    try:
        done = attacker.run(*command, timeout=SCAN_PATIENCE)
    except subprocess.TimeoutExpired:
        raise SentryError(f"{' '.join(command)}: not done in {SCAN_PATIENCE:g} s") from None
    if done.returncode:
        raise SentryError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")


def scan_with_scapy(attacker: Namespace, attack: Attack, source: str, target: str) -> None:
    """The same probes, forged; a connect scan is what it is, by connect(2)."""
    if attack.flags == "connect":
        attacker.call(lambda: _connect_scan(source, target))
        return
    packets = list(_forge(attack, source, target))
    attacker.call(lambda: _send(packets, target))


def _connect_scan(source: str, target: str) -> None:
    """As nmap -sT: a connection that is made is reset at once."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    for port in PORTS:
        with socket.socket(family, socket.SOCK_STREAM) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.setblocking(False)
            client.bind((source, 0))
            client.connect_ex((target, port))
            time.sleep(0.002)


def _forge(attack: Attack, source: str, target: str) -> Iterator[bytes]:
    from scapy.layers.inet import IP, TCP, UDP  # noqa: PLC0415 - 200 ms, only where needed
    from scapy.layers.inet6 import IPv6  # noqa: PLC0415

    network: Any = IPv6 if ":" in target else IP
    for port in PORTS:
        transport: Any
        if attack.flags == "udp":
            transport = UDP(sport=40000, dport=port)
        else:
            transport = TCP(sport=40000, dport=port, flags=attack.flags, seq=port, window=1024)
        yield bytes(network(src=source, dst=target) / transport)


def _send(packets: list[bytes], target: str) -> None:
    """Whole IP packets: raw(7) for IPv4, an IPv6 socket with its header included (ipv6(7))."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        for packet in packets:
            sock.sendto(packet, (target, 0))
            time.sleep(0.002)
