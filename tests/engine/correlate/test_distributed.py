"""Crowds: sources that share out the ports of a target, or share a prefix."""

from ipaddress import IPv6Network

import pytest

from sentryfw.engine.correlate.distributed import (
    CROWD_WINDOW_S,
    DEFER_S,
    FEW_SHARE,
    MAX_CROWD_SOURCES,
    MAX_CROWD_TARGETS,
    MAX_CROWDS,
    MAX_FEW_PORTS,
    MAX_ONCE,
    MAX_PREFIXES,
    REPEATED_TARGETS_RATIO,
    SHARED_24,
    SHARED_48,
    SHARED_56,
    SHARED_TARGET,
    Crowd,
    DistributedScanDetector,
)
from sentryfw.engine.decide import GROUP_TIMEOUT_S, Prefixes
from sentryfw.engine.model import Probe, Source, place_text
from sentryfw.engine.networks import NetworkIndex, Whole6
from support import forge
from support.transcript import HOST, HOST6, Scenario, scenario

# --- crowds


def _scattered(number: int, family: int = 4) -> str:
    """Return an address; none of the first 200 shares a prefix with another."""
    if family == 6:
        return f"2a00:{number:x}::1"
    return f"{20 + number}.{number}.7.9"


def _shared_out(run: Scenario, sources: int, ports: int, family: int = 4) -> None:
    """Send one SYN to each port, from scattered sources in turn."""
    for port in range(ports):
        run.syn(_scattered(port % sources, family), 100 + port)


def _findings(run: Scenario) -> list[tuple[str, float, bool]]:
    found = [outcome.distributed for outcome in run.outcomes if outcome.distributed is not None]
    return [(place_text(scan.place), scan.timeout, scan.is_new) for scan in found]


def _crowd_blocks(run: Scenario) -> list[Source]:
    blocks = [block for outcome in run.outcomes for block in outcome.blocks]
    return [block.source for block in blocks if block.evidence.scan == "distributed-scan"]


FAMILIES = pytest.mark.parametrize(("family", "host"), [(4, HOST), (6, HOST6)])
SOURCES, TARGETS = SHARED_TARGET


@FAMILIES
@pytest.mark.parametrize("sources", [SOURCES, TARGETS], ids=["two-ports-each", "one-port-each"])
def test_scattered_sources_that_share_out_ports_are_found(
    sources: int, family: int, host: str
) -> None:
    run = scenario().at(0.0)
    _shared_out(run, sources, TARGETS - 1, family)
    assert _findings(run) == []
    run.syn(_scattered(sources - 1, family), 5000)
    assert _findings(run) == [(host, DEFER_S, True)]
    assert run.engine.counters.distributed_scans == 1


