"""The packets behind a block: remembered within bounds, written whole, found again, removed in
order."""

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from scapy.utils import RawPcapNgReader

from sentryfw.engine.model import Block, Evidence, Probe, Source, source_of
from sentryfw.errors import SentryError
from sentryfw.record import captures as module
from sentryfw.record import pcapng
from sentryfw.record.captures import (
    FILE_SPAN_S,
    MAX_FILE_BYTES,
    MAX_IN_FILE,
    MAX_SEVERAL,
    MAX_SINGLE,
    SNAP_BYTES,
    Capture,
    CaptureReader,
    RecentProbes,
    captures,
    file_name,
)
from sentryfw.record.records import DecisionRecord, event_id
from support.entries import BLOCK, BLOCKED_AT
from support.forge import ipv4, ipv6, packed, tcp, udp

PACKETS: Final = 4
LIMIT_MIB: Final = 12


def _packet(source: str, port: int = 22, data: bytes = b"") -> bytes:
    return ipv4(source, "192.0.2.1", 17 if data else 6, udp(port, data=data) if data else tcp(port))


def _probe(source: str, port: int = 22) -> Probe:
    return Probe(source_of(packed(source)), (packed("192.0.2.1"), 6, port), "syn")


def _block(source: str, last: Probe | None = None) -> Block:
    probe = last or _probe(source, 99)
    evidence = Evidence(
        source=probe.source, targets=3, probes=3, kinds=("syn",), first_seen=0.0, last_seen=1.0,
        score=1.0, slow_score=1.0, scan="portscan", sample=(), last=probe,
    )  # fmt: skip
    return Block(
        source=probe.source, timeout=60.0, offence=1, forgeable=True, reason="",
        evidence=evidence, at=1.0,
    )  # fmt: skip


def _keep(recent: RecentProbes, source: str, *ports: int) -> None:
    for port in ports:
        recent.keep(_probe(source, port), _packet(source, port), float(port))


def _ports(recent: RecentProbes, source: str) -> list[int]:
    """Return the ports of the probes behind its block; the deciding one is 99."""
    taken = recent.take(_block(source), _packet(source, 99), 99.0)
    assert [seen.at for seen in taken] == [seen.probe.target[2] for seen in taken]
    return [seen.probe.target[2] for seen in taken]


# --- in memory


@pytest.mark.parametrize(
    ("before", "kept"),
    [
        ((), [99]),
        ((1,), [1, 99]),
        ((1, 2, 3), [1, 2, 3, 99]),
        ((1, 2, 3, 4, 5, 6), [4, 5, 6, 99]),
    ],
    ids=["only-the-trigger", "one-before", "as-many-as-fit", "more-than-fit"],
)
def test_the_last_probes_are_kept(before: tuple[int, ...], kept: list[int]) -> None:
    recent = RecentProbes(PACKETS)
    _keep(recent, "198.51.100.7", *before)
    assert _ports(recent, "198.51.100.7") == kept
    assert len(recent) == 0


def test_each_source_has_its_own() -> None:
    recent = RecentProbes(PACKETS)
    _keep(recent, "198.51.100.7", 1)
    _keep(recent, "198.51.100.8", 2, 3)
    assert _ports(recent, "198.51.100.8") == [2, 3, 99]
    assert _ports(recent, "198.51.100.7") == [1, 99]


def test_no_probes_are_kept_if_the_number_is_zero() -> None:
    recent = RecentProbes(0)
    _keep(recent, "198.51.100.7", 1, 2)
    assert len(recent) == 0
    assert _ports(recent, "198.51.100.7") == []


def test_a_decision_without_a_packet_adds_none() -> None:
    recent = RecentProbes(PACKETS)
    recent.keep(_probe("198.51.100.7"), b"", 1.0)
    assert recent.take(_block("198.51.100.7"), b"", 1.0) == []


def test_a_long_packet_is_cut_and_its_length_remembered() -> None:
    """The queue copies 512 bytes of it; the header has the length."""
    packet = _packet("198.51.100.7", data=bytes(1400))
    recent = RecentProbes(PACKETS)
    [seen] = recent.take(_block("198.51.100.7"), packet[:512], 1.0)
    assert (seen.data, seen.length) == (packet[:SNAP_BYTES], len(packet))


