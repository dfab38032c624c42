"""Two hosts on a wire: a victim that SentryFW protects, and an attacker.

Sockets are made inside a namespace by this process, so a listener is as real as the kernel's
tables and needs no process of its own.
"""

import json
import shutil
import signal
import socket
import sys
import tempfile
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Self

from sentryfw import config
from sentryfw.control.client import ANSWER_TIMEOUT_S, ask
from sentryfw.engine.model import parse_source, source_text
from sentryfw.engine.networks import LINK_LOCAL_ONLY
from sentryfw.errors import NotRunning
from sentryfw.netfilter.table import Table
from sentryfw.netlink.socket import SO_RCVBUFFORCE
from sentryfw.setup.process import SIGTERM_TIMEOUT_S
from sentryfw.tools.drill.namespace import Namespace, add_address, connect
from support.frames import SYN, tcp_frame
from support.waiting import wait_for

INTERFACE: Final = "veth0"
RELOAD_S: Final = 60.0
"""Seconds for a reload, as `sentryfw reload` waits: a child checks the configuration."""
VICTIM: Final = {4: "198.18.0.1", 6: "2001:2::1"}
ATTACKER: Final = {4: "198.18.0.2", 6: "2001:2:0:1::2"}
BYSTANDER: Final = {4: "198.18.0.3", 6: "2001:2:0:2::3"}
"""Another address of the attacker's host, in another /64: a source of its own."""
PREFIX: Final = {4: 24, 6: 48}

LISTED: Final = 8022
"""A port with a listener in most tests."""
UNLISTED: Final = (7001, 7002, 7003)

SOL_PACKET: Final = 263
PACKET_STATISTICS: Final = 6
PACKET_IGNORE_OUTGOING: Final = 23
ETH_P_ALL: Final = 3
CAPTURE_BUFFER: Final = 128 << 20
SENTRYFWD: Final = Path(sys.executable).parent / "sentryfwd"


