"""Scanners by their headers: recorded and live probes get their tool's name, all else "unknown"."""

import json
import shutil
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any, Final, get_args

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sentryfw.engine.classify import BACKSCATTER, FLAGS, TCP_KINDS
from sentryfw.engine.fingerprint import Sent, Tool, attribute, attribute_pair
from sentryfw.engine.model import KINDS, Kind, Packet
from sentryfw.engine.packet import TCP, UDP, decode
from sentryfw.tools.drill.namespace import Namespace, add_address, connect
from support.forge import flag_byte, packed
from support.golden import GOLDEN
from support.waiting import wait_for

A: Final = "198.51.100.7"
B: Final = "192.0.2.129"
A6: Final = "2001:db8:a::7"
B6: Final = "2001:db8:b::1"

MSS: Final = bytes.fromhex("020405b4")
WINDOWS: Final = bytes.fromhex("020405b40103030801010402")
LINUX: Final = bytes.fromhex("020405b40402080a0a1b2c3d0000000001030307")
FREEBSD: Final = bytes.fromhex("020405b4010303060402080a0a1b2c3d00000000")
MACOS: Final = bytes.fromhex("020405b4010303060101080a0a1b2c3d0000000004020000")
OS_PROBE: Final = bytes.fromhex("03030a0102040109080affffffff000000000402")


def _tcp(
    *,
    source: str = A, target: str = B, sport: int = 40000, dport: int = 7001, flags: str = "S",
    ident: int = 4660, df: bool = False, ttl: int = 50, flow: int = 0,
    seq: int = 0x12345678, ack: int = 0, window: int = 1024, options: bytes = b"",
) -> bytes:  # fmt: skip
    """One TCP header in IPv4 or IPv6, as the addresses are written; a random scanner's."""
    header = struct.pack(
        "!HHIIBBHHH",
        sport, dport, seq, ack, (20 + len(options)) << 2, flag_byte(flags), window, 0, 0,
    ) + options  # fmt: skip
    return _ip(source, target, TCP, header, ident=ident, df=df, ttl=ttl, flow=flow)


def _udp(
    *, target: str = B, dport: int = 53, ident: int = 4660, df: bool = False, ttl: int = 50
) -> bytes:
    source = A6 if ":" in target else A
    return _ip(source, target, UDP, struct.pack("!HHHH", 40000, dport, 8, 0), ident, df=df, ttl=ttl)


def _ip(
    source: str, target: str, protocol: int, rest: bytes, ident: int, *, df: bool, ttl: int,
    flow: int = 0,
) -> bytes:  # fmt: skip
    addresses = packed(source) + packed(target)
    if len(addresses) == 32:
        return struct.pack("!IHBB", 6 << 28 | flow, len(rest), protocol, ttl) + addresses + rest
    start = (0x45, 0, 20 + len(rest), ident, 0x4000 * df, ttl, protocol, 0)
    return struct.pack("!BBHHHBBH", *start) + addresses + rest


def _sent(payload: bytes) -> Sent:
    packet = decode(payload)
    assert isinstance(packet, Packet)
    return payload, packet, _kind(packet)


def _kind(packet: Packet) -> Kind:
    return "udp" if packet.protocol == UDP else TCP_KINDS[packet.flags & FLAGS]


def _tool(payload: bytes) -> Tool:
    return attribute(*_sent(payload))


# --- recorded probes

RECORDED: Final[dict[str, Tool]] = {
    "hping3_ack": "unknown",
    "hping3_fin": "hping3",
    "hping3_null": "hping3",
    "hping3_syn": "hping3",
    "hping3_synfin": "hping3",
    "hping3_udp": "unknown",
    "hping3_xmas": "hping3",
    "linux_syn": "unknown",
    "linux_syn6": "unknown",
    "linux_udp": "unknown",
    "masscan_syn": "masscan",
    "masscan_syn6": "unknown",
    "masscan_udp": "unknown",
    "nmap_ack": "nmap",
    "nmap_ack6": "nmap",
    "nmap_fin": "nmap",
    "nmap_maimon": "nmap",
    "nmap_null": "nmap",
    "nmap_null6": "nmap",
    "nmap_os_null": "nmap",
    "nmap_os_syn": "nmap",
    "nmap_syn": "nmap",
    "nmap_syn6": "nmap",
    "nmap_synfin": "nmap",
    "nmap_udp": "unknown",
    "nmap_xmas": "nmap",
    "zmap_syn": "zmap",
    "zmap_udp": "zmap",
}


