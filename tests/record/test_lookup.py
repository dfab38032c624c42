"""Lookups in the ledger: one source, many addresses, and a ledger that cannot be read."""

import json
import sqlite3
import time
from pathlib import Path
from typing import Final

import pytest

from sentryfw.record import ledger as ledger_module
from sentryfw.record import lookup
from sentryfw.record.ledger import Ledger
from sentryfw.record.lookup import OptionalLedger, Reason, Wanted
from sentryfw.record.records import DecisionRecord, Named, ProbeTrace, event_id
from support.entries import BLOCK, BLOCKED_AT, PROBE, REFUSAL, SIX

TRACE: Final = (
    ProbeTrace(BLOCKED_AT - 2, "syn", listed=False, target="198.18.0.1 tcp/22"),
    ProbeTrace(BLOCKED_AT - 1, "udp", listed=True, target="198.18.0.1 udp/53"),
)
TRACED: Final = BLOCK._replace(trace=TRACE)
REFUSED: Final = REFUSAL._replace(trace=TRACE[:1])


def test_a_block_is_read_with_the_probes_it_rests_on(ledger: Ledger) -> None:
    ledger.add([TRACED, SIX])
    [past] = lookup.history(ledger, BLOCK.address).blocks
    assert past == (TRACED, None, None)
    assert event_id(past.entry) == event_id(TRACED)


def test_a_refusal_is_read_with_the_probes_it_rests_on(ledger: Ledger) -> None:
    ledger.add([REFUSED])
    found = lookup.history(ledger, REFUSED.address)
    assert found.refusals == [REFUSED]
    assert found.blocks == []


def test_an_unblocked_block_has_the_time(ledger: Ledger) -> None:
    ledger.add([BLOCK])
    ledger.unblocked(BLOCK.address, BLOCKED_AT + 5)
    [past] = lookup.history(ledger, BLOCK.address).blocks
    assert past.unblocked_at == BLOCKED_AT + 5


def test_each_probe_belongs_to_its_own_decision(ledger: Ledger) -> None:
    later = TRACED._replace(blocked_at=BLOCKED_AT + 9, trace=TRACE[1:])
    ledger.add([TRACED, REFUSED, later])
    found = lookup.history(ledger, BLOCK.address)
    assert [past.entry.trace for past in found.blocks] == [TRACE, TRACE[1:]]
    assert [refusal.trace for refusal in found.refusals] == [TRACE[:1]]


def test_probes_below_the_trigger_come_oldest_first(ledger: Ledger) -> None:
    probes = [PROBE._replace(at=BLOCKED_AT + n) for n in range(3)]
    ledger.add([], probes)
    assert lookup.history(ledger, PROBE.address).probes == probes


def test_an_unknown_address_has_an_empty_history(ledger: Ledger) -> None:
    ledger.add([TRACED, REFUSED], [PROBE])
    assert lookup.history(ledger, "203.0.113.9") == ([], [], [], [])


def test_a_long_history_is_limited_to_the_newest(ledger: Ledger) -> None:
    count = lookup.MAX_BLOCKS + 5
    ledger.add(BLOCK._replace(blocked_at=BLOCKED_AT + n) for n in range(count))
    found = lookup.history(ledger, BLOCK.address).blocks
    assert len(found) == lookup.MAX_BLOCKS
    assert found[-1].entry.blocked_at == BLOCKED_AT + count - 1


def test_traces_are_trimmed_to_the_newest(ledger: Ledger) -> None:
    many = tuple(TRACE[0]._replace(target=f"198.18.0.1 tcp/{n}") for n in range(64))
    ledger.add([BLOCK._replace(trace=many, blocked_at=BLOCKED_AT + n) for n in range(4)])
    keep = dict(ledger_module.MAX_ROWS)
    try:
        ledger_module.MAX_ROWS["traces"] = 100
        ledger.trim(time.time())
    finally:
        ledger_module.MAX_ROWS.update(keep)
    found = lookup.history(ledger, BLOCK.address).blocks
    assert [len(past.entry.trace) for past in found] == [0, 0, 36, 64]


