"""The packets behind a block: remembered within bounds, written whole, removed in order."""

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
from sentryfw.record.captures import (
    MAX_SEVERAL,
    MAX_SINGLE,
    SNAP_BYTES,
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


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., module.CaptureStore]:
    return lambda files=100, age=3600.0: module.CaptureStore(tmp_path / "evidence", files, age)


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the clock to a minute after the blocks."""
    monkeypatch.setattr(module.time, "time", lambda: BLOCKED_AT + 60)


def _entry(second: int, address: str = "198.18.0.2") -> DecisionRecord:
    return BLOCK._replace(blocked_at=BLOCKED_AT + second, address=address)


def _probes(*ports: int) -> list[module.RecentProbe]:
    return [
        module.recent_probe(_probe("198.18.0.2", p), _packet("198.18.0.2", p), p) for p in ports
    ]


def _files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "evidence").iterdir())


def test_a_capture_names_its_event_in_every_packet(
    make: Callable[..., module.CaptureStore], tmp_path: Path
) -> None:
    make().write(BLOCK, _probes(1, 2))
    path = tmp_path / "evidence" / file_name(BLOCK)
    with RawPcapNgReader(str(path)) as reader:
        found = [(packet, meta.comments[0].decode()) for packet, meta in reader]
    assert found == [
        (_packet("198.18.0.2", port), f"event {event_id(BLOCK)}: syn to 192.0.2.1 tcp/{port}")
        for port in (1, 2)
    ]
    assert b"blocked 198.18.0.2: portscan, 3 distinct targets" in path.read_bytes()
    assert f"{path.stat().st_mode & 0o777:o}" == "640"
    assert f"{path.parent.stat().st_mode & 0o777:o}" == "750"


def test_the_oldest_capture_beyond_the_number_is_removed(
    make: Callable[..., module.CaptureStore], tmp_path: Path
) -> None:
    kept = make(files=3)
    entries = [_entry(n) for n in range(5)]
    for entry in entries:
        kept.write(entry, _probes(1))
    assert _files(tmp_path) == [file_name(entry) for entry in entries[2:]]


def test_a_capture_beyond_the_age_is_removed(
    make: Callable[..., module.CaptureStore], tmp_path: Path
) -> None:
    kept = make(age=100.0)
    for second in (-50, -30, 0):
        kept.write(_entry(second), _probes(1))
    assert _files(tmp_path) == [file_name(_entry(n)) for n in (-30, 0)]


def test_the_bounds_hold_over_a_restart(
    make: Callable[..., module.CaptureStore], tmp_path: Path
) -> None:
    for second in range(4):
        make().write(_entry(second), _probes(1))
    make(files=2).write(_entry(4), _probes(1))
    assert _files(tmp_path) == [file_name(_entry(n)) for n in (3, 4)]


def test_a_file_that_a_crash_left_incomplete_is_removed(
    make: Callable[..., module.CaptureStore], tmp_path: Path
) -> None:
    make()
    (tmp_path / "evidence" / f"{file_name(BLOCK)}.part").write_bytes(b"half")
    (tmp_path / "evidence" / "an-operators-own-note").touch()
    make(files=1).write(_entry(1), _probes(1))
    assert _files(tmp_path) == [file_name(_entry(1)), "an-operators-own-note"]


def test_a_full_disk_leaves_no_incomplete_file(
    make: Callable[..., module.CaptureStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = make()
    whole = module.os.write
    monkeypatch.setattr(module.os, "write", lambda fd, data: whole(fd, data[:10]))
    with pytest.raises(OSError, match="No space left on device"):
        kept.write(BLOCK, _probes(1))
    assert _files(tmp_path) == []


def test_a_link_in_its_place_is_not_followed(
    make: Callable[..., module.CaptureStore], tmp_path: Path
) -> None:
    kept = make()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "evidence" / f"{file_name(BLOCK)}.part").symlink_to(victim)
    with pytest.raises(SentryError):
        kept.write(BLOCK, _probes(1))
    assert victim.read_text() == "precious"


def test_captures_come_in_the_order_of_their_blocks(
    make: Callable[..., module.CaptureStore], tmp_path: Path
) -> None:
    kept = make()
    for second in (0, 2):
        kept.write(_entry(second), _probes(second + 1))
    found = captures(tmp_path / "evidence", [_entry(n) for n in range(3)])
    assert found == [module.render(_entry(n), _probes(n + 1)) for n in (0, 2)]


def test_links_and_pipes_in_the_place_of_captures_are_left_out(tmp_path: Path) -> None:
    """Another user may have put it there: a link, a pipe, a directory."""
    entries = [BLOCK._replace(address=f"198.18.0.{number}") for number in range(4)]
    places = [tmp_path / file_name(entry) for entry in entries]
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    places[0].symlink_to(secret)
    os.mkfifo(places[1])
    places[2].mkdir()
    places[3].write_bytes(b"packets")
    assert captures(tmp_path, entries) == [b"packets"]