class Wire:
    """A packet socket on the attacker's end that sends and receives frames."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, CAPTURE_BUFFER)
        self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self._socket.bind((INTERFACE, 0))
        self._socket.bind((INTERFACE, ETH_P_ALL))
        self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()

    def send(self, *frames: bytes) -> None:
        self._socket.setblocking(True)
        send = self._socket.send
        for frame in frames:
            send(frame)
        self._socket.setblocking(False)

    def received(self) -> list[bytes]:
        """Return the frames received since the last call, oldest first."""
        frames = []
        while True:
            try:
                frames.append(self._socket.recv(1 << 16))
            except BlockingIOError:
                return frames

    def lost(self) -> int:
        """Return the number of frames that were lost since the last call."""
        statistics = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        return int.from_bytes(statistics[4:], sys.byteorder)


class Lab:
    """Victim and attacker, connected, and the sockets opened in them."""

    def __init__(self) -> None:
        self.victim = Namespace()
        self.attacker = Namespace()
        self._sockets: list[socket.socket] = []
        connect(self.victim, self.attacker, (INTERFACE, INTERFACE))
        for family, prefix in PREFIX.items():
            add_address(self.victim, INTERFACE, f"{VICTIM[family]}/{prefix}")
            for address in (ATTACKER[family], BYSTANDER[family]):
                add_address(self.attacker, INTERFACE, f"{address}/{prefix}")
        self.ether = self.mac(self.victim) + self.mac(self.attacker)
        """Return the first 12 bytes of a frame from attacker to victim."""
        self.table = self.victim.call(Table)
        self.wire = self.attacker.call(Wire)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_sockets()
        self.wire.close()
        self.table.close()
        self.attacker.close()
        self.victim.close()

    @staticmethod
    def mac(namespace: Namespace, interface: str = INTERFACE) -> bytes:
        [link] = json.loads(namespace.ip("-j", "link", "show", interface))
        return bytes.fromhex(link["address"].replace(":", ""))

    def nft(self, *words: str) -> str:
        """Run nft(8) on the victim: options, then a command."""
        done = self.victim.run("nft", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def elements(self, name: str) -> set[str]:
        """Return the keys in a set of our table, as nft prints them."""
        listing = self.nft("-j", f"list set inet sentryfw {name}")
        [found] = [item["set"] for item in json.loads(listing)["nftables"] if "set" in item]
        return {e["elem"]["val"] if isinstance(e, dict) else e for e in found.get("elem", [])}

    def is_blocked(self, address: str) -> bool:
        return self.table.sets.is_blocked(parse_source(address, LINK_LOCAL_ONLY))

    def count(self, name: str) -> int:
        """Return the packets of a named counter of our table."""
        return self.table.counters()[name].packets

    def flood(self, count: int, port: int) -> None:
        """Send one SYN of each of `count` forged sources."""
        sources = (f"198.{24 + (n >> 16)}.{n >> 8 & 0xFF}.{n & 0xFF}" for n in range(count))
        frames = [tcp_frame(self.ether, s, VICTIM[4], 40000, port) for s in sources]
        self.wire.send(*frames)

    # --- sockets

    def close_sockets(self) -> None:
        """Close the sockets that were opened here."""
        for opened in self._sockets:
            opened.close()
        self._sockets.clear()

    def listen(self, port: int = LISTED, family: int = 4, host: Namespace | None = None) -> Any:
        """Open a TCP listener, by default on the victim; the kernel finishes handshakes."""
        listener = self._socket(host or self.victim, family, socket.SOCK_STREAM)
        listener.bind(("" if family == 4 else "::", port))
        listener.listen(4096)
        return listener

    def bind_udp(self, port: int, family: int = 4) -> socket.socket:
        """Open a UDP socket on the victim."""
        bound = self._socket(self.victim, family, socket.SOCK_DGRAM)
        bound.bind(("" if family == 4 else "::", port))
        return bound

    def udp(self, source: str) -> socket.socket:
        """Open a UDP socket on the attacker's host."""
        sender = self._socket(self.attacker, ip_address(source).version, socket.SOCK_DGRAM)
        sender.bind((source, 0))
        return sender

    def open(self, source: str, port: int = LISTED, timeout: float = 5.0) -> socket.socket:
        """Connect from an address of the attacker's host to the victim."""
        client = self.start_opening(source)
        client.settimeout(timeout)
        client.connect((VICTIM[ip_address(source).version], port))
        return client

    def make_partner(self, source: str, port: int = LISTED) -> socket.socket:
        """Make a source of the attacker's host a partner of more than a minute; return its client.

        A listener must be there; its kernel's acknowledgement of the request is the answer.
        """
        family = ip_address(source).version
        before = len(self.elements(f"partner{family}"))
        client = self.open(source, port)
        client.sendall(b"hello")
        wait_for(lambda: len(self.elements(f"partner{family}")) > before, "a partner")
        self.nft("flush", "set", "inet", "sentryfw", f"fresh{family}")  # as a minute does
        return client

    def start_opening(self, source: str, port: int = 0) -> socket.socket:
        """Return a non-blocking client bound to `source` and `port`, not connected yet."""
        client = self._socket(self.attacker, ip_address(source).version, socket.SOCK_STREAM)
        client.bind((source, port))
        client.setblocking(False)
        return client

    def open_from_victim(self, address: str, port: int) -> socket.socket:
        client = self._socket(self.victim, ip_address(address).version, socket.SOCK_STREAM)
        client.settimeout(5.0)
        client.connect((address, port))
        return client

    def answers(self, source: str, port: int = LISTED) -> bool:
        """Return whether a new connection is answered. It is not when the counter of the source's
        block goes up and nothing comes back."""
        before = self.dropped(source)
        self.wire.received()
        client = self.start_opening(source)
        client.connect_ex((VICTIM[ip_address(source).version], port))
        wait_for(
            lambda: _is_connected(client) or self.dropped(source) > before,
            "an answer, or a SYN that was dropped",
        )
        answered = _is_connected(client)
        client.close()
        return answered or source in synacks(self.wire.received(), port)

    def dropped(self, source: str) -> int:
        """Return the packets that were dropped because the source is blocked."""
        name = source_text(parse_source(source, LINK_LOCAL_ONLY))
        return sum(b.packets for b in self.table.sets.blocked_sources() if b.address == name)

    def probe(self, source: str, *ports: int, flags: int = SYN, sport: int = 40000) -> None:
        """Send one forged TCP segment to each port of the victim."""
        target = VICTIM[ip_address(source).version]
        self.wire.send(
            *(tcp_frame(self.ether, source, target, sport, port, flags) for port in ports)
        )

    def _socket(self, host: Namespace, family: int, kind: int) -> socket.socket:
        domain = socket.AF_INET if family == 4 else socket.AF_INET6
        made = host.call(lambda: socket.socket(domain, kind))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == 6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self._sockets.append(made)
        return made


def _is_connected(client: socket.socket) -> bool:
    try:
        client.getpeername()
    except OSError:
        return False
    return True


