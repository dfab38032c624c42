"""The lab's victim as a router: a network behind it, with one existing host."""

import socket
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, Final, Self

from sentryfw.tools.drill.namespace import Namespace, add_address, connect
from support.frames import SYN, tcp_frame
from support.lab import ATTACKER, INTERFACE, PREFIX, VICTIM, Lab

LAN: Final = "lan0"
BEHIND: Final = {4: "198.18.64.7", 6: "2001:2:64::7"}
NETWORK: Final = {4: "198.18.64.0/24", 6: "2001:2:64::/64"}
ROUTER: Final = {4: "198.18.64.1", 6: "2001:2:64::1"}
"""The victim's address in the network behind."""
PUBLISHED: Final = 8088
"""A port of the victim's own address that destination NAT sends to the host behind."""
SERVICE: Final = 80
"""Port of the service on the host behind."""
PUBLISH: Final = f"""
table inet published {{
    chain nat {{
        type nat hook prerouting priority dstnat;
        ip daddr {VICTIM[4]} tcp dport {PUBLISHED} dnat ip to {BEHIND[4]}:{SERVICE}
        ip6 daddr {VICTIM[6]} tcp dport {PUBLISHED} dnat ip6 to [{BEHIND[6]}]:{SERVICE}
    }}
}}
"""
"""Rules that publish a port as container engines do."""
OUTSIDE: Final = f'[watch]\ninterfaces = ["{INTERFACE}"]\n'
FORWARD: Final = f"""{OUTSIDE}forward = true
[[watch.listed_forward]]
to = ["{BEHIND[4]}", "{BEHIND[6]}"]
tcp = [{SERVICE}]
"""


class Router:
    """A lab, and the network behind its victim; closed with the lab's sockets."""

    def __init__(self, lab: Lab, interface: str = LAN) -> None:
        self.lab = lab
        self.behind = Namespace()
        self._seen: list[bytes] = []
        for host in (lab.victim, self.behind):  # link-local addresses are good at once
            host.run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
        connect(lab.victim, self.behind, (interface, INTERFACE))
        prefixes = {4: 24, 6: 64}
        for family, prefix in prefixes.items():
            add_address(lab.victim, interface, f"{ROUTER[family]}/{prefix}")
            add_address(self.behind, INTERFACE, f"{BEHIND[family]}/{prefix}")
            self.behind.ip("route", "add", "default", "via", ROUTER[family])
            lab.attacker.ip("route", "add", NETWORK[family], "via", VICTIM[family])
        for knob in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            done = lab.victim.run("sysctl", "-qw", f"{knob}=1")
            assert done.returncode == 0, done.stderr

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.behind.close()

    def listen(self, family: int, port: int = SERVICE) -> Any:
        """Open a service on the host behind."""
        return self.lab.listen(port, family, self.behind)

    def probe(self, source: str, *targets: tuple[str, int], flags: int = SYN) -> None:
        """Send one forged TCP segment to each address and port."""
        ether = self.lab.ether
        self.lab.wire.send(
            *(tcp_frame(ether, source, address, 40000, port, flags) for address, port in targets)
        )

    def opens(self, source: str, address: str, port: int, timeout: float = 5.0) -> bool:
        """Return whether a connection from the attacker's host is answered within `timeout` s."""
        client = self.lab.start_opening(source)
        client.settimeout(timeout)
        with suppress(OSError):
            client.connect((address, port))
            client.sendall(b"hello")
            return True
        return False

    def open_from_behind(self, family: int, port: int) -> socket.socket:
        """Connect from the host behind to the attacker's."""
        domain = socket.AF_INET if family == 4 else socket.AF_INET6
        client = self.behind.call(lambda: socket.socket(domain, socket.SOCK_STREAM))
        client.settimeout(5)
        client.connect((ATTACKER[family], port))
        return client


def hosts(family: int, count: int, port: int = 22) -> list[tuple[str, int]]:
    """Return one port of `count` addresses behind without a host; IPv6: of `count` networks."""
    if family == 4:
        return [(str(ip_address("198.18.64.100") + n), port) for n in range(count)]
    return [(f"2001:2:64::{n + 0x100:x}", port) for n in range(count)]


assert PREFIX[6] == 48  # the network behind is another /48 than the wire's
