"""The blocks that are active according to the ledger."""

import pytest

from sentryfw.record.active_blocks import (
    FOUND,
    ActiveBlock,
    active_blocks,
    add_found,
    count_ended,
    is_active,
    key_of,
    listed_blocks,
    newest_id,
    proven_blocks,
    set_dropped,
    set_ends,
)
from sentryfw.record.ledger import Ledger
from sentryfw.record.records import list_entry, manual_entry
from support.entries import BLOCK, BLOCKED_AT, SIX

HOUR = 3600.0


def test_blocks_that_ended_by_themselves_are_counted(ledger: Ledger) -> None:
    ended = [BLOCK._replace(blocked_at=at, timeout_s=10.0) for at in (85.0, 95.0, 105.0)]
    unblocked = BLOCK._replace(address="198.51.100.9", blocked_at=95.0, timeout_s=10.0)
    ledger.add([*ended, unblocked, BLOCK._replace(blocked_at=95.0, timeout_s=0.0)])
    ledger.unblocked(unblocked.address, 97.0)
    assert count_ended(ledger, 100.0, 110.0) == 1
    assert count_ended(ledger, 90.0, 110.0) == 2


def test_the_newest_block_of_each_address_is_active_until_its_end(ledger: Ledger) -> None:
    older = BLOCK._replace(timeout_s=5 * HOUR)
    permanent = SIX._replace(timeout_s=0.0)
    ledger.add([older, BLOCK, permanent])
    assert sorted(active_blocks(ledger, BLOCKED_AT + 60)) == [
        ActiveBlock(BLOCK.address, 4, HOUR, HOUR - 60),
        ActiveBlock(SIX.address, 6, 0.0, 0.0),
    ]
    after = list(active_blocks(ledger, BLOCKED_AT + HOUR + 1))
    assert [block.address for block in after] == [SIX.address]


def test_an_unblocked_address_is_not_active(ledger: Ledger) -> None:
    ledger.add([BLOCK])
    assert is_active(ledger, BLOCK.address)
    ledger.unblocked(BLOCK.address, BLOCKED_AT + 1)
    assert not is_active(ledger, BLOCK.address)
    assert list(active_blocks(ledger, BLOCKED_AT + 2)) == []


def test_no_clock_makes_a_block_last_longer_than_its_timeout(ledger: Ledger) -> None:
    ledger.add([BLOCK])
    [block] = active_blocks(ledger, BLOCKED_AT - 1_000_000)
    assert block.left == HOUR


def test_a_recorded_end_replaces_the_computed_one(ledger: Ledger) -> None:
    ledger.add([BLOCK._replace(offence=1), BLOCK._replace(offence=2)])
    assert set_ends(ledger, [(BLOCK.address, BLOCKED_AT + 100), ("192.0.2.99", 1.0)]) == 1
    [block] = active_blocks(ledger, BLOCKED_AT + 60)
    assert block.left == 40
    assert list(active_blocks(ledger, BLOCKED_AT + 101)) == []


def test_what_was_dropped_belongs_to_the_newest_block(ledger: Ledger) -> None:
    ledger.add([BLOCK, BLOCK._replace(blocked_at=BLOCKED_AT + 2 * HOUR)])
    set_dropped(ledger, [(BLOCK.address, 12), ("192.0.2.99", 5)])
    rows = ledger.database.read("SELECT dropped_packets FROM blocks ORDER BY id")
    assert rows == [(None,), (12,)]


def test_only_rows_that_looked_ended_before_are_selected(ledger: Ledger) -> None:
    ledger.add([BLOCK])
    last = newest_id(ledger)
    ledger.add([SIX])
    jumped = BLOCKED_AT + HOUR + 10
    found = active_blocks(ledger, BLOCKED_AT + 60, upto=(last, jumped))
    assert [block.address for block in found] == [BLOCK.address]
    assert list(active_blocks(ledger, BLOCKED_AT + 60, upto=(last, BLOCKED_AT + 60))) == []


def test_blocks_that_only_the_kernel_knew_are_recorded(ledger: Ledger) -> None:
    assert newest_id(ledger) == 0
    block = ActiveBlock(BLOCK.address, 4, HOUR, HOUR - 600)
    assert add_found(ledger, [block], BLOCKED_AT) == 1
    record = ledger.latest_blocks([BLOCK.address])[BLOCK.address]
    assert (record.reason, record.blocked_at, record.timeout_s) == (FOUND, BLOCKED_AT - 600, HOUR)
    assert add_found(ledger, [], BLOCKED_AT) == 0


@pytest.mark.parametrize(
    ("address", "family", "is_network"),
    [
        ("198.51.100.7", 4, False), ("198.51.100.0/24", 4, True), ("2001:db8::/64", 6, False),
        ("2001:db8::/48", 6, True), ("fe80::1", 6, False),
    ],
)  # fmt: skip
def test_a_network_is_distinguished_from_a_source(
    address: str,
    family: int,
    is_network: bool,  # noqa: FBT001
) -> None:
    assert ActiveBlock(address, family, HOUR, HOUR).is_network is is_network


def test_the_key_is_the_address_of_the_element() -> None:
    assert key_of("198.51.100.7", 4) == bytes((198, 51, 100, 7))
    assert key_of("2001:db8::/64", 6) == b"\x20\x01\x0d\xb8" + bytes(12)
    assert key_of("damaged", 4) is None


def test_proven_are_decoys_visitors_and_blocks_by_hand(ledger: Ledger) -> None:
    proven = BLOCK._replace(address="192.0.2.1", forgeable=False, scan="decoy-scan")
    by_hand = manual_entry("192.0.2.2", 4, HOUR, BLOCKED_AT, "why not")
    found = manual_entry("192.0.2.3", 4, HOUR, BLOCKED_AT)._replace(reason=FOUND)
    ledger.add([BLOCK, proven, by_hand, found])
    assert proven_blocks(ledger, BLOCKED_AT + 1) == {"192.0.2.1", "192.0.2.2"}
    assert proven_blocks(ledger, BLOCKED_AT + HOUR + 1) == set()


def test_the_newest_block_decides_if_a_source_is_proven(ledger: Ledger) -> None:
    proven = BLOCK._replace(forgeable=False)
    ledger.add([proven, BLOCK])
    assert proven_blocks(ledger, BLOCKED_AT + 1) == set()
    ledger.add([proven])
    assert proven_blocks(ledger, BLOCKED_AT + 1) == {BLOCK.address}
    ledger.unblocked(BLOCK.address, BLOCKED_AT + 1)
    assert proven_blocks(ledger, BLOCKED_AT + 2) == set()


def test_listed_blocks_are_the_newest_of_their_sources(ledger: Ledger) -> None:
    by_hand = manual_entry("192.0.2.3", 4, HOUR, BLOCKED_AT, "of the list drop")
    ledger.add([
        list_entry("drop", "192.0.2.1", HOUR, BLOCKED_AT),
        list_entry("drop", "192.0.2.0/24", HOUR, BLOCKED_AT),
        list_entry("hub", "2001:db8::/64", HOUR, BLOCKED_AT),
        list_entry("hub", "192.0.2.3", HOUR, BLOCKED_AT), by_hand,
        list_entry("hub", "192.0.2.4", 1.0, BLOCKED_AT),
    ])  # fmt: skip
    found = {(b.name, b.address, b.is_network) for b in listed_blocks(ledger, BLOCKED_AT + 2)}
    assert found == {
        ("drop", "192.0.2.1", False), ("drop", "192.0.2.0/24", True),
        ("hub", "2001:db8::/64", False),
    }  # fmt: skip
