"""Scans at every pace, evidence over restarts, and what a flood may cost."""

import random
import tracemalloc
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.engine.model import Probe
from sentryfw.engine.track import MAX_TARGETS
from support.flood import Flood, run_apart
from support.transcript import A6, A, B, Scenario, scenario

MINUTE: Final = 60.0
HOUR: Final = 3600.0
DAY: Final = 86400.0
WINDOW: Final = "window"
SLOW: Final = "slow window"

PACES: Final = {
    "-T0": (5 * MINUTE + 0.01, 6, SLOW),
    "-T1": (15.0, 3, WINDOW),
    "-T2": (0.4, 3, WINDOW),
    "-T3": (0.02, 3, WINDOW),
    "-T4": (0.005, 3, WINDOW),
    "-T5": (0.0, 3, WINDOW),
    "--scan-delay 149s": (149.0, 3, WINDOW),
    "--scan-delay 151s": (151.0, 6, SLOW),
    "--scan-delay 1h": (HOUR, 6, SLOW),
    "--scan-delay 4h": (4 * HOUR, 6, SLOW),
    "--scan-delay 288m": (4.8 * HOUR, 6, SLOW),
}
"""nmap(1), TIMING AND PERFORMANCE: seconds between two probes; the probe that blocks, and why."""


def _ports(seed: int, count: int) -> list[int]:
    """Return targets in random order, as nmap does."""
    ports = list(range(1, count + 1))
    random.Random(seed).shuffle(ports)
    return ports


def _quietly(run: Scenario, until: float) -> None:
    """Time passes, and the daemon ticks every second."""
    tick = run.engine.tick
    second = run.now
    while second + 1 < until:
        second += 1
        tick(second)
    run.at(until)


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize("source", [A, A6], ids=["ipv4", "ipv6"])
def test_a_scan_is_recognised_at_every_pace(source: str, pace: str) -> None:
    gap, probes, horizon = PACES[pace]
    run = scenario().at(DAY)
    ports = _ports(7, 100)
    for number in range(probes - 1):
        run.syn(source, ports[number]).expect_counted()
        _quietly(run, run.now + gap)
    run.syn(source, ports[probes - 1])
    run.expect_block(source, reason=f"{probes} distinct targets within the {horizon}")


@pytest.mark.parametrize("pace", ["-T0", "--scan-delay 1h"])
def test_a_slow_scan_is_recognised_though_it_repeats_its_probes(pace: str) -> None:
    """Without an answer nmap sends each probe again, which is not a new target."""
    gap, probes, horizon = PACES[pace]
    run = scenario().at(DAY)
    for port in _ports(8, probes - 1):
        run.syn(A, port).expect_counted()
        _quietly(run, run.now + gap)
        run.syn(A, port).expect_dropped()
        _quietly(run, run.now + gap)
    run.syn(A, 100).expect_block(A, reason=f"{probes} distinct targets within the {horizon}")


@pytest.mark.parametrize("seed", range(20))
def test_irregular_gaps_of_about_an_hour_hide_nothing(seed: int) -> None:
    chance = random.Random(seed)
    run = scenario().at(DAY)
    for port in _ports(seed, 5):
        run.syn(A, port).expect_counted().at(run.now + chance.uniform(0.2, 1.8) * HOUR)
    run.syn(A, 100).expect_block(A)
    assert "slow window" in run.block.reason


def test_a_slow_sweep_over_hosts_is_recognised() -> None:
    run = scenario().at(DAY)
    for host in range(1, 6):
        run.syn(A, 22, to=f"192.0.2.{host}").expect_counted().at(run.now + HOUR)
    run.syn(A, 22, to="192.0.2.6").expect_block(A)
    assert run.block.evidence.scan == "portsweep"


def test_a_slow_scan_of_every_kind_at_once_is_recognised() -> None:
    run = scenario().at(DAY)
    run.syn(A, 1).at(run.now + HOUR).udp(A, 2).at(run.now + HOUR).tcp(A, "A", 3)
    run.at(run.now + HOUR).sctp(A, 1, 4).at(run.now + HOUR).protocol(A, 253)
    run.expect_counted_and_accepted().at(run.now + HOUR).tcp(A, "FA", 6).expect_block(A)


def test_a_slow_scan_from_changing_addresses_of_a_64_is_recognised() -> None:
    run = scenario().at(DAY)
    for number in range(1, 6):
        run.syn(f"2001:db8:a:b::{number:x}", number).expect_counted().at(run.now + HOUR)
    run.syn(A6, 6).expect_block(A6)


def test_a_slow_scan_is_recognised_in_the_noise_of_a_day() -> None:
    """20,000 other sources send one or two probes each during that day."""
    chance = random.Random(9)
    run = scenario().at(DAY)
    for port in range(1, 6):
        run.syn(A, port).expect_counted()
        for _ in range(4000):
            run.at(run.now + HOUR / 4000)
            noisy = f"10.{chance.randrange(256)}.{chance.randrange(256)}.{chance.randrange(256)}"
            run.syn(noisy, chance.choice([22, 23, 445]))
    run.syn(A, 6).expect_block(A)
    assert sum(len(outcome.blocks) for outcome in run.outcomes) == 1


