"""A host with a partner, a gateway and a resolver, and an attacker that forges their addresses.

All of them live in the attacker's namespace; what is forged goes onto the wire as frames, what is
genuine comes from sockets that are bound to their addresses.
"""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, Self

from sentryfw.engine.model import parse_source
from sentryfw.engine.networks import LINK_LOCAL_ONLY
from sentryfw.tools.drill.namespace import add_address
from support.frames import tcp_frame, udp_frame
from support.lab import INTERFACE, LISTED, UNLISTED, VICTIM, Lab, Sentry
from support.waiting import wait_for

VICTIM4: Final = VICTIM[4]
ROLES: Final = {
    "partner": "198.18.0.10",
    "gateway": "198.18.0.254",
    "resolver": "198.18.0.53",
    "stranger": "198.18.0.77",
}
"""Hosts whose addresses are forged."""
OUTSIDE_PORT: Final = 4000
DNS: Final = 53
QUERY: Final = bytes.fromhex("53fa01000001000000000000076578616d706c6503636f6d0000010001")
ANSWER: Final = QUERY[:2] + b"\x81\x80" + QUERY[4:]
ECHO_REQUEST: Final = bytes.fromhex("0800a5ac5253ffff")
"""Identifier 0x5253, sequence 0xffff; the checksum is that of RFC 1071."""
ECHO_REPLY: Final = bytes.fromhex("0000adac5253ffff")


def _sport(source: str) -> int:
    """Return a source port that differs by address: equal ones would show that these are decoys."""
    return 40000 + int(source.rpartition(".")[2])


class Seen(NamedTuple):
    """The result of a forgery with one host's address."""

    decision: str
    theirs: str
    """Result of a genuine connection of that host to us."""
    ours: str
    """Connections of ours to it that still work."""


class Scene:
    """The lab, the daemon, and the hosts that it knows."""

    def __init__(self, config: str = "") -> None:
        self.lab = Lab()
        for address in ROLES.values():
            add_address(self.lab.attacker, INTERFACE, f"{address}/24")
        self.lab.victim.ip("route", "add", "default", "via", ROLES["gateway"])
        self.daemon = Sentry(self.lab, config)
        resolv_conf = self.daemon.home / "resolv.conf"
        resolv_conf.write_text(f"nameserver {ROLES['resolver']}\n")
        shell = f"mount --bind {resolv_conf} /etc/resolv.conf && exec " + " ".join(
            map(str, self.daemon.command)
        )
        self.daemon.command = ["unshare", "--mount", "sh", "-c", shell]

    def __enter__(self) -> Self:
        self.daemon.start()
        self.lab.listen()
        self.lab.listen(OUTSIDE_PORT, host=self.lab.attacker)
        self.lab.make_partner(ROLES["partner"])
        return self

    def __exit__(self, *_: object) -> None:
        self.daemon.close()
        self.lab.__exit__()

    def forge(self, frame: Callable[[str, int], bytes], source: str) -> None:
        """Send one packet to each of three closed ports, which makes a scan."""
        self.lab.wire.send(*(frame(source, port) for port in UNLISTED))

    def syn(self, source: str, port: int) -> bytes:
        return tcp_frame(self.lab.ether, source, VICTIM4, _sport(source), port)

    def null(self, source: str, port: int) -> bytes:
        return tcp_frame(self.lab.ether, source, VICTIM4, _sport(source), port, 0)

    def ack(self, source: str, port: int) -> bytes:
        return tcp_frame(self.lab.ether, source, VICTIM4, _sport(source), port, 0x10)

    def udp(self, source: str, port: int) -> bytes:
        return udp_frame(self.lab.ether, source, VICTIM4, _sport(source), port)

    # --- results

    def result(self, source: str) -> Seen:
        ours = [
            name
            for name, works in (
                ("DNS", self.resolves),
                ("TCP", self.connects),
                ("ping", self.pings),
            )
            if works(source)
        ]
        return Seen(self.decision(source), self._theirs(source), ", ".join(ours) or "nothing")

    def decision(self, source: str) -> str:
        block = self.lab.table.sets.find(parse_source(source, LINK_LOCAL_ONLY))
        alerts = self.daemon.alerts(source)
        if block is not None:
            found = wait_for(lambda: self.daemon.alerts(source), "an event")[-1]["sentryfw"]
            return f"blocked for {round(block.timeout / 60)} min ({found['scan']})"
        if alerts and alerts[-1]["sentryfw"]["confined"]:
            last = alerts[-1]["sentryfw"]
            minutes = round(last["timeout_s"] / 60)
            return f"confined for {minutes} min to what it uses ({last['scan']})"
        if alerts:
            return f"refused: {alerts[-1]['sentryfw']['reason']}"
        return "never judged"

    def _theirs(self, source: str) -> str:
        return "answered" if self.lab.answers(source, LISTED) else "dropped"

    def resolves(self, server: str) -> bool:
        """Return whether a DNS query of ours to a server gets its answer."""
        service = self._datagrams(self.lab.attacker.call, (server, DNS))
        client = self._datagrams(self.lab.victim.call, (VICTIM4, 0))
        with service, client:
            client.sendto(QUERY, (server, DNS))
            asked, back = service.recvfrom(512)
            assert asked == QUERY
            service.sendto(ANSWER, back)
            try:
                return client.recv(512) == ANSWER
            except TimeoutError:
                return False

    def connects(self, server: str) -> bool:
        try:
            self.lab.open_from_victim(server, OUTSIDE_PORT).close()
        except TimeoutError:
            return False
        return True

    def pings(self, server: str) -> bool:
        def make() -> socket.socket:
            return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)

        with self.lab.victim.call(make) as raw:
            raw.settimeout(5.0)
            raw.sendto(ECHO_REQUEST, (server, 0))
            try:
                reply, back = raw.recvfrom(512)
            except TimeoutError:
                return False
        return back[0] == server and reply[20:] == ECHO_REPLY

    @staticmethod
    def _datagrams(call: Callable[..., socket.socket], at: tuple[str, int]) -> socket.socket:
        made = call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        made.bind(at)
        made.settimeout(5.0)
        return made


# --- docs/forgery.md

DOCUMENT: Final = Path(__file__).resolve().parents[2] / "docs" / "forgery.md"
TABLE_HEAD: Final = """\
| forged packets | source address of | decision | its connections to us | ours to it |
|---|---|---|---|---|
"""


def table(found: dict[tuple[str, str], Seen]) -> str:
    return "".join(
        f"| {how} | {role} | {seen.decision} | {seen.theirs} | {seen.ours} |\n"
        for (how, role), seen in found.items()
    )


def documented() -> str:
    """Return the rows of the table in the document."""
    return DOCUMENT.read_text().partition(TABLE_HEAD)[2].partition("\n\n")[0] + "\n"


def document(found: dict[tuple[str, str], Seen]) -> None:
    """Write the rows into the document if SENTRYFW_DOCS=write is set."""
    if os.environ.get("SENTRYFW_DOCS") == "write":
        before, head, rest = DOCUMENT.read_text().partition(TABLE_HEAD)
        after = rest.partition("\n\n")[2]
        DOCUMENT.write_text(f"{before}{head}{table(found)}\n{after}")
