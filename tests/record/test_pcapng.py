"""The pcapng format: byte for byte, and as scapy and tcpdump read it."""

import io
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.utils import RawPcapNgReader

from sentryfw.record import pcapng
from support.forge import ipv4, ipv6, tcp, udp

AT: Final = 1_800_000_000.123456
FOUR: Final = ipv4("198.51.100.7", "192.0.2.1", 6, tcp(22))
SIX: Final = ipv6("2001:db8::7", "2001:db8::1", 17, udp(53, data=b"?"))

GOLDEN: Final = (
    "0a0d0d0a 30000000 4d3c2b1a 0100 0000 ffffffffffffffff"
    " 0100 0200 68690000 0400 0100 53000000 00000000 30000000"
    "01000000 14000000 6500 0000 80000000 14000000"
    "06000000 30000000 00000000 13650600 40420f00 03000000 28000000 01020300"
    " 0100 0100 78000000 00000000 30000000"
)


def test_a_file_has_these_bytes() -> None:
    made = pcapng.section("hi", "S", 128)
    made += pcapng.packet((0x66513 << 32 | 0xF4240) / 1e6, b"\x01\x02\x03", 40, "x")
    assert made == bytes.fromhex(GOLDEN)


def _read(data: bytes) -> list[tuple[bytes, float, int, bytes]]:
    """Return bytes, time, length on the wire and comment as scapy reads them."""
    with RawPcapNgReader(io.BytesIO(data)) as reader:
        found = []
        for packet, meta in reader:
            micros = meta.tshigh << 32 | meta.tslow
            comment = meta.comments[0] if meta.comments else b""
            assert (meta.linktype, meta.tsresol) == (pcapng.LINKTYPE_RAW, 1_000_000)
            found.append((packet, micros / 1e6, meta.wirelen, comment))
        return found


def test_scapy_reads_our_files() -> None:
    data = pcapng.section("a block", "SentryFW", 128)
    data += pcapng.packet(AT, FOUR, len(FOUR), "event 1: syn")
    data += pcapng.packet(AT + 1, SIX[:45], len(SIX), "event 1: udp")
    (one, at, length, comment), (two, *_, other) = _read(data)
    assert (one, length, comment, other) == (FOUR, len(FOUR), b"event 1: syn", b"event 1: udp")
    assert at == pytest.approx(AT, abs=1e-6)
    assert two == SIX[:45]
    assert IP(one)[TCP].dport == 22


def _file(name: str, *packets: bytes) -> bytes:
    made = (pcapng.packet(AT, packet, len(packet), name) for packet in packets)
    return pcapng.section(name, "S", 128) + b"".join(made)


@pytest.mark.parametrize("cut", [0, 3], ids=["whole", "cut-off"])
def test_files_are_joined_under_the_first_ones_head(cut: int) -> None:
    one, two = _file("one", FOUR), _file("two", SIX, FOUR)
    joined = pcapng.join([one, two[: len(two) - cut]])
    packets = [(packet, comment) for packet, _, _, comment in _read(joined)]
    assert packets == [(FOUR, b"one"), (SIX, b"two"), (FOUR, b"two")][: 2 + (not cut)]
    assert pcapng.join([one]) == one
    assert pcapng.join([]) == b""


@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="needs tcpdump")
def test_tcpdump_reads_our_files(tmp_path: Path) -> None:
    path = tmp_path / "made.pcapng"
    path.write_bytes(pcapng.join([_file("one", FOUR, SIX), _file("two", FOUR, SIX)]))
    done = subprocess.run(
        ["tcpdump", "-tt", "-nr", path], capture_output=True, text=True, check=True
    )
    assert "link-type RAW (Raw IP)" in done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("1800000000.123456 IP 198.51.100.7.40000 > 192.0.2.1.22: Flags [S]")
    assert " IP6 2001:db8::7.40000 > 2001:db8::1.53: " in lines[1]


@given(
    data=st.binary(max_size=200),
    length=st.integers(0, 1 << 40),
    comment=st.text(max_size=400),
    at=st.floats(-1e12, 1e12, allow_nan=False),
)
def test_the_size_of_a_block_is_a_multiple_of_four(
    data: bytes, length: int, comment: str, at: float
) -> None:
    block = pcapng.packet(at, data, length, comment)
    size = struct.unpack("<II", block[:4] + block[-4:])
    assert size == (pcapng.ENHANCED_PACKET, len(block))
    assert len(block) % 4 == 0
    assert struct.unpack_from("<I", block, 20)[0] == len(data)
    assert block[28 : 28 + len(data)] == data


@pytest.mark.parametrize("text", ["\N{SNOWMAN}" * 500, "x" * 5000, "\ud800"])
def test_a_comment_is_bounded_and_utf_8(text: str) -> None:
    [(_, _, _, comment)] = _read(
        pcapng.section("", "S", 128) + pcapng.packet(AT, FOUR, len(FOUR), text)
    )
    assert len(comment) <= pcapng.MAX_COMMENT
    assert comment.decode()


def test_each_packet_comes_with_its_comment() -> None:
    data = _file("one", FOUR, SIX[:45]) + pcapng.packet(AT, FOUR, 40, "two")
    found = list(pcapng.commented(data))
    assert [comment for comment, _ in found] == [b"one", b"one", b"two"]
    again = pcapng.section("", "S", 128) + b"".join(block for _, block in found)
    assert list(pcapng.packets(again)) == [FOUR, SIX[:45], FOUR]


@given(before=st.binary(max_size=64), place=st.integers(0, 400), junk=st.binary(max_size=64))
def test_damaged_files_are_read_as_far_as_they_go(before: bytes, place: int, junk: bytes) -> None:
    whole = _file("one", FOUR, SIX)
    data = before + whole[:place] + junk + whole[place + len(junk) :]
    for comment, block in pcapng.commented(data):
        assert block in data
        assert comment in block
    assert sum(len(packet) for packet in pcapng.packets(data)) <= len(data)
