"""Zones: triggers, windows and modes of their own, and the scanner that spreads over them."""

from ipaddress import ip_network
from typing import Final

import pytest

from sentryfw.engine.correlate.zones import ZoneRules
from sentryfw.engine.engine import Engine
from sentryfw.engine.model import ACCEPT, DROP, Meta, Outcome, parse_source
from support import forge
from support.forge import networks
from support.transcript import HORIZONS, HOST, POLICY, A, B

META: Final = Meta(unlisted=True, partner=False)
LISTED: Final = Meta(unlisted=False, partner=False)
DEFAULT: Final = ZoneRules("", (), HORIZONS, POLICY)
LENIENT: Final = ZoneRules(
    "wan2", ("wan2",), HORIZONS._replace(trigger=10, slow_trigger=30, window=60.0), POLICY
)
OBSERVED: Final = ZoneRules(
    "guest", ("guest*",), HORIZONS, POLICY._replace(mode="observe", timeouts=(7.0,))
)
SHORT: Final = ZoneRules("vpn", ("wg*",), HORIZONS, POLICY._replace(timeouts=(60.0, 120.0)))
WAN1, WAN2, GUEST, VPN = range(4)


def _engine(*rules: ZoneRules) -> Engine:
    engine = Engine(HORIZONS, POLICY)
    engine.zones.use((DEFAULT, *(rules or (LENIENT, OBSERVED, SHORT))))
    return engine


def _syn(engine: Engine, zone: int, port: int, at: float = 1.0, source: str = A) -> Outcome:
    return engine.handle(forge.ip(source, HOST, 6, forge.tcp(port)), META, at, b"", zone)


def _scan(engine: Engine, zone: int, *ports: int, at: float = 1.0, source: str = A) -> list[str]:
    return [_syn(engine, zone, port, at, source).action for port in ports]


def test_each_zone_has_its_trigger() -> None:
    engine = _engine()
    assert _scan(engine, WAN2, *range(1, 11)) == ["count"] * 9 + ["block"]
    assert _scan(engine, WAN1, 1, 2, 3, source=B) == ["count", "count", "block"]


def test_each_zone_has_its_window() -> None:
    engine = _engine()
    _scan(engine, WAN2, *range(1, 10))
    assert _scan(engine, WAN2, 10, at=62.0) == ["count"]
    _scan(engine, WAN1, 1, 2, source=B)
    assert _scan(engine, WAN1, 3, at=62.0, source=B) == ["block"]


def test_a_zone_that_observes_neither_drops_nor_blocks() -> None:
    engine = _engine()
    outcomes = [_syn(engine, GUEST, port) for port in range(1, 9)]
    assert {outcome.verdict for outcome in outcomes} == {ACCEPT}
    assert not any(outcome.blocks for outcome in outcomes)
    [refusal] = outcomes[2].refusals
    assert (refusal.reason, refusal.evidence.zone) == ("observe", "guest")


def test_each_zone_has_its_timeouts_and_offences_are_those_of_all() -> None:
    engine = _engine()
    _scan(engine, WAN1, 1, 2, 3)
    engine.release(parse_source(A))
    outcomes = [_syn(engine, VPN, port, at=9.0) for port in (1, 2, 3)]
    [block] = outcomes[-1].blocks
    assert (block.offence, block.timeout, block.evidence.zone) == (2, 120.0, "vpn")


def test_a_scanner_that_spreads_over_two_zones_is_caught_by_what_both_saw() -> None:
    engine = _engine()
    assert _scan(engine, WAN2, *range(1, 8)) == ["count"] * 7
    [block] = _syn(engine, WAN1, 8).blocks  # 7/10 and 1/3
    assert block.evidence.zone == ""
    assert len(block.evidence.trace) == len(block.evidence.sample) == 8
    assert (block.evidence.targets, block.evidence.probes) == (8, 8)
    assert block.reason == "8 distinct targets within the window"


def test_a_scanner_that_takes_turns_gains_nothing() -> None:
    engine = _engine(SHORT)
    assert _scan(engine, WAN1, 1) == ["count"]
    assert _scan(engine, 1, 2) == ["count"]
    assert _scan(engine, WAN1, 3) == ["block"]


def test_a_scanner_that_was_only_observed_is_blocked_at_its_first_probe_elsewhere() -> None:
    engine = _engine()
    _scan(engine, GUEST, 1, 2, 3, 4)
    assert _scan(engine, WAN1, 5) == ["block"]


def test_one_target_by_two_uplinks_is_one_target() -> None:
    engine = _engine(SHORT, LENIENT, OBSERVED)
    for at in (1.0, 2.0, 4.0):  # a client tries again, each time by another uplink
        for zone in range(4):
            assert not _syn(engine, zone, 7001, at).blocks


