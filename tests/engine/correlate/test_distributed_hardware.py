"""Hosts on link that change their addresses: found by the hardware address of their frames."""

from ipaddress import IPv4Network, IPv6Network
from typing import Final

import pytest

from sentryfw.engine.correlate.distributed import (
    DEFER_S,
    FEW_SHARE,
    MAX_HARDWARE,
    MAX_HARDWARE_ONCE,
    SHARED_HARDWARE,
    SHARED_TARGET,
    DistributedScanDetector,
)
from sentryfw.engine.decide import GROUP_TIMEOUT_S, Prefixes
from sentryfw.engine.model import ARPHRD_ETHER, DROP, Probe, Source, place_text, source_of
from sentryfw.engine.networks import NetworkIndex, Whole6
from support.forge import packed
from support.transcript import HOST, HOST6, Scenario, scenario

SCANNER: Final = "02:00:5e:00:00:01"
NEIGHBOUR: Final = "02:00:5e:00:00:02"
ROUTER: Final = "02:00:5e:00:00:ff"
LAN4: Final = IPv4Network("198.51.0.0/16")
LAN6: Final = IPv6Network("2001:db8:1:1::/64")
LINK_LOCAL: Final = IPv6Network("fe80::/10")

ON_LINK = pytest.mark.parametrize(
    "address",
    [
        pytest.param("fe80::{:x}", id="link-local"),
        pytest.param("2001:db8:1:1::{:x}", id="connected-ipv6"),
        pytest.param("198.51.{}.7", id="connected-ipv4"),
    ],
)
"""Addresses on link; none of the IPv4 ones shares a /24 with another."""


def _lan(**settings: object) -> Scenario:
    run = scenario(**settings)
    run.engine.use_neighbours(
        Whole6([LAN6, LINK_LOCAL]), NetworkIndex([LAN4, LAN6, LINK_LOCAL])
    )  # fmt: skip
    return run


def _found(run: Scenario) -> list[tuple[str, float, bool]]:
    found = [outcome.distributed for outcome in run.outcomes if outcome.distributed is not None]
    return [(place_text(scan.place), scan.timeout, scan.is_blocked) for scan in found]


@ON_LINK
def test_a_host_that_changes_its_address_is_found_by_its_hardware_address(address: str) -> None:
    run = _lan().behind(SCANNER)
    for number in range(1, SHARED_HARDWARE.sources + 1):
        assert _found(run) == []
        run.at(number * 30.0).syn(address.format(number), 2 * number, 2 * number + 1)
    assert _found(run) == [(SCANNER, DEFER_S, False)]
    run.syn(address.format(99), 7001).expect_counted()
    run.syn(address.format(99), 7002).expect(DROP, "block")
    source = source_of(packed(address.format(99)), run.engine.whole6)
    assert (run.block.source, run.block.timeout, run.block.offence) == (source, GROUP_TIMEOUT_S, 0)


@ON_LINK
def test_one_probe_an_address_is_enough(address: str) -> None:
    """8,000 ports from as many addresses, and no other host on link waits for it."""
    run = _lan().behind(SCANNER)
    for number in range(1, 200):
        run.at(number / 430).syn(address.format(number), number)
    assert {place for place, _, _ in _found(run)} == {SCANNER}


