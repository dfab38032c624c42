"""Replay's model of the table does what the loaded table does, packet by packet, mark by mark.

Generated traffic: stray packets of every TCP flag combination, datagrams, ICMP and other protocols,
handshakes of clients, answers to our own connections, resets, partners, suspects, blocks.
"""

import random
import struct
from collections import Counter
from typing import Final

import pytest

from sentryfw import config
from sentryfw.engine.classify import ACK, FIN, RST, SYN
from sentryfw.engine.model import Meta
from sentryfw.engine.packet import ICMP, ICMPV6, SCTP, TCP, UDP
from support.forge import packed
from support.frames import icmp_frame, ip_frame, tcp_segment, udp_frame
from support.table_twin import US, Twin, view

pytestmark = [pytest.mark.netns]

STEPS: Final = 500
STRAYS_FROM: Final = 100
MATURE_AT: Final = 200
BLOCK_AT: Final = 400
NEVER_BLOCKED: Final = ("198.18.0.66", "2001:2:0:66::7")
SOURCES: Final = (
    "198.18.0.10", "198.18.0.11", "198.18.0.12", NEVER_BLOCKED[0],
    "2001:2:0:10::7", "2001:2:0:10::8", "2001:2:0:11::7", NEVER_BLOCKED[1],
)  # fmt: skip
"""Two share a /64, and so a source."""
HAND_LISTED: Final = frozenset(((TCP, 8080), (UDP, 8053), (SCTP, 3868)))
BASE: Final = f"""
[watch]
listed_tcp = [8080]
listed_udp = [8053]
listed_sctp = [3868]
[never_block]
addresses = {list(NEVER_BLOCKED)}
"""
CONFIGS: Final = {
    "default": BASE,
    "upper bounds": BASE.replace("[watch]", "[watch]\nupper_tcp = 8081\nupper_udp = 9000"),
    "traps": BASE.replace(
        "[watch]", '[watch]\nmode = "traps"\ntrap_tcp = [22, 23, 2222]\ntrap_udp = [53, 54]'
    ),
}
TCP_PORTS: Final = (22, 22, 8080, 23, 2222, 40001)
UDP_PORTS: Final = (53, 8053, 54, 9999)
PROTOCOLS: Final = (47, 50, 103, 200, 253)
THEIR_PORT: Final = 443
MARKS: Final = ("unlisted", "partner", "half_open", "peer", "deferred")


