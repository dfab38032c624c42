"""Raw-socket scanners with their defaults, run on the attacker's host: the ports that they find."""

import re
import signal
from collections.abc import Callable
from typing import Final

from support.lab import ATTACKER, INTERFACE, Lab

ATTEMPTS: Final = 3

Scan = Callable[[Lab, str, tuple[int, ...]], set[int]]
"""A scan of some ports of one address."""


def nmap(lab: Lab, target: str, ports: tuple[int, ...], option: str = "-sS") -> set[int]:
    """Return the open ports that nmap finds; `option`: the kind of scan."""
    six = ["-6", "-S", ATTACKER[6], "-e", INTERFACE] if ":" in target else []
    said = _run(lab, "nmap", "-n", "-Pn", option, "-p", _join(ports), "-oG", "-", *six, target)
    assert "1 host up" in said, said
    return {int(port) for port in re.findall(r"(\d+)/open/", said)}


def masscan(lab: Lab, target: str, ports: tuple[int, ...]) -> set[int]:
    """Return the open ports that masscan finds."""
    source = ATTACKER[6 if ":" in target else 4]
    said = _run(
        lab, "masscan", f"-p{_join(ports)}", "--interface", INTERFACE, "--adapter-ip", source,
        "--router-mac", _router(lab), "--wait", "2", target,
    )  # fmt: skip
    return {int(port) for port in re.findall(r"open port (\d+)/tcp", said)}


def zmap(lab: Lab, target: str, ports: tuple[int, ...]) -> set[int]:
    """Return the open ports that zmap finds, in a run for each port; IPv4 only."""
    command = (
        "-i", INTERFACE, "-G", _router(lab), "-S", ATTACKER[4], "-c", "1", "-q", "-b", "/dev/null",
        "-o", "-", target,
    )  # fmt: skip
    return {port for port in ports if target in _run(lab, "zmap", "-p", str(port), *command)}


SCANNERS: Final[tuple[tuple[str, Scan, int], ...]] = (
    ("nmap-ipv4", nmap, 4),
    ("nmap-ipv6", nmap, 6),
    ("masscan-ipv4", masscan, 4),
    ("masscan-ipv6", masscan, 6),
    ("zmap", zmap, 4),
)
"""Name, scanner and family."""


def _run(lab: Lab, *command: str) -> str:
    """Run a scanner to its end; return its output.

    zmap 2.1.1 fails an assertion of its own now and then (constraint.c:231).
    """
    for _ in range(ATTEMPTS):
        done = lab.attacker.run(*command)
        if done.returncode != -signal.SIGABRT:
            break
    assert done.returncode == 0, f"{done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def _join(ports: tuple[int, ...]) -> str:
    return ",".join(map(str, ports))


def _router(lab: Lab) -> str:
    """Return the victim's MAC address."""
    return lab.ether[:6].hex(":")