# --- many addresses

SHARED = tuple(name for name in Reason._fields if name in DecisionRecord._fields)


def _entries(count: int) -> list[DecisionRecord]:
    return [
        BLOCK._replace(address=f"203.0.113.{number}", kinds=["syn", "fin"][: number % 3],
                       probes=number, forgeable=bool(number % 2))
        for number in range(count)
    ]  # fmt: skip


def test_a_reason_is_part_of_a_record() -> None:
    assert Reason._fields == SHARED


@pytest.mark.parametrize("batch", [1, 3, 10_000])
def test_each_address_has_the_reason_of_its_newest_block(
    ledger: Ledger, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "ADDRESS_BATCH", batch)
    older = [entry._replace(reason="older", kinds=["null"]) for entry in _entries(4)]
    ledger.add([*older, *_entries(7), SIX, REFUSAL._replace(address="203.0.113.6")])
    asked = [entry.address for entry in _entries(9)] + [SIX.address]
    found = lookup.newest_reasons(ledger, asked)
    entries = ledger.latest_blocks(asked)
    assert len(entries) == 8
    assert {address: reason._asdict() for address, reason in found.items()} == {
        address: {name: getattr(entry, name) for name in SHARED}
        for address, entry in entries.items()
    }
    assert lookup.newest_reasons(ledger, []) == {}


def test_damaged_kinds_raise_a_value_error(ledger: Ledger) -> None:
    ledger.add([BLOCK])
    ledger.database.execute("UPDATE blocks SET kinds = 'not JSON'")
    with pytest.raises(ValueError, match="Expecting value"):
        lookup.newest_reasons(ledger, [BLOCK.address])


def test_the_newest_block_is_read_with_its_probes_and_despite_damage(ledger: Ledger) -> None:
    ledger.add([BLOCK, TRACED])
    assert lookup.newest_block(ledger, BLOCK.address) == TRACED
    ledger.database.execute("UPDATE blocks SET kinds = 'not JSON'")
    assert lookup.newest_block(ledger, BLOCK.address) == TRACED._replace(kinds=[])
    assert lookup.newest_block(ledger, SIX.address) is None


def test_the_newest_addresses_are_those_that_were_not_unblocked(ledger: Ledger) -> None:
    ledger.add([BLOCK, *_entries(4), BLOCK])
    ledger.unblocked("203.0.113.3", BLOCKED_AT + 1)
    assert lookup.newest_addresses(ledger, 3) == [BLOCK.address, "203.0.113.2", "203.0.113.1"]


def test_refusals_are_selected_by_their_reason(ledger: Ledger) -> None:
    observed = REFUSAL._replace(reason="observe", address="203.0.113.5")
    ledger.add([REFUSAL, observed, REFUSAL])
    assert lookup.refusals_for(ledger, "observe") == [observed]


# --- a ledger that cannot be read


def test_a_missing_ledger_answers_without_a_warning(path: Path) -> None:
    warnings: list[str] = []
    ledger = OptionalLedger(path, warnings.append)
    assert ledger.ask(lambda found: found.offences(1), {"otherwise": 1}) == {"otherwise": 1}
    assert warnings == []
    assert not path.exists()


