"""Attribute a probe to a scanner by its header fields; "unknown" rather than a guess.

A signature is a combination that a tool's code fixes and no operating system sends
(docs/fingerprints.md). It explains a block and never decides one: headers can be copied.
"""

import struct
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from sentryfw.engine.classify import ACK, SYN
from sentryfw.engine.model import Kind, Packet
from sentryfw.engine.packet import TCP, UDP

Tool = Literal["nmap", "masscan", "zmap", "hping3", "unicornscan", "mirai", "unknown"]

Sent = tuple[bytes, Packet, Kind]
"""Arguments of attribute() for one probe."""

_IPV4 = struct.Struct("!4xHHB")
_TCP = struct.Struct("!4xIIBxH")

_SIZES: Final = {TCP: 20, UDP: 8}
_MSS_1460: Final = b"\x02\x04\x05\xb4"  # RFC 9293, section 3.7.1


class _Header(NamedTuple):
    """Header fields that the signatures read; ident, df and ttl are 0 in IPv6, flow in IPv4."""

    packet: Packet
    kind: Kind
    ipv4: bool
    target: int
    ident: int
    df: bool
    ttl: int
    flow: int
    seq: int
    ack: int
    window: int
    options: bytes | None
    """None: UDP, or cut off."""


def attribute(payload: bytes, packet: Packet, kind: Kind) -> Tool:
    """Return the tool that sent a probe. `packet` is the decoded `payload`."""
    header = _read(payload, packet, kind)
    tools = (tool for tool, signature in _SIGNATURES if header and signature(header))
    return next(tools, "unknown")


def attribute_pair(first: Sent, second: Sent) -> Tool:
    """Return the tool that sent two probes of one source; only two show unicornscan's key."""
    known = {attribute(*first), attribute(*second)} - {"unknown"}
    if known:
        return known.pop() if len(known) == 1 else "unknown"
    key = _unicornscan_key(_read(*first))
    if key is None or key != _unicornscan_key(_read(*second)):
        return "unknown"
    # A retransmitted SYN (Linux: without ECN) has the same seq and ports, hence the same key.
    return "unicornscan" if _flow(first[1]) != _flow(second[1]) else "unknown"


def _flow(packet: Packet) -> tuple[bytes, bytes, int, int, int]:
    return packet.source, packet.target, packet.protocol, packet.sport, packet.dport


def _unicornscan_key(header: _Header | None) -> int | None:
    """Return unicornscan's key of a TCP probe, or None.

    seq = key ^ target ^ (dport << 16 | sport), ack 0; a random key for each scan, the target in
    the sender's byte order, assumed little-endian (unicornscan: tcphash.h, TCPHASHTRACK; Ghiette,
    Blenn, Doerr 2016). By chance two keys are equal once in 2^32.
    """
    if header is None or not header.ipv4 or header.packet.protocol != TCP or header.ack:
        return None
    target = int.from_bytes(header.packet.target, "little")
    return header.seq ^ target ^ (header.packet.dport << 16 | header.packet.sport)


def _mirai(header: _Header) -> bool:
    """Check for seq = target (Mirai: bot/scanner.c, scanner_init; Antonakakis et al. 2017).
    By chance: 1 SYN in 2^32."""
    return header.ipv4 and header.kind == "syn" and header.seq == header.target


def _nmap_os(header: _Header) -> bool:
    """Check for nmap -O: the timestamp option with ffffffff and 0 (nmap: osscan2.cc; nmap.org/book,
    TCP/IP Fingerprinting Methods). By chance: a clock at its last tick, 1 SYN in 2^32."""
    return b"\x08\x0a\xff\xff\xff\xff\0\0\0\0" in (header.options or b"")


