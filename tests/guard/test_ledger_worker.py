"""The ledger, corrected by what the kernel holds."""

import time
from ipaddress import ip_address
from pathlib import Path

import pytest

from sentryfw.guard import table_reader
from sentryfw.guard.block_index import KnownBlocks
from sentryfw.guard.ledger_worker import LedgerWorker, LedgerWriter, Written
from sentryfw.guard.moment import Moment
from sentryfw.netfilter import block_sets
from sentryfw.netlink.set_elements import Lifetime
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.record import active_blocks
from sentryfw.record.active_blocks import ActiveBlock
from sentryfw.record.ledger import Ledger
from sentryfw.record.lookup import history
from sentryfw.record.records import manual_entry
from sentryfw.tools.drill.namespace import Namespace

HOUR = 3600.0
A, B, C = "198.51.100.1", "198.51.100.2", "198.51.100.3"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with blocks of A and B, made half an hour ago."""
    made = tmp_path / "ledger.db"
    ago = time.time() - HOUR / 2
    with Ledger(made) as ledger:
        ledger.add([manual_entry(address, 4, HOUR, ago) for address in (A, B)])
    return made


def _left(path: Path) -> dict[str, float]:
    with Ledger(path) as ledger:
        return {row.address: row.left for row in active_blocks.active_blocks(ledger, time.time())}


def _key(address: str) -> bytes:
    return ip_address(address).packed


# --- without a kernel


def test_an_unrecorded_block_is_added_once_it_is_old_enough(path: Path) -> None:
    blocks = [ActiveBlock(C, 4, HOUR, HOUR - 20), ActiveBlock("198.51.100.4", 4, HOUR, HOUR - 5)]
    with Ledger(path) as ledger:
        written = LedgerWriter(ledger, Moment.now()).record(blocks, {}, min_age_s=10.0)
    assert written == Written(added=1, corrected=0)
    assert _left(path).keys() == {A, B, C}


def test_the_end_of_a_row_becomes_the_kernels(path: Path) -> None:
    rows = {A: Lifetime(HOUR, HOUR / 2), B: Lifetime(HOUR, HOUR / 2)}
    blocks = [ActiveBlock(A, 4, HOUR, HOUR / 4), ActiveBlock(B, 4, HOUR, HOUR / 2 + 1)]
    with Ledger(path) as ledger:
        assert LedgerWriter(ledger, Moment.now()).record(blocks, rows) == Written(0, 1)
    assert _left(path) == {A: pytest.approx(HOUR / 4, abs=5), B: pytest.approx(HOUR / 2, abs=5)}


def test_a_row_that_seems_ended_is_corrected_and_not_added(path: Path) -> None:
    with Ledger(path) as ledger:
        writer = LedgerWriter(ledger, Moment.now())
        writer.end([A])
        assert writer.record([ActiveBlock(A, 4, HOUR, 60.0)], {}) == Written(0, 1)
    assert _left(path)[A] == pytest.approx(60, abs=5)


def test_ends_are_written_in_batches_with_pauses(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sentryfw.guard.ledger_worker.WRITE_BATCH", 1)
    pauses: list[int] = []
    now = Moment.now()
    with Ledger(path) as ledger:
        writer = LedgerWriter(ledger, now, lambda: pauses.append(1))
        assert writer.set_moved([(A, now.monotonic + 60), (B, now.monotonic + 90)]) == 2
    assert _left(path) == {A: pytest.approx(60, abs=5), B: pytest.approx(90, abs=5)}
    assert len(pauses) == 2


# --- with a kernel


def _put(netlink: NfnetlinkSocket, *addresses: str, left: float = HOUR / 2) -> None:
    lives = {_key(address): Lifetime(HOUR, left) for address in addresses}
    block_sets.add_elements(netlink, "block4", lives)


def _known(*addresses: str) -> KnownBlocks:
    known = KnownBlocks()
    for address in addresses:
        known.ends[_key(address)] = (HOUR, time.monotonic() + HOUR / 2)
    return known


@pytest.mark.netns
def test_unblocked_addresses_are_recorded(netlink: NfnetlinkSocket, path: Path) -> None:
    LedgerWorker(netlink, path).record_unblocked([A], time.time())
    assert _left(path).keys() == {B}


@pytest.mark.netns
def test_three_that_agree_need_no_correction(netlink: NfnetlinkSocket, path: Path) -> None:
    _put(netlink, A, B)
    memory = _known(A, B)
    comparison, found = LedgerWorker(netlink, path).reconcile(memory, Moment.now())
    assert found[:6] == (2, 2, 0, 0, 0, 0)
    assert found.fault == ""
    assert comparison.missing == []
    assert memory.learnt.keys() >= {"partner4", "partner6", "peer4", "peer6"}


@pytest.mark.netns
def test_what_a_block_has_dropped_is_kept_before_its_end(
    namespace: Namespace, netlink: NfnetlinkSocket, path: Path
) -> None:
    for address, left in ((A, "60s"), (B, "600s")):
        element = f"{address} counter packets 7 bytes 420 timeout 1h expires {left}"
        assert not namespace.run(
            "nft", f"add element inet sentryfw block4 {{ {element} }}"
        ).returncode
    memory = _known(A, B)
    memory.ends[_key(A)] = (HOUR, time.monotonic() + 60)
    LedgerWorker(netlink, path).reconcile(memory, Moment.now())
    with Ledger(path) as ledger:
        kept = {a: history(ledger, a).blocks[-1].dropped_packets for a in (A, B)}
    assert kept == {A: 7, B: None}


@pytest.mark.netns
def test_the_ledger_follows_the_kernel(netlink: NfnetlinkSocket, path: Path) -> None:
    """A is known but missing, B only in the ledger, C only in the kernel."""
    _put(netlink, C)
    comparison, found = LedgerWorker(netlink, path).reconcile(_known(A), Moment.now())
    assert comparison.missing == [_key(A)]
    assert comparison.unknown.keys() == {_key(C)}
    assert (found.kernel, found.adopted, found.ended) == (1, 1, 1)
    assert _left(path).keys() == {A, C}


@pytest.mark.netns
@pytest.mark.parametrize("may_be_incomplete", [True, False])
def test_large_sets_are_dumped_if_memory_may_be_incomplete(
    netlink: NfnetlinkSocket, path: Path, monkeypatch: pytest.MonkeyPatch, *,
    may_be_incomplete: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(table_reader, "MAX_PERIODIC_DUMP", 1)
    _put(netlink, A, B, C)
    memory = _known(A, B)
    memory.may_be_incomplete = may_be_incomplete
    comparison, _ = LedgerWorker(netlink, path).reconcile(memory, Moment.now())
    assert (comparison.unknown.keys() == {_key(C)}) is may_be_incomplete
    assert not memory.may_be_incomplete


@pytest.mark.netns
def test_an_unusable_ledger_is_reported_and_the_kernel_still_compared(
    netlink: NfnetlinkSocket, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"not a database" * 100)
    comparison, found = LedgerWorker(netlink, broken).reconcile(_known(A), Moment.now())
    assert "broken.db" in found.fault
    assert comparison.missing == [_key(A)]
