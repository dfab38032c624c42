"""Captures judged whole: which sources are found, when, and what a block would have prevented."""

import struct
import subprocess
import sys
from collections.abc import Iterable
from ipaddress import ip_network
from pathlib import Path
from typing import Final

import pytest

from sentryfw.config import parse
from sentryfw.config.model import Config
from sentryfw.engine.model import parse_source
from sentryfw.engine.networks import LINK_LOCAL_ONLY
from sentryfw.tools.replay.judge import ReplayResult, SourceFinding
from sentryfw.tools.replay.run import replay
from support import forge
from support.captures import (
    START,
    THEM,
    US,
    ethernet,
    pcap,
    pcap_header,
    pcap_record,
    tcp,
    udp,
)

Timed = tuple[float, bytes]
LISTED: Final = frozenset({(6, 22), (17, 53)})


def _replay(
    tmp_path: Path,
    frames: Iterable[Timed],
    config: Config | None = None,
    listed: frozenset[tuple[int, int]] | None = LISTED,
) -> ReplayResult:
    path = tmp_path / "some.pcap"
    path.write_bytes(pcap(frames))
    return replay(path, config or Config(), (ip_network(US),), listed)


def _finding(result: ReplayResult, source: str = THEM) -> SourceFinding:
    return result.findings[parse_source(source, LINK_LOCAL_ONLY)]


def _scan(ports: Iterable[int], gap: float = 0.01, source: str = THEM) -> list[Timed]:
    return [(n * gap, tcp(source, US, port)) for n, port in enumerate(ports)]


def test_a_scan_is_found_at_its_third_target_and_its_later_packets_are_dropped(
    tmp_path: Path,
) -> None:
    result = _replay(tmp_path, _scan(range(7001, 7011)))
    finding = _finding(result)
    assert (finding.scan, finding.kinds, finding.targets) == ("portscan", ("syn",), 3)
    assert (finding.probes, finding.packets_after, finding.action) == (3, 7, "blocked")
    assert finding.decided_at - finding.first_seen == pytest.approx(0.02, abs=1e-6)
    assert finding.first_seen == pytest.approx(START, abs=1e-6)
    assert result.fates == {"judged": 3, "dropped": 7}
    assert result.error is None


def test_the_tool_of_earlier_probes_is_kept(tmp_path: Path) -> None:
    """The probe that decides is a datagram, which has no tool's header fields."""
    seq = int.from_bytes(forge.packed(US))  # Mirai's
    syns = [ethernet(forge.ip(THEM, US, 6, forge.tcp(port, seq=seq))) for port in (1, 2)]
    frames = [*((0.1 * n, syn) for n, syn in enumerate(syns)), (0.3, udp(THEM, US, 7000))]
    finding = _finding(_replay(tmp_path, frames))
    assert (finding.kinds, finding.tool) == (("syn", "udp"), "mirai")
    others = [(after, frame) for after, frame in _scan([1, 2])]
    assert _finding(_replay(tmp_path, [*others, frames[-1]])).tool == "unknown"


def test_two_targets_are_not_a_scan(tmp_path: Path) -> None:
    assert not _replay(tmp_path, _scan([7001, 7002] * 20)).findings


def test_the_configuration_decides_as_it_does_in_the_daemon(tmp_path: Path) -> None:
    config = parse(b"[detect]\ntrigger = 5", "here")
    assert _finding(_replay(tmp_path, _scan(range(1000, 1010)), config)).probes == 5


def test_capture_time_is_the_clock(tmp_path: Path) -> None:
    """Three targets within the window of 5 minutes are a scan, in 10 minutes they are none."""
    assert _replay(tmp_path, _scan([1, 2, 3], gap=140)).findings
    assert not _replay(tmp_path, _scan([1, 2, 3], gap=200)).findings


def test_a_source_is_judged_again_when_its_block_is_over(tmp_path: Path) -> None:
    config = parse(b'[block]\ntimeouts = ["60s", "1h"]', "here")
    first = _scan(range(7001, 7005))
    later = [(100 + time, frame) for time, frame in _scan(range(8001, 8009))]
    finding = _finding(_replay(tmp_path, first + later, config))
    assert (finding.blocks, finding.probes, finding.packets_after) == (2, 3, 1 + 5)


def test_answers_that_a_block_would_have_prevented_are_counted(tmp_path: Path) -> None:
    frames = [
        *_scan([7001, 7002, 7003, 22]),
        (0.1, tcp(US, THEM, 40000, "SA", 22)),
        (0.2, udp(THEM, US, 53)),
        (0.3, udp(US, THEM, 40000, 53)),
    ]
    finding = _finding(_replay(tmp_path, frames))
    assert (finding.packets_after, finding.answers_after) == (2, 2)