def _zmap(header: _Header) -> bool:
    """Check for IP ID 54321 without DF, of versions before 4.1.0 (zmap: probe_modules/packet.c,
    make_ip_header; Durumeric, Bailey, Halderman 2014). By chance: 1 in 2^16 of SYNs with the
    largest window and no option but MSS, which no current stack sends; 1 in 2^16 of UDP packets
    whose TTL began at 255, where hosts use 64."""
    if header.ident != 54321 or header.df:
        return False
    if header.kind == "udp":
        return header.ttl > 128
    return header.kind == "syn" and header.window == 65535 and header.options in (b"", _MSS_1460)


def _masscan(header: _Header) -> bool:
    """Check for IP ID = target ^ dport ^ seq, their low halves; window 1024, or 1025 with MSS
    (masscan: templ-pkt.c, template_set_target; Durumeric, Bailey, Halderman 2014). By chance: 1 in
    2^16 of such SYNs, which no current stack sends."""
    if not header.ipv4 or header.kind != "syn" or header.df or header.ack:
        return False
    relation = (header.target ^ header.packet.dport ^ header.seq) & 0xFFFF
    shape = (header.window, header.options)
    return header.ident == relation and shape in ((1024, b""), (1025, _MSS_1460))


def _hping3(header: _Header) -> bool:
    """Check for window 512, no options, a random ack number though ACK is clear (hping: sendtcp.c;
    hping2.h, DEFAULT_SRCWINSIZE; hping3(8) documents 64, the program sends 512). Stacks send ack 0
    there; by chance: 1 in 2^16 of headers with random fields. With ACK set it has no signature."""
    has_stray_ack = header.ack != 0 and not header.packet.flags & ACK
    return header.ipv4 and has_stray_ack and header.window == 512 and header.options == b""


def _nmap(header: _Header) -> bool:
    """Check for window 1024 (to 4096 in old versions); MSS 1460 alone with SYN, else no option; a
    cookie in seq or, with ACK, in ack, and 0 in the other; no DF, TTL 59 at most; IPv6: flow label
    0 (nmap: scan_engine_raw.cc, sendIPScanProbe; tcpip.cc, build_tcp). By chance: 1 ACK in 2^32.
    No full stack sends the rest; a tiny one can if its only window is one of these 4 of 2^16."""
    if header.window not in (1024, 2048, 3072, 4096):
        return False
    if header.df or header.ttl > 59 or header.flow:
        return False
    flags = header.packet.flags
    cookie, zero = (header.ack, header.seq) if flags & ACK else (header.seq, header.ack)
    return cookie > 0 == zero and header.options == (_MSS_1460 if flags & SYN else b"")


_SIGNATURES: Final[tuple[tuple[Tool, Callable[[_Header], bool]], ...]] = (
    ("mirai", _mirai), ("nmap", _nmap_os), ("zmap", _zmap), ("masscan", _masscan),
    ("hping3", _hping3), ("nmap", _nmap),
)  # fmt: skip
"""Signatures in the order of their bits, the most first."""


def _read(payload: bytes, packet: Packet, kind: Kind) -> _Header | None:
    """Return the header fields of a probe, or None if it has no TCP or UDP header."""
    at, ipv4 = packet.transport, len(packet.target) == 4
    if packet.protocol not in _SIZES or len(payload) < at + _SIZES[packet.protocol]:
        return None
    ident, fragment, ttl = _IPV4.unpack_from(payload) if ipv4 else (0, 0, 0)
    flow = 0 if ipv4 else int.from_bytes(payload[1:4]) & 0xFFFFF
    seq = ack = window = 0
    options: bytes | None = None
    if packet.protocol == TCP:
        seq, ack, words, window = _TCP.unpack_from(payload, at)
        end = at + (words >> 4 << 2)
        options = payload[at + 20 : end] if end <= len(payload) else None
    return _Header(
        packet, kind, ipv4=ipv4, target=int.from_bytes(packet.target), ident=ident,
        df=bool(fragment & 0x4000), ttl=ttl, flow=flow, seq=seq, ack=ack, window=window,
        options=options,
    )  # fmt: skip
