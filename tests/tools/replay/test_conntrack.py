"""Connection tracking of a recorded host: which packets belong to which flow, and for how long."""

from ipaddress import ip_network
from typing import Final

import pytest

from sentryfw.engine.classify import ACK, FIN, RST, SYN
from sentryfw.engine.model import Packet
from sentryfw.engine.packet import TCP, UDP
from sentryfw.tools.replay.conntrack import (
    MAX_FLOWS,
    TCP_CLOSED_S,
    TCP_ENDING_S,
    TCP_ESTABLISHED_S,
    TRACKED,
    UDP_ANSWERED_S,
    UDP_UNANSWERED_S,
    Connections,
)
from sentryfw.tools.replay.view import CaptureView, Line

US: Final = bytes((192, 0, 2, 1))
THEM: Final = bytes((203, 0, 113, 7))
LINE: Final[Line] = (THEM, US, TCP, 40000, 22)
UDP_LINE: Final[Line] = (THEM, US, UDP, 40000, 53)


def _connections() -> Connections:
    return Connections(CaptureView((ip_network("192.0.2.1"),), frozenset(((TCP, 22),))))


def _packet(flags: int = 0, line: Line = LINE) -> Packet:
    source, target, protocol, sport, dport = line
    return Packet(
        source=source, target=target, protocol=protocol, sport=sport, dport=dport, flags=flags,
        transport=20, payload=b"",
    )  # fmt: skip


def _handshake(connections: Connections) -> None:
    connections.confirm(_packet(SYN), 0.0)
    flow = connections.find(LINE, _packet(SYN | ACK), 0.0)
    assert flow is not None
    connections.send(LINE, flow, _packet(SYN | ACK), 0.0)
    assert connections.receive(flow, _packet(ACK), 0.0)


def test_a_flow_is_established_once_it_was_answered() -> None:
    connections = _connections()
    connections.confirm(_packet(SYN), 0.0)
    flow = connections.find(LINE, _packet(SYN), 0.1)
    assert flow is not None
    assert not connections.receive(flow, _packet(SYN), 0.1)
    connections.send(LINE, flow, _packet(SYN | ACK), 0.2)
    assert connections.receive(flow, _packet(ACK), 0.3)
    assert flow.assured


@pytest.mark.parametrize("flags", [FIN | ACK, RST, RST | ACK])
def test_only_an_acknowledgement_finishes_the_handshake(flags: int) -> None:
    connections = _connections()
    connections.confirm(_packet(SYN), 0.0)
    flow = connections.find(LINE, _packet(SYN), 0.1)
    assert flow is not None
    connections.send(LINE, flow, _packet(SYN | ACK), 0.1)
    assert connections.receive(flow, _packet(flags), 0.1)
    assert not flow.assured


@pytest.mark.parametrize(
    ("flags", "seconds"),
    [(ACK, TCP_ESTABLISHED_S), (FIN | ACK, TCP_ENDING_S), (RST, TCP_CLOSED_S)],
)
def test_a_flow_is_forgotten_after_the_timeout_of_its_state(flags: int, seconds: float) -> None:
    connections = _connections()
    _handshake(connections)
    flow = connections.find(LINE, _packet(flags), 1.0)
    assert flow is not None
    connections.receive(flow, _packet(flags), 1.0)
    assert connections.find(LINE, _packet(ACK), seconds) is flow
    assert connections.find(LINE, _packet(ACK), 1.0 + seconds) is None


def test_a_syn_opens_a_closing_flow_again() -> None:
    connections = _connections()
    _handshake(connections)
    flow = connections.find(LINE, _packet(FIN | ACK), 1.0)
    assert flow is not None
    connections.receive(flow, _packet(FIN | ACK), 1.0)
    assert connections.find(LINE, _packet(SYN), 2.0) is None
    assert len(connections) == 0


def test_an_answer_lengthens_a_udp_flow() -> None:
    connections = _connections()
    connections.confirm(_packet(line=UDP_LINE), 0.0)
    assert connections.find(UDP_LINE, _packet(line=UDP_LINE), UDP_UNANSWERED_S) is None
    connections.confirm(_packet(line=UDP_LINE), 0.0)
    flow = connections.find(UDP_LINE, _packet(line=UDP_LINE), 1.0)
    assert flow is not None
    connections.send(UDP_LINE, flow, _packet(line=UDP_LINE), 1.0)
    assert connections.find(UDP_LINE, _packet(line=UDP_LINE), UDP_ANSWERED_S) is flow


@pytest.mark.parametrize("flags", [0, FIN, SYN | FIN, SYN | RST, FIN | RST])
def test_a_segment_with_invalid_flags_belongs_to_no_flow(flags: int) -> None:
    connections = _connections()
    _handshake(connections)
    assert not TRACKED[flags]
    assert connections.find(LINE, _packet(flags), 1.0) is None


@pytest.mark.parametrize("flags", [0, FIN | ACK, RST, SYN | ACK])
def test_a_segment_that_cannot_open_a_connection_starts_no_flow(flags: int) -> None:
    connections = _connections()
    connections.confirm(_packet(flags), 0.0)
    assert len(connections) == 0


def test_the_oldest_flow_goes_first() -> None:
    connections = _connections()
    lines: list[Line] = [(THEM, US, UDP, n & 0xFFFF, n >> 16) for n in range(MAX_FLOWS + 1)]
    for line in lines:
        connections.confirm(_packet(line=line), 0.0)
    assert len(connections) == MAX_FLOWS
    assert connections.find(lines[0], _packet(line=lines[0]), 0.0) is None
    assert connections.find(lines[1], _packet(line=lines[1]), 0.0) is not None