def test_a_partner_with_forgeable_evidence_is_confined(tmp_path: Path) -> None:
    handshake = [
        (0.0, tcp(THEM, US, 22)),
        (0.1, tcp(US, THEM, 40000, "SA", 22)),
        (0.2, tcp(THEM, US, 22, "A")),
        (0.3, tcp(US, THEM, 40000, "A", 22)),
    ]
    probes = [(61 + time, frame) for time, frame in _scan(range(7001, 7006))]
    config = parse(b'[watch]\nraw_syn = "serve"', "here")
    finding = _finding(_replay(tmp_path, handshake + probes, config))
    assert (finding.action, finding.packets_after) == ("confined", 0)


def test_a_refused_source_that_is_blocked_later_is_shown_as_blocked(tmp_path: Path) -> None:
    config = parse(b"[block]\nper_minute = 1", "here")
    other = _scan(range(7001, 7004), source="203.0.113.8")
    first = [(1 + time, frame) for time, frame in _scan(range(7001, 7004))]
    again = [(90 + time, frame) for time, frame in _scan(range(7004, 7009))]
    result = _replay(tmp_path, other + first + again, config)
    assert _finding(result, "203.0.113.8").action == "blocked"
    assert (_finding(result).action, _finding(result).blocks) == ("blocked", 1)


def test_hand_listed_ports_and_never_block_of_the_configuration_hold(tmp_path: Path) -> None:
    listed = parse(b'[watch]\nraw_syn = "serve"\nlisted_tcp = ["7000-7009"]', "here")
    assert not _replay(tmp_path, _scan(range(7000, 7010)), listed).findings
    spared = parse(f'[never_block]\naddresses = ["{THEM}"]'.encode(), "here")
    finding = _finding(_replay(tmp_path, _scan(range(7000, 7010)), spared))
    assert (finding.action, finding.reason) == ("refused", "never_block")


def test_side_and_ports_are_guessed_where_they_are_not_given(tmp_path: Path) -> None:
    path = tmp_path / "guess.pcap"
    answered = [(0.001, tcp(THEM, US, 22)), (0.002, tcp(US, THEM, 40000, "SA", 22))]
    path.write_bytes(pcap(answered + _scan(range(7001, 7009))))
    result = replay(path, parse(b'[watch]\nraw_syn = "serve"', "here"))
    assert result.view.local == (ip_network(US),)
    assert {socket[1:] for socket in result.view.sockets} == {(6, 22)}
    assert _finding(result).targets == 3


def test_of_a_broken_capture_the_part_before_the_fault_is_judged(tmp_path: Path) -> None:
    path = tmp_path / "broken.pcap"
    path.write_bytes(pcap(_scan(range(7001, 7011)))[:-3])
    result = replay(path, Config())
    assert result.error is not None
    assert result.packets == 9
    assert _finding(result).packets_after == 6


def test_other_link_types_and_packets_without_ip_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "other.pcap"
    path.write_bytes(pcap([(0, b"frame")], linktype=147))
    assert replay(path, Config()).fates == {"link type 147": 1}
    result = _replay(tmp_path, [(0, bytes(60)), (1, tcp(THEM, US, 22)[:40])])
    assert result.fates == {"not IP": 1, "cut short": 1}


def test_packets_that_are_segmented_after_the_recording_are_judged(tmp_path: Path) -> None:
    """Their total length is 0."""
    frames = [
        (after, frame[:16] + bytes(2) + frame[18:]) for after, frame in _scan(range(7001, 7011))
    ]
    assert _finding(_replay(tmp_path, frames)).probes == 3


def test_the_same_connections_of_one_direction_are_not_a_scan_and_a_scan_is_one(
    tmp_path: Path,
) -> None:
    """A server's responses to connections whose other half is not recorded; and nmap -sA."""
    ports = range(50000, 50010)

    def frames(data: bytes) -> list[Timed]:
        return [
            (n * 0.1, ethernet(forge.ip(THEM, US, 6, forge.tcp(p, "PA", 80, seq=p) + data)))
            for n, p in enumerate(ports)
        ]

    assert not _replay(tmp_path, frames(b"HTTP/1.1 200 OK")).findings
    assert _finding(_replay(tmp_path, frames(b""))).kinds == ("ack",)