def _recorded(name: str) -> bytes:
    lines = (GOLDEN / "probes" / f"{name}.hex").read_text().splitlines()
    return bytes.fromhex("".join(line for line in lines if not line.startswith("#")))


@pytest.mark.parametrize(("name", "tool"), RECORDED.items(), ids=RECORDED)
def test_a_recorded_probe_is_attributed(name: str, tool: Tool) -> None:
    assert _tool(_recorded(name)) == tool


def test_every_recorded_probe_is_expected() -> None:
    assert {path.stem for path in (GOLDEN / "probes").glob("*.hex")} == set(RECORDED)


# --- one field makes the difference


def _mirai(**changed: Any) -> bytes:
    return _tcp(**{"seq": int.from_bytes(packed(B)), "window": 31000, **changed})


def _zmap(**changed: Any) -> bytes:
    return _tcp(**{"ident": 54321, "window": 65535, "ttl": 240, **changed})


def _masscan(**changed: Any) -> bytes:
    """seq ^ target ^ dport = 12345678 ^ c0000281 ^ 1b59: the low half is 4fa0."""
    return _tcp(**{"ident": 0x4FA0, "ttl": 240, **changed})


def _hping3(**changed: Any) -> bytes:
    return _tcp(**{"ack": 0x9ABCDEF0, "window": 512, "ttl": 60, **changed})


def _nmap(**changed: Any) -> bytes:
    return _tcp(**{"options": MSS, **changed})


def _nmap_fin(**changed: Any) -> bytes:
    return _tcp(**{"flags": "F", **changed})


def _nmap_ack(**changed: Any) -> bytes:
    return _tcp(**{"flags": "A", "seq": 0, "ack": 0x9ABCDEF0, **changed})


def _nmap6(**changed: Any) -> bytes:
    return _nmap(**{"source": A6, "target": B6, "ttl": 255, **changed})


def _nmap_os(**changed: Any) -> bytes:
    return _tcp(**{"options": OS_PROBE, "window": 256, **changed})


def _zmap_udp(**changed: Any) -> bytes:
    return _udp(**{"ident": 54321, "ttl": 240, **changed})


