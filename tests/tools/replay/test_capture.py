"""The reader against captures that scapy wrote, against hand-made blocks, and against anything."""

import gzip
import io
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether

from sentryfw.tools.replay.capture import (
    CHUNK_BYTES,
    CaptureError,
    Records,
    Stream,
    open_capture,
)
from support.captures import (
    START,
    THEM,
    US,
    each,
    pcap,
    pcap_header,
    records,
    tcp,
    write_pcap,
    write_pcapng,
)

TIMES = (START, START + 0.25, START + 1.000001)
SECTION = 0x0A0D0D0A


def _packets() -> list[Ether]:
    made = [
        Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
        / IP(src=THEM, dst=US)
        / TCP(dport=port)
        for port in (21, 22)
    ]
    made.append(
        Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
        / IP(src=THEM, dst=US)
        / UDP(dport=53)
        / b"odd"
    )
    for packet, time in zip(made, TIMES, strict=True):
        packet.time = time
    return made


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("nano", [False, True], ids=["micro", "nano"])
@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
def test_a_pcap_of_scapy_is_read_as_it_was_written(
    tmp_path: Path, *, order: str, nano: bool, zipped: bool
) -> None:
    path = tmp_path / "scan.pcap"
    write_pcap(path, _packets(), endianness=order, nano=nano, gz=zipped, linktype=1)
    _check(path)


def test_a_pcapng_of_scapy_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "scan.pcapng"
    write_pcapng(path, _packets())
    _check(path)


def test_a_zipped_pcapng_is_read(tmp_path: Path) -> None:
    path = tmp_path / "scan.pcapng.gz"
    write_pcapng(tmp_path / "plain", _packets())
    path.write_bytes(gzip.compress((tmp_path / "plain").read_bytes()))
    _check(path)


def _check(path: Path) -> None:
    with open_capture(path) as opened:
        found = list(each(opened))
    assert [data[a:b] for _, _, data, a, b in found] == [bytes(p) for p in _packets()]
    assert [record[0] for record in found] == pytest.approx(TIMES, abs=1e-6)
    assert {record[1] for record in found} == {1}


# --- pcapng, by hand: what scapy does not write


def _block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + size + body + size


