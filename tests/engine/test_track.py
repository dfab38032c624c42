"""Evidence: distinct targets, two horizons, bounded state that a flood cannot flush."""

import random
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.engine.model import KINDS, Evidence, Kind, Probe, Source
from sentryfw.engine.track import (
    MAX_SCANNER_TARGETS,
    MAX_TARGETS,
    Tracker,
)
from support.forge import packed
from support.transcript import HORIZONS, HOST, A

SMALL = 64
"""A table small enough to overflow quickly."""

SCANNER = Source(packed(A))


def _probe(source: Source = SCANNER, port: int = 23, kind: Kind = "syn", host: str = HOST) -> Probe:
    return Probe(source, (packed(host), 17 if kind == "udp" else 6, port), kind)


def _observe(tracker: Tracker, probe: Probe, now: float = 0.0) -> Evidence:
    return tracker.observe(probe, now).evidence()


def _flood(tracker: Tracker, size: int, now: float = 0.0, first: int = 0) -> None:
    """`size` forged sources, each seen once."""
    for number in range(first, first + size):
        tracker.observe(_probe(Source((0x0A000000 + number).to_bytes(4))), now)


def _is_scan(evidence: Evidence) -> bool:
    return max(evidence.score, evidence.slow_score) >= 1


def _makes_a_scan(tracker: Tracker, probe: Probe, now: float) -> bool:
    return tracker.observe(probe, now).is_scan


# --- what counts


def test_distinct_targets_count_and_packets_do_not() -> None:
    tracker = Tracker(HORIZONS)
    for port in (23, 23, 24, 23, 24):
        evidence = _observe(tracker, _probe(port=port))
    assert (evidence.targets, evidence.probes) == (2, 5)
    assert not _is_scan(evidence)


@pytest.mark.parametrize(
    "other",
    [_probe(port=24), _probe(host="192.0.2.2"), _probe(kind="udp")],
    ids=["port", "address", "protocol"],
)
def test_a_target_is_address_protocol_and_port(other: Probe) -> None:
    tracker = Tracker(HORIZONS)
    _observe(tracker, _probe())
    assert _observe(tracker, other).targets == 2


@pytest.mark.parametrize("trigger", [1, 2, 3, 7, 49, MAX_TARGETS])
def test_the_trigger_is_the_number_of_targets(trigger: int) -> None:
    tracker = Tracker(HORIZONS._replace(trigger=trigger, slow_trigger=MAX_TARGETS))
    scans = [_is_scan(_observe(tracker, _probe(port=port))) for port in range(trigger)]
    assert scans == [False] * (trigger - 1) + [True]


@pytest.mark.parametrize("slow_trigger", [4, 6, 7, 49, MAX_TARGETS])
def test_the_slow_trigger_is_the_number_of_targets(slow_trigger: int) -> None:
    tracker = Tracker(HORIZONS._replace(slow_trigger=slow_trigger))
    scans = [
        _is_scan(_observe(tracker, _probe(port=port), now=port * 400.0))
        for port in range(slow_trigger)
    ]
    assert scans == [False] * (slow_trigger - 1) + [True]


def test_a_slow_trigger_below_the_trigger_is_raised_to_it() -> None:
    tracker = Tracker(HORIZONS._replace(trigger=5, slow_trigger=2))
    scans = [_is_scan(_observe(tracker, _probe(port=port))) for port in range(5)]
    assert scans == [False] * 4 + [True]


@pytest.mark.parametrize(
    ("gap", "is_scan"), [(150.0, True), (150.1, False)], ids=["at-its-edge", "past-it"]
)
def test_the_window_reaches_back_its_length(gap: float, *, is_scan: bool) -> None:
    tracker = Tracker(HORIZONS)
    for port in range(2):
        _observe(tracker, _probe(port=port), now=port * gap)
    assert _is_scan(_observe(tracker, _probe(port=2), now=2 * gap)) == is_scan


def test_a_retransmit_renews_the_time_of_its_target() -> None:
    tracker = Tracker(HORIZONS)
    for now, port in ((0.0, 23), (250.0, 23), (260.0, 24)):
        _observe(tracker, _probe(port=port), now)
    assert _is_scan(_observe(tracker, _probe(port=25), 500.0))


@pytest.mark.parametrize(
    ("kinds", "scan_at"),
    [
        ("null", 1),
        ("syn syn syn", 3),
        ("syn ack syn", 3),
        ("udp syn null", 3),
        ("udp udp udp udp udp udp", 6),
        ("syn syn udp udp", 4),
        ("syn udp udp udp udp", 5),
        ("syn udp udp udp", None),
        ("udp udp udp udp udp", None),
    ],
)
def test_kinds_mix_by_weight(kinds: str, scan_at: int | None) -> None:
    tracker = Tracker(HORIZONS._replace(triggers={"null": 1, "udp": 6}, slow_trigger=MAX_TARGETS))
    scans = [
        _is_scan(_observe(tracker, _probe(port=port, kind=cast(Kind, kind))))
        for port, kind in enumerate(kinds.split())
    ]
    assert (scans.index(True) + 1 if True in scans else None) == scan_at


