"""Recognise packets to unlisted ports that are not probes: path traces and late replies.

Each rule names the innocent packets, and the probes of a scanner that pass as such. A reply learns
nothing: it is dropped, unless its source talked to us before. A path trace is answered, and so is
counted (Traces).

See docs/decisions.md: traces.
"""

from collections.abc import Callable
from typing import Final

from sentryfw.engine.flows import may_be_flow
from sentryfw.engine.model import Meta, Packet, Probe, Source, Stray
from sentryfw.engine.packet import UDP, timestamps

LATE: Final = Stray("late packet of a partner")
TRACE: Final = Stray("path trace")
UNCERTAIN_TRACE: Final = Stray("path trace in a flood", silent=True)
REPLY: Final = Stray("late reply", silent=True)
REPEATED: Final = Stray("repeated answer of a peer")
"""SYN+FIN+ACK: a NAT sends it behind the SYN/ACK with which a server answered us."""

MAX_TRACE_HOPS: Final = 30
"""Hops left, at most, in a path trace's packet: traceroute(8), tracepath(8) and mtr(8) count the
TTL up from 1 to 30. Where nothing answers they do not know that they have arrived. Stacks start at
64, 128 or 255, nmap at 37 or more."""
MIN_TRACE_PORT: Final = 32768
"""Lowest port of path traces: traceroute starts at 33434, tracepath at 44444, mtr at 33000."""
MAX_TRACE_PORTS: Final = 96
"""Ports of one source's path traces within the window: 30 hops, three probes each. More may be a
scan whose TTL fits the distance."""
MIN_REPLY_PORT: Final = 1024
"""Lowest port of a client."""

_MAX_PLACES: Final = 16384
"""Sources of path traces that are counted apart."""
_PLACE_BYTES: Final = 2 * MAX_TRACE_PORTS


class Traces:
    """Ports of path traces within the window, by source.

    A place is found by the source's hash, which depends on a secret of the process. Forged traces
    cannot make a place forget; all begin again when the window is over.
    """

    def __init__(self, window: float) -> None:
        self.window = window
        self._ports = bytearray()
        self._since = 0.0

    def judge(self, source: Source, packet: Packet, now: float, *, is_flood: bool) -> Probe | Stray:
        """Return a probe if the source sent to more ports than a path trace does. In flood mode the
        others' traces may be forged: then it is not evidence, and gets no answer."""
        if self._is_within(source, packet.dport, now):
            return TRACE
        if is_flood:
            return UNCERTAIN_TRACE
        return Probe(source, (packet.target, UDP, packet.dport), "udp")

    def expire(self, now: float) -> None:
        """Free the places once the window is over."""
        if self._ports and now - self._since >= self.window:
            self._ports = bytearray()

    def _is_within(self, source: Source, port: int, now: float) -> bool:
        """Count a port; return whether there is a place for it."""
        if not self._ports or now - self._since >= self.window:
            self._ports = bytearray(_MAX_PLACES * _PLACE_BYTES)
            self._since = now
        ports = self._ports
        start = (hash(source) & (_MAX_PLACES - 1)) * _PLACE_BYTES
        for at in range(start, start + _PLACE_BYTES, 2):
            known = ports[at] << 8 | ports[at + 1]
            if known == 0:
                ports[at], ports[at + 1] = port >> 8, port & 0xFF
                return True
            if known == port:
                return True
        return False


def gets_no_answer(stray: Stray, packet: Packet, meta: Meta) -> bool:
    """Return whether a packet beside the evidence is dropped, as its answer would show an address.

    Of a server that answered a host behind, data of a flow passes: after a flush of connection
    tracking a client that only receives has nothing to send that would make the flow known. See
    docs/decisions.md: download-behind.
    """
    if meta.forwarded:
        return not (meta.peer and stray is LATE and may_be_flow(packet))
    return stray.silent and not meta.peer


