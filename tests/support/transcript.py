"""Engine tests as transcripts: packets with their times, and the outcomes.

    scenario().at(0.0).syn(A, 23).at(0.2).syn(A, 24).at(0.4).syn(A, 25).expect_block(A)

Time is literal. Each at() that moves on by a second or more ticks the engine, as the daemon does.
An expectation speaks of the last packet.
"""

import zlib
from typing import Any, Self

from sentryfw.engine.decide import Policy
from sentryfw.engine.engine import Engine
from sentryfw.engine.model import (
    ACCEPT,
    DROP,
    Action,
    Block,
    Confinement,
    Meta,
    Outcome,
    Refusal,
    parse_source,
    source_text,
)
from sentryfw.engine.networks import LINK_LOCAL_ONLY, NO_NETWORKS
from sentryfw.engine.track import Horizons
from support import forge

HOST = "192.0.2.1"
HOST6 = "2001:db8:ffff::1"
A = "198.51.100.7"
B = "203.0.113.9"
A6 = "2001:db8:a:b::1"
A6_NEIGHBOUR = "2001:db8:a:b:ffff::2"
B6 = "2001:db8:a:c::1"

HORIZONS = Horizons(
    trigger=3,
    window=300.0,
    slow_trigger=6,
    slow_window=86400.0,
    triggers={
        "null": 2, "fin": 2, "xmas": 2, "synfin": 2, "badflags": 2, "urg": 2, "icmp": 10, "rst": 16,
    },
)  # fmt: skip
POLICY = Policy(
    timeouts=(3600.0, 14400.0, 86400.0, 604800.0),
    mode="block",
    unlisted=DROP,
    per_minute=6000,
    max_elements=65536,
    partners=True,
    never_block=NO_NETWORKS,
)


STRANGER = Meta(unlisted=True, partner=False)


