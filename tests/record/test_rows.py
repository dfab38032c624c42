"""The row mappers: each record is read as it was written."""

import json

import pytest

from sentryfw.record import rows
from sentryfw.record.records import ProbeTrace, Reaction
from support.entries import BLOCK, PROBE, REFUSAL, SIX

TRACE = (ProbeTrace(1.0, "syn", listed=False, target="198.18.0.1 tcp/22"),)


@pytest.mark.parametrize("record", [BLOCK, SIX._replace(trace=TRACE)], ids=["ipv4", "ipv6"])
def test_a_block_is_restored_from_its_row(record: rows.DecisionRecord) -> None:
    row = rows.block_row(record)
    assert len(row) == rows.BLOCK_COLUMNS.count(",") + 1
    assert rows.block_record(row, record.trace) == record


@pytest.mark.parametrize(
    "record",
    [REFUSAL, REFUSAL._replace(address="2001:2::/64", family=6, trace=TRACE)],
    ids=["ipv4", "ipv6"],
)
def test_a_refusal_is_restored_from_its_row(record: rows.DecisionRecord) -> None:
    row = rows.refusal_row(record)
    assert len(row) == rows.REFUSAL_COLUMNS.count(",") + 1
    assert rows.refusal_record(row, record.trace) == record


def test_probes_traces_and_reactions_are_restored_from_their_rows() -> None:
    reaction = Reaction(
        reaction="command", address="a", ok=False, detail="failed", at=1.0, seconds=0.5
    )
    assert rows.probe_record((*PROBE[:3], 0, PROBE.target, "")) == PROBE
    assert rows.probe_trace((1.0, "syn", 0, TRACE[0].target)) == TRACE[0]
    assert rows.reaction_record(("command", "a", 0, "failed", 1.0, 0.5)) == reaction


def test_truth_values_are_booleans_not_numbers() -> None:
    assert rows.block_record(rows.block_row(BLOCK)).forgeable is True
    assert rows.probe_record((*PROBE[:3], 1, PROBE.target, "")).listed is True


@pytest.mark.parametrize("damaged", ["not JSON", "7", '"text"', ""])
def test_a_damaged_list_is_empty_for_a_tolerant_reader(damaged: str) -> None:
    assert rows.words(damaged) == []


def test_a_damaged_list_raises_for_others() -> None:
    row = list(rows.block_row(BLOCK))
    row[3] = "not JSON"
    with pytest.raises(json.JSONDecodeError):
        rows.block_record(row)
    assert rows.block_record(row, parse=rows.words).kinds == []