def test_an_unreadable_ledger_is_reported_once(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database, but longer than its header" * 100)
    warnings: list[str] = []
    ledger = OptionalLedger(path, warnings.append)
    for _ in range(2):
        assert ledger.ask(lambda found: found.offences(1), {}) == {}
    [warning] = warnings
    assert warning.startswith("the ledger cannot be read, so reasons are missing: ")


@pytest.mark.parametrize(
    "fault", [sqlite3.OperationalError("disk I/O error"), json.JSONDecodeError("bad", "", 0)]
)
def test_a_failing_question_closes_the_ledger(path: Path, fault: Exception) -> None:
    Ledger(path).close()
    warnings: list[str] = []
    ledger = OptionalLedger(path, warnings.append)
    assert ledger.ask(lambda found: found.offences(1), {"x": 1}) == {}

    def fail(_: Ledger) -> dict[str, int]:
        raise fault

    assert ledger.ask(fail, {"x": 1}) == {"x": 1}
    assert ledger.ask(lambda found: found.offences(1), {"x": 1}) == {"x": 1}
    assert len(warnings) == 1
    ledger.close()


# --- active blocks that meet conditions

NOW: Final = BLOCKED_AT + 60
EVERYTHING: Final = Wanted()


def block(number: int, **fields: object) -> DecisionRecord:
    made = BLOCK._replace(address=f"198.18.1.{number}", blocked_at=BLOCKED_AT + number)
    return made._replace(**fields)  # type: ignore[arg-type]


def found(ledger: Ledger, wanted: Wanted = EVERYTHING, table: str = "blocks") -> list[str]:
    names = list(lookup.wanted_addresses(ledger, table, wanted, NOW))
    assert lookup.count_wanted(ledger, table, wanted, NOW) == len(names)
    return [name.rpartition(".")[2] for name in names]


def test_the_newest_comes_first_over_several_pages(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup, "PAGE_ROWS", 2)
    ledger.add([block(number) for number in range(1, 6)])
    assert found(ledger) == ["5", "4", "3", "2", "1"]


def test_ended_and_unblocked_blocks_are_left_out(ledger: Ledger) -> None:
    ledger.add([block(1, timeout_s=50.0), block(2), block(3), block(4, timeout_s=0.0)])
    ledger.unblocked("198.18.1.2", NOW - 1)
    assert found(ledger) == ["4", "3"]


def test_the_newest_block_of_an_address_counts_alone(ledger: Ledger) -> None:
    ledger.add([block(1, kinds=["fin"]), block(2), block(1, kinds=["udp"])])
    assert found(ledger) == ["1", "2"]
    assert found(ledger, Wanted(kind="fin")) == []


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (Wanted(kind="udp"), ["2"]),
        (Wanted(kind="portsweep"), ["3"]),
        (Wanted(kind="ud"), []),
        (Wanted(since=BLOCKED_AT + 3), ["4", "3"]),
        (Wanted(text="198.18.1.2"), ["2"]),
        (Wanted(text="MASSCAN"), ["3"]),
        (Wanted(text="printer"), ["4"]),
        (Wanted(text="100%"), ["1"]),
        (Wanted(text="%"), ["1"]),
        (Wanted(text="198.18", kind="udp"), ["2"]),
        (Wanted(text="' OR 1=1 --"), []),
    ],
)
def test_conditions_choose(ledger: Ledger, wanted: Wanted, numbers: list[str]) -> None:
    plain = {"kinds": ["syn"]}
    ledger.add(
        [
            block(1, reason="100% sure", **plain),
            block(2, kinds=["syn", "udp"]),
            block(3, scan="portsweep", tool="masscan", **plain),
            block(4, **plain),
        ]
    )
    ledger.add_reactions([], [Named("198.18.1.4", "Printer.example", BLOCKED_AT)])
    assert found(ledger, wanted) == numbers


def test_confinements_are_refusals_with_a_timeout(ledger: Ledger) -> None:
    held = REFUSAL._replace(address="198.18.1.7", timeout_s=600.0)
    ledger.add([held, REFUSAL._replace(address="198.18.1.8"), held._replace(timeout_s=0.0)])
    assert found(ledger, table="refusals") == ["7"]


@pytest.mark.serial
def test_the_first_fifty_of_many_cost_what_the_first_fifty_of_few_cost(ledger: Ledger) -> None:
    def cost() -> float:
        def once() -> float:
            began = time.perf_counter()
            for _ in zip(range(50), lookup.wanted_addresses(ledger, "blocks", Wanted(), NOW)):  # noqa: B905
                pass
            return time.perf_counter() - began

        return min(once() for _ in range(5))

    def many(first: int, count: int) -> list[DecisionRecord]:
        names = (f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(first, first + count))
        return [BLOCK._replace(address=name) for name in names]

    ledger.add(many(0, 1_000))
    few = cost()
    ledger.add(many(1_000, 49_000))
    assert cost() < 3 * few + 0.001