def test_the_length_of_an_ipv6_packet_is_its_headers() -> None:
    packet = ipv6("2001:db8::7", "2001:db8::1", 17, udp(53, data=bytes(300)))
    probe = Probe(source_of(packed("2001:db8::7")), (packed("2001:db8::1"), 17, 53), "udp")
    [seen] = RecentProbes(PACKETS).take(_block("2001:db8::7", probe), packet[:200], 1.0)
    assert seen.length == len(packet)


@pytest.mark.slow
def test_a_forged_flood_is_bounded_and_does_not_evict_a_scanner() -> None:
    """200,000 sources that come once, between a scanner's second and its last probe."""
    recent = RecentProbes(8)
    _keep(recent, "198.51.100.7", 1, 2)
    tracemalloc.start()
    try:
        for number in range(200_000):
            source = Source((0x0B000000 + number).to_bytes(4))
            probe = Probe(source, (packed("192.0.2.1"), 6, 22), "syn")
            recent.keep(probe, bytes(SNAP_BYTES) + number.to_bytes(4), 1.0)
            assert len(recent) <= MAX_SINGLE + 1
        used = tracemalloc.get_traced_memory()[0] / 2**20
    finally:
        tracemalloc.stop()
    assert used < LIMIT_MIB
    assert _ports(recent, "198.51.100.7") == [1, 2, 99]


def test_sources_that_come_often_are_bounded_too() -> None:
    recent = RecentProbes(8)
    tracemalloc.start()
    try:
        for number in range(2 * MAX_SEVERAL):
            source = Source((0x0B000000 + number).to_bytes(4))
            for port in range(20):
                probe = Probe(source, (packed("192.0.2.1"), 6, port), "syn")
                recent.keep(probe, number.to_bytes(4) + bytes(SNAP_BYTES - port), 1.0)
        used = tracemalloc.get_traced_memory()[0] / 2**20
    finally:
        tracemalloc.stop()
    assert len(recent) == MAX_SEVERAL
    assert used < LIMIT_MIB


# --- on disk


