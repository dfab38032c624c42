"""The loaded table and replay's model of it: each packet goes through both.

A victim with real sockets, real connection tracking and the installed table stands on a wire; a
recorder there sees what a capture would hold, our own packets included, and gives it to the model.
Packets go one by one: behind each one a datagram is sent and awaited, so that what the first one
caused has happened.

No time passes: the model's clock stands still, and nothing that the kernel remembers ends while a
test runs, however slow the machine is. What a timeout does is done by the test, on both sides.
"""

import re
import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Final, NamedTuple, Self

from sentryfw.config.model import Config
from sentryfw.engine.model import ACCEPT, DROP, Block, Evidence, Meta, Packet, parse_source
from sentryfw.engine.networks import LINK_LOCAL_ONLY
from sentryfw.engine.packet import TCP, UDP, decode
from sentryfw.host.protected import index_of
from sentryfw.host.whole6 import onlink
from sentryfw.netfilter.load import load
from sentryfw.netfilter.packet_queue import PacketQueue
from sentryfw.netfilter.ruleset import render
from sentryfw.netfilter.schema import FRESH_SET_SIZE, FRESH_SETS, FRESH_TIMEOUT_S, TABLE
from sentryfw.netfilter.table import Table
from sentryfw.netfilter.verdicts import Queued
from sentryfw.tools.drill.namespace import Namespace, add_address, connect
from sentryfw.tools.replay.run import rules
from sentryfw.tools.replay.sets import DynamicSet
from sentryfw.tools.replay.table_model import TableModel
from sentryfw.tools.replay.view import CaptureView
from support.frames import udp_frame
from support.lab import ETH_P_ALL, INTERFACE, Lab

US: Final = {4: "198.18.0.1", 6: "2001:2::1"}
SOCKET_PORT: Final = {TCP: 22, UDP: 53}
"""Ports with a socket on the victim."""
FENCE: Final = "198.18.0.250"
FENCE_PORT: Final = 5353
_DROPPED: Final = ("blocked_early", "blocked_late", "over_source", "over_limit", "asked")
_IP: Final = frozenset((b"\x08\x00", b"\x86\xdd"))
_NOW_S: Final = 1000.0
"""The model's clock."""
_SHORT: Final = re.compile(r"^(\t\ttimeout )\d+[sm]$", re.MULTILINE)
"""Timeouts of sets in rulesets/sets.nft that a slow test would see end."""
_CONNTRACK: Final = Path("/proc/sys/net/netfilter")
_LONG_S: Final = 86400


class Sent(NamedTuple):
    """A TCP segment that the victim sent."""

    seq: int
    ack: int
    flags: int


