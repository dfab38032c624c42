"""The known blocks, which change while another thread reads them."""

import tracemalloc
from ipaddress import ip_address, ip_network

import pytest

from sentryfw.engine.model import parse_source
from sentryfw.guard.block_index import (
    PART_COUNT,
    BlockIndex,
    KnownBlocks,
    KnownRange,
    by_set,
    element_key,
    key_text,
)
from sentryfw.netfilter.block_sets import BlockedRange
from sentryfw.netlink.set_elements import Lifetime

KEYS = [ip_address(name).packed for name in ("198.51.100.1", "2001:db8:1::", "fe80::5")]
HOUR = 3600.0
NOW = 1000.0


@pytest.fixture
def ends() -> BlockIndex:
    made = BlockIndex()
    for number, key in enumerate(KEYS):
        made[key] = (HOUR, 100.0 + number)
    return made


def test_a_block_is_found_until_it_is_removed(ends: BlockIndex) -> None:
    assert len(ends) == len(KEYS)
    assert ends.get(KEYS[1]) == (HOUR, 101.0)
    assert KEYS[1] in ends
    assert ends.pop(KEYS[1]) == (HOUR, 101.0)
    assert ends.pop(KEYS[1]) is None
    assert KEYS[1] not in ends
    assert dict(ends.items()) == {KEYS[0]: (HOUR, 100.0), KEYS[2]: (HOUR, 102.0)}


def test_the_index_may_change_while_it_is_read() -> None:
    ends = BlockIndex()
    for number in range(10 * PART_COUNT):
        ends[number.to_bytes(4)] = (60.0, 60.0)
    seen = 0
    for part in ends.parts():
        for key in part:
            seen += 1
            ends.pop(key)
            ends[b"\xff" + key[1:]] = (60.0, 60.0)
    assert seen >= 10 * PART_COUNT


def test_a_block_takes_less_than_160_bytes() -> None:
    count = 340 * PART_COUNT  # parts as full as they can be before they grow
    ends = BlockIndex()
    tracemalloc.start()
    try:
        for number in range(count):
            ends[number.to_bytes(4)] = (60.0 + number, 1e6 + number)
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size / count < 160


def test_regular_addresses_spread_over_all_parts() -> None:
    ends = BlockIndex()
    for number in range(100 * PART_COUNT):
        ends[(number << 8).to_bytes(4)] = (60.0, 60.0)  # one address of each /24
    assert max(map(len, ends.parts())) < 200


def test_ended_blocks_are_not_counted_as_alive(ends: BlockIndex) -> None:
    ends[ip_address("198.51.100.2").packed] = (0.0, 0.0)  # until it is unblocked
    assert ends.alive(100.5) == {4: 1, 6: 2}
    assert ends.alive(99.0) == {4: 2, 6: 2}


def test_clear_returns_the_old_parts(ends: BlockIndex) -> None:
    old = ends.clear()
    assert len(ends) == 0
    assert sum(map(len, old)) == len(KEYS)


def test_keys_are_grouped_by_set_and_shown_as_operators_write_them() -> None:
    assert by_set(KEYS) == {"block4": KEYS[:1], "block6": KEYS[1:]}
    names = ["198.51.100.1", "2001:db8:1::/64", "fe80::5"]
    assert [key_text(key) for key in KEYS] == names
    assert [element_key(parse_source(name)) for name in names] == KEYS


# --- ranges


def _range(first: str, after: str | None, timeout: float = HOUR) -> KnownRange:
    end = None if after is None else ip_address(after).packed
    return KnownRange(ip_address(first).packed, end, timeout, NOW + 60)


@pytest.mark.parametrize(
    ("first", "after", "networks"),
    [
        ("203.0.113.0", "203.0.114.0", ["203.0.113.0/24"]),
        ("203.0.113.0", "203.0.113.3", ["203.0.113.0/31", "203.0.113.2/32"]),
        ("240.0.0.0", None, ["240.0.0.0/4"]),
        ("2001:db8::", "2001:db9::", ["2001:db8::/32"]),
    ],
)
def test_a_range_is_divided_into_networks(
    first: str, after: str | None, networks: list[str]
) -> None:
    assert _range(first, after).networks() == list(map(ip_network, networks))


def test_a_range_keeps_its_end_on_the_monotonic_clock() -> None:
    first, after = KEYS[0], ip_address("198.51.100.3").packed
    known = KnownRange.from_kernel(BlockedRange(first, after, Lifetime(HOUR, 60.0)), NOW)
    assert known == KnownRange(first, after, HOUR, NOW + 60)
    assert known.to_kernel(NOW + 20) == BlockedRange(first, after, Lifetime(HOUR, 40.0))
    assert known.left(NOW + 20) == 40.0
    assert known.is_active(NOW + 59)
    assert not known.is_active(NOW + 60)


def test_a_range_without_a_timeout_never_ends() -> None:
    known = _range("203.0.113.0", None, timeout=0.0)
    assert known.is_active(NOW + 1e9)
    assert known.left(NOW + 1e9) == 0.0


def test_ended_ranges_are_not_restored() -> None:
    known = KnownBlocks(ranges={"block_net4": [_range("203.0.113.0", "203.0.114.0")]})
    assert known.active_networks(NOW) == {"203.0.113.0/24"}
    assert [item.life for item in known.active_ranges("block_net4", NOW)] == [Lifetime(HOUR, 60.0)]
    assert known.active_networks(NOW + 61) == set()
    assert known.active_ranges("block_net4", NOW + 61) == []
    assert known.active_ranges("block_net6", NOW) == []
    assert len(known) == 1


# --- what is known


def test_an_acknowledged_block_is_known_until_its_timeout() -> None:
    known = KnownBlocks()
    known.add(parse_source("2001:db8:1::/64"), HOUR, NOW)
    assert dict(known.ends.items()) == {KEYS[1]: (HOUR, NOW + HOUR)}


def test_deletions_are_remembered_while_a_comparison_runs() -> None:
    known = KnownBlocks()
    known.ends[KEYS[0]] = (HOUR, NOW)
    assert known.delete(KEYS[0])
    assert not known.delete(KEYS[0])
    assert known.deleted is None
    known.deleted = set()
    assert not known.delete(KEYS[1])
    assert known.deleted == {KEYS[1]}