@pytest.mark.parametrize(
    ("payload", "tool"),
    [
        pytest.param(_mirai(), "mirai", id="mirai"),
        pytest.param(_zmap(), "zmap", id="zmap"),
        pytest.param(_zmap(options=MSS), "zmap", id="zmap-3"),
        pytest.param(_zmap_udp(), "zmap", id="zmap-udp"),
        pytest.param(_zmap_udp(ttl=129), "zmap", id="zmap-udp-far"),
        pytest.param(_masscan(), "masscan", id="masscan"),
        pytest.param(_masscan(window=1025, options=MSS), "masscan", id="masscan-with-mss"),
        pytest.param(_hping3(), "hping3", id="hping3"),
        pytest.param(_hping3(df=True), "hping3", id="hping3-dontfrag"),
        pytest.param(_nmap(), "nmap", id="nmap"),
        pytest.param(_nmap(window=4096), "nmap", id="nmap-old"),
        pytest.param(_nmap(ttl=59), "nmap", id="nmap-near"),
        pytest.param(_nmap_fin(), "nmap", id="nmap-fin"),
        pytest.param(_nmap_ack(), "nmap", id="nmap-ack"),
        pytest.param(_nmap6(), "nmap", id="nmap6"),
        pytest.param(_nmap_os(), "nmap", id="nmap-os"),
    ],
)
def test_a_forged_probe_is_attributed(payload: bytes, tool: Tool) -> None:
    assert _tool(payload) == tool


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(_mirai(seq=0x810200C0), id="mirai-other-byte-order"),
        pytest.param(_mirai(seq=0xC0000282), id="mirai-neighbour"),
        pytest.param(_mirai(flags="F"), id="mirai-fin"),
        pytest.param(_mirai(source=A6, target="::c000:281"), id="mirai-ipv6"),
        pytest.param(_zmap(ident=54320), id="zmap-ident"),
        pytest.param(_zmap(df=True), id="zmap-df"),
        pytest.param(_zmap(window=64240), id="zmap-window"),
        pytest.param(_zmap(options=WINDOWS), id="zmap-options"),
        pytest.param(_zmap(flags="F"), id="zmap-fin"),
        pytest.param(_zmap_udp(ttl=128), id="zmap-udp-ttl"),
        pytest.param(_zmap_udp(df=True), id="zmap-udp-df"),
        pytest.param(_zmap_udp(target=B6), id="zmap-udp-ipv6"),
        pytest.param(_masscan(ident=0x4FA1), id="masscan-ident"),
        pytest.param(_masscan(dport=7000), id="masscan-dport"),
        pytest.param(_masscan(seq=0x12345679), id="masscan-seq"),
        pytest.param(_masscan(target="192.0.2.130"), id="masscan-target"),
        pytest.param(_masscan(window=1026), id="masscan-window"),
        pytest.param(_masscan(ack=1), id="masscan-ack-number"),
        pytest.param(_masscan(df=True), id="masscan-df"),
        pytest.param(_masscan(window=1025), id="masscan-window-without-mss"),
        pytest.param(_masscan(options=MSS), id="masscan-mss-without-window"),
        pytest.param(_masscan(flags="PF"), id="masscan-flags"),
        # An IP ID of 0, had IPv6 one: 1 ^ 7001 ^ 7000.
        pytest.param(_masscan(source=A6, target=B6, seq=7000), id="masscan-ipv6"),
        pytest.param(_hping3(window=64), id="hping3-window-of-its-manual"),
        pytest.param(_hping3(ack=0), id="hping3-no-ack-number"),
        pytest.param(_hping3(flags="A"), id="hping3-ack"),
        pytest.param(_hping3(options=MSS), id="hping3-options"),
        pytest.param(_hping3(source=A6, target=B6), id="hping3-ipv6"),
        pytest.param(_nmap(window=1023), id="nmap-window"),
        pytest.param(_nmap(window=5120), id="nmap-five-times"),
        pytest.param(_nmap(df=True), id="nmap-df"),
        pytest.param(_nmap(ttl=60), id="nmap-ttl"),
        pytest.param(_nmap(options=b""), id="nmap-no-mss"),
        pytest.param(_nmap(options=bytes.fromhex("020405a0")), id="nmap-other-mss"),
        pytest.param(_nmap(options=WINDOWS), id="nmap-more-options"),
        pytest.param(_nmap(ack=1), id="nmap-ack-number"),
        pytest.param(_nmap(seq=0), id="nmap-no-cookie"),
        pytest.param(_nmap_fin(options=MSS), id="nmap-fin-mss"),
        pytest.param(_nmap_fin(ack=1), id="nmap-fin-ack-number"),
        pytest.param(_nmap_ack(seq=1), id="nmap-ack-seq"),
        pytest.param(_nmap_ack(ack=0), id="nmap-ack-no-cookie"),
        pytest.param(_nmap6(flow=1), id="nmap6-flow-label"),
        pytest.param(_nmap_os(options=OS_PROBE.replace(b"\xff" * 4, b"\xff\xff\xff\xfe")),
                     id="nmap-os-timestamp"),
    ],
)  # fmt: skip
def test_a_near_miss_is_unknown(payload: bytes) -> None:
    assert _tool(payload) == "unknown"


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(_tcp(options=LINUX, window=64240, df=True, ttl=60), id="linux"),
        pytest.param(_tcp(options=WINDOWS, window=64240, df=True, ttl=120), id="windows"),
        pytest.param(_tcp(options=WINDOWS, window=65535, df=True, ttl=120), id="windows-11"),
        pytest.param(_tcp(options=WINDOWS, window=65535, ttl=240), id="zmap-4.3-like-windows"),
        pytest.param(_tcp(options=FREEBSD, window=65535, df=True, ttl=60), id="freebsd"),
        pytest.param(_tcp(options=MACOS, window=65535, df=True, ttl=60), id="macos"),
        pytest.param(_tcp(options=MSS, window=5840, ttl=250), id="lwip"),
        pytest.param(_tcp(options=MSS, window=4128, ttl=250), id="cisco"),
        pytest.param(_tcp(flags="A", ack=7, window=1024, df=True, ttl=50), id="late-ack"),
        pytest.param(_tcp(flags="FA", ack=7, window=512, df=True, ttl=50), id="late-fin"),
        pytest.param(_tcp(source=A6, target=B6, options=LINUX, window=64800, flow=7), id="linux-6"),
        pytest.param(_udp(ident=54321, ttl=60), id="udp"),
        pytest.param(_udp(target=B6), id="udp-6"),
    ],
)
def test_an_operating_system_is_unknown(payload: bytes) -> None:
    assert _tool(payload) == "unknown"


