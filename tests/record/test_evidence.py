"""The packets behind a block: remembered within bounds, written whole, given up in order."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from scapy.utils import RawPcapNgReader

from sentryfw.engine.model import Block, Evidence, Probe, Source, source_of
from sentryfw.errors import SentryError
from sentryfw.record import evidence as module
from sentryfw.record.entry import Entry, event_id
from sentryfw.record.evidence import MAX_AGAIN, MAX_ONCE, SNAP, Glimpses, captures, file_name
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
        probe.source, 3, 3, ("syn",), 0.0, 1.0, 1.0, 1.0, "portscan", (), last=probe
    )
    return Block(probe.source, 60.0, 1, True, "", evidence, 1.0)


def _keep(glimpses: Glimpses, source: str, *ports: int) -> None:
    for port in ports:
        glimpses.keep(_probe(source, port), _packet(source, port), float(port))


def _ports(glimpses: Glimpses, source: str) -> list[int]:
    """The ports of the probes behind its block; the one that decided is 99."""
    taken = glimpses.take(_block(source), _packet(source, 99), 99.0)
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
    glimpses = Glimpses(PACKETS)
    _keep(glimpses, "198.51.100.7", *before)
    assert _ports(glimpses, "198.51.100.7") == kept
    assert len(glimpses) == 0


def test_each_source_has_its_own() -> None:
    glimpses = Glimpses(PACKETS)
    _keep(glimpses, "198.51.100.7", 1)
    _keep(glimpses, "198.51.100.8", 2, 3)
    assert _ports(glimpses, "198.51.100.8") == [2, 3, 99]
    assert _ports(glimpses, "198.51.100.7") == [1, 99]


def test_none_are_kept_where_none_are_wanted() -> None:
    glimpses = Glimpses(0)
    _keep(glimpses, "198.51.100.7", 1, 2)
    assert len(glimpses) == 0
    assert _ports(glimpses, "198.51.100.7") == []


def test_a_decision_without_a_packet_adds_none() -> None:
    glimpses = Glimpses(PACKETS)
    glimpses.keep(_probe("198.51.100.7"), b"", 1.0)
    assert glimpses.take(_block("198.51.100.7"), b"", 1.0) == []


def test_a_long_packet_is_cut_and_its_length_remembered() -> None:
    """The queue hands over 512 bytes of it; the header says the rest."""
    packet = _packet("198.51.100.7", data=bytes(1400))
    glimpses = Glimpses(PACKETS)
    [seen] = glimpses.take(_block("198.51.100.7"), packet[:512], 1.0)
    assert (seen.data, seen.length) == (packet[:SNAP], len(packet))


def test_the_length_of_an_ipv6_packet_is_its_headers() -> None:
    packet = ipv6("2001:db8::7", "2001:db8::1", 17, udp(53, data=bytes(300)))
    probe = Probe(source_of(packed("2001:db8::7")), (packed("2001:db8::1"), 17, 53), "udp")
    [seen] = Glimpses(PACKETS).take(_block("2001:db8::7", probe), packet[:200], 1.0)
    assert seen.length == len(packet)


def test_a_forged_flood_is_bounded_and_flushes_no_scanner() -> None:
    """200,000 sources that come once, between a scanner's second and its last probe."""
    glimpses = Glimpses(8)
    _keep(glimpses, "198.51.100.7", 1, 2)
    tracemalloc.start()
    try:
        for number in range(200_000):
            source = Source((0x0B000000 + number).to_bytes(4))
            probe = Probe(source, (packed("192.0.2.1"), 6, 22), "syn")
            glimpses.keep(probe, bytes(SNAP) + number.to_bytes(4), 1.0)
            assert len(glimpses) <= MAX_ONCE + 1
        used = tracemalloc.get_traced_memory()[0] / 2**20
    finally:
        tracemalloc.stop()
    assert used < LIMIT_MIB
    assert _ports(glimpses, "198.51.100.7") == [1, 2, 99]