class Traffic:
    """Random packets of sources to a victim, and connections that the victim opens."""

    def __init__(self, twin: Twin, seed: int) -> None:
        self.twin = twin
        self.random = random.Random(seed)
        self.fates: Counter[str] = Counter()
        self.marks: set[str] = set()
        self._port = 20000
        self._clients: list[tuple[str, int, int, int]] = []
        """Source, its port, our port, its next sequence number."""
        self._servers: list[tuple[str, int, int]] = []
        """Source that we connected to, our port, its next sequence number."""
        self._datagrams: list[tuple[str, int]] = []
        """Source that we sent a datagram to, our port."""
        clients = (self._start_client, *[self._continue_client] * 3)
        servers = (self._start_server, *[self._continue_server] * 3)
        datagrams = (self._start_datagrams, self._answer_datagram)
        strays = (*[self._stray_segment] * 3, self._stray_datagram, self._stray_other)
        self._connections = (*clients, *servers, *datagrams)
        self._everything = (*self._connections, *strays)

    def step(self, *, strays: bool) -> str:
        """Do one thing at random; return its description. Without strays, no source is suspect."""
        steps = self._everything if strays else self._connections
        return self.random.choice(steps)()

    def _inject(self, frame: bytes, what: str) -> str:
        table, model = self.twin.inject(frame)
        self.fates[table if isinstance(table, str) else "judged"] += 1
        if isinstance(table, Meta):
            self.marks.update(name for name, is_set in vars_of(table).items() if is_set)
        assert table == model, f"{what}: the table {table}, the model {model}"
        return what

    def _source(self) -> str:
        return self.random.choice(SOURCES)

    def _fresh_port(self) -> int:
        self._port += 1
        return self._port

    def _segment(
        self, source: str, sport: int, dport: int, flags: int, seq: int = 0, ack: int = 0
    ) -> str:
        window = self.random.choice((64240, 64240, 1024))
        frame = tcp_segment(
            self.twin.ether, source, _us(source), sport, dport, flags, seq=seq, ack=ack,
            window=window,
        )  # fmt: skip
        return self._inject(frame, f"{source}:{sport} -> tcp/{dport} flags 0x{flags:02x} seq {seq}")

    # --- strays

    def _stray_segment(self) -> str:
        port, seq = self.random.choice(TCP_PORTS), self.random.randrange(1 << 32)
        flags = self.random.choice((SYN, SYN, ACK, RST, self.random.randrange(256)))
        return self._segment(self._source(), self._fresh_port(), port, flags, seq)

    def _stray_datagram(self) -> str:
        source, port = self._source(), self.random.choice(UDP_PORTS)
        sport = self._fresh_port()
        frame = udp_frame(self.twin.ether, source, _us(source), sport, port)
        return self._inject(frame, f"{source}:{sport} -> udp/{port}")

    def _stray_other(self) -> str:
        source, number = self._source(), self._fresh_port()
        choice = self.random.randrange(3)
        if choice == 0:
            protocol = self.random.choice(PROTOCOLS)
            frame = ip_frame(
                self.twin.ether, source, _us(source), protocol, struct.pack("!II", 0, number)
            )
        elif choice == 1:
            protocol, port = SCTP, self.random.choice((3868, 9))
            rest = struct.pack("!HHIIBBHI", number, port, 0, 0, 1, 0, 8, number)
            frame = ip_frame(self.twin.ether, source, _us(source), SCTP, rest)
        else:
            protocol = ICMPV6 if ":" in source else ICMP
            kind = self.random.choice((128, 139, 1, 3) if ":" in source else (8, 13, 17, 3, 11, 0))
            frame = icmp_frame(self.twin.ether, source, _us(source), kind, number << 16, bytes(48))
            return self._inject(frame, f"{source} -> protocol {protocol}, type {kind}")
        return self._inject(frame, f"{source} -> protocol {protocol}")

    # --- clients of our listed ports

    def _start_client(self) -> str:
        source, sport = self._source(), self._fresh_port()
        port, seq = self.random.choice((22, 22, 22, 8080)), self.random.randrange(1 << 30)
        what = self._segment(source, sport, port, SYN, seq)
        self._clients.append((source, sport, port, seq + 1))
        return what

    def _continue_client(self) -> str:
        if not self._clients:
            return self._start_client()
        at = self.random.randrange(len(self._clients))
        source, sport, port, seq = self._clients[at]
        ours = self.twin.sent.get((packed(source), sport, port))
        flags = self.random.choice((*[ACK] * 5, FIN | ACK, RST, RST | ACK, FIN | SYN, 0))
        ack = 0 if ours is None else (ours.seq + bool(ours.flags & (SYN | FIN))) & 0xFFFFFFFF
        what = self._segment(source, sport, port, flags, seq, ack)
        if flags & RST or flags == FIN | ACK:
            del self._clients[at]
        return what

    # --- connections and datagrams of ours

    def _start_server(self) -> str:
        source = self._source()
        port = self.twin.connect(source, THEIR_PORT)
        self._servers.append((source, port, self.random.randrange(1 << 30)))
        return f"we connect to {source} from {port}"

    def _continue_server(self) -> str:
        if not self._servers:
            return self._start_server()
        at = self.random.randrange(len(self._servers))
        source, port, seq = self._servers[at]
        ours = self.twin.sent.get((packed(source), THEIR_PORT, port))
        answered = seq & 1 << 31
        ack = 0 if ours is None else (ours.seq + bool(ours.flags & (SYN | FIN))) & 0xFFFFFFFF
        if not answered:
            flags = self.random.choice((SYN | ACK, SYN | ACK, SYN | ACK, RST | ACK))
        else:
            flags = self.random.choice((ACK, ACK, FIN | ACK, RST, FIN | SYN))
        what = self._segment(source, THEIR_PORT, port, flags, seq & ~(1 << 31), ack)
        if flags & (RST | FIN):
            del self._servers[at]
        elif not answered:
            self._servers[at] = (source, port, (seq + 1) | 1 << 31)
        return what

    def _start_datagrams(self) -> str:
        source = self._source()
        port = self.twin.send_datagram(source, THEIR_PORT)
        self._datagrams.append((source, port))
        return f"we send a datagram to {source} from {port}"

    def _answer_datagram(self) -> str:
        if not self._datagrams:
            return self._start_datagrams()
        source, port = self.random.choice(self._datagrams)
        sport = self.random.choice((THEIR_PORT, THEIR_PORT, THEIR_PORT + 1))
        data = self._fresh_port().to_bytes(2)
        frame = udp_frame(self.twin.ether, source, _us(source), sport, port, data)
        return self._inject(frame, f"{source}:{sport} -> udp/{port}, an answer")


def vars_of(meta: Meta) -> dict[str, bool]:
    """Return the fields of a Meta; a compiled one has no __dict__."""
    return {name: getattr(meta, name) for name in MARKS}


def _us(source: str) -> str:
    return US[6 if ":" in source else 4]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_model_judges_the_packets_that_the_table_queues(name: str, seed: int) -> None:
    done: list[str] = []
    with Twin(config.parse(CONFIGS[name].encode(), "test"), SOURCES, view(HAND_LISTED)) as twin:
        traffic = Traffic(twin, seed)
        try:
            for number in range(STEPS):
                if number == MATURE_AT:
                    twin.mature()
                if number == BLOCK_AT:
                    for source in (SOURCES[0], SOURCES[4], NEVER_BLOCKED[0]):
                        twin.block(source)
                done.append(traffic.step(strays=number >= STRAYS_FROM))
        except AssertionError as error:
            before = "\n".join(done[-12:])
            message = f"seed {seed}, step {len(done)}: {error}\nbefore it:\n{before}"
            raise AssertionError(message) from error
    assert set(traffic.fates) == {"judged", "passed", "dropped", "backscatter"}
    marks = {"unlisted", "partner", "peer"}
    assert traffic.marks == (marks if name == "traps" else marks | {"half_open", "deferred"})