def test_a_slow_scanner_gets_at_most_five_answers_a_day() -> None:
    """The limit that the slow trigger sets: one probe in five hours is not recognised."""
    run = scenario().at(DAY)
    for port in range(1, 40):
        run.syn(A, port).expect_counted().at(run.now + 5 * HOUR)


# --- restarts


class Life:
    """A daemon's memory beside the engine: what is to be remembered, as the ledger keeps it, by
    the wall clock."""

    def __init__(self) -> None:
        self.sights: list[tuple[Probe, float]] = []
        self._epoch = 1_800_000_000.0

    def note(self, run: Scenario) -> None:
        """Return the result of the last packet."""
        probe = run.outcomes[-1].probe
        if probe is not None:
            self.sights.append((probe, run.now + self._epoch))

    def restart(self, run: Scenario, uptime: float) -> Scenario:
        """A new engine whose clock is at `uptime`: the host may have been rebooted."""
        reborn = scenario().at(uptime)
        self._epoch += run.now - uptime
        for probe, seen in self.sights:
            reborn.engine.tracker.restore(probe, seen - self._epoch)
        return reborn


@pytest.mark.parametrize("uptime", [1.0, 100_000.0], ids=["booted", "restarted"])
@given(restarts=st.sets(st.integers(1, 5)), gap=st.sampled_from([1.0, 200.0, HOUR, 4.7 * HOUR]))
def test_a_restart_changes_nothing(uptime: float, restarts: set[int], gap: float) -> None:
    """The block comes at the same probe, however often the daemon was restarted."""
    plain, run, life = scenario().at(DAY), scenario().at(DAY), Life()
    for number in range(6):
        if number in restarts:
            run = life.restart(run, uptime)
        plain.syn(A, number)
        run.syn(A, number)
        life.note(run)
        assert run.outcomes[-1].action == plain.outcomes[-1].action
        if plain.outcomes[-1].blocks:
            assert run.block.reason == plain.block.reason
            return
        plain.at(plain.now + gap)
        run.at(run.now + gap)
    raise AssertionError("never recognised")


def test_half_open_connections_weigh_half_after_a_restart_too() -> None:
    run, life = scenario().at(DAY), Life()
    for port in range(31):
        run.half_open(A, port)
        life.note(run)
    reborn = life.restart(run, 1.0).half_open(A, 4).half_open(B, 5).expect_counted_and_accepted()
    reborn.half_open(A, 31).expect_block(A)


def test_evidence_older_than_the_slow_window_is_not_restored() -> None:
    run, life = scenario().at(DAY), Life()
    for port in range(5):
        run.syn(A, port)
        life.note(run)
    run.at(2 * DAY + 1)
    life.restart(run, 1.0).syn(A, 5).expect_counted()


def test_a_restart_with_much_evidence_is_not_a_flood() -> None:
    """Shortly after booting: the sources of a day come all at once."""
    run, life = scenario().at(DAY), Life()
    for number in range(3000):
        run.syn(f"10.0.{number >> 8}.{number & 255}", 23)
        life.note(run)
        run.at(run.now + 10)
    reborn = life.restart(run, 2.0)
    reborn.tcp(A, "", 23, 24).expect_block(A)
    assert not reborn.engine.flood


# --- what a flood may cost

LIMIT_MIB: Final = 128


@pytest.mark.slow
@pytest.mark.parametrize(
    "flood",
    [
        Flood(sources=480_000, seconds=240),
        Flood(sources=200_000, seconds=12, same_probe=True),
    ],
    ids=["all-that-the-ruleset-lets-through", "all-with-the-same-probe"],
)
def test_a_flood_costs_bounded_memory_and_hides_no_scanner(flood: Flood) -> None:
    """The scanner's first probe came before the flood, its second and last comes after it."""
    aftermath = run_apart(flood, trigger=2)
    assert aftermath.flood_mode
    assert aftermath.scanner_blocked
    assert aftermath.others_blocked == 0
    assert aftermath.peak_mib < LIMIT_MIB


def test_sources_that_are_not_blocked_cost_bounded_memory_however_much_they_scan() -> None:
    """Each of them scans every port and is not blocked, as in mode "observe", or
    beyond the caps. Compiled, each target's time and share are objects of their own."""
    sources = 512
    run = scenario(mode="observe", max_sources=4 * sources)
    tracemalloc.start()
    try:
        for port in range(MAX_TARGETS):
            run.at(port * 10.0).crowd(sources, port=port).outcomes.clear()
        each = tracemalloc.get_traced_memory()[0] / sources
    finally:
        tracemalloc.stop()
    assert len(run.engine.tracker) == sources
    # The worst case: every place taken by a scanner that is spared.
    assert each * 65536 / 2**20 < 2.6 * LIMIT_MIB


def test_the_forged_sources_differ() -> None:
    """A small flood is remembered whole: were two sources equal, one would be blocked."""
    aftermath = run_apart(Flood(sources=1500, seconds=1), trigger=2)
    assert (aftermath.flood_mode, aftermath.scanner_blocked) == (True, True)
    again = run_apart(Flood(sources=100, seconds=1, rounds=2), trigger=2)
    assert (again.flood_mode, again.others_blocked) == (False, 100)
