"""Why many blocks were made: the same as asking for them one by one."""

import sqlite3

import pytest

from sentryfw.record import reasons
from sentryfw.record.entry import Entry, Named
from sentryfw.record.ledger import Ledger
from support.entries import BLOCK, BLOCKED_AT, REFUSAL, SIX

SHARED = tuple(name for name in reasons.Reason._fields if name in Entry._fields)


def _entries(count: int) -> list[Entry]:
    return [
        BLOCK._replace(address=f"203.0.113.{number}", kinds=["syn", "fin"][: number % 3],
                       probes=number, forgeable=bool(number % 2))
        for number in range(count)
    ]  # fmt: skip


def test_a_reason_is_part_of_an_entry() -> None:
    assert reasons.Reason._fields == SHARED


@pytest.mark.parametrize("at_once", [1, 3, 10_000])
def test_each_address_has_the_reason_of_its_newest_block(
    ledger: Ledger, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reasons, "MOST", at_once)
    older = [entry._replace(reason="older", kinds=["null"]) for entry in _entries(4)]
    ledger.add([*older, *_entries(7), SIX, REFUSAL._replace(address="203.0.113.6")])
    asked = [entry.address for entry in _entries(9)] + [SIX.address]
    found = reasons.newest(ledger, asked)
    entries = ledger.latest_blocks(asked)
    assert len(entries) == 8
    assert {address: reason._asdict() for address, reason in found.items()} == {
        address: {name: getattr(entry, name) for name in SHARED}
        for address, entry in entries.items()
    }


def test_names_are_those_that_are_known(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reasons, "MOST", 2)
    ledger.add_reactions([], [Named(name, f"{name}.example", BLOCKED_AT) for name in "ace"])
    assert reasons.hosts(ledger, list("abcde")) == {name: f"{name}.example" for name in "ace"}


def test_no_addresses_are_no_query_that_fails(ledger: Ledger) -> None:
    assert reasons.newest(ledger, []) == reasons.hosts(ledger, []) == {}


def test_as_many_as_are_asked_at_once_are_not_too_many_for_sqlite() -> None:
    connection = sqlite3.connect(":memory:")
    limit = connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
    connection.close()
    assert limit >= reasons.MOST


def test_kinds_that_are_no_json_are_a_value_error(ledger: Ledger) -> None:
    ledger.add([BLOCK])
    ledger.read("UPDATE blocks SET kinds = 'no JSON'", ())
    with pytest.raises(ValueError, match="Expecting value"):
        reasons.newest(ledger, [BLOCK.address])