def test_sources_that_come_often_are_bounded_too() -> None:
    glimpses = Glimpses(8)
    tracemalloc.start()
    try:
        for number in range(2 * MAX_AGAIN):
            source = Source((0x0B000000 + number).to_bytes(4))
            for port in range(20):
                probe = Probe(source, (packed("192.0.2.1"), 6, port), "syn")
                glimpses.keep(probe, number.to_bytes(4) + bytes(SNAP - port), 1.0)
        used = tracemalloc.get_traced_memory()[0] / 2**20
    finally:
        tracemalloc.stop()
    assert len(glimpses) == MAX_AGAIN
    assert used < LIMIT_MIB


# --- on disk


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., module.Evidence]:
    return lambda files=100, age=3600.0: module.Evidence(tmp_path / "evidence", files, age)


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks were made a moment ago."""
    monkeypatch.setattr(module.time, "time", lambda: BLOCKED_AT + 60)


def _entry(second: int, address: str = "198.18.0.2") -> Entry:
    return BLOCK._replace(blocked_at=BLOCKED_AT + second, address=address)


def _glimpses(*ports: int) -> list[module.Glimpse]:
    return [module.glimpse(_probe("198.18.0.2", p), _packet("198.18.0.2", p), p) for p in ports]


def _files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "evidence").iterdir())


def test_a_capture_names_its_event_in_every_packet(
    make: Callable[..., module.Evidence], tmp_path: Path
) -> None:
    make().write(BLOCK, _glimpses(1, 2))
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


def test_beyond_the_number_the_oldest_goes(
    make: Callable[..., module.Evidence], tmp_path: Path
) -> None:
    kept = make(files=3)
    entries = [_entry(n) for n in range(5)]
    for entry in entries:
        kept.write(entry, _glimpses(1))
    assert _files(tmp_path) == [file_name(entry) for entry in entries[2:]]


def test_beyond_the_age_it_goes(make: Callable[..., module.Evidence], tmp_path: Path) -> None:
    kept = make(age=100.0)
    for second in (-50, -30, 0):
        kept.write(_entry(second), _glimpses(1))
    assert _files(tmp_path) == [file_name(_entry(n)) for n in (-30, 0)]


def test_the_bounds_hold_over_a_restart(
    make: Callable[..., module.Evidence], tmp_path: Path
) -> None:
    for second in range(4):
        make().write(_entry(second), _glimpses(1))
    make(files=2).write(_entry(4), _glimpses(1))
    assert _files(tmp_path) == [file_name(_entry(n)) for n in (3, 4)]


def test_what_a_crash_left_half_written_is_removed(
    make: Callable[..., module.Evidence], tmp_path: Path
) -> None:
    make()
    (tmp_path / "evidence" / f"{file_name(BLOCK)}.part").write_bytes(b"half")
    (tmp_path / "evidence" / "an-operators-own-note").touch()
    make(files=1).write(_entry(1), _glimpses(1))
    assert _files(tmp_path) == [file_name(_entry(1)), "an-operators-own-note"]


def test_a_full_disk_leaves_no_half_file(
    make: Callable[..., module.Evidence], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = make()
    whole = module.os.write
    monkeypatch.setattr(module.os, "write", lambda fd, data: whole(fd, data[:10]))
    with pytest.raises(OSError, match="No space left on device"):
        kept.write(BLOCK, _glimpses(1))
    assert _files(tmp_path) == []


def test_a_link_in_its_place_is_not_followed(
    make: Callable[..., module.Evidence], tmp_path: Path
) -> None:
    kept = make()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "evidence" / f"{file_name(BLOCK)}.part").symlink_to(victim)
    with pytest.raises(SentryError):
        kept.write(BLOCK, _glimpses(1))
    assert victim.read_text() == "precious"


def test_captures_come_in_the_order_of_their_blocks(
    make: Callable[..., module.Evidence], tmp_path: Path
) -> None:
    kept = make()
    for second in (0, 2):
        kept.write(_entry(second), _glimpses(second + 1))
    found = captures(tmp_path / "evidence", [_entry(n) for n in range(3)])
    assert found == [module.render(_entry(n), _glimpses(n + 1)) for n in (0, 2)]