class Sentry:
    """The real daemon, inside the victim, with its files in a directory of its own."""

    def __init__(self, lab: Lab, settings: str = "") -> None:
        self.lab = lab
        # Not pytest's: the path of a UNIX socket has room for 107 bytes.
        self.home = Path(tempfile.mkdtemp(prefix="sentryfw-"))
        self.config = self.home / "sentryfw.toml"
        paths = "\n".join(f'{name} = "{self.home / name}"' for name in ("state", "runtime", "log"))
        self.config.write_text(f"[paths]\n{paths}\n{settings}\n")
        self.settings = config.load(self.config)
        self._log = (self.home / "stderr").open("a+")
        self.command: list[str | Path] = [SENTRYFWD, "-c", self.config]
        self.process: Any = None

    def start(self) -> Self:
        """Start it, and wait until it answers."""
        self.process = self.launch()
        wait_for(self._is_ready, "the daemon answers", 20)
        return self

    def launch(self) -> Any:
        """Start it, and do not wait."""
        return self.lab.victim.popen(self.command, stdout=self._log, stderr=self._log)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, f"it ended at once:\n{self.log()}"
        try:
            return self.status()["pid"] == self.process.pid
        except NotRunning:
            return False

    def log(self) -> str:
        return (self.home / "stderr").read_text()

    def ask(self, **request: object) -> dict[str, Any]:
        seconds = RELOAD_S if request.get("do") == "reload" else ANSWER_TIMEOUT_S
        return ask(self.settings.paths.control, request, seconds)

    def release(self, address: str) -> None:
        """Have the daemon forget the source that an address belongs to."""
        self.ask(do="release", address=source_text(parse_source(address, LINK_LOCAL_ONLY)))

    def status(self) -> dict[str, Any]:
        return self.ask(do="status")

    def events(self) -> list[dict[str, Any]]:
        """Return the events in the event file, of whole lines only."""
        lines = self.settings.paths.events.read_text().split("\n")[:-1]
        return [json.loads(line) for line in lines]

    def alert(self, source: str, action: str = "blocked") -> dict[str, Any]:
        """Return the event about the block of a source ("allowed": about the lack of one)."""
        found = wait_for(lambda: self.alerts(source), f"an event about {source}")
        assert found[-1]["alert"]["action"] == action
        return found[-1]

    def alerts(self, source: str) -> list[dict[str, Any]]:
        """Return every event about a decision on a source."""
        names = {source, source_text(parse_source(source, LINK_LOCAL_ONLY))}  # whole, or a /64
        alerts = [e for e in self.events() if e["event_type"] == "alert"]
        return [e for e in alerts if e["sentryfw"].get("address") in names]

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send a signal; assert that it ends with 0 before an uninstall would kill it."""
        started = time.monotonic()
        self.process.send_signal(number)
        assert self.process.wait(20) == 0, self.log()
        took = time.monotonic() - started
        assert took < SIGTERM_TIMEOUT_S, f"it took {took:.2f} s to stop"
        self.process = None

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self.process.kill()
        self.process.wait()
        self.process = None

    def close(self) -> None:
        """Stop it if it still runs, and remove its files."""
        try:
            if self.process is not None and self.process.poll() is None:
                self.stop()
        finally:
            self._log.close()
            shutil.rmtree(self.home)


def waiting_packets(victim: Namespace) -> int:
    """Return the number of packets in a queue of the namespace without a verdict."""
    table = victim.run("cat", "/proc/net/netfilter/nfnetlink_queue").stdout
    return sum(int(line.split()[2]) for line in table.splitlines())


def drain(sentry: Sentry) -> None:
    """Wait until every packet in the queue has its verdict."""
    wait_for(lambda: waiting_packets(sentry.lab.victim) == 0, "an empty queue", 20)
    sentry.status()  # one thread: what it answers, it answers after the last verdict


def synacks(frames: list[bytes], port: int) -> list[str]:
    """Return the addresses that a SYN/ACK was sent to from a port."""
    found = []
    for frame in frames:
        kind = int.from_bytes(frame[12:14])
        start, size, protocol = (30, 4, 23) if kind == 0x0800 else (38, 16, 20)
        transport = 34 if size == 4 else 54
        if kind not in (0x0800, 0x86DD) or frame[protocol] != socket.IPPROTO_TCP:
            continue
        flags = frame[transport + 13] & 0x3F
        if int.from_bytes(frame[transport : transport + 2]) == port and flags == 0x12:
            found.append(str(ip_address(frame[start : start + size])))
    return found