def _section(order: str = "<") -> bytes:
    return _block(SECTION, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def _interface(
    linktype: int = 1, snaplen: int = 0, order: str = "<", options: bytes = b""
) -> bytes:
    return _block(1, struct.pack(order + "HHI", linktype, 0, snaplen) + options, order)


def _option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def _enhanced(frame: bytes, stamp: int, index: int = 0, order: str = "<") -> bytes:
    head = (index, stamp >> 32, stamp & 0xFFFFFFFF, len(frame), len(frame))
    return _block(6, struct.pack(order + "IIIII", *head) + frame, order)


@pytest.mark.parametrize(
    ("options", "stamp"),
    [
        pytest.param(b"", 1_700_000_000_250_000, id="microseconds by default"),
        pytest.param(_option(9, b"\x09"), 1_700_000_000_250_000_000, id="10^-9"),
        pytest.param(_option(9, b"\x00"), 1_700_000_000, id="seconds"),
        pytest.param(_option(9, b"\x82"), 1_700_000_000 * 4 + 1, id="2^-2"),
        pytest.param(
            _option(2, b"eth0") + _option(9, b"\x03") + _option(14, struct.pack("<q", 10**9)),
            700_000_000_250,
            id="10^-3 with an offset",
        ),
        pytest.param(
            _option(0, b"") + _option(9, b"\x09"), 1_700_000_000_250_000, id="behind the end"
        ),
    ],
)  # fmt: skip
def test_the_interface_gives_the_unit_of_a_timestamp(options: bytes, stamp: int) -> None:
    [record] = records(_section() + _interface(options=options) + _enhanced(b"frame", stamp))
    expected = 1_700_000_000.0 if options == _option(9, b"\x00") else 1_700_000_000.25
    assert record == (expected, 1, b"frame")


@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
def test_every_packet_block_is_read_and_other_blocks_are_skipped(order: str) -> None:
    old = _block(2, struct.pack(order + "HHIIII", 1, 7, 0, 5_000_000, 3, 3) + b"old", order)
    simple = _block(3, struct.pack(order + "I", 6) + b"simple", order)
    found = records(
        _section(order)
        + _interface(101, order=order)
        + _block(5, b"statistics--", order)
        + _interface(113, order=order)
        + _enhanced(b"enhanced", 4_000_000, order=order)
        + old
        + simple
    )
    assert found == [(4.0, 101, b"enhanced"), (5.0, 113, b"old"), (5.0, 101, b"simple")]


def test_a_simple_packet_ends_at_the_snap_length() -> None:
    simple = _block(3, struct.pack("<I", 900) + b"abcd")
    assert records(_section() + _interface(snaplen=3) + simple) == [(0.0, 1, b"abc")]


def test_a_new_section_may_turn_the_byte_order_and_starts_with_no_interface() -> None:
    whole = (
        _section("<") + _interface(1) + _enhanced(b"a", 1_000_000)
        + _section(">") + _interface(101, order=">") + _enhanced(b"b", 2_000_000, order=">")
    )  # fmt: skip
    assert records(whole) == [(1.0, 1, b"a"), (2.0, 101, b"b")]


# --- broken files


def _fault(data: bytes, tmp_path: Path) -> tuple[int, int, str]:
    """Packets before the fault, its byte, its reason."""
    path = tmp_path / "broken"
    path.write_bytes(data)
    seen = []
    with pytest.raises(CaptureError) as caught, open_capture(path) as opened:
        seen.extend(record[0] for record in each(opened))
    return len(seen), caught.value.byte, caught.value.reason


FRAME = tcp(THEM, US, 22)
TWO = pcap([(0, FRAME), (1, FRAME)])
SECOND = 24 + 16 + len(FRAME)
NG = _section() + _interface() + _enhanced(b"frame", 1)


@pytest.mark.parametrize(
    ("data", "seen", "byte", "reason"),
    [
        (b"", 0, 0, "not a capture"),
        (b"root:x:0:0:root:/root:/bin/bash\n", 0, 0, "not a capture"),
        (b"\x1f\x8b", 0, 0, "gzip"),
        (gzip.compress(b"no capture"), 0, 0, "not a capture"),
        (TWO[:20], 0, 20, "file header is cut short"),
        (TWO[:-1], 1, SECOND, "last packet is cut short"),
        (TWO[: SECOND + 15], 1, SECOND, "last packet is cut short"),
        (TWO[:SECOND] + struct.pack("<IIII", 0, 0, 1 << 30, 0), 1, SECOND, "1073741824 bytes"),
        (NG[:-1], 0, 48, "last block is cut short"),
        (NG[:52], 0, 48, "last block is cut short"),
        (NG + struct.pack("<III", 6, 10, 10), 1, len(NG), "a block of 10 bytes"),
        (NG + struct.pack("<III", 6, 0, 0), 1, len(NG), "a block of 0 bytes"),
        (NG + struct.pack("<III", 6, 1 << 31, 0), 1, len(NG), "a block of 2147483648 bytes"),
        (NG[:-4] + bytes(4), 0, len(NG) - 4, "two lengths differ"),
        (NG + _enhanced(b"x", 1, index=3), 1, len(NG), "interface 3"),
        (_section() + _block(3, bytes(8)), 0, 28, "interface 0"),
        (NG + _block(6, bytes(8)), 1, len(NG), "cut short"),
        (NG + _block(6, struct.pack("<5I", 0, 0, 0, 99, 99)), 1, len(NG), "99 bytes"),
        (_section() + _block(1, bytes(4)), 0, 28, "cut short"),
        (_block(SECTION, bytes(16)), 0, 8, "byte order"),
        (_section() + _interface(options=_option(14, b"\xff" * 7 + b"\x7f")), 0, 28, "seconds off"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_capture_is_reported_with_its_byte_and_keeps_the_packets_before(
    tmp_path: Path, data: bytes, seen: int, byte: int, reason: str
) -> None:
    found = _fault(data, tmp_path)
    assert found[:2] == (seen, byte)
    assert reason in found[2]


def test_a_cut_gzip_gives_the_packets_before_the_cut(tmp_path: Path) -> None:
    frames = [(n * 0.001, tcp(THEM, US, n)) for n in range(1, 5000)]
    whole = gzip.compress(pcap(frames))
    seen, byte, reason = _fault(whole[: len(whole) // 2], tmp_path)
    assert 1000 < seen < 4000
    assert byte >= 24 + seen * (16 + len(FRAME))
    assert reason.startswith("gzip: ")


def test_packets_across_the_chunks_are_whole() -> None:
    frames = [(n * 0.5, bytes([n % 251]) * 1400) for n in range(3 * CHUNK_BYTES // 1400)]
    assert [record.data for record in records(pcap(frames))] == [frame for _, frame in frames]


def test_a_file_of_many_chunks_is_read_to_its_end(tmp_path: Path) -> None:
    frames = [bytes([n % 251]) * (n % 1400) for n in range(5 * CHUNK_BYTES // 700)]
    path = tmp_path / "large.pcap"
    path.write_bytes(pcap(list(enumerate(frames))))
    with open_capture(path) as opened:
        assert [data[a:b] for _, _, data, a, b in each(opened)] == frames
    path.write_bytes(_section() + _interface() + _enhanced(bytes(9 * CHUNK_BYTES), 1))
    with open_capture(path) as opened:
        assert [b - a for _, _, _, a, b in each(opened)] == [9 * CHUNK_BYTES]


def test_a_block_of_many_chunks_is_read_in_ever_larger_steps() -> None:
    """Each step copies what is there: in equal ones a large block would cost its square."""
    wanted: list[int] = []

    class File(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            wanted.append(size or 0)
            return super().read1(size)

    data = _section() + _interface() + _enhanced(bytes(64 * CHUNK_BYTES), 1)
    [record] = each(Records(Stream(File(data))))
    assert record[4] - record[3] == 64 * CHUNK_BYTES
    assert len(wanted) < 12
    assert max(wanted) <= len(data)


# --- any bytes

STARTS = (b"", pcap_header(), pcap_header(magic=0xA1B23C4D), NG, _section(">"), TWO)


@given(st.sampled_from(STARTS), st.binary(max_size=200))
def test_the_reader_raises_nothing_but_its_own_error(head: bytes, rest: bytes) -> None:
    _read(head + rest)


@given(st.sampled_from((TWO, NG)), st.data())
def test_the_reader_survives_changed_bytes(whole: bytes, data: st.DataObject) -> None:
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    _read(bytes(changed))


def _read(data: bytes) -> None:
    try:
        found = records(data)
    except CaptureError as error:
        assert 0 <= error.byte <= len(data)  # noqa: PT017 - either way is fine
    else:
        assert sum(len(record.data) for record in found) <= len(data)
