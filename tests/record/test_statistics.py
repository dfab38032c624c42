"""Statistics of a period, out of a ledger written as the daemon writes it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sentryfw.record.ledger import Ledger
from sentryfw.record.records import DecisionRecord, ProbeTrace, manual_entry
from sentryfw.record.statistics import (
    BUCKET_COUNT,
    MAX_COMBINATIONS,
    Brief,
    brief,
    entries,
    review,
)
from support.entries import BLOCK, BLOCKED_AT, REFUSAL, SIX

DAY = 86400.0
NOW = BLOCKED_AT + DAY


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "state" / "ledger.db") as made:
        yield made


def probed(entry: DecisionRecord, *services: str) -> DecisionRecord:
    at = entry.blocked_at
    trace = tuple(ProbeTrace(at, "syn", False, f"198.18.0.1 {service}") for service in services)
    return entry._replace(trace=trace)


def test_blocks_are_counted_by_their_properties(ledger: Ledger) -> None:
    again = BLOCK._replace(blocked_at=BLOCKED_AT + 7200, tool="nmap", kinds=["syn"], probes=7)
    by_hand = manual_entry("203.0.113.0/24", 4, 60.0, BLOCKED_AT)
    confined = REFUSAL._replace(confined=True, timeout_s=60.0, reason="3 targets")
    ledger.add([BLOCK, again, SIX, by_hand, REFUSAL, REFUSAL, confined])
    ledger.unblocked("203.0.113.0/24", BLOCKED_AT + 1)
    found = review(ledger, BLOCKED_AT - 10, NOW)
    assert (found.blocks, found.sources, found.unblocked) == (4, 3, 1)
    assert found.scans == {"portscan": 2, "by hand": 1, "portsweep": 1}
    assert found.tools == {"unknown": 2, "nmap": 1}
    assert found.kinds == {"syn": 3, "udp": 2}
    assert found.families == {"ipv4": 3, "ipv6": 1}
    assert found.refusals == {"partner": 2}
    assert found.confinements == 1
    first = found.top[0]
    assert (first.address, first.blocks, first.probes) == (BLOCK.address, 2, 12)
    assert set(first.tools.split(",")) == {"unknown", "nmap"}
    assert sum(found.timeline) == 4
    hour = int(BLOCKED_AT // 3600)
    assert list(found.hours.items()) == [(hour, 3), (hour + 2, 1)]
    [hand] = [source for source in found.top if source.address == by_hand.address]
    assert (hand.scans, hand.tools) == ("", "")


def test_the_scans_since_a_time_in_short(ledger: Ledger) -> None:
    assert brief(ledger, BLOCKED_AT) == Brief(0, 0, {}, None)
    old = BLOCK._replace(blocked_at=BLOCKED_AT - DAY)
    by_hand = manual_entry("203.0.113.0/24", 4, 60.0, BLOCKED_AT)
    seen = REFUSAL._replace(address="198.18.0.9", reason="observe")
    again = BLOCK._replace(blocked_at=BLOCKED_AT + 1)
    ledger.add([old, BLOCK, SIX, by_hand, again, REFUSAL, seen, seen])
    found = brief(ledger, BLOCKED_AT)
    assert (found.blocks, found.sources) == (3, 2)
    assert found.refusals == {"observe": 1, "partner": 1}
    assert found.last == again._replace(trace=())
    ledger.add([REFUSAL._replace(blocked_at=BLOCKED_AT + 2)])
    last = brief(ledger, BLOCKED_AT + 60).last
    assert last is not None
    assert (last.blocked, last.reason) == (False, "partner")


def test_scans_that_were_only_observed_are_summed_up_by_their_sources(ledger: Ledger) -> None:
    seen = REFUSAL._replace(reason="observe", tool="nmap", scan="portscan")
    later = seen._replace(blocked_at=seen.blocked_at + 60, scan="portsweep")
    old = seen._replace(blocked_at=BLOCKED_AT - DAY, address="198.18.0.77")
    ledger.add([seen, later, old, REFUSAL._replace(address="198.18.0.78")])
    found = review(ledger, BLOCKED_AT - 10, NOW)
    [source] = found.observed
    assert (source.address, source.blocks, source.probes) == (seen.address, 2, 2 * seen.probes)
    assert source.last_blocked == later.blocked_at
    assert set(source.scans.split(",")) == {"portscan", "portsweep"}
    assert source.tools == "nmap"
    assert (found.top, found.begins) == ([], old.blocked_at)


def test_only_the_period_counts(ledger: Ledger) -> None:
    old = BLOCK._replace(blocked_at=BLOCKED_AT - DAY, first_seen=BLOCKED_AT - 2 * DAY)
    ledger.add([probed(old, "tcp/1"), probed(BLOCK, "tcp/2")])
    found = review(ledger, BLOCKED_AT - 10, NOW)
    assert (found.blocks, [port.service for port in found.ports]) == (1, ["tcp/2"])
    assert found.slowest is not None
    assert found.slowest.blocked_at == BLOCKED_AT
    assert found.begins == old.blocked_at


def test_the_heat_of_a_port_is_where_its_probes_were(ledger: Ledger) -> None:
    start, part = BLOCKED_AT, DAY / BUCKET_COUNT
    for number in (0, 1, 1, BUCKET_COUNT - 1):
        at = start + (number + 0.5) * part
        ledger.add([probed(BLOCK._replace(blocked_at=at), "tcp/22")])
    ledger.add([probed(BLOCK._replace(blocked_at=start + DAY), "tcp/22", "udp/53")])
    [ssh, dns] = review(ledger, start, start + DAY).ports
    assert (ssh.service, ssh.probes) == ("tcp/22", 5)
    assert ssh.heat == [1, 2, *[0] * (BUCKET_COUNT - 3), 2]
    assert (dns.service, dns.heat[-1]) == ("udp/53", 1)


def test_the_slowest_scan_is_the_one_that_took_longest(ledger: Ledger) -> None:
    slow = SIX._replace(first_seen=BLOCKED_AT - 80_000)
    by_hand = manual_entry("203.0.113.9", 4, 60.0, BLOCKED_AT)._replace(first_seen=0.0)
    ledger.add([BLOCK, slow, by_hand])
    found = review(ledger, BLOCKED_AT - 10, NOW).slowest
    assert found is not None
    assert (found.address, found.kinds) == (SIX.address, SIX.kinds)


def test_an_empty_ledger_has_an_empty_review(ledger: Ledger) -> None:
    found = review(ledger, BLOCKED_AT, NOW)
    assert (found.blocks, found.begins, found.slowest, found.top) == (0, None, None, [])
    assert found.timeline == [0] * BUCKET_COUNT


def test_a_review_does_not_make_a_writer_wait(ledger: Ledger, tmp_path: Path) -> None:
    ledger.add([BLOCK])
    with Ledger(tmp_path / "state" / "ledger.db") as other:
        with ledger.database.snapshot():
            ledger.database.read("SELECT COUNT(*) FROM blocks")
            other.add([SIX])
        assert review(ledger, BLOCKED_AT - 1, NOW).blocks == 2


def test_a_review_is_bounded(ledger: Ledger) -> None:
    made = [
        probed(BLOCK._replace(address=f"198.51.{n >> 8}.{n & 255}", kinds=[f"kind{n}"]), f"tcp/{n}")
        for n in range(300)
    ]
    ledger.add(made)
    found = review(ledger, BLOCKED_AT - 1, NOW)
    assert (len(found.top), len(found.ports), found.blocks) == (25, 20, 300)
    assert len(found.kinds) == min(300, MAX_COMBINATIONS)


def test_entries_are_complete_and_in_order(ledger: Ledger) -> None:
    made = [probed(BLOCK._replace(blocked_at=BLOCKED_AT + n), "tcp/22") for n in range(2500)]
    ledger.add(made)
    assert list(entries(ledger, BLOCKED_AT + 100)) == made[100:]
