"""The ledger's blocks, restored into a real kernel."""

import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from sentryfw.guard import restore, table_reader
from sentryfw.guard.block_index import KnownBlocks
from sentryfw.guard.ledger_worker import LedgerWorker, Reconciliation
from sentryfw.guard.moment import Moment
from sentryfw.guard.restore import Before, LedgerRestore, RestoreWorker
from sentryfw.netfilter import block_sets
from sentryfw.netfilter.sets import elements
from sentryfw.netlink.element_layout import Values
from sentryfw.netlink.set_elements import Lifetime
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.record import active_blocks
from sentryfw.record.ledger import Ledger
from sentryfw.record.records import manual_entry
from sentryfw.tools.drill.namespace import Namespace
from support.lifetimes import find_lifetimes

pytestmark = [pytest.mark.netns]

HOUR = 3600.0
SIZE = 100
KEYS = [number.to_bytes(4) for number in range(1, 301)]


def _add(made: LedgerRestore, keys: list[bytes], left: float) -> None:
    end = time.monotonic() + left
    for part in (keys[:64], keys[64:]):
        made.add([(key, str(ip_address(key)), (HOUR, end)) for key in part])


def test_only_missing_blocks_are_restored(filled: Any) -> None:
    now, count = time.monotonic(), len(filled.keys)
    made = filled.namespace.call(lambda: LedgerRestore(filled.netlink, batch=100))
    _add(made, filled.keys, HOUR / 4)
    holds_unknown = made.finish()
    assert (made.rows, made.restored, len(made.moved)) == (count, count // 2, count // 2)
    there = find_lifetimes(filled.netlink, "block4", filled.keys)
    for number, key in enumerate(filled.keys):
        left = HOUR / 4 if number % 2 else HOUR / 2
        assert there[key].left == pytest.approx(left, abs=10)
        assert made.ends.get(key) == (HOUR, pytest.approx(now + left, abs=10))
    assert holds_unknown is not filled.is_dumped
    assert (made.unknown.keys() == {filled.other}) is filled.is_dumped
    assert (filled.other in made.ends) is filled.is_dumped


def test_a_full_set_takes_what_fits_and_the_rest_is_reported(
    namespace: Namespace, caplog: pytest.LogCaptureFixture
) -> None:
    sets = "".join(
        f"set block{family} {{ type ipv{family}_addr; size {SIZE}; flags timeout; }}\n"
        for family in (4, 6)
    )
    namespace.run("nft", f"table inet sentryfw {{\n{sets}}}")
    with namespace.call(NfnetlinkSocket) as netlink, caplog.at_level(logging.ERROR, "sentryfwd"):
        made = LedgerRestore(netlink)
        _add(made, KEYS, HOUR)
        made.finish()
        assert len(find_lifetimes(netlink, "block4", KEYS)) == SIZE
    assert made.restored == len(made.ends) == SIZE
    lost = len(KEYS) - SIZE
    assert f"set block4 is full: {lost} blocks of the ledger are not restored" in caplog.text


def test_the_monitor_is_muted_for_many_blocks_alone(
    netlink: NfnetlinkSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore, "MUTE_ABOVE_COUNT", SIZE)
    mutes: list[int] = []

    def mute() -> AbstractContextManager[None]:
        mutes.append(1)
        return nullcontext()

    for keys, expected in ((KEYS[:SIZE], 0), (KEYS[-SIZE - 1 :], 1)):
        made = LedgerRestore(netlink, mute)
        _add(made, keys, HOUR)
        made.finish()
        assert len(mutes) == expected


# --- the whole ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A source, a network and an ended block, of half an hour ago."""
    path = tmp_path / "ledger.db"
    ago = time.time() - HOUR / 2
    with Ledger(path) as made:
        made.add(
            [
                manual_entry("198.51.100.1", 4, HOUR, ago),
                manual_entry("203.0.113.0/24", 4, 0.0, ago),
                manual_entry("198.51.100.2", 4, HOUR / 4, ago),
            ]
        )
    return path


def test_startup_restores_sources_and_networks(netlink: NfnetlinkSocket, ledger: Path) -> None:
    start = Moment.now()
    with Ledger(ledger) as opened:
        memory, found = RestoreWorker(netlink, ledger).at_startup(opened, start, nullcontext)
    assert (found.ledger, found.restored, found.adopted) == (2, 2, 0)
    key = ip_address("198.51.100.1").packed
    assert dict(memory.ends.items()) == {
        key: (HOUR, pytest.approx(start.monotonic + HOUR / 2, abs=5))
    }
    assert memory.active_networks(start.monotonic) == {"203.0.113.0/24"}
    assert find_lifetimes(netlink, "block4", [key]).keys() == {key}


def test_startup_records_what_only_the_kernel_knows(filled: Any, ledger: Path) -> None:
    with Ledger(ledger) as opened:
        worker = RestoreWorker(filled.netlink, ledger)
        memory, found = filled.namespace.call(
            lambda: worker.at_startup(opened, Moment.now(), nullcontext)
        )
        rows = {row.address for row in active_blocks.active_blocks(opened, time.time())}
    assert memory.may_be_incomplete is not filled.is_dumped
    assert found.adopted == (len(filled.keys) // 2 if filled.is_dumped else 0)
    assert ("0.0.0.1" in rows) is filled.is_dumped


@pytest.mark.parametrize(("last_id", "restored"), [(3, 1), (2, 0)])
def test_a_jump_back_restores_what_the_old_clock_had_ended(
    netlink: NfnetlinkSocket, ledger: Path, last_id: int, restored: int
) -> None:
    now = Moment.now()
    back = Moment(now.monotonic, now.wall - HOUR / 2)
    memory, found = RestoreWorker(netlink, ledger).after_jump(back, Before(last_id, now.wall))
    assert (found.restored, found.fault) == (restored, "")
    key = ip_address("198.51.100.2").packed
    assert (key in memory.ends) is bool(restored)


def test_an_unusable_ledger_leaves_the_kernels_blocks(filled: Any, tmp_path: Path) -> None:
    broken = tmp_path / "ledger.db"
    broken.write_bytes(b"not a database" * 100)
    worker = RestoreWorker(filled.netlink, broken)
    memory, found = filled.namespace.call(
        lambda: worker.after_jump(Moment.now(), Before(1, time.time()))
    )
    assert "ledger.db" in found.fault
    assert (filled.other in memory.ends) is filled.is_dumped


# --- a large set, by its count


class Restarted:
    """A table and a ledger with the same 100 blocks; a set of more than 20 is large."""

    def __init__(self, netlink: NfnetlinkSocket, path: Path, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(table_reader, "MAX_PERIODIC_DUMP", 20)
        self.asked = 0
        patch.setattr(table_reader, "ask_each", self._ask_each)
        self.netlink, self.path = netlink, path
        self.keys = KEYS[:SIZE]
        block_sets.add_elements(netlink, "block4", dict.fromkeys(self.keys, Lifetime(HOUR, HOUR)))
        with Ledger(path) as ledger:
            now = time.time()
            ledger.add([manual_entry(str(ip_address(key)), 4, HOUR, now) for key in self.keys])

    def _ask_each(
        self, netlink: NfnetlinkSocket, name: str, keys: list[bytes], pause: Any
    ) -> Iterator[Values]:
        self.asked += len(keys)
        return elements.ask_each(netlink, name, keys, pause)

    def start(self) -> tuple[KnownBlocks, Reconciliation]:
        with Ledger(self.path) as ledger:
            worker = RestoreWorker(self.netlink, self.path)
            return worker.at_startup(ledger, Moment.now(), nullcontext)

    def delete(self, key: bytes) -> None:
        elements.delete(self.netlink, "block4", key)

    def add(self, key: bytes, seconds: float = HOUR) -> None:
        block_sets.add_elements(self.netlink, "block4", {key: Lifetime(seconds, seconds)})


@pytest.fixture
def restarted(
    netlink: NfnetlinkSocket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Restarted:
    return Restarted(netlink, tmp_path / "ledger.db", monkeypatch)


def test_a_large_set_of_the_ledger_s_size_is_not_asked_for_its_blocks(
    restarted: Restarted,
) -> None:
    memory, found = restarted.start()
    assert restarted.asked == 0
    assert memory.is_unverified
    assert found[:4] == (SIZE, SIZE, 0, 0)
    end = pytest.approx(time.monotonic() + HOUR, abs=30)
    assert dict(memory.ends.items()) == dict.fromkeys(restarted.keys, (HOUR, end))


def test_blocks_that_ended_a_moment_ago_may_be_counted(restarted: Restarted) -> None:
    restarted.add(KEYS[-1])
    with Ledger(restarted.path) as ledger:
        ended = manual_entry(str(ip_address(KEYS[-1])), 4, 60.0, time.time() - 90)
        ledger.add([ended])
    memory, _ = restarted.start()
    assert restarted.asked == 0
    assert KEYS[-1] not in memory.ends


@pytest.mark.parametrize("lost", [1, 70], ids=["one", "most"])
def test_a_large_set_that_lost_blocks_is_asked_for_each(restarted: Restarted, lost: int) -> None:
    for key in restarted.keys[:lost]:
        restarted.delete(key)
    memory, found = restarted.start()
    assert restarted.asked == SIZE
    assert not memory.is_unverified
    assert found.restored == lost
    assert len(memory.ends) == SIZE
    assert elements.existing(restarted.netlink, "block4", restarted.keys) == set(restarted.keys)


def test_a_large_set_with_more_blocks_than_the_ledger_is_asked_for_each(
    restarted: Restarted,
) -> None:
    restarted.add(KEYS[-1])
    memory, _ = restarted.start()
    assert restarted.asked == SIZE
    assert memory.may_be_incomplete
    assert not memory.is_unverified


def test_a_block_in_the_place_of_another_is_found_by_the_first_reconciliation(
    restarted: Restarted,
) -> None:
    """The count is right, and the set is not."""
    restarted.delete(KEYS[0])
    restarted.add(KEYS[-1])
    memory, _ = restarted.start()
    assert restarted.asked == 0
    worker = LedgerWorker(restarted.netlink, restarted.path)
    comparison, _ = worker.reconcile(memory, Moment.now())
    assert comparison.missing == [KEYS[0]]
    assert comparison.unknown.keys() == {KEYS[-1]}