def test_a_block_in_one_zone_drains_the_source_in_all() -> None:
    engine = _engine()
    _scan(engine, WAN1, 1, 2, 3)
    assert _syn(engine, WAN2, 4).verdict == DROP
    assert engine.handle(forge.ip(A, HOST, 6, forge.tcp(22)), LISTED, 1.0, b"", VPN).verdict == DROP


def test_evidence_is_forgotten_in_every_zone_after_a_block() -> None:
    engine = _engine()
    _scan(engine, WAN2, *range(1, 8))
    _scan(engine, WAN1, 8)
    engine.release(parse_source(A))
    assert _scan(engine, WAN1, 9, at=9.0) == ["count"]
    assert _scan(engine, WAN2, 10, at=9.0) == ["count"]


def test_a_zone_spares_its_own_never_block_sources_and_no_other_zone_does() -> None:
    spared = LENIENT._replace(policy=POLICY._replace(spared=(ip_network("198.51.100.0/24"),)))
    engine = _engine(spared)
    source = "198.51.100.9"
    _scan(engine, 1, *range(1, 10), source=source)
    [refusal] = _syn(engine, 1, 10, source=source).refusals
    assert refusal.reason == "never_block"
    assert _scan(engine, WAN1, 11, source=source) == ["block"]


def test_what_is_never_blocked_anywhere_is_so_in_each_zone() -> None:
    engine = _engine()
    engine.protect(networks(A))
    _scan(engine, WAN2, *range(1, 10))
    assert _syn(engine, WAN2, 10).refusals[0].reason == "never_block"


def test_a_refusal_in_one_zone_silences_no_other() -> None:
    engine = _engine()
    _scan(engine, GUEST, 1, 2, 3)
    assert _scan(engine, GUEST, 4) == ["pass"]  # refused a moment ago
    assert _scan(engine, VPN, 5) == ["block"]


def test_a_flood_in_one_zone_is_none_in_the_others() -> None:
    engine = _engine(SHORT)
    engine.tick(0.0)
    for number in range(3000):
        address = f"203.{number >> 8}.{number & 255}.7"
        _syn(engine, 1, 7001, at=1.0 + number * 1e-4, source=address)
    engine.tick(2.0)
    assert engine.flood
    assert not engine.zones.all[WAN1].flood.is_flood
    assert engine.zones.all[1].flood.is_flood


def test_a_distributed_scan_over_two_uplinks_is_one() -> None:
    engine = _engine(SHORT)
    found = []
    for number in range(24):
        packet = forge.ip(f"203.0.113.{number + 1}", HOST, 6, forge.tcp(7000 + number))
        outcome = engine.handle(packet, META, 1.0 + number, b"", number % 2)
        found.append(outcome.distributed)
    assert any(found)


def test_a_reload_keeps_the_evidence_of_a_zone_by_its_name_or_its_interfaces() -> None:
    engine = _engine()
    _scan(engine, WAN2, *range(1, 10))
    _scan(engine, VPN, 1, 2, source=B)
    renamed = SHORT._replace(name="tunnel")
    engine.zones.use((DEFAULT, renamed, OBSERVED, LENIENT))
    assert _scan(engine, 1, 3, source=B) == ["block"]
    assert _scan(engine, 3, 10) == ["block"]


def test_the_evidence_of_a_zone_that_is_removed_is_forgotten_and_blocks_stay() -> None:
    engine = _engine()
    _scan(engine, WAN2, *range(1, 10))
    _scan(engine, VPN, 1, 2, 3, source=B)
    engine.zones.use((DEFAULT, OBSERVED))
    assert _scan(engine, WAN1, 10) == ["count"]
    assert _scan(engine, WAN1, 4, source=B) == ["pass"]  # drained
    engine.zones.use((DEFAULT, LENIENT))
    assert _scan(engine, 1, 11) == ["count"]


def test_a_zone_that_is_gone_is_the_default_zone() -> None:
    engine = _engine()
    assert engine.zones.named("nowhere") is engine.zones.all[0]


@pytest.mark.parametrize("zone", [WAN1, WAN2, VPN])
def test_a_client_that_mistypes_a_port_in_each_zone_is_not_a_scanner(zone: int) -> None:
    engine = _engine()
    for at in (1.0, 2.0, 4.0, 8.0):
        assert _scan(engine, zone, 2222, at=at)[0] in ("count", "pass")


def test_who_is_outside_cannot_add_to_the_evidence_against_a_host_inside() -> None:
    inside = ZoneRules("lan", ("lan*",), LENIENT.horizons, POLICY, is_inside=True)
    engine = _engine(inside)
    _scan(engine, 1, *range(1, 10))
    assert _scan(engine, WAN1, 11) == ["count"]
    assert _scan(engine, 1, 1) == ["pass"]