def test_another_kind_at_the_same_target_does_not_lighten_it() -> None:
    tracker = Tracker(HORIZONS._replace(triggers={"ack": 30}))
    for port in range(2):
        _observe(tracker, _probe(port=port, kind="syn"))
        _observe(tracker, _probe(port=port, kind="ack"))
    assert _is_scan(_observe(tracker, _probe(port=2, kind="syn")))


def test_evidence_contains_kinds_and_times() -> None:
    tracker = Tracker(HORIZONS)
    for now, kind in ((10.0, "ack"), (11.0, "syn"), (12.5, "ack")):
        evidence = _observe(tracker, _probe(kind=kind), now)
    assert evidence.kinds == ("ack", "syn")
    assert (evidence.first_seen, evidence.last_seen) == (10.0, 12.5)


def test_evidence_of_the_window_leaves_older_targets_out() -> None:
    tracker = Tracker(HORIZONS)
    for now, port in ((0.0, 1), (400.0, 2), (401.0, 3), (402.0, 4)):
        evidence = _observe(tracker, _probe(port=port), now)
    assert _is_scan(evidence)
    assert evidence.targets == 3


def test_evidence_of_the_slow_window_leaves_older_targets_out() -> None:
    tracker = Tracker(HORIZONS._replace(slow_window=10000.0))
    times = [0.0, 6000.0, 12000.0, 13000.0, 14000.0, 15000.0, 15500.0]
    for port, now in enumerate(times):
        evidence = _observe(tracker, _probe(port=port), now)
    assert evidence.slow_score >= 1
    assert evidence.targets == 6  # that of 0.0 is past the slow window


def test_evidence_below_the_triggers_counts_the_window() -> None:
    tracker = Tracker(HORIZONS)
    _observe(tracker, _probe(port=1), 0.0)
    assert _observe(tracker, _probe(port=2), 400.0).targets == 1


# --- the finding


@pytest.mark.parametrize(
    ("targets", "scan"),
    [
        ([(HOST, 1), (HOST, 2), (HOST, 3)], "portscan"),
        ([("192.0.2.1", 23), ("192.0.2.2", 23), ("192.0.2.3", 23)], "portsweep"),
        ([("192.0.2.1", 23), ("192.0.2.2", 24), ("192.0.2.3", 24)], "portsweep"),
        ([("192.0.2.1", 23), ("192.0.2.1", 24), ("192.0.2.2", 23)], "portscan"),
    ],
    ids=["one-host", "one-port", "more-hosts-than-ports", "as-many"],
)
def test_more_hosts_than_ports_are_a_sweep(targets: list[tuple[str, int]], scan: str) -> None:
    tracker = Tracker(HORIZONS)
    for host, port in targets:
        evidence = _observe(tracker, _probe(host=host, port=port))
    assert evidence.scan == scan
    assert evidence.sample == tuple((packed(host), 6, port) for host, port in targets)


# --- forgetting


def test_a_forgotten_source_starts_again() -> None:
    tracker = Tracker(HORIZONS)
    for port in range(2):
        _observe(tracker, _probe(port=port))
    tracker.forget(SCANNER)
    assert len(tracker) == 0
    assert _observe(tracker, _probe(port=2)).targets == 1


@pytest.mark.parametrize(("quiet", "left"), [(86399.0, 1), (86400.0, 0)], ids=["kept", "forgotten"])
def test_a_source_is_forgotten_after_a_quiet_slow_window(quiet: float, left: int) -> None:
    tracker = Tracker(HORIZONS)
    _observe(tracker, _probe(), 100.0)
    tracker.expire(100.0 + quiet)
    assert len(tracker) == left


def test_expiry_depends_on_the_last_probe() -> None:
    tracker = Tracker(HORIZONS)
    other = Source(packed("203.0.113.9"))
    _observe(tracker, _probe(), 0.0)
    _observe(tracker, _probe(other), 1.0)
    _observe(tracker, _probe(), 2.0)
    tracker.expire(86401.5)
    assert tracker.get(other) is None
    assert tracker.get(SCANNER) is not None


def test_expiry_keeps_to_its_budget() -> None:
    tracker = Tracker(HORIZONS)
    _flood(tracker, 100)
    tracker.expire(90000.0, budget=30)
    assert len(tracker) == 70


# --- floods


def test_a_flood_stays_within_the_bounds_and_is_counted() -> None:
    tracker = Tracker(HORIZONS, SMALL)
    _flood(tracker, 100 * SMALL)
    assert tracker.new_sources == 100 * SMALL
    assert len(tracker) + tracker.pushed_out == 100 * SMALL
    assert len(tracker) <= 18 * SMALL