class Scenario:
    """An engine, a clock, and the outcomes so far."""

    def __init__(self, engine: Engine, listed: frozenset[int]) -> None:
        self.engine = engine
        self.now = 0.0
        self.outcomes: list[Outcome] = []
        self._listed = listed
        self._hardware = b""
        self._partners: set[str] = set()
        self._peers: set[str] = set()
        self._transcript: list[str] = []

    # --- what happens

    def at(self, now: float) -> Self:
        """Move the clock on to `now`."""
        if now - self.now >= 1:
            self.engine.tick(now)
        self.now = now
        return self

    def behind(self, hardware: str) -> Self:
        """Let the next packets come from an Ethernet address; an empty one: from no Ethernet."""
        self._hardware = bytes.fromhex(hardware.replace(":", ""))
        return self

    def partner(self, address: str) -> Self:
        """Let the address finish a handshake with a listed service."""
        self._partners.add(address)
        return self

    def peer(self, address: str) -> Self:
        """Let the address answer a connection of ours."""
        self._peers.add(address)
        return self

    def unblock(self, address: str) -> Self:
        self.engine.release(parse_source(address, LINK_LOCAL_ONLY))
        return self

    def syn(self, source: str, *ports: int, to: str | None = None) -> Self:
        return self.tcp(source, "S", *ports, to=to)

    def tcp(self, source: str, flags: str | int, *ports: int, to: str | None = None) -> Self:
        for port in ports:
            rest = forge.tcp(port, flags, _sport(source), seq=_own(source))
            self._transport(source, to, forge.TCP, port, rest, f"tcp {flags!r}")
        return self

    def udp(self, source: str, *ports: int, to: str | None = None) -> Self:
        for port in ports:
            self._transport(source, to, forge.UDP, port, forge.udp(port, _sport(source)), "udp")
        return self

    def sctp(self, source: str, chunk: int, *ports: int) -> Self:
        for port in ports:
            rest = forge.sctp(port, chunk, _sport(source))
            self._transport(source, None, forge.SCTP, port, rest, f"sctp {chunk}")
        return self

    def icmp(self, source: str, kind: int, *targets: str) -> Self:
        """Send an ICMP message of that type, of the source's family."""
        protocol = forge.ICMPV6 if ":" in source else forge.ICMP
        for target in targets or (_host(source),):
            self.send(
                forge.ip(source, target, protocol, forge.icmp(kind)),
                partner=source in self._partners,
                text=f"{source} icmp {kind} {target}",
            )
        return self

    def half_open(self, source: str, *ports: int, to: str | None = None) -> Self:
        """Reset a half-open connection to a listed port."""
        for port in ports:
            rest = forge.tcp(port, "R", _sport(source), seq=_own(source))
            meta = Meta(unlisted=False, partner=source in self._partners, half_open=True)
            payload = forge.ip(source, to or _host(source), forge.TCP, rest)
            self._handle(payload, meta, f"{source} half-open {port}")
        return self

    def deferred(self, source: str, *ports: int, seq: int = 7, sport: int = 41000) -> Self:
        """Send a SYN to a listed port with the mark of a deferred one."""
        for port in ports:
            meta = Meta(unlisted=False, partner=source in self._partners, deferred=True)
            rest = forge.tcp(port, "S", sport, seq=seq)
            payload = forge.ip(source, _host(source), forge.TCP, rest)
            self._handle(payload, meta, f"{source} deferred {port}")
        return self

    def decoys(self, sources: tuple[str, ...], *ports: int, flags: str = "S") -> Self:
        """Send probes as `nmap -D` does: each from every source, with the same ports and sequence
        number."""
        for port in ports:
            for source in sources:
                rest = forge.tcp(port, flags, 50000, seq=port << 8)
                self._transport(source, None, forge.TCP, port, rest, f"decoy {flags!r}")
        return self

    def crowd(self, size: int, first: int = 0, *, flags: str = "S", port: int = 23) -> Self:
        """Send one packet from each of `size` addresses of 10/8, from the `first` on."""
        packet = forge.ipv4("10.0.0.0", HOST, forge.TCP, forge.tcp(port, flags))
        for number in range(0x0A000000 + first, 0x0A000000 + first + size):
            own = number.to_bytes(4)  # the address, and for want of a better one the sequence
            payload = packet[:12] + own + packet[16:24] + own + packet[28:]
            self.outcomes.append(self.engine.handle(payload, STRANGER, self.now))
        self._transcript.append(f"{self.now:>10.3f}  {size} sources, tcp {flags!r} each")
        return self

    def protocol(self, source: str, number: int) -> Self:
        """Send a packet of a transport protocol whose ports are not read."""
        return self.send(
            forge.ip(source, _host(source), number, bytes(8)), text=f"{source} protocol {number}"
        )

    def send(
        self, payload: bytes, *, unlisted: bool = True, partner: bool = False, peer: bool = False,
        forwarded: bool = False, text: str = "bytes",
    ) -> Self:  # fmt: skip
        meta = Meta(unlisted=unlisted, partner=partner, peer=peer, forwarded=forwarded)
        return self._handle(payload, meta, text)

    def _handle(self, payload: bytes, meta: Meta, text: str) -> Self:
        outcome = self.engine.handle(payload, meta, self.now, self._hardware)
        self.outcomes.append(outcome)
        self._transcript.append(f"{self.now:>10.3f}  {text}: {outcome.action}, {outcome.verdict}")
        return self

    def _transport(
        self, source: str, to: str | None, protocol: int, port: int, rest: bytes, text: str
    ) -> None:
        target = to or _host(source)
        self.send(
            forge.ip(source, target, protocol, rest),
            unlisted=port not in self._listed,
            partner=source in self._partners,
            peer=source in self._peers,
            text=f"{source} {text} {target} {port}",
        )

    # --- what is expected of the last packet

    def expect(self, verdict: int, action: Action) -> Self:
        outcome = self.outcomes[-1]
        assert (outcome.verdict, outcome.action) == (verdict, action), self._so_far()
        return self

    def expect_counted(self) -> Self:
        """Expect a new target below the trigger: dropped."""
        self.expect(DROP, "count")
        return self._expect_no_decision()

    def expect_counted_and_accepted(self) -> Self:
        """Expect a new target of a packet that the kernel may receive: accepted."""
        self.expect(ACCEPT, "count")
        return self._expect_no_decision()

    def expect_accepted(self) -> Self:
        """Expect no evidence: accepted."""
        self.expect(ACCEPT, "pass")
        return self._expect_no_decision()

    def expect_dropped(self) -> Self:
        """Expect a drop without new evidence: a retransmit, held, malformed, or refused."""
        self.expect(DROP, "pass")
        return self._expect_no_decision()

    def expect_block(self, address: str, **fields: Any) -> Self:
        """Expect that the last packet blocks the source of `address`; `fields` of the Block."""
        self.expect(DROP, "block")
        _check(self.block, address, fields, self._so_far())
        return self

    def expect_refusal(self, address: str, reason: str, **fields: Any) -> Self:
        outcome = self.outcomes[-1]
        assert outcome.action == "refuse", self._so_far()
        assert not outcome.blocks, self._so_far()
        _check(self.refusal, address, {"reason": reason, **fields}, self._so_far())
        return self

    def expect_confinement(self, address: str, **fields: Any) -> Self:
        outcome = self.outcomes[-1]
        assert outcome.action == "confine", self._so_far()
        assert outcome.verdict == DROP, self._so_far()
        assert not outcome.blocks, self._so_far()
        assert outcome.confinement is not None, self._so_far()
        _check(outcome.confinement, address, fields, self._so_far())
        return self

    def expect_no_block(self) -> Self:
        """Expect that the scenario blocked no source."""
        assert not any(outcome.blocks for outcome in self.outcomes), self._so_far()
        return self

    @property
    def block(self) -> Block:
        (block,) = self.outcomes[-1].blocks
        return block

    @property
    def refusal(self) -> Refusal:
        (refusal,) = self.outcomes[-1].refusals
        return refusal

    def _expect_no_decision(self) -> Self:
        outcome = self.outcomes[-1]
        assert not outcome.blocks, self._so_far()
        assert not outcome.refusals, self._so_far()
        return self

    def _so_far(self) -> str:
        return "\n".join(["", *self._transcript[-40:]])


def scenario(
    *, listed: set[int] | None = None, max_sources: int = 65536, **settings: Any
) -> Scenario:
    """An engine with fields of HORIZONS and POLICY replaced; `listed`: TCP and UDP ports."""
    horizons = {key: settings.pop(key) for key in Horizons._fields if key in settings}
    engine = Engine(HORIZONS._replace(**horizons), POLICY._replace(**settings), max_sources)
    return Scenario(engine, frozenset(listed or ()))


def _own(source: str) -> int:
    """Return a sequence number of the source's own: two senders do not choose the same one."""
    return zlib.crc32(source.encode())


def _sport(source: str) -> int:
    return 20000 + _own(source) % 20000


def _host(source: str) -> str:
    return HOST6 if ":" in source else HOST


def _check(
    decision: Block | Confinement | Refusal, address: str, fields: dict[str, Any], so_far: str
) -> None:
    assert decision.source == parse_source(address, LINK_LOCAL_ONLY), (
        f"{source_text(decision.source)}{so_far}"
    )
    found = {name: getattr(decision, name) for name in fields}
    assert found == fields, so_far
