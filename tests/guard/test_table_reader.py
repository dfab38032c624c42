"""Reads of a real table, and of its block sets by key and whole."""

import time
from ipaddress import ip_address
from typing import Any

import pytest

from sentryfw.guard import table_reader
from sentryfw.guard.block_index import BlockIndex, KnownRange
from sentryfw.guard.compare import compare
from sentryfw.guard.table_reader import BlockSetReader, TableReader
from sentryfw.netfilter import block_sets
from sentryfw.netlink.set_elements import Lifetime
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.tools.drill.namespace import Namespace

pytestmark = [pytest.mark.netns]

HOUR = 3600.0
LIMIT = 100
KEYS = [number.to_bytes(4) for number in range(1, 301)]


def test_a_comparison_finds_missing_ended_and_moved_blocks(filled: Any) -> None:
    now = time.monotonic()
    ends = BlockIndex()
    for key in filled.keys:
        ends[key] = (HOUR, now + HOUR / 2)
    ends[filled.keys[0]] = (HOUR, now + 60)
    ends[filled.keys[1]] = (HOUR, now - 1)
    ends[filled.keys[3]] = (0.0, 0.0)
    found = compare(ends, BlockSetReader(filled.netlink, bool), bool)
    assert sorted(found.missing) == filled.keys[3::2]
    assert found.ended == [filled.keys[1]]
    assert found.moved.keys() == {filled.keys[0]}
    assert found.found == {"block4": len(filled.keys) // 2, "block6": 0}


def test_only_small_sets_are_dumped(filled: Any) -> None:
    found = filled.namespace.call(lambda: dict(BlockSetReader(filled.netlink, bool).dump_small()))
    expected = {*filled.keys[::2], filled.other} if filled.is_dumped else set()
    assert found.keys() == expected
    whole = dict(BlockSetReader(filled.netlink, bool).dump("block4"))
    assert whole.keys() == {*filled.keys[::2], filled.other}


def test_an_uncounted_set_is_dumped_up_to_a_limit(
    namespace: Namespace, netlink: NfnetlinkSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dumped() -> set[bytes]:
        return namespace.call(lambda: set(dict(BlockSetReader(netlink, bool).dump_small())))

    monkeypatch.setattr(table_reader, "MAX_UNCOUNTED_DUMP", LIMIT)
    monkeypatch.setattr("sentryfw.netlink.nftables.set_count", lambda _: None)
    block_sets.add_elements(netlink, "block4", dict.fromkeys(KEYS[:LIMIT], Lifetime(HOUR, HOUR)))
    assert dumped() == set(KEYS[:LIMIT])
    block_sets.add_elements(netlink, "block4", dict.fromkeys(KEYS, Lifetime(HOUR, HOUR)))
    assert dumped() == set()


def test_a_missing_set_reads_as_empty(netlink: NfnetlinkSocket) -> None:
    block_sets.add_elements(netlink, "block4", dict.fromkeys(KEYS, Lifetime(HOUR, HOUR)))
    reader = BlockSetReader(netlink, bool, frozenset({"block4"}))
    assert reader.find("block4", KEYS) == {}
    assert BlockSetReader(netlink, bool).find("block4", KEYS).keys() == set(KEYS)


@pytest.mark.parametrize(("ended", "names"), [(0, ["block4"]), (1, [])])
def test_blocks_that_just_ended_are_not_taken_for_unknown_ones(
    netlink: NfnetlinkSocket, monkeypatch: pytest.MonkeyPatch, ended: int, names: list[str]
) -> None:
    monkeypatch.setattr(table_reader, "MAX_PERIODIC_DUMP", LIMIT)
    block_sets.add_elements(netlink, "block4", dict.fromkeys(KEYS, Lifetime(HOUR, HOUR)))
    kernel = BlockSetReader(netlink, bool)
    assert kernel.sets_with_unknown({"block4": len(KEYS) - 1, "block6": 0}, ended) == names


# --- the table


def test_a_deleted_table_has_no_snapshot(namespace: Namespace, netlink: NfnetlinkSocket) -> None:
    reader = TableReader(netlink)
    plan = reader.snapshot()
    assert plan is not None
    assert plan.rules
    namespace.run("nft", "flush ruleset")
    assert reader.snapshot() is None


def test_networks_end_on_the_monotonic_clock(
    namespace: Namespace, netlink: NfnetlinkSocket
) -> None:
    namespace.run("nft", "add element inet sentryfw block_net4 { 203.0.113.0/24 timeout 1h }")
    now = time.monotonic()
    [found] = TableReader(netlink).ranges(now)["block_net4"]
    first, after = ip_address("203.0.113.0").packed, ip_address("203.0.114.0").packed
    assert found == KnownRange(first, after, 3600.0, pytest.approx(now + 3600, abs=5))


def test_blocks_are_found_by_key_and_whole(filled: Any) -> None:
    reader = TableReader(filled.netlink)
    assert reader.find(filled.keys).keys() == set(filled.keys[::2])
    known = filled.namespace.call(lambda: reader.blocks(time.monotonic()))
    assert (filled.other in known.ends) is filled.is_dumped
    assert set(known.ranges) == {"block_net4", "block_net6"}


def test_elements_are_read_by_set(netlink: NfnetlinkSocket) -> None:
    found = TableReader(netlink).elements(["never_block4", "partner4"])
    assert found["never_block4"]
    assert found["partner4"] == ()