@pytest.mark.parametrize(
    ("payload", "tool"),
    [
        # masscan's relation, with the target as seq, is IP ID = dport.
        pytest.param(_mirai(ident=7001, window=1024), "mirai", id="mirai-not-masscan"),
        pytest.param(_mirai(ident=54321, window=65535), "mirai", id="mirai-not-zmap"),
        pytest.param(_mirai(options=MSS, window=1024), "mirai", id="mirai-not-nmap"),
        pytest.param(_mirai(ack=7, window=512), "mirai", id="mirai-not-hping3"),
    ],
)
def test_the_signature_with_more_bits_wins(payload: bytes, tool: Tool) -> None:
    assert _tool(payload) == tool


@pytest.mark.parametrize(
    ("probe", "tool", "fitting"),
    [(_masscan, "masscan", 1), (_zmap, "zmap", 1), (_nmap, "nmap", 1 << 16)],
    ids=["masscan", "zmap", "nmap"],
)
def test_as_many_idents_fit_as_are_claimed(
    probe: Callable[..., bytes], tool: Tool, fitting: int
) -> None:
    payload, packet, kind = _sent(probe())
    head, tail = payload[:4], payload[6:]
    tools = [attribute(head + ident.to_bytes(2) + tail, packet, kind) for ident in range(1 << 16)]
    assert tools.count(tool) == fitting
    assert tools.count("unknown") == (1 << 16) - fitting


# --- two probes

KEY: Final = 0xDEADBEEF


def _unicornscan(target: str, dport: int, sport: int = 40000, key: int = KEY) -> bytes:
    """Return a probe with the window and MSS of the default -W 0 and a random IP ID."""
    seq = key ^ int.from_bytes(packed(target), "little") ^ (dport << 16 | sport)
    return _tcp(target=target, sport=sport, dport=dport, seq=seq, window=4128, options=MSS, ttl=250)


@pytest.mark.parametrize(
    ("first", "second", "tool"),
    [
        pytest.param(_unicornscan(B, 80), _unicornscan(B, 81), "unicornscan", id="two-ports"),
        pytest.param(
            _unicornscan(B, 80), _unicornscan("203.0.113.9", 80, 5000), "unicornscan",
            id="two-hosts",
        ),
        pytest.param(
            _unicornscan(B, 80), _unicornscan(B, 81, key=KEY + 1), "unknown", id="two-keys"
        ),
        pytest.param(_unicornscan(B, 80), _unicornscan(B, 80), "unknown", id="sent-again"),
        pytest.param(
            _tcp(flags="SEC", options=LINUX), _tcp(options=LINUX), "unknown", id="sent-without-ecn"
        ),
        pytest.param(
            _tcp(dport=80, seq=0x00500000, ack=1), _tcp(dport=81, seq=0x00510000, ack=1),
            "unknown", id="ack-numbers",
        ),
        # With seq 0, as if they shared a key: 8102 ^ 0035 = 8202 ^ 0335.
        pytest.param(
            _udp(target="192.0.2.129", dport=0x35), _udp(target="192.0.2.130", dport=0x335),
            "unknown", id="udp",
        ),
        pytest.param(
            _tcp(source=A6, target=B6, dport=80, seq=80 << 16),
            _tcp(source=A6, target=B6, dport=81, seq=81 << 16), "unknown", id="ipv6",
        ),
        pytest.param(_nmap(dport=80), _nmap(dport=81), "nmap", id="nmap"),
        pytest.param(_nmap(), _udp(), "nmap", id="nmap-and-udp"),
        pytest.param(_udp(), _nmap(), "nmap", id="udp-and-nmap"),
        pytest.param(_nmap(), _zmap(), "unknown", id="two-tools"),
    ],
)  # fmt: skip
def test_a_pair_is_attributed(first: bytes, second: bytes, tool: Tool) -> None:
    assert attribute_pair(_sent(first), _sent(second)) == tool