def udp_stray(packet: Packet) -> Stray | None:
    """Return why a datagram to an unlisted port is not a probe, or None if it may be one."""
    if packet.dport >= MIN_TRACE_PORT and _hops_left(packet) <= MAX_TRACE_HOPS:
        return TRACE
    is_reply = _REPLIES.get(packet.sport)
    data = packet.transport + 8
    if is_reply is not None and is_reply(packet.payload, data):
        return REPLY
    if packet.dport >= MIN_REPLY_PORT and packet.payload[data : data + 9] == b"HTTP/1.1 ":
        return REPLY  # to a multicast search; from any port (UPnP Device Architecture 2.0, 1.3.3)
    if packet.dport & 1 and packet.dport >= MIN_REPLY_PORT and _is_rtcp(packet.payload, data):
        return REPLY  # of a call that has ended, or whose program does not listen for it
    return None


def is_of_stack(packet: Packet) -> bool:
    """Return whether a bare FIN has a stack's timestamps: Apple's sends it when a connection is
    closed before it is answered. nmap's has no options."""
    return any(timestamps(packet)[:4])


def _is_rtcp(payload: bytes, data: int) -> bool:
    """Check for a sender or receiver report of the length in its header (RFC 3550, section 6.4 and
    A.2); what follows may be encrypted (RFC 3711, section 3.4). Its port is odd (section 11)."""
    return (
        len(payload) >= data + 8
        and payload[data] & 0xE0 == 0x80
        and payload[data + 1] & 0xFE == 200
        and len(payload) >= data + 4 + 4 * (payload[data + 2] << 8 | payload[data + 3])
    )


def _hops_left(packet: Packet) -> int:
    """Return the TTL (RFC 791) or hop limit (RFC 8200)."""
    return packet.payload[8] if len(packet.source) == 4 else packet.payload[7]


def _is_dns_response(payload: bytes, data: int) -> bool:
    """Check the QR bit (RFC 1035, section 4.1.1): an answer to a query of ours that had timed out.
    `nmap -g 53` sends queries or nothing."""
    return len(payload) >= data + 12 and bool(payload[data + 2] & 0x80)


def _is_ntp_server(payload: bytes, data: int) -> bool:
    """Check for mode 4, server (RFC 5905, section 7.3)."""
    return len(payload) >= data + 48 and payload[data] & 0x07 == 4


def _is_netbios_response(payload: bytes, data: int) -> bool:
    """Check the R bit of NetBIOS name service, set in a response (RFC 1002, section 4.2.1.1)."""
    return len(payload) >= data + 12 and bool(payload[data + 2] & 0x80)


def _is_snmp_response(payload: bytes, data: int) -> bool:
    """Check for a GetResponse, after version and community (RFC 1157, section 4; RFC 3416)."""
    at = _enter(payload, data, 0x30)
    if payload[at : at + 2] != b"\x02\x01" or payload[at + 2 : at + 3] not in (b"\0", b"\1"):
        return False
    community = _enter(payload, at + 3, 0x04)
    if community >= len(payload):
        return False
    at = community + payload[at + 4]  # a community is shorter than 128 bytes
    return payload[at : at + 1] == b"\xa2"


def _enter(payload: bytes, at: int, tag: int) -> int:
    """Return the offset of an ASN.1 value with that tag (BER: X.690, section 8.1), or the end."""
    if at + 1 >= len(payload) or payload[at] != tag:
        return len(payload)
    size = payload[at + 1]
    return at + 2 + (size & 0x7F if size & 0x80 else 0)


_REPLIES: Final[dict[int, Callable[[bytes, int], bool]]] = {
    53: _is_dns_response,
    123: _is_ntp_server,
    137: _is_netbios_response,
    161: _is_snmp_response,
    5353: _is_dns_response,
    5355: _is_dns_response,
}
"""Checks by source port, for services that answer late or to a multicast query. The content must be
an answer: `nmap -g` forges the source port alone."""
