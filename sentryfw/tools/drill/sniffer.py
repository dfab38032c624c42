"""The packets that left and reached the attacker, with the kernel's timestamps (packet(7))."""

import socket
import struct
import threading
from collections.abc import Iterator
from typing import Final, NamedTuple

from sentryfw.engine.model import Packet
from sentryfw.engine.packet import decode
from sentryfw.netlink.socket import enlarge
from sentryfw.tools.drill.namespace import Namespace

ETH_P_ALL: Final = 3
PACKET_OUTGOING: Final = 4
SO_TIMESTAMPNS: Final = 35
ICMP: Final = 1
ICMPV6: Final = 58
ICMP_UNREACHABLE: Final = 3
ICMPV6_UNREACHABLE: Final = 1
RECEIVE_BUFFER_BYTES: Final = 16 << 20
POLL_S: Final = 0.2


class Sighting(NamedTuple):
    """A frame at the attacker's interface."""

    at: float
    """Seconds since the epoch."""
    sent: bool
    """Whether the attacker sent it."""
    packet: Packet
    icmp_type: int | None


class Sniffer:
    """Records every IP packet on an interface of a namespace, from its construction on."""

    def __init__(self, namespace: Namespace, interface: str) -> None:
        self._socket = namespace.call(lambda: _open(interface))
        self._sightings: list[Sighting] = []
        self._running = True
        self._thread = threading.Thread(target=self._work, name="sniffer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the recording."""
        self._running = False
        self._thread.join()
        self._socket.close()

    def take(self) -> list[Sighting]:
        """Return the packets since the last call."""
        taken, self._sightings = self._sightings, []
        return taken

    def _work(self) -> None:
        while self._running:
            try:
                frame, ancillary, _, address = self._socket.recvmsg(2048, 64)
            except TimeoutError:
                continue
            except OSError:  # the interface went with its namespace
                return
            packet = decode(frame)
            if isinstance(packet, Packet):
                icmp = frame[packet.transport : packet.transport + 1]
                is_icmp = packet.protocol in (ICMP, ICMPV6) and icmp
                self._sightings.append(
                    Sighting(
                        _time(ancillary),
                        address[2] == PACKET_OUTGOING,
                        packet,
                        icmp[0] if is_icmp else None,
                    )
                )


def answers_after(sightings: list[Sighting], moment: float) -> int:
    """Count the packets that answer a packet which the attacker sent after the moment.

    A SYN/ACK that the kernel repeats for an earlier probe is not an answer to a later packet; an
    answer has the ports of its packet, exchanged.
    """
    sent: dict[tuple[bytes, int, int, int], float] = {}
    count = 0
    for sighting in sightings:
        packet = sighting.packet
        if sighting.sent:
            sent[packet.target, packet.protocol, packet.dport, packet.sport] = sighting.at
        elif sighting.icmp_type is not None:
            count += _is_unreachable(packet, sighting.icmp_type) and sighting.at > moment
        else:
            key = (packet.source, packet.protocol, packet.sport, packet.dport)
            count += sent.get(key, 0.0) > moment
    return count


def probes(sightings: list[Sighting]) -> Iterator[Sighting]:
    """Yield the probes that the attacker sent, without neighbour discovery."""
    return (item for item in sightings if item.sent and item.icmp_type is None)


def _is_unreachable(packet: Packet, icmp_type: int) -> bool:
    expected = ICMP_UNREACHABLE if packet.protocol == ICMP else ICMPV6_UNREACHABLE
    return icmp_type == expected


def _open(interface: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
    enlarge(sock, RECEIVE_BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    sock.bind((interface, ETH_P_ALL))
    sock.settimeout(POLL_S)
    return sock


def _time(ancillary: list[tuple[int, int, bytes]]) -> float:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = struct.unpack("=qq", data[:16])
            return float(seconds + nanoseconds / 1e9)
    return 0.0