def test_quiet_sources_make_room_again() -> None:
    tracker = Tracker(HORIZONS, SMALL)
    _flood(tracker, 100 * SMALL)
    tracker.expire(90000.0)
    assert len(tracker) == 0


@given(
    st.lists(
        st.tuples(st.integers(0, 300), st.integers(0, 3), st.sampled_from(KINDS)), max_size=400
    ),
    st.integers(1, 20),
)
def test_the_table_never_outgrows_its_bounds(
    probes: list[tuple[int, int, Kind]], max_sources: int
) -> None:
    tracker = Tracker(HORIZONS, max_sources)
    for number, port, kind in probes:
        tracker.observe(_probe(Source(number.to_bytes(4)), port, kind), 0.0)
        assert len(tracker) <= 18 * max_sources + 8


def test_each_family_has_its_own_places() -> None:
    tracker = Tracker(HORIZONS, SMALL)
    for port in range(2):
        _observe(tracker, _probe(port=port))
    for number in range(2 * SMALL):
        for port in range(2):
            tracker.observe(_probe(Source(number.to_bytes(8)), port), 0.0)
    assert tracker.pushed_out
    assert _is_scan(_observe(tracker, _probe(port=2)))


@pytest.mark.parametrize(
    ("triggers", "kept"),
    [({}, MAX_SCANNER_TARGETS), ({"syn": 5 * MAX_TARGETS}, MAX_TARGETS)],
    ids=["a scanner beyond doubt", "not a scanner yet"],
)
def test_targets_of_one_source_are_bounded(triggers: dict[Kind, int], kept: int) -> None:
    tracker = Tracker(HORIZONS._replace(triggers=triggers, slow_trigger=5 * MAX_TARGETS))
    for port in range(5 * MAX_TARGETS):
        _observe(tracker, _probe(port=port))
    state = tracker.get(SCANNER)
    assert state is not None
    assert [port for _, _, port in state.targets] == list(
        range(5 * MAX_TARGETS - kept, 5 * MAX_TARGETS)
    )


@given(st.integers(0, 12 * SMALL), st.integers(1, 12))
def test_a_source_below_its_trigger_is_recognised_through_a_flood(flood: int, trigger: int) -> None:
    tracker = Tracker(HORIZONS._replace(trigger=trigger, window=1e9), SMALL * 12)
    for port in range(trigger):
        assert _makes_a_scan(tracker, _probe(port=port), 0.0) == (port == trigger - 1)
        _flood(tracker, flood, first=port * flood)


@pytest.mark.parametrize("is_lone", [True, False])
def test_a_scanner_that_begins_in_a_flood_is_recognised(*, is_lone: bool) -> None:
    tracker = Tracker(HORIZONS, SMALL)
    tracker.follow_flood(is_flood=True)
    for port in range(3):
        for number in range(2 * SMALL):
            source = Source((0x0A000000 + port * 4 * SMALL + number).to_bytes(4))
            tracker.observe(_probe(source), 1.0, is_lone=True)
        observed = tracker.observe(_probe(port=port), 2.0, is_lone=is_lone)
        assert observed.targets == port + 1
    assert observed.is_scan


FLOOD_PER_S = 1000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gap", "needed"), [(60, 3), (240, 6)], ids=["a-probe-a-minute", "one-in-four-minutes"]
)
def test_a_slow_scanner_is_found_behind_half_an_hour_of_forged_probes(
    gap: int, needed: int
) -> None:
    """From all over IPv4 and from a /32 of IPv6; the scanners begin when the table is full."""
    rng = random.Random(1)
    tracker = Tracker(HORIZONS)
    scanners = SCANNER, Source(packed("2001:db8:5:6::")[:8])
    found: dict[Source, int] = {}
    start = 1800 - gap * (needed - 1)
    for second in range(1801):
        for number in range(FLOOD_PER_S):
            prefix = 0x20010DB9 << 32 | rng.getrandbits(32)
            forged = prefix.to_bytes(8) if number % 2 else rng.getrandbits(32).to_bytes(4)
            tracker.observe(_probe(Source(forged), rng.getrandbits(16)), float(second))
        tracker.expire(float(second))
        if second >= start and (second - start) % gap == 0:
            port = (second - start) // gap
            for scanner in scanners:
                if _makes_a_scan(tracker, _probe(scanner, port), float(second)):
                    found.setdefault(scanner, port + 1)
    assert found == dict.fromkeys(scanners, needed)


def test_sources_forged_twice_do_not_take_the_places_of_a_scanner() -> None:
    """75 forged sources a second, each of them twice; a scanner sends a probe a minute."""
    tracker = Tracker(HORIZONS)
    rng = random.Random(1)
    for second in range(601):
        for _ in range(75):
            source = Source(rng.getrandbits(32).to_bytes(4))
            for port in range(2):
                tracker.observe(_probe(source, port), float(second))
        if second % 240 == 0:
            assert _observe(tracker, _probe(port=second), float(second)).probes == second // 240 + 1