def test_a_scan_by_both_families_is_one() -> None:
    run = _lan().behind(SCANNER)
    for number in range(1, SHARED_HARDWARE.targets // 2 + 2):
        run.syn(f"fe80::{number:x}", 2 * number).syn(f"198.51.{number}.7", 2 * number + 1)
    assert _found(run) == [(SCANNER, DEFER_S, False)]


@ON_LINK
def test_a_scanner_behind_a_bridge_is_found_among_honest_neighbours(address: str) -> None:
    run = _lan().behind(ROUTER)
    for number in range(1, 40):
        run.at(number / 10.0).syn(address.format(100 + number), 445)
        run.syn(address.format(number), number)
    assert {place for place, _, _ in _found(run)} == {ROUTER}


# --- hosts that do not scan


@ON_LINK
def test_honest_hosts_behind_one_hardware_address_are_not_a_scan(address: str) -> None:
    """A bridge or an access point's repeater: all of them try the services of their kind."""
    run = _lan().behind(ROUTER)
    for number in range(1, 101):
        ports = (445, 80) if number % 2 else (631, 9100)
        run.at(number / 10.0).syn(address.format(number), *ports)
    assert _found(run) == []
    run.expect_no_block()


@ON_LINK
def test_a_host_with_some_addresses_is_not_a_scan(address: str) -> None:
    """Temporary addresses (RFC 8981) of a day, and a closed port or two from each."""
    run = _lan().behind(NEIGHBOUR)
    for number in range(1, SHARED_HARDWARE.sources):
        run.at(number * 20.0).syn(address.format(number), 2 * number, 2 * number + 1)
    assert _found(run) == []
    run.expect_no_block()


def test_neighbours_of_one_prefix_do_not_wait_for_each_other() -> None:
    """A LAN: twelve hosts of one /24, and each is refused by two services that are its own."""
    run = _lan()
    for number in range(1, 13):
        run.behind(f"02:00:5e:00:02:{number:02x}").syn(
            f"198.51.7.{number}", 2 * number, 2 * number + 1
        )
    assert _found(run) == []


def test_a_prefix_whose_hardware_addresses_are_not_known_is_counted() -> None:
    run = _lan()
    for number in range(1, 13):
        run.syn(f"198.51.7.{number}", 2 * number, 2 * number + 1)
    assert [place for place, _, _ in _found(run)] == ["198.51.7.0/24"]


def test_what_a_router_carries_is_not_its_own() -> None:
    """Sources that are not on link: 15 of them, below what is found at the target."""
    for address in ("20.{}.7.9", "2a00:{:x}::1"):
        run = _lan().behind(ROUTER)
        for number in range(1, SHARED_TARGET.sources):
            run.syn(address.format(number), 2 * number, 2 * number + 1)
        assert _found(run) == []


def test_neighbours_with_addresses_of_their_own_are_counted_apart() -> None:
    run = _lan()
    for number in range(1, SHARED_TARGET.sources):
        run.behind(f"02:00:5e:00:01:{number:02x}")
        run.syn(f"fe80::{number:x}", 2 * number, 2 * number + 1)
    assert _found(run) == []


def test_partners_are_not_counted() -> None:
    run = _lan().behind(SCANNER)
    for number in range(1, 30):
        run.partner(f"fe80::{number:x}").syn(f"fe80::{number:x}", number)
    assert _found(run) == []


def test_a_link_without_hardware_addresses_counts_none() -> None:
    run = _lan()
    for number in range(1, SHARED_TARGET.sources):
        run.syn(f"fe80::{number:x}", 2 * number, 2 * number + 1)
    assert _found(run) == []


# --- what is done about it


@pytest.mark.parametrize(
    ("prefixes", "seconds", "is_blocked"),
    [("off", 0.0, False), ("defer", 60.0, False), ("ipv6", 60.0, True), ("both", 60.0, True)],
)
@ON_LINK
def test_what_is_done_about_it_is_configured(
    prefixes: Prefixes, seconds: float, *, is_blocked: bool, address: str
) -> None:
    run = _lan(prefixes=prefixes).behind(SCANNER)
    for number in range(1, SHARED_HARDWARE.targets + 2):
        run.syn(address.format(number), number)
    assert _found(run) == [(SCANNER, seconds, is_blocked)]


def test_observe_reports_it_and_defers_nothing() -> None:
    run = _lan(mode="observe", prefixes="both").behind(SCANNER)
    for number in range(1, SHARED_HARDWARE.targets + 2):
        run.syn(f"fe80::{number:x}", number)
    assert _found(run) == [(SCANNER, 0.0, False)]


# --- forged hardware addresses


@ON_LINK
def test_forged_hardware_addresses_do_not_push_a_scanner_out(address: str) -> None:
    """900 a second between two of its probes, two of each hardware address."""
    run = _lan()
    for number in range(1, SHARED_HARDWARE.targets + 2):
        run.behind(SCANNER).syn(address.format(number), number)
        for forged in range(900):
            run.at(number + forged / 900)
            mac = number << 16 | forged // 2  # two addresses each
            run.behind(f"0600{mac:08x}")
            run.syn(f"fe80::{number:x}:{forged:x}", 23, to=HOST6)
    assert SCANNER in {place for place, _, _ in _found(run)}


def test_who_forges_hardware_addresses_too_is_found_at_the_target() -> None:
    run = _lan()
    for number in range(1, SHARED_TARGET.targets + 1):
        run.behind(f"06:00:5e:00:00:{number:02x}").syn(f"198.51.{number}.7", number)
    assert [place for place, _, _ in _found(run)] == [HOST]


def test_hardware_addresses_are_bounded_and_take_no_place_of_prefixes() -> None:
    crowds = DistributedScanDetector(300.0)
    crowds.onlink = NetworkIndex([LINK_LOCAL])
    for number in range(3 * MAX_HARDWARE_ONCE):
        hardware = number.to_bytes(6)
        for last in range(2 + number % 4):
            source = Source(b"\xfe\x80" + bytes(5) + hardware + bytes((1, 0, last)))
            target = (bytes(4), 6, number * 4 + last & 0xFFFF)
            crowds.observe(Probe(source, target, "syn"), 0.0, hardware=hardware)
    once = crowds._hardware
    assert MAX_HARDWARE < len(once) <= (1 + FEW_SHARE) * MAX_HARDWARE
    assert len(once._once) + len(once._before) <= 2 * MAX_HARDWARE_ONCE
    assert len(crowds._prefixes) == 0


def test_the_place_is_written_as_a_hardware_address() -> None:
    assert place_text(ARPHRD_ETHER + bytes.fromhex("02005e000001")) == SCANNER