PLENTY: Final = 64 * MAX_IN_FILE
"""Captures to keep: a file takes MAX_IN_FILE of them."""


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., module.CaptureStore]:
    return lambda most=100, age=3600.0: module.CaptureStore(tmp_path / "evidence", most, age)


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the clock to a minute after the blocks."""
    monkeypatch.setattr(module.time, "time", lambda: BLOCKED_AT + 60)


def _entry(second: float, address: str = "198.18.0.2") -> DecisionRecord:
    return BLOCK._replace(blocked_at=BLOCKED_AT + second, address=address)


def _probes(*ports: int) -> list[module.RecentProbe]:
    return [
        module.recent_probe(_probe("198.18.0.2", p), _packet("198.18.0.2", p), p) for p in ports
    ]


def _capture(second: float, *ports: int, address: str = "198.18.0.2") -> Capture:
    return Capture(_entry(second, address), _probes(*(ports or (1,))))


def _files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "evidence").iterdir())


def _ports_in(data: bytes) -> list[int]:
    return [int.from_bytes(packet[22:24]) for packet in pcapng.packets(data)]


def test_a_capture_names_its_event_in_every_packet(
    make: Callable[..., module.CaptureStore], tmp_path: Path
) -> None:
    make().write([Capture(BLOCK, _probes(1, 2))])
    path = tmp_path / "evidence" / file_name(BLOCK)
    assert f"{path.stat().st_mode & 0o777:o}" == "640"
    assert f"{path.parent.stat().st_mode & 0o777:o}" == "750"
    [capture] = captures(path.parent, [BLOCK])
    assert b"blocked 198.18.0.2: portscan, 3 distinct targets" in capture
    saved = tmp_path / "saved"
    saved.write_bytes(capture)
    for written in (path, saved):
        with RawPcapNgReader(str(written)) as reader:
            found = [(packet, meta.comments[0].decode()) for packet, meta in reader]
        assert found == [
            (_packet("198.18.0.2", port), f"event {event_id(BLOCK)}: syn to 192.0.2.1 tcp/{port}")
            for port in (1, 2)
        ]


def test_blocks_of_some_seconds_share_a_file(
    make: Callable[..., module.CaptureStore], tmp_path: Path
) -> None:
    kept = make(PLENTY)
    addresses = [f"198.18.1.{number}" for number in range(MAX_IN_FILE)]
    batch = [
        _capture(number / 100, number, address=address) for number, address in enumerate(addresses)
    ]
    kept.write(batch[:10])
    kept.write(batch[10:])
    later = _capture(FILE_SPAN_S + 1, 99)
    kept.write([_capture(1, 98), later])
    assert _files(tmp_path) == [
        file_name(capture.entry) for capture in (batch[0], _capture(1), later)
    ]
    found = captures(tmp_path / "evidence", [capture.entry for capture in [*batch, later]])
    assert [_ports_in(data) for data in found] == [[n] for n in [*range(MAX_IN_FILE), 99]]


def test_a_file_takes_no_block_before_its_first_or_long_after(
    make: Callable[..., module.CaptureStore], tmp_path: Path
) -> None:
    """The clock may be set back or forth."""
    kept = make(PLENTY)
    moments = (0, 3600, 5, -1, FILE_SPAN_S - 1.5, FILE_SPAN_S - 0.5, -40)
    entries = [_entry(second) for second in moments]
    for port, entry in enumerate(entries):
        kept.write([Capture(entry, _probes(port))])
    found = captures(tmp_path / "evidence", entries)
    assert [_ports_in(data) for data in found] == [[port] for port in range(len(entries))]
    assert len(_files(tmp_path)) == 6


def test_the_largest_file_is_read_whole(
    make: Callable[..., module.CaptureStore], tmp_path: Path
) -> None:
    """64 long packets, the most that are configured, of each of the most blocks in a file."""
    packet = _packet("198.51.100.7", data=bytes(1400))
    probe = Probe(
        source_of(packed("2001:db8:1111:2222::7")), (packed("2001:db8:1111:2222::ffff"), 6, 65535),
        "connect-closed",
    )  # fmt: skip
    seen = module.recent_probe(probe, packet, BLOCKED_AT)
    batch = [_capture(0, address=f"2001:db8::{number}") for number in range(MAX_IN_FILE)]
    make(PLENTY).write([capture._replace(probes=[seen] * 64) for capture in batch])
    [name] = _files(tmp_path)
    assert (tmp_path / "evidence" / name).stat().st_size < MAX_FILE_BYTES
    last = CaptureReader(tmp_path / "evidence").of(batch[-1].entry)
    assert len(list(pcapng.packets(last))) == 64


def test_a_capture_of_an_earlier_version_is_found(tmp_path: Path) -> None:
    """It had a file of its own, under a head of its own."""
    head = pcapng.section("blocked", "SentryFW 0.1.0", SNAP_BYTES)
    (tmp_path / file_name(BLOCK)).write_bytes(head + Capture(BLOCK, _probes(7)).packets())
    [found] = captures(tmp_path, [BLOCK])
    assert _ports_in(found) == [7]


def test_the_oldest_capture_beyond_the_number_is_removed(
    make: Callable[..., module.CaptureStore], tmp_path: Path
) -> None:
    kept = make(3)
    kept.write([_capture(second) for second in range(5)])
    assert _files(tmp_path) == [file_name(_entry(second)) for second in (2, 3, 4)]


def test_a_file_beyond_the_number_goes_with_all_its_captures(
    make: Callable[..., module.CaptureStore], tmp_path: Path
) -> None:
    kept = make(130)  # two in a file
    batch = [_capture(number / 1000) for number in range(134)]
    kept.write(batch)
    found = captures(tmp_path / "evidence", [capture.entry for capture in batch])
    assert len(found) == 130
    assert len(_files(tmp_path)) == 65


def test_a_capture_beyond_the_age_is_removed(
    make: Callable[..., module.CaptureStore], tmp_path: Path
) -> None:
    kept = make(age=100.0)
    for second in (-50, -30, 0):
        kept.write([_capture(second)])
    assert _files(tmp_path) == [file_name(_entry(n)) for n in (-30, 0)]


def test_the_bounds_hold_over_a_restart(
    make: Callable[..., module.CaptureStore], tmp_path: Path
) -> None:
    """A file takes three of 192."""
    make(192).write([_capture(number / 1000) for number in range(6)])
    make(192).write([_capture(6)])
    make(3).write([_capture(7)])
    assert _files(tmp_path) == [file_name(_entry(n)) for n in (6, 7)]


def test_a_file_that_a_crash_left_incomplete_is_removed_in_its_turn(
    make: Callable[..., module.CaptureStore], tmp_path: Path
) -> None:
    """An earlier version wrote a file under another name first."""
    make()
    (tmp_path / "evidence" / f"{file_name(BLOCK)}.part").write_bytes(b"half")
    make(1).write([_capture(1)])
    assert _files(tmp_path) == [file_name(_entry(1))]


def test_files_of_others_stay(make: Callable[..., module.CaptureStore], tmp_path: Path) -> None:
    make()
    (tmp_path / "evidence" / "an-operators-own-note").touch()
    make(1).write([_capture(1), _capture(2)])
    assert _files(tmp_path) == [file_name(_entry(2)), "an-operators-own-note"]


def test_a_full_disk_leaves_the_file_as_it_was(
    make: Callable[..., module.CaptureStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = make(PLENTY)
    whole = module.os.write

    def write_on_a_full_disk(capture: Capture) -> None:
        with monkeypatch.context() as full:
            full.setattr(module.os, "write", lambda fd, data: whole(fd, data[:10]))
            with pytest.raises(OSError, match="No space left on device"):
                kept.write([capture])

    write_on_a_full_disk(_capture(0))
    assert _files(tmp_path) == []
    kept.write([_capture(1, 1)])
    before = (tmp_path / "evidence" / file_name(_entry(1))).read_bytes()
    write_on_a_full_disk(_capture(2, 2))
    assert (tmp_path / "evidence" / file_name(_entry(1))).read_bytes() == before
    kept.write([_capture(3, 3)])
    entries = [_entry(second) for second in (1, 2, 3)]
    found = captures(tmp_path / "evidence", entries)
    assert [_ports_in(data) for data in found] == [[1], [3]]


def test_a_link_in_its_place_is_not_followed(
    make: Callable[..., module.CaptureStore], tmp_path: Path
) -> None:
    kept = make()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "evidence" / file_name(BLOCK)).symlink_to(victim)
    with pytest.raises(SentryError):
        kept.write([Capture(BLOCK, _probes(1))])
    assert victim.read_text() == "precious"


def test_captures_come_in_the_order_of_their_blocks(
    make: Callable[..., module.CaptureStore], tmp_path: Path
) -> None:
    make().write([_capture(2, 3), _capture(0, 1)])
    found = captures(tmp_path / "evidence", [_entry(n) for n in range(3)])
    assert [_ports_in(data) for data in found] == [[1], [3]]


def test_an_address_gets_no_packet_of_another(
    make: Callable[..., module.CaptureStore], tmp_path: Path
) -> None:
    """Blocked in the same microsecond."""
    addresses = [f"198.18.0.{number}" for number in range(5)]
    make(PLENTY).write([
        _capture(0, port, address=address) for port, address in enumerate(addresses)
    ])  # fmt: skip
    found = captures(tmp_path / "evidence", [_entry(0, address) for address in addresses])
    assert [_ports_in(data) for data in found] == [[0], [1], [2], [3], [4]]
    assert CaptureReader(tmp_path / "evidence").of(_entry(0, "198.18.0.9")) == b""


def test_without_a_directory_there_are_none(tmp_path: Path) -> None:
    assert captures(tmp_path / "none", [BLOCK]) == []


def test_links_and_pipes_in_the_place_of_captures_are_left_out(tmp_path: Path) -> None:
    """Another user may have put it there: a link, a pipe, a directory."""
    batch = [_capture(0, number, address=f"198.18.0.{number}") for number in range(5)]
    places = [tmp_path / file_name(capture.entry) for capture in batch]
    secret = tmp_path / "secret"
    secret.write_bytes(batch[0].packets())
    places[0].symlink_to(secret)
    os.mkfifo(places[1])
    places[2].mkdir()
    places[3].write_bytes(batch[3].packets())
    places[4].write_bytes(batch[4].packets()[:-1])
    found = captures(tmp_path, [capture.entry for capture in batch])
    assert [_ports_in(data) for data in found] == [[3]]
