"""Packets of unknown flows: no evidence for a minute after a failover, and dropped all the same."""

import struct

import pytest

from sentryfw.engine.engine import Engine
from sentryfw.engine.flows import UNKNOWN_FLOW, may_be_flow
from sentryfw.engine.model import ACCEPT, DROP, Meta, Outcome, Packet
from sentryfw.engine.packet import decode
from support import forge
from support.transcript import A6, HORIZONS, HOST, HOST6, POLICY, STRANGER, A

FIN, SYN, RST, PSH, ACK, URG = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
TIMESTAMP = b"\1\1\x08\x0a" + struct.pack("!II", 7, 9)
FIRST_TIMESTAMP = b"\1\1\x08\x0a" + struct.pack("!II", 0xFFFFFFFF, 0)
"""The option of nmap -O, which answers none of ours."""
UNTIL = 60.0


def _tcp(
    flags: int = ACK, sport: int = 443, dport: int = 50000, options: bytes = b"",
    data: bytes = b"", source: str = A,
) -> bytes:  # fmt: skip
    words = 5 + len(options) // 4
    header = struct.pack("!HHIIBBHHH", sport, dport, 1, 2, words << 4, flags, 500, 0, 0)
    return _packet(source, 6, header + options + data)


def _udp(sport: int, dport: int, source: str = A, data: bytes = b"?") -> bytes:
    return _packet(source, 17, struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data)


def _packet(source: str, protocol: int, rest: bytes) -> bytes:
    here, there = forge.packed(source), forge.packed(HOST6 if ":" in source else HOST)
    if len(here) == 16:
        return struct.pack("!IHBB", 6 << 28, len(rest), protocol, 64) + here + there + rest
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(rest), 0, 0, 64, protocol, 0)
    return header + here + there + rest


def _engine(until: float = UNTIL) -> Engine:
    engine = Engine(HORIZONS, POLICY)
    engine.flows_unknown_until = until
    return engine


def _handle(engine: Engine, payloads: list[bytes], now: float, meta: Meta = STRANGER) -> Outcome:
    for payload in payloads:
        outcome = engine.handle(payload, meta, now)
    return outcome


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (_tcp(data=b"x"), True),
        (_tcp(ACK | PSH, data=b"x"), True),
        (_tcp(FIN | ACK, options=TIMESTAMP), True),
        (_tcp(options=TIMESTAMP), True),
        (_tcp(options=TIMESTAMP, source=A6), True),
        (_tcp(), False),
        (_tcp(FIN | ACK), False),
        (_tcp(options=FIRST_TIMESTAMP), False),
        (_tcp(options=b"\1\1\1\1"), False),
        (_tcp(options=b"\x08\0\0\0"), False),
        (_tcp(SYN, data=b"x"), False),
        (_tcp(SYN | ACK, options=TIMESTAMP), False),
        (_tcp(RST | ACK, options=TIMESTAMP), False),
        (_tcp(FIN, options=TIMESTAMP), False),
        (_tcp(0, data=b"x"), False),
        (_tcp(dport=1023, data=b"x"), False),
        (_tcp(dport=1024, data=b"x"), True),
        (_udp(443, 50000), True),
        (_udp(443, 50000, A6), True),
        (_udp(50001, 50000), False),
        (_udp(53, 161), False),
    ],
)
def test_what_may_belong_to_a_flow(payload: bytes, *, expected: bool) -> None:
    packet = decode(payload)
    assert isinstance(packet, Packet)
    assert may_be_flow(packet) is expected


@pytest.mark.parametrize("source", [A, A6], ids=["ipv4", "ipv6"])
def test_a_server_with_many_flows_is_not_blocked_after_a_failover(source: str) -> None:
    engine = _engine()
    ports = range(50000, 50100)
    payloads = [_tcp(dport=port, options=TIMESTAMP, source=source) for port in ports]
    payloads += [_udp(443, port, source) for port in ports]
    outcome = _handle(engine, payloads, UNTIL - 1)
    assert (outcome.verdict, outcome.action, outcome.blocks) == (DROP, "pass", ())
    assert len(engine.tracker) == 0
    assert engine.counters.strays[UNKNOWN_FLOW.reason] == 200


def test_these_packets_are_a_scan_at_any_other_time() -> None:
    payloads = [_tcp(dport=port, options=TIMESTAMP) for port in (50000, 50001, 50002)]
    assert _handle(_engine(), payloads, UNTIL + 1).action == "block"


@pytest.mark.parametrize(
    "payloads",
    [
        [_tcp(dport=port) for port in (50000, 50001, 50002)],
        [_tcp(SYN, dport=port, options=TIMESTAMP) for port in (50000, 50001, 50002)],
        [_tcp(dport=port, options=TIMESTAMP) for port in (22, 80, 443)],
        [_udp(53, port) for port in (161, 500, 623)],
        [_udp(50000, port) for port in (1900, 5683, 11211)],
        [_udp(53, port, data=b"") for port in (7001, 7002, 7003)],
    ],
    ids=["nmap -sA", "nmap -sS", "low-ports", "udp-low-ports", "udp-high-source", "nmap -sU -g 53"],
)
def test_a_scanner_is_blocked_after_a_failover_too(payloads: list[bytes]) -> None:
    assert _handle(_engine(), payloads, 1.0).action == "block"


def test_where_unlisted_ports_answer_unknown_flows_pass() -> None:
    engine = Engine(HORIZONS, POLICY._replace(unlisted=ACCEPT))
    engine.flows_unknown_until = UNTIL
    assert _handle(engine, [_tcp(data=b"x")], 1.0).verdict == ACCEPT


def test_a_blocked_source_stays_drained() -> None:
    engine = _engine(0.0)
    scan = [_tcp(SYN, dport=port) for port in (1, 2, 3)]
    assert _handle(engine, scan, 1.0).action == "block"
    engine.flows_unknown_until = UNTIL
    assert _handle(engine, [_tcp(data=b"x")], 1.5).verdict == DROP