def test_one_unicornscan_probe_is_unknown() -> None:
    assert _tool(_unicornscan(B, 80)) == "unknown"


PORTS: Final = st.integers(0, 65535)
TARGETS: Final = st.tuples(st.ip_addresses(v=4).map(str), PORTS, PORTS)


@given(st.integers(0, 2**32 - 1), TARGETS, TARGETS)
def test_any_two_probes_of_a_unicornscan_share_its_key(
    key: int, one: tuple[str, int, int], other: tuple[str, int, int]
) -> None:
    assume(one != other)
    first, second = (_sent(_unicornscan(*target, key=key)) for target in (one, other))
    assume(attribute(*first) == attribute(*second) == "unknown")
    assert attribute_pair(first, second) == "unicornscan"


# --- any bytes

TOOLS: Final = get_args(Tool)
SEEDS: Final = [_recorded(name) for name in RECORDED]


def _check_total(payload: bytes, captured: int) -> None:
    """Check that each packet that decode() accepts gets a tool, for any kind and any cut."""
    packet = decode(payload)
    if isinstance(packet, Packet):
        for kind in KINDS:
            assert attribute(payload, packet, kind) in TOOLS
            cut = (payload[:captured], packet, kind)
            assert attribute(*cut) in TOOLS
            assert attribute_pair((payload, packet, kind), cut) in TOOLS


@given(st.sampled_from([0x45, 0x4F, 0x60]), st.binary(max_size=120), st.integers(0, 120))
def test_any_bytes_give_a_tool(first: int, rest: bytes, captured: int) -> None:
    _check_total(bytes([first]) + rest, captured)


BITS: Final = st.tuples(st.integers(0, 79), st.integers(0, 255))


@given(st.sampled_from(SEEDS), st.lists(BITS, max_size=6), st.integers(0, 80))
def test_any_mutation_of_a_probe_gives_a_tool(
    seed: bytes, flips: list[tuple[int, int]], captured: int
) -> None:
    payload = bytearray(seed)
    for offset, value in flips:
        payload[offset % len(payload)] ^= value
    _check_total(bytes(payload), captured)


@pytest.mark.parametrize("offset", range(0x50, 0x100, 0x10))
def test_options_beyond_the_packet_are_not_a_signature(offset: int) -> None:
    payload = bytearray(_nmap_fin())
    payload[32] = offset
    assert _tool(bytes(payload)) == ("nmap" if offset == 0x50 else "unknown")


# --- the tools themselves, on a wire

VICTIM: Final = "198.18.0.1"
ATTACKER: Final = "198.18.0.2"
VICTIM6: Final = "2001:2::1"
ATTACKER6: Final = "2001:2::2"

ETH_P_ALL: Final = 3
SOL_PACKET: Final = 263
PACKET_IGNORE_OUTGOING: Final = 23


class Wire:
    """An attacker, and what of its probes arrives at the victim."""

    def __init__(self, attacker: Namespace, victim: Namespace) -> None:
        self.attacker = attacker
        self.victim = victim
        connect(attacker, victim)
        for namespace, addresses in (
            (attacker, (f"{ATTACKER}/24", f"{ATTACKER6}/64")),
            (victim, (f"{VICTIM}/24", f"{VICTIM6}/64")),
        ):
            for address in addresses:
                add_address(namespace, "veth0", address)
        self.macs = [_mac(namespace) for namespace in (attacker, victim)]
        self._socket = victim.call(_open_capture)
        self._seen: list[Sent] = []

    def close(self) -> None:
        self._socket.close()

    def probes(self) -> list[Sent]:
        """All that came in so far, answers aside."""
        while True:
            try:
                packet = decode(payload := self._socket.recv(2048))
            except BlockingIOError:
                return self._seen
            if isinstance(packet, Packet) and packet.protocol in (TCP, UDP):
                kind = _kind(packet)
                if kind not in BACKSCATTER:
                    self._seen.append((payload, packet, kind))

    def tools(self, *command: str, probes: int) -> set[Tool]:
        """The tools that the probes of a command are attributed to."""
        if shutil.which(command[0]) is None:
            pytest.skip(f"needs {command[0]}")
        done = self.attacker.run(*command)
        assert done.returncode == 0, done.stderr
        wait_for(lambda: len(self.probes()) >= probes, f"{probes} probes: {done.stdout}")
        return {attribute(*sent) for sent in self._seen}


