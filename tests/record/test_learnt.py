"""Learnt elements in the ledger: compared there, and never given more time than they had."""

import sqlite3
from contextlib import closing

import pytest

from sentryfw.record import learnt
from sentryfw.record.learnt import END_TOLERANCE_S, LearntElement
from sentryfw.record.ledger import Ledger

DAY = 86400.0
NOW = 1_700_000_000.0
ONE, TWO, LONG = bytes((198, 51, 100, 1)), bytes((198, 51, 100, 2)), bytes(range(40))


def _active(ledger: Ledger, name: str = "partner4", now: float = NOW) -> dict[bytes, float]:
    return {item.key: item.end - now for item in learnt.active(ledger, name, now)}


def test_elements_are_read_back_with_what_is_left_of_them(ledger: Ledger) -> None:
    elements = [LearntElement(ONE, DAY, NOW + 500), LearntElement(TWO, DAY, NOW)]
    assert learnt.save(ledger, "partner4", elements) == 2
    assert learnt.save(ledger, "served6", [LearntElement(LONG, DAY, NOW + DAY)]) == 1
    assert _active(ledger) == {ONE: 500.0}
    assert _active(ledger, "served6") == {LONG: DAY}
    assert _active(ledger, "partner4", NOW + 499.0) == {ONE: 1.0}
    assert _active(ledger, "partner4", NOW + 501.0) == {}


def test_a_clock_that_was_set_back_renews_no_more_than_the_timeout(ledger: Ledger) -> None:
    learnt.save(ledger, "partner4", [LearntElement(ONE, DAY, NOW + 500)])
    assert _active(ledger, "partner4", NOW - 10 * DAY) == {ONE: DAY}


def test_only_what_has_changed_is_written(ledger: Ledger) -> None:
    elements = [LearntElement(ONE, DAY, NOW + 500), LearntElement(TWO, DAY, NOW + 600)]
    assert learnt.save(ledger, "partner4", elements) == 2
    assert learnt.save(ledger, "peer4", elements) == 2
    within = [
        LearntElement(ONE, DAY, NOW + 500 + END_TOLERANCE_S),
        LearntElement(TWO, DAY, NOW + 600),
    ]
    assert learnt.save(ledger, "partner4", within) == 0
    beyond = [LearntElement(ONE, DAY, NOW + 501 + END_TOLERANCE_S)]
    assert learnt.save(ledger, "partner4", beyond) == 2  # one later, one gone
    assert _active(ledger) == {ONE: 501 + END_TOLERANCE_S}
    assert _active(ledger, "peer4").keys() == {ONE, TWO}


def test_a_dump_that_fails_leaves_the_rows_as_they_are(ledger: Ledger) -> None:
    learnt.save(ledger, "partner4", [LearntElement(ONE, DAY, NOW + 500)])

    def broken() -> object:
        yield LearntElement(TWO, DAY, NOW + 500)
        raise OSError("no set")

    with pytest.raises(OSError, match="no set"):
        learnt.save(ledger, "partner4", broken())  # type: ignore[arg-type]
    assert _active(ledger) == {ONE: 500.0}
    assert learnt.save(ledger, "partner4", [LearntElement(TWO, DAY, NOW + 500)]) == 2


def test_what_has_ended_is_forgotten_in_every_set(ledger: Ledger) -> None:
    for name in ("partner4", "of_an_older_schema"):
        learnt.save(ledger, name, [LearntElement(ONE, DAY, NOW), LearntElement(TWO, DAY, NOW + 1)])
    learnt.forget_ended(ledger, NOW)
    assert ledger.database.read("SELECT COUNT(*) FROM learnt") == [(2,)]


def test_a_ledger_that_another_program_writes_is_waited_for(ledger: Ledger, path: object) -> None:
    ledger.database.execute("PRAGMA busy_timeout = 0")
    with closing(sqlite3.connect(str(path), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            learnt.save(ledger, "partner4", [LearntElement(ONE, DAY, NOW + 500)])
        other.execute("ROLLBACK")
    assert learnt.save(ledger, "partner4", [LearntElement(ONE, DAY, NOW + 500)]) == 1
