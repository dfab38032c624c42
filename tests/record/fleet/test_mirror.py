"""Learnt elements for a pair: once each, bounded, and never what came from there."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentryfw.daemon.fleet.sender import entry_of
from sentryfw.fleet.entry import MAX_ENTRY_BYTES
from sentryfw.netfilter.sets.mirror import KEY_BYTES
from sentryfw.record import learnt
from sentryfw.record.fleet import held, mirror, outbox
from sentryfw.record.learnt import LearntElement
from sentryfw.record.ledger import Ledger
from sentryfw.record.records import manual_entry

NOW = 1_800_000_000.0
ROW = held.Held(
    member="fw2", address="192.0.2.7", effect="block", evidence="proven", scan="portscan",
    reason="why", seq=1, at=NOW, ends_at=NOW + 60,
)  # fmt: skip


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db") as opened:
        outbox.enable(opened, NOW, mirrors=True)
        yield opened


def save(ledger: Ledger, name: str, count: int, end: float = 86_400.0) -> None:
    size = KEY_BYTES[name]
    keys = (number.to_bytes(size) for number in range(count))
    learnt.save(ledger, name, (LearntElement(key, 90_000.0, NOW + end) for key in keys))


@pytest.mark.parametrize("name", KEY_BYTES)
def test_elements_are_sent_once_in_entries_that_are_short_enough(ledger: Ledger, name: str) -> None:
    save(ledger, name, 100)
    assert mirror.sweep(ledger, KEY_BYTES, NOW) == 100
    rows = outbox.outgoing(ledger, 0, 100)
    sizes = [len(entry_of("a" * 32, row).encode()) for row in rows]
    assert max(sizes) <= MAX_ENTRY_BYTES
    sent = [key for row in rows for key in json.loads(row.elements)]
    assert len(sent) == len(set(sent)) == 100
    assert mirror.sweep(ledger, KEY_BYTES, NOW) == 0


def test_an_end_that_moves_far_is_sent_again(ledger: Ledger) -> None:
    save(ledger, "partner4", 1)
    mirror.sweep(ledger, KEY_BYTES, NOW)
    save(ledger, "partner4", 1, 86_400.0 + mirror.MIN_CHANGE_S - 1)
    assert mirror.sweep(ledger, KEY_BYTES, NOW) == 0
    save(ledger, "partner4", 1, 86_400.0 + 2 * mirror.MIN_CHANGE_S)
    assert mirror.sweep(ledger, KEY_BYTES, NOW) == 1


def test_a_sweep_is_bounded_and_the_next_one_goes_on(ledger: Ledger) -> None:
    save(ledger, "partner4", 5)
    save(ledger, "served4", 5)
    assert [mirror.sweep(ledger, KEY_BYTES, NOW, 4) for _ in range(4)] == [4, 4, 2, 0]


def test_what_came_from_the_pair_is_not_sent_back(ledger: Ledger) -> None:
    save(ledger, "partner4", 1)
    mirror.note(ledger, "partner4", [(bytes(4), NOW + 86_400.0)])
    assert mirror.sweep(ledger, KEY_BYTES, NOW) == 0
    save(ledger, "partner4", 1, 86_400.0 + 2 * mirror.MIN_CHANGE_S)
    assert mirror.sweep(ledger, KEY_BYTES, NOW) == 1, "it was a client here since"


def test_other_learnt_sets_are_not_sent(ledger: Ledger) -> None:
    learnt.save(ledger, "confine4", [LearntElement(bytes(4), 600.0, NOW + 600.0)])
    assert mirror.sweep(ledger, KEY_BYTES, NOW) == 0


def test_networks_and_unblocks_of_others_are_sent_to_a_pair_alone(ledger: Ledger) -> None:
    for mirrors in (True, False):
        outbox.enable(ledger, NOW, mirrors=mirrors)
        ledger.add([manual_entry("198.51.100.0/24", 4, 3600.0, NOW)])
        held.hold(ledger, [ROW, ROW._replace(address="192.0.2.8", effect="show")])
        held.lift_by_hand(ledger, None)
        assert held.active(ledger, NOW) == []
    found = [(row.op, row.address) for row in outbox.outgoing(ledger, 0, 100)]
    assert found == [("block", "198.51.100.0/24"), ("unblock", "192.0.2.7")]


def test_an_end_that_is_not_by_hand_is_not_sent(ledger: Ledger) -> None:
    held.hold(ledger, [ROW])
    held.forget_ended(ledger, NOW + 61)
    held.hold(ledger, [ROW])
    held.lift(ledger, "192.0.2.7")
    assert outbox.outgoing(ledger, 0, 100) == []