class Twin:
    """The victim, and the model of it. `sources`: addresses that the wire can send from."""

    def __init__(self, config: Config, sources: tuple[str, ...], listed: CaptureView) -> None:
        self.victim, self.wire_end = Namespace(), Namespace()
        connect(self.victim, self.wire_end, (INTERFACE, INTERFACE))
        self.ether = Lab.mac(self.victim) + Lab.mac(self.wire_end)
        add_address(self.victim, INTERFACE, f"{US[4]}/24")
        add_address(self.victim, INTERFACE, f"{US[6]}/48")
        self._stop_time()
        mac = self.ether[6:].hex(":")
        for source in (*sources, FENCE):
            self.victim.ip("neigh", "replace", source, "lladdr", mac, "dev", INTERFACE)
        self.wire_end.ip("link", "set", INTERFACE, "arp", "off")
        self._open: list[socket.socket] = []
        self.table = self.victim.call(Table)
        never_block = config.never_block.addresses
        ruleset = render(config, index_of(never_block), self.victim.call(onlink))
        ruleset = ruleset._replace(body=_SHORT.sub(rf"\g<1>{_LONG_S}s", ruleset.body))
        self.victim.call(lambda: load(self.table, ruleset))
        self._queued: list[Queued] = []
        self._queue = self.victim.call(lambda: PacketQueue(config.queue.number, 1024, self._judge))
        for address in US.values():
            self._bind(address, socket.SOCK_STREAM, SOCKET_PORT[TCP]).listen(512)
            self._bind(address, socket.SOCK_DGRAM, SOCKET_PORT[UDP])
        self._fence = self._bind(FENCE, socket.SOCK_DGRAM, FENCE_PORT)
        self._recorder = self.victim.call(_packet_socket)
        self._wire = self.wire_end.call(_packet_socket)
        self.model = TableModel(listed, rules(config), never_block, self.victim.call(onlink))
        self.sent: dict[tuple[bytes, int, int], Sent] = {}
        """The last segment that the victim sent, by target, their port, our port."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for opened in (*self._open, self._recorder, self._wire):
            opened.close()
        self._queue.close()
        self.table.close()
        self.wire_end.close()
        self.victim.close()

    def _stop_time(self) -> None:
        """Let connection tracking forget nothing, and TCP acknowledge at once, not 40 ms later."""
        for knob in self.victim.call(lambda: list(_CONNTRACK.glob("nf_conntrack_*_timeout*"))):
            self.victim.call(lambda: knob.write_text(str(_LONG_S)))  # noqa: B023 - called at once
        routes = ((f"{US[4]}/24", ("src", US[4])), (f"{US[6]}/48", ("metric", "256")))
        for network, options in routes:
            prefix = str(ip_network(network, strict=False))
            self.victim.ip(
                "route", "replace", prefix, "dev", INTERFACE, "proto", "kernel", *options,
                "quickack", "1",
            )  # fmt: skip

    def _bind(self, peer: str, kind: socket.SocketKind, port: int) -> socket.socket:
        """Return a socket at the victim's address of the peer's family."""
        version = socket.AF_INET6 if ":" in peer else socket.AF_INET
        made = self.victim.call(lambda: socket.socket(version, kind))
        self._open.append(made)
        made.settimeout(5)
        made.bind((US[6 if ":" in peer else 4], port))
        return made

    def _judge(self, packet: Queued) -> None:
        """The engine's verdicts without a block: unlisted is dropped, held is accepted."""
        packet.verdict = DROP if packet.meta.unlisted else ACCEPT
        self._queued.append(packet)

    # --- what happens

    def inject(self, frame: bytes) -> tuple[Meta | str, Meta | str]:
        """Send a frame to the victim; return what the table and the model did with it."""
        before = self._counts()
        self._wire.send(frame)
        self._settle()
        queued = [packet for packet in self._queued if packet.payload == frame[14:]]
        assert self._queued == queued, "another packet was queued"
        found: Meta | str = "passed"
        counts = self._counts()
        if queued:
            found = queued[0].meta
        elif any(counts[name] > before[name] for name in _DROPPED):
            found = "dropped"
        elif counts["backscatter"] > before["backscatter"]:
            found = "backscatter"
        self._queued.clear()
        return found, self._replay(frame)

    def _counts(self) -> dict[str, int]:
        return {name: counter.packets for name, counter in self.table.counters().items()}

    def connect(self, address: str, port: int) -> int:
        """Open a TCP connection from the victim; return its local port."""
        client = self._bind(address, socket.SOCK_STREAM, 0)
        client.setblocking(False)
        client.connect_ex((address, port))
        self._settle()
        self._replay(b"")
        return int(client.getsockname()[1])

    def send_datagram(self, address: str, port: int) -> int:
        """Send a datagram from a connected socket of the victim; return its local port."""
        client = self._bind(address, socket.SOCK_DGRAM, 0)
        client.connect((address, port))
        client.send(b"?")
        self._settle()
        self._replay(b"")
        return int(client.getsockname()[1])

    def block(self, address: str) -> None:
        """Block a source in the table and in the model."""
        source = parse_source(address, LINK_LOCAL_ONLY)
        self.table.sets.block([(source, 600.0)])
        evidence = Evidence._make([None] * len(Evidence._fields))
        self.model.block(
            Block(
                source=source,
                timeout=600.0,
                offence=1,
                forgeable=True,
                reason="",
                evidence=evidence,
                at=_NOW_S,
            )
        )

    def mature(self) -> None:
        """Do what a minute does: partners are fresh no more."""
        self._settle()
        self._replay(b"")
        for name in FRESH_SETS:
            self.victim.run("nft", "flush", "set", "inet", TABLE, name)
        fresh = DynamicSet(FRESH_SET_SIZE, FRESH_TIMEOUT_S)
        self.model.learnt._fresh = fresh

    def _settle(self) -> None:
        """Wait until the victim has processed what was sent before, and judge what it queued."""
        self._wire.send(udp_frame(self.ether, FENCE, US[4], 40000, FENCE_PORT))
        self._fence.recv(64)
        while True:
            self._queue.reader.receive()
            if self._queue.reader.is_drained:
                break
        assert self._queue.reader.failures == 0

    def _replay(self, frame: bytes) -> Meta | str:
        """Give what was recorded to the model; return the fate of the frame."""
        fate: Meta | str = "not recorded"
        for recorded in self._recorded():
            packet = decode(recorded[14:])
            if not isinstance(packet, Packet) or packet.source == socket.inet_aton(FENCE):
                continue
            found = self.model.receive(packet, _NOW_S)
            if recorded == frame:
                fate = found
                if isinstance(found, Meta) and not found.unlisted:
                    self.model.confirm(packet, _NOW_S)
            elif packet.protocol == TCP and found in ("sent", "answer"):
                key = (packet.target, packet.dport, packet.sport)
                self.sent[key] = Sent(*_numbers(recorded, packet.transport), packet.flags)
        return fate

    def _recorded(self) -> Iterator[bytes]:
        while True:
            try:
                frame = self._recorder.recv(1 << 16)
            except BlockingIOError:
                return
            if frame[12:14] in _IP:
                yield frame


def view(hand_listed: frozenset[tuple[int, int]]) -> CaptureView:
    """Return what the model is given of the victim: its addresses and its listed ports."""
    local = tuple(ip_network(address) for address in US.values())
    return CaptureView(local, frozenset(SOCKET_PORT.items()) | hand_listed)


def _packet_socket() -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    made.bind((INTERFACE, ETH_P_ALL))
    made.setblocking(False)
    return made


def _numbers(frame: bytes, transport: int) -> tuple[int, int]:
    seq, ack = struct.unpack_from("!II", frame, 14 + transport + 4)
    return seq, ack
