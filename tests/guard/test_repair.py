"""Repairs of a real table."""

import time
from ipaddress import ip_address
from typing import Any

import pytest

from sentryfw.errors import KernelError
from sentryfw.guard import repair
from sentryfw.guard.block_index import KnownBlocks, KnownRange
from sentryfw.guard.repair import RepairWorker, flush_blocks
from sentryfw.guard.table_reader import TableReader
from sentryfw.netfilter.snapshot import TableSnapshot
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.tools.drill.namespace import Namespace
from support.lifetimes import find_lifetimes

pytestmark = [pytest.mark.netns]

HOUR = 3600.0
KEYS = [ip_address(name).packed for name in ("198.51.100.1", "2001:db8:1::")]
NETWORK = KnownRange(ip_address("203.0.113.0").packed, ip_address("203.0.114.0").packed, 0.0, 0.0)


@pytest.fixture
def memory() -> KnownBlocks:
    known = KnownBlocks(ranges={"block_net4": [NETWORK]})
    for key in KEYS:
        known.ends[key] = (HOUR, time.monotonic() + HOUR / 2)
    known.ends[bytes(4)] = (HOUR, time.monotonic() - 1)  # it has ended
    return known


@pytest.fixture
def plan(netlink: NfnetlinkSocket) -> TableSnapshot:
    made = TableReader(netlink).snapshot()
    assert made is not None
    return made


def _blocked(netlink: NfnetlinkSocket) -> set[bytes]:
    return set(TableReader(netlink).find([*KEYS, bytes(4)]))


@pytest.mark.parametrize(
    ("damage", "missing"),
    [
        ("flush ruleset", "table"),
        ("flush chain inet sentryfw judge", "rules of chain judge"),
        ("flush set inet sentryfw listed_tcp", "2 blocks"),
    ],
)
def test_damage_is_repaired_with_the_blocks(
    namespace: Namespace, netlink: NfnetlinkSocket, plan: TableSnapshot, memory: KnownBlocks,
    damage: str, missing: str,
) -> None:  # fmt: skip
    namespace.run("nft", damage)
    done = RepairWorker(netlink).repair(plan, memory, time.monotonic())
    assert done is not None
    table, made = done
    assert missing in made.missing
    assert made.blocks == len(KEYS)
    assert plan.missing_from(table) == []
    assert _blocked(netlink) == set(KEYS)
    networks = TableReader(netlink).ranges(0.0)["block_net4"]
    assert [(item.first, item.after) for item in networks] == [NETWORK[:2]]


def test_an_undamaged_table_is_not_repaired(netlink: NfnetlinkSocket, plan: TableSnapshot) -> None:
    assert RepairWorker(netlink).repair(plan, KnownBlocks(), time.monotonic()) is None


def test_partners_are_restored_with_their_set(
    namespace: Namespace, netlink: NfnetlinkSocket, plan: TableSnapshot
) -> None:
    namespace.run("nft", "add element inet sentryfw partner4 { 198.51.100.7 timeout 1h }")
    memory = KnownBlocks(learnt=TableReader(netlink).elements(["partner4", "partner6"]))
    namespace.run("nft", "flush ruleset")
    assert RepairWorker(netlink).repair(plan, memory, time.monotonic())
    assert "198.51.100.7" in namespace.run("nft", "list set inet sentryfw partner4").stdout


def test_a_confinement_that_was_lifted_since_is_not_restored(
    namespace: Namespace, netlink: NfnetlinkSocket, plan: TableSnapshot
) -> None:
    words = "198.51.100.7 timeout 1h, 198.51.100.8 timeout 1h"
    namespace.run("nft", f"add element inet sentryfw confine4 {{ {words} }}")
    memory = KnownBlocks(learnt=TableReader(netlink).elements(["confine4", "cut4"]))
    memory.lift(bytes((198, 51, 100, 7)))
    memory.lift(bytes((198, 51, 100, 9)))  # it was in no set
    namespace.run("nft", "flush ruleset")
    assert RepairWorker(netlink).repair(plan, memory, time.monotonic())
    found = namespace.run("nft", "list set inet sentryfw confine4").stdout
    assert "198.51.100.8" in found
    assert "198.51.100.7" not in found


def test_a_table_that_cannot_be_repaired_is_made_again(
    namespace: Namespace, netlink: NfnetlinkSocket, plan: TableSnapshot, memory: KnownBlocks
) -> None:
    """A set of another type in the place of block4 makes the kernel refuse the repair."""
    namespace.run(
        "nft",
        "delete table inet sentryfw; add table inet sentryfw;"
        " add set inet sentryfw block4 { type inet_service; }",
    )
    done = RepairWorker(netlink).repair(plan, memory, time.monotonic())
    assert done is not None
    assert _blocked(netlink) == set(KEYS)
    assert plan.missing_from(done[0]) == []


def test_a_repair_that_the_kernel_refuses_twice_fails(
    netlink: NfnetlinkSocket, plan: TableSnapshot, memory: KnownBlocks
) -> None:
    broken = plan._replace(rules=(plan.rules[0]._replace(chain="missing"), *plan.rules))
    broken.chains["missing"] = b""
    with pytest.raises(KernelError):
        RepairWorker(netlink).repair(broken, memory, time.monotonic())


def test_blocks_by_the_hundred_thousand_are_restored_in_steps(
    netlink: NfnetlinkSocket, plan: TableSnapshot, memory: KnownBlocks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(repair.block_sets, "RESTORE_BATCH", 1)
    monkeypatch.setattr(repair.block_sets, "LIVE_BATCH", 1)
    done = RepairWorker(netlink).repair(plan, memory, time.monotonic())
    assert done is not None
    assert done[1].blocks == len(KEYS)
    assert _blocked(netlink) == set(KEYS)


def test_unblocked_and_ended_blocks_are_not_restored(
    netlink: NfnetlinkSocket, memory: KnownBlocks
) -> None:
    memory.ends.pop(KEYS[1])
    assert RepairWorker(netlink).restore_missing(memory, [*KEYS, bytes(4)]) == 1
    assert _blocked(netlink) == {KEYS[0]}


def test_a_flush_empties_all_block_sets(filled: Any) -> None:
    flush_blocks(filled.netlink)
    assert find_lifetimes(filled.netlink, "block4", filled.keys) == {}