@FAMILIES
@pytest.mark.parametrize("times", [2, 3, 5])
def test_a_scan_that_tries_each_port_several_times_is_found(
    times: int, family: int, host: str
) -> None:
    """From another source each time."""
    run = scenario(trigger=100).at(0.0)
    for number in range(REPEATED_TARGETS_RATIO * TARGETS * times):
        run.syn(_scattered(number % 200, family), 100 + number // times)
    assert [place for place, _, _ in _findings(run)] == [host]


@FAMILIES
def test_many_sources_of_a_few_dozen_ports_are_not_a_scan(family: int, host: str) -> None:
    """The counterpart: as many sources, and each of the ports several times, too."""
    run = scenario(trigger=100).at(0.0)
    for number in range(2000):
        port = 100 + number // 4 % (REPEATED_TARGETS_RATIO * TARGETS - 1)
        run.syn(_scattered(number % 200, family), port, to=host)
    assert [place for place, _, _ in _findings(run)] == []


def test_one_probe_each_to_one_port_is_not_shared_out() -> None:
    run = scenario().at(0.0)
    for number in range(200):
        run.syn(_scattered(number), 23)
    assert _findings(run) == []


def test_a_member_is_blocked_at_its_second_target() -> None:
    run = scenario().at(0.0)
    _shared_out(run, TARGETS, TARGETS)
    run.syn("192.0.2.9", 5000).expect_counted()
    run.syn("192.0.2.9", 5001).expect_block("192.0.2.9", timeout=GROUP_TIMEOUT_S, offence=0)
    assert "share the ports of one target" in run.block.reason
    assert run.block.evidence.scan == "distributed-scan"


@FAMILIES
def test_a_client_that_opens_listed_ports_then_is_not_a_member(family: int, host: str) -> None:
    run = scenario().at(0.0)
    _shared_out(run, TARGETS, TARGETS, family)
    client = "192.0.2.9" if family == 4 else "2001:db8:77::9"
    run.deferred(client, 80, 443, 993).syn(client, 113).expect_counted()
    run.at(1.0).deferred(client, 80).expect_accepted().deferred(client, 443).expect_accepted()
    assert host
    assert _crowd_blocks(run) == []


def test_it_is_one_finding_as_long_as_it_goes_on() -> None:
    run = scenario(trigger=1000, slow_trigger=1000)
    for second in range(0, 200, 5):
        run.at(float(second))
        for number in range(TARGETS):
            run.syn(_scattered(number), 100 + second * 50 + number)
    found = [is_new for place, _, is_new in _findings(run) if place == HOST]
    assert found.count(True) == 1
    assert 5 <= len(found) <= 8, "prolonged every half of its time, not at each probe"


def test_background_noise_that_repeats_its_ports_is_not_a_crowd() -> None:
    """A botnet: many sources, but all try the same few ports."""
    run = scenario(trigger=10)
    noisy = [22, 23, 80, 443, 445, 2323, 3389, 5555, 7547, 8080, *range(9000, 9030)]
    for number in range(400):
        run.at(number / 10).syn(f"10.{number & 255}.{number >> 8}.2", noisy[number * 7 % 10])
        run.syn(f"10.{number & 255}.{number >> 8}.2", noisy[number * 3 % 40])
    assert _findings(run) == []
    run.expect_no_block()


def test_forged_probes_of_one_port_do_not_hide_a_distributed_scan() -> None:
    run = scenario(trigger=10).at(0.0)
    for number in range(40):
        for twin in range(10):
            run.syn(f"10.{number}.{twin}.2", 23)
        run.syn(_scattered(number), 100 + number)
    assert [place for place, _, _ in _findings(run)] == [HOST]


def test_probes_spread_over_minutes_are_not_a_crowd() -> None:
    run = scenario(slow_trigger=64)
    for port in range(4 * TARGETS):
        run.at(port * CROWD_WINDOW_S / (TARGETS - 1) * 1.1)
        run.syn(_scattered(port), 100 + port)
    assert _findings(run) == []


# --- prefixes

PREFIXES = pytest.mark.parametrize(
    ("place", "address", "needed"),
    [
        ("203.0.113.0/24", "203.0.113.{}", SHARED_24.sources),
        ("2001:db8:7:ff00::/56", "2001:db8:7:ff{:02x}::1", SHARED_56.sources),
        ("2001:db8:7::/48", "2001:db8:7:{:x}00::1", SHARED_48.sources),
    ],
)


@PREFIXES
def test_sources_of_one_prefix_that_share_out_targets_are_found(
    place: str, address: str, needed: int
) -> None:
    run = scenario()
    for number in range(needed):
        run.at(number * 200.0 / needed)  # slowly, but within the window
        assert _findings(run) == []
        run.syn(address.format(number), 2 * number + 1)
        run.syn(address.format(number), 2 * number + 2)
    assert _findings(run) == [(place, DEFER_S, True)]
    run.syn(address.format(99), 7001).expect_counted()
    run.syn(address.format(99), 7002).expect_block(address.format(99), offence=0)


@PREFIXES
def test_sources_of_one_prefix_that_try_each_target_several_times_are_found(
    place: str, address: str, needed: int
) -> None:
    run = scenario()
    for number in range(REPEATED_TARGETS_RATIO * 2 * needed):
        run.syn(address.format(number), 100 + number // 3)
        run.syn(address.format(number), 5100 + number // 3)
    assert _findings(run)[0] == (place, DEFER_S, True)


@PREFIXES
def test_a_prefix_that_is_known_makes_no_stranger_elsewhere_wait(
    place: str, address: str, needed: int
) -> None:
    run = scenario()
    for number in range(60):
        run.at(number / 10).syn(address.format(number), 2 * number + 1)
    assert needed < 60
    assert {found for found, _, _ in _findings(run)} == {place}


@PREFIXES
def test_clients_of_one_prefix_at_one_service_that_is_down_are_not_a_scan(
    place: str, address: str, needed: int
) -> None:
    run = scenario()
    for number in range(50):
        run.at(number / 10).syn(address.format(number), 25).syn(address.format(number), 143)
    assert place
    assert needed
    assert _findings(run) == []
    run.expect_no_block()


@PREFIXES
def test_a_prefix_in_which_one_source_scans_is_not_a_distributed_scan(
    place: str, address: str, needed: int
) -> None:
    run = scenario(mode="observe")
    run.syn(address.format(1), *range(1, 100))
    for number in range(2, needed):
        run.syn(address.format(number), 25)
    assert place
    assert _findings(run) == []


@PREFIXES
def test_observe_reports_a_distributed_scan_and_defers_nothing(
    place: str, address: str, needed: int
) -> None:
    run = scenario(mode="observe")
    for number in range(needed):
        run.syn(address.format(number), number + 1, number + 101)
    assert _findings(run)[0] == (place, 0.0, True)


def test_whole_addresses_have_no_prefix() -> None:
    run = scenario()
    run.engine.use_neighbours(Whole6([IPv6Network("2001:db8:7::/48")]), NetworkIndex(()))
    for number in range(30):
        run.syn(f"2001:db8:7:{number:x}::1", number + 1)
    assert _findings(run) == []


def test_partners_are_not_counted() -> None:
    run = scenario()
    for number in range(30):
        run.partner(f"203.0.113.{number}").syn(f"203.0.113.{number}", number + 1)
    assert _findings(run) == []


@PREFIXES
def test_forged_sources_do_not_push_a_prefix_out(place: str, address: str, needed: int) -> None:
    run = scenario()
    for number in range(needed):
        run.syn(address.format(number), number + 1)
        for forged in range(3000):
            run.at(number + forged / 3000)
            run.syn(f"{30 + number}.{forged >> 8}.{forged & 255}.1", 23)
    assert [found for found, _, _ in _findings(run)] == [place]


def test_a_48_that_scans_is_one_finding_and_not_one_for_each_56() -> None:
    run = scenario(trigger=100)
    for number in range(4096):
        run.at(number / 64).syn(f"2001:db8:7:{number % 32:02x}{number >> 5:02x}::1", 100 + number)
    assert {place for place, _, _ in _findings(run)} == {"2001:db8:7::/48"}


def test_a_56_that_scans_is_not_one_with_the_rest_of_its_48() -> None:
    """The counterpart: other homes of the provider do not wait for it."""
    run = scenario(trigger=100)
    for number in range(4096):
        run.at(number / 64).syn(f"2001:db8:7:ff{number & 255:02x}::1", 100 + number)
    assert {place for place, _, _ in _findings(run)} == {"2001:db8:7:ff00::/56"}


def test_forged_probes_of_other_addresses_do_not_push_a_target_out() -> None:
    """In front of hosts behind, a forger has as many targets as they have addresses. One more of
    them for each probe is the limit of docs/scans.md."""
    run = scenario(trigger=100).at(0.0)
    for number in range(TARGETS):
        run.syn(_scattered(number, 6), 100 + number)
        for other in range(MAX_CROWDS * FEW_SHARE // MAX_FEW_PORTS - 1):
            run.syn(f"2b00:{number:x}::{other}", 23, to=f"2001:db8:aaaa::{number:x}:{other:x}")
    assert [place for place, _, _ in _findings(run)] == [HOST6]


def test_crowds_and_prefixes_are_bounded() -> None:
    crowds = DistributedScanDetector(300.0)
    for number in range(3 * MAX_ONCE):
        place = number.to_bytes(3)
        target = (number.to_bytes(4), 6, number & 0xFFFF)
        for last in range(2):
            crowds.observe(Probe(Source(place + bytes((last,))), target, "syn"), 0.0)
    assert len(crowds) == FEW_SHARE * (MAX_CROWDS + MAX_PREFIXES)
    for number in range(3 * MAX_CROWDS):
        for port in range(MAX_FEW_PORTS + 1):
            source = Source(bytes((20 + port, number >> 8, number & 255, 1)))
            crowds.observe(Probe(source, (number.to_bytes(4), 6, port), "syn"), 1.0)
    assert len(crowds._targets._more) == MAX_CROWDS
    once = crowds._prefixes
    assert len(once._once) + len(once._before) <= 2 * MAX_ONCE


def test_the_memory_of_a_crowd_is_bounded() -> None:
    crowd = Crowd(forge.packed(HOST), SHARED_TARGET, 0.0)
    for number in range(1000):
        target = (forge.packed(HOST), 6, number)
        crowd.add(Probe(Source(number.to_bytes(4)), target, "syn"), 0.0, 60.0)
        assert len(crowd.sources) <= MAX_CROWD_SOURCES
        assert len(crowd.targets) <= MAX_CROWD_TARGETS + 1


# --- prefixes that are blocked


@pytest.mark.parametrize(
    ("prefixes", "four", "six"),
    [("off", (0.0, False), (0.0, False)), ("defer", (60.0, False), (60.0, False)),
     ("ipv6", (60.0, False), (60.0, True)), ("both", (60.0, True), (60.0, True))],
)  # fmt: skip
def test_what_is_done_about_a_prefix_is_configured(
    prefixes: Prefixes, four: tuple[float, bool], six: tuple[float, bool]
) -> None:
    for address, expected in (("203.0.113.{}", four), ("2001:db8:7:ff{:02x}::1", six)):
        run = scenario(prefixes=prefixes)
        for number in range(7):
            run.syn(address.format(number), number + 1)
        found = [outcome.distributed for outcome in run.outcomes if outcome.distributed]
        assert [(scan.timeout, scan.is_blocked) for scan in found] == [expected]


def test_a_target_is_never_blocked() -> None:
    run = scenario(prefixes="both").at(0.0)
    _shared_out(run, TARGETS, TARGETS)
    [found] = [outcome.distributed for outcome in run.outcomes if outcome.distributed]
    assert (found.place, found.is_blocked) == (forge.packed(HOST), False)


def test_the_block_of_a_prefix_grows_with_its_offences() -> None:
    run = scenario(prefixes="both")
    for again in range(5):
        run.at(again * 2000.0)
        for number in range(7):
            run.syn(f"203.0.113.{again * 10 + number}", again * 10 + number + 1)
    found = [outcome.distributed for outcome in run.outcomes if outcome.distributed]
    assert [scan.timeout for scan in found] == [60.0, 300.0, 1200.0, 1200.0, 1200.0]
