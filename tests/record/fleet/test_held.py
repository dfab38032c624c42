"""Entries of other members in the ledger, and the last number of each."""

from collections.abc import Iterator

import pytest

from sentryfw.record.fleet import held
from sentryfw.record.fleet.held import Held
from sentryfw.record.ledger import Ledger

NOW = 1_800_000_000.0
ONE = Held(
    member="fw1", address="192.0.2.7", effect="block", evidence="proven", scan="decoy-scan",
    reason="why", seq=7, at=NOW, ends_at=NOW + 60,
)  # fmt: skip
TWO = ONE._replace(member="fw2", effect="weigh", evidence="forgeable", ends_at=None)
OTHER = ONE._replace(address="192.0.2.8")


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with Ledger(None) as opened:
        held.hold(opened, [ONE, TWO, OTHER])
        yield opened


def test_entries_are_in_effect_until_they_end(ledger: Ledger) -> None:
    assert sorted(held.active(ledger, NOW)) == sorted([ONE, TWO, OTHER])
    assert held.active(ledger, NOW, ["192.0.2.7", "192.0.2.9"]) == [ONE, TWO]
    held.forget_ended(ledger, NOW + 60)
    assert held.active(ledger, NOW) == [TWO]


def test_a_later_entry_replaces_the_earlier_one_of_its_member(ledger: Ledger) -> None:
    later = ONE._replace(seq=8, ends_at=NOW + 600)
    held.hold(ledger, [later])
    assert held.active(ledger, NOW, ["192.0.2.7"]) == [later, TWO]


@pytest.mark.parametrize(
    ("address", "member", "left"),
    [
        ("192.0.2.7", None, {OTHER}), ("192.0.2.7", "fw1", {TWO, OTHER}), (None, "fw1", {TWO}),
        (None, None, set()), ("192.0.2.9", None, {ONE, TWO, OTHER}),
    ],
)  # fmt: skip
def test_what_is_lifted(
    ledger: Ledger, address: str | None, member: str | None, left: set[Held]
) -> None:
    held.lift(ledger, address, member)
    assert set(held.active(ledger, NOW)) == left


def test_the_last_number_of_each_member(ledger: Ledger) -> None:
    held.advance(ledger, "fw1", 7)
    held.advance(ledger, "fw1", 9)
    held.advance(ledger, "fw2", 1)
    assert held.numbers(ledger) == {"fw1": 9, "fw2": 1}