def test_a_client_whose_syn_would_have_been_deferred_is_served_as_recorded(tmp_path: Path) -> None:
    """A tiny stack: no option, window 1024. It would have sent its SYN again."""
    talk = [
        tcp(THEM, US, 22), tcp(US, THEM, 40000, "SA", 22), tcp(THEM, US, 22, "A"),
        tcp(THEM, US, 22, "PA"), tcp(US, THEM, 40000, "PA", 22), tcp(THEM, US, 22, "FA"),
    ]  # fmt: skip
    result = _replay(tmp_path, [(n * 0.01, frame) for n, frame in enumerate(talk)])
    assert result.fates == {"judged": 1, "sent": 2, "passed": 3}


SERVICES: Final = range(8001, 8008)
"""Listed ports: six SYNs that are deferred make a scan."""


def _visits(*rest: tuple[str, str]) -> list[Timed]:
    """Return a SYN of a tiny stack to each service, the SYN/ACK, and what the source answers."""
    frames = [
        tcp(THEM, US, port, flags) if sender == THEM else tcp(US, THEM, 40000, flags, port)
        for port in SERVICES
        for sender, flags in ((THEM, "S"), (US, "SA"), *rest)
    ]
    return [(n * 0.01, frame) for n, frame in enumerate(frames)]


def test_evidence_of_a_deferred_syn_ends_with_a_finished_handshake(tmp_path: Path) -> None:
    listed = frozenset((6, port) for port in SERVICES)
    client = _visits((THEM, "A"), (THEM, "PA"), (US, "PA"), (THEM, "FA"))
    assert not _replay(tmp_path, client, listed=listed).findings


def test_a_raw_scanner_that_resets_its_handshakes_is_found(tmp_path: Path) -> None:
    """The counterpart: nothing is taken back of what a scanner leaves half open."""
    listed = frozenset((6, port) for port in SERVICES)
    finding = _finding(_replay(tmp_path, _visits((THEM, "R")), listed=listed))
    assert (finding.scan, finding.kinds) == ("portscan", ("syn", "rst"))


def test_a_side_can_be_kept_out_of_the_guess(tmp_path: Path) -> None:
    path = tmp_path / "some.pcap"
    path.write_bytes(pcap(_scan(range(7001, 7011))))
    assert replay(path, Config()).findings
    assert not replay(path, Config(), not_local=(ip_network(US),)).findings


# --- the clock


def test_years_without_a_packet_cost_no_time(tmp_path: Path) -> None:
    frames = [(0.0, tcp(THEM, US, 1)), (2e9, tcp(THEM, US, 2))]
    assert _replay(tmp_path, frames).fates == {"judged": 2}


# --- memory

MEASURE: Final = """
import resource, sys
from pathlib import Path
from sentryfw.config.model import Config
from sentryfw.tools.replay.run import replay
packets = replay(Path(sys.argv[1]), Config()).packets
print(packets, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
BIG: Final = 120 << 20
MAY_GROW_KIB: Final = 8 << 10


def test_a_large_capture_needs_no_more_memory_than_a_small_one(tmp_path: Path) -> None:
    """2,000 scanners, datagrams of 1,400 bytes; the large file is the small one many times."""
    data = bytes(1400)
    frames = b"".join(
        pcap_record(tcp(f"203.0.{n >> 8 & 7}.{n & 255}", US, 7000 + n % 10) + data)
        for n in range(6000)
    )
    small, big = tmp_path / "small.pcap", tmp_path / "big.pcap"
    small.write_bytes(pcap_header() + frames)
    times = BIG // len(frames) + 1
    with big.open("wb") as file:
        file.write(pcap_header())
        for _ in range(times):
            file.write(frames)
    little, much = _measure(small), _measure(big)
    assert (little[0], much[0]) == (6000, 6000 * times)
    assert much[1] - little[1] < MAY_GROW_KIB


def _measure(path: Path) -> tuple[int, int]:
    """Packets, and the most memory that a process of its own had, in KiB."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", MEASURE, path], capture_output=True, text=True, check=True
    )
    packets, peak = done.stdout.split()
    return int(packets), int(peak)


def test_a_packet_of_the_largest_size_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.pcap"
    frame = tcp(THEM, US, 23) + bytes(262144 - 54)
    path.write_bytes(pcap_header() + pcap_record(frame) + pcap_record(tcp(THEM, US, 24)))
    assert replay(path, Config(), (ip_network(US),), LISTED).fates == {"judged": 2}
    path.write_bytes(pcap_header() + struct.pack("<IIII", 0, 0, 262145, 262145) + bytes(262145))
    assert replay(path, Config()).error is not None