def _mac(namespace: Namespace) -> str:
    [link] = json.loads(namespace.ip("-j", "link", "show", "veth0"))
    return str(link["address"])


def _open_capture() -> socket.socket:
    capture = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
    capture.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    capture.bind(("veth0", ETH_P_ALL))
    capture.setblocking(False)
    return capture


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Namespace() as attacker, Namespace() as victim:
        made = Wire(attacker, victim)
        yield made
        made.close()


@pytest.mark.netns
@pytest.mark.nmap
@pytest.mark.parametrize("scan", ["-sS", "-sF", "-sN", "-sX", "-sM", "-sA", "-sW"])
@pytest.mark.parametrize("target", [VICTIM, VICTIM6], ids=["ipv4", "ipv6"])
def test_nmap_is_recognised(wire: Wire, target: str, scan: str) -> None:
    family = ("-6",) if ":" in target else ()
    command = ("nmap", *family, "-n", "-Pn", "-p", "7001-7020", scan, target)
    assert wire.tools(*command, probes=20) == {"nmap"}


@pytest.mark.netns
@pytest.mark.nmap
@pytest.mark.parametrize("scan", ["-sT", "-sU"])
def test_nmap_is_unknown_where_the_kernel_or_nothing_makes_its_header(
    wire: Wire, scan: str
) -> None:
    command = ("nmap", "-n", "-Pn", "--max-retries", "0", "-p", "7001-7005", scan, VICTIM)
    assert wire.tools(*command, probes=5) == {"unknown"}


@pytest.mark.netns
def test_masscan_is_recognised(wire: Wire) -> None:
    attacker, victim = wire.macs
    assert wire.tools(
        "masscan", "--interface", "veth0", "--adapter-ip", ATTACKER, "--adapter-mac", attacker,
        "--router-mac", victim, "--rate", "1000", "--wait", "0", "-p", "7001-7020", VICTIM,
        probes=20,
    ) == {"masscan"}  # fmt: skip


@pytest.mark.netns
@pytest.mark.parametrize(
    "module", [(), ("-M", "udp", "--probe-args=text:x")], ids=["tcp_synscan", "udp"]
)
def test_zmap_before_4_1_is_recognised(wire: Wire, module: tuple[str, ...]) -> None:
    assert wire.tools(
        "zmap", *module, "-i", "veth0", "-G", wire.macs[1], "-S", ATTACKER, "-b", "/dev/null",
        "-c", "0", "-n", "20", "-p", "7001", "198.18.0.0/24", probes=20,
    ) == {"zmap"}  # fmt: skip


@pytest.mark.netns
@pytest.mark.parametrize(
    "flags", [("-S",), ("-F",), (), ("-F", "-P", "-U"), ("-S", "-F")],
    ids=["syn", "fin", "null", "xmas", "synfin"],
)  # fmt: skip
def test_hping3_is_recognised(wire: Wire, flags: tuple[str, ...]) -> None:
    command = ("hping3", *flags, "-c", "20", "-i", "u1000", "-p", "++7001", VICTIM)
    assert wire.tools(*command, probes=20) == {"hping3"}


@pytest.mark.netns
@pytest.mark.parametrize("target", [VICTIM, VICTIM6], ids=["ipv4", "ipv6"])
def test_the_kernel_is_unknown(wire: Wire, target: str) -> None:
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    for port in range(7001, 7021):
        with wire.attacker.call(lambda: socket.socket(family)) as client:
            assert client.connect_ex((target, port)) != 0
    with wire.attacker.call(lambda: socket.socket(family, socket.SOCK_DGRAM)) as client:
        client.sendto(b"?", (target, 7001))
    wait_for(lambda: len(wire.probes()) >= 21, "20 SYNs and a datagram")
    assert {sent[2] for sent in wire.probes()} == {"syn", "udp"}
    assert {attribute(*sent) for sent in wire.probes()} == {"unknown"}
    syns = [sent for sent in wire.probes() if sent[2] == "syn"]
    assert {attribute_pair(syns[0], sent) for sent in syns[1:]} == {"unknown"}
