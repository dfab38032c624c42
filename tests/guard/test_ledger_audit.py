"""The ledger's rows, compared with what the daemon knows."""

from ipaddress import ip_address

import pytest

from sentryfw.guard.block_index import BlockIndex, Expiry, KnownRange
from sentryfw.guard.compare import Comparison
from sentryfw.guard.ledger_audit import (
    LEDGER_DELAY_S,
    LEDGER_TOLERANCE_S,
    LedgerAudit,
    active_networks,
)
from sentryfw.record.active_blocks import ActiveBlock

NOW = 1000.0
HOUR = 3600.0
SETTLED: Expiry = (HOUR, NOW + HOUR - LEDGER_DELAY_S)
FRESH: Expiry = (HOUR, NOW + HOUR - LEDGER_DELAY_S / 2)
A, B, C = "198.51.100.1", "198.51.100.2", "2001:db8:1::/64"


def _key(address: str) -> bytes:
    return ip_address(address.partition("/")[0]).packed


def _row(address: str, expiry: Expiry) -> ActiveBlock:
    return ActiveBlock(address, 6 if ":" in address else 4, expiry[0], expiry[1] - NOW)


def _ends(**known: Expiry) -> BlockIndex:
    ends = BlockIndex()
    for name, expiry in known.items():
        ends[_key({"a": A, "b": B, "c": C}[name])] = expiry
    return ends


def _audit(ends: BlockIndex, found: Comparison | None = None) -> LedgerAudit:
    return LedgerAudit(ends, found or Comparison(), NOW, bool)


def test_rows_of_known_blocks_need_no_correction() -> None:
    audit = _audit(_ends(a=SETTLED, c=SETTLED))
    audit.read([_row(A, SETTLED), _row(C, SETTLED)])
    assert (audit.rows, audit.ended, audit.moved) == (2, [], [])
    assert not audit.lacks_rows()


@pytest.mark.parametrize(
    ("expiry", "added"),
    [(SETTLED, [B]), (FRESH, []), ((0.0, 0.0), [B]), ((HOUR, NOW - 1), [])],
    ids=["old", "just-made", "without-end", "ended"],
)
def test_a_block_without_a_row_is_unrecorded_once_it_is_old_enough(
    expiry: Expiry, added: list[str]
) -> None:
    rows = [_row(A, SETTLED)]
    audit = _audit(_ends(a=SETTLED, b=expiry))
    audit.read(rows)
    assert audit.lacks_rows() is bool(added)
    if added:
        assert [item.address for item in audit.unrecorded(rows)] == added


def test_a_row_without_a_block_has_ended() -> None:
    audit = _audit(_ends(b=(HOUR, NOW - 1)), Comparison(ended=[_key(B)]))
    audit.read([_row(A, SETTLED), _row(B, (HOUR, NOW + 60)), _row("not an address", SETTLED)])
    assert audit.ended == [A, B]


def test_a_row_of_a_block_that_the_kernel_lost_has_not_ended() -> None:
    """The block is restored, and its row is there."""
    audit = _audit(_ends(a=SETTLED, b=SETTLED), Comparison(missing=[_key(B)]))
    audit.read([_row(A, SETTLED)])
    assert audit.ended == []
    assert list(audit.unrecorded([_row(A, SETTLED)])) == []


@pytest.mark.parametrize(
    "off", [LEDGER_TOLERANCE_S + 1, LEDGER_TOLERANCE_S - 1], ids=["beyond", "within"]
)
def test_the_kernels_end_replaces_the_rows_end(off: float) -> None:
    theirs = (HOUR, SETTLED[1] - off)
    audit = _audit(_ends(a=SETTLED), Comparison(moved={_key(A): (SETTLED, theirs)}))
    audit.read([_row(A, SETTLED)])
    assert audit.moved == ([(A, theirs[1])] if off > LEDGER_TOLERANCE_S else [])
    assert not audit.lacks_rows()


def test_networks_and_unknown_blocks_are_kept_apart() -> None:
    audit = _audit(BlockIndex(), Comparison(unknown={_key(A): SETTLED}))
    audit.read([_row(A, SETTLED), _row("203.0.113.0/24", SETTLED)])
    assert audit.unknown.keys() == {A}
    assert audit.networks.keys() == {"203.0.113.0/24"}
    assert audit.ended == []
    assert [item.address for item in audit.unknown_blocks()] == [A]


def test_each_network_of_a_range_is_a_block() -> None:
    first, after = _key("203.0.113.0"), _key("203.0.113.3")
    ranges = {"block_net4": [KnownRange(first, after, HOUR, NOW + 60)]}
    found = list(active_networks(ranges, NOW))
    assert [(item.address, item.left) for item in found] == [
        ("203.0.113.0/31", 60), ("203.0.113.2/32", 60),
    ]  # fmt: skip
    assert list(active_networks(ranges, NOW + 61)) == []
