"""What the ledger knows of one source."""

from typing import Final

from sentryfw.record import history
from sentryfw.record import ledger as ledger_module
from sentryfw.record.entry import Trace, event_id
from sentryfw.record.ledger import Ledger
from support.entries import BLOCK, BLOCKED_AT, REFUSAL, SIGHT, SIX

TRACE: Final = (
    Trace(BLOCKED_AT - 2, "syn", listed=False, target="198.18.0.1 tcp/22"),
    Trace(BLOCKED_AT - 1, "udp", listed=True, target="198.18.0.1 udp/53"),
)
TRACED: Final = BLOCK._replace(trace=TRACE)
REFUSED: Final = REFUSAL._replace(trace=TRACE[:1], tool="")


def test_a_block_comes_back_with_the_probes_it_rests_on(ledger: Ledger) -> None:
    ledger.add([TRACED, SIX])
    [past] = history.of(ledger, BLOCK.address).blocks
    assert past == (TRACED, None)
    assert event_id(past.entry) == event_id(TRACED)


def test_a_refusal_comes_back_with_the_probes_it_rests_on(ledger: Ledger) -> None:
    ledger.add([REFUSED])
    found = history.of(ledger, REFUSED.address)
    assert found.refusals == [REFUSED]
    assert found.blocks == []


def test_an_unblock_is_told_with_its_time(ledger: Ledger) -> None:
    ledger.add([BLOCK])
    ledger.unblocked(BLOCK.address, BLOCKED_AT + 5)
    [past] = history.of(ledger, BLOCK.address).blocks
    assert past.unblocked_at == BLOCKED_AT + 5


def test_each_probe_belongs_to_its_own_decision(ledger: Ledger) -> None:
    later = TRACED._replace(blocked_at=BLOCKED_AT + 9, trace=TRACE[1:])
    ledger.add([TRACED, REFUSED, later])
    found = history.of(ledger, BLOCK.address)
    assert [past.entry.trace for past in found.blocks] == [TRACE, TRACE[1:]]
    assert [refusal.trace for refusal in found.refusals] == [TRACE[:1]]


def test_probes_below_the_trigger_come_oldest_first(ledger: Ledger) -> None:
    sights = [SIGHT._replace(at=BLOCKED_AT + n) for n in range(3)]
    ledger.add([], sights)
    assert history.of(ledger, SIGHT.address).probes == sights


def test_of_an_address_without_a_past_there_is_nothing(ledger: Ledger) -> None:
    ledger.add([TRACED, REFUSED], [SIGHT])
    assert history.of(ledger, "203.0.113.9") == ([], [], [], [])


def test_a_long_past_is_told_by_its_newest(ledger: Ledger) -> None:
    count = history.MAX_BLOCKS + 5
    ledger.add(BLOCK._replace(blocked_at=BLOCKED_AT + n) for n in range(count))
    found = history.of(ledger, BLOCK.address).blocks
    assert len(found) == history.MAX_BLOCKS
    assert found[-1].entry.blocked_at == BLOCKED_AT + count - 1


def test_traces_are_trimmed_to_the_newest(ledger: Ledger) -> None:
    many = tuple(TRACE[0]._replace(target=f"198.18.0.1 tcp/{n}") for n in range(64))
    ledger.add([BLOCK._replace(trace=many, blocked_at=BLOCKED_AT + n) for n in range(4)])
    keep = dict(ledger_module._KEEP)
    try:
        ledger_module._KEEP["traces"] = 100
        ledger.trim()
    finally:
        ledger_module._KEEP.update(keep)
    found = history.of(ledger, BLOCK.address).blocks
    assert [len(past.entry.trace) for past in found] == [0, 0, 36, 64]
