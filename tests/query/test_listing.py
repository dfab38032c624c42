"""The list of all blocks, of sets that are dumped and of sets that are asked by key."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from sentryfw.engine.model import parse_source
from sentryfw.errors import NotInstalled
from sentryfw.query import listing
from sentryfw.query.blocks import UNKNOWN
from sentryfw.query.listing import active, unordered
from sentryfw.record.ledger import Ledger
from support.entries import BLOCK
from support.fake_table import FakeKernel, FakeTable

NOW = time.time()
NETWORK: Final = "203.0.113.0/24"


class Counted(FakeTable):
    """A table that notes which sets were dumped, and how many keys were asked for."""

    def __init__(self, kernel: FakeKernel) -> None:
        super().__init__(kernel)
        self.dumped: list[int] = []
        self.asked = 0
        whole, each = self.sets.blocked_sources, self.sets.find_all

        def blocked_sources(families: Any = (4, 6), warn: Any = print) -> Any:
            self.dumped += families
            return whole(families, warn)

        def find_all(family: int, keys: list[bytes]) -> Any:
            self.asked += len(keys)
            return each(family, keys)

        self.sets.blocked_sources = blocked_sources  # type: ignore[method-assign]
        self.sets.find_all = find_all  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def _from_now_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of the import's time may have ended when a long run comes to its test."""
    monkeypatch.setattr(sys.modules[__name__], "NOW", time.time())


@pytest.fixture
def kernel() -> FakeKernel:
    made = FakeKernel()
    made.install()
    return made


@pytest.fixture
def table(kernel: FakeKernel) -> Counted:
    return Counted(kernel)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def from_three(monkeypatch: pytest.MonkeyPatch) -> None:
    """A set of more than three blocks is a large one; the ledger is asked for two at once."""
    monkeypatch.setattr(listing, "MAX_DUMP", 3)
    monkeypatch.setattr(listing, "ADDRESS_BATCH", 2)


def block(table: FakeTable, path: Path, *addresses: str, ago: float = 60.0, **fields: Any) -> None:
    """Block addresses in kernel and ledger, each a second after the one before."""
    with Ledger(path) as ledger:
        ledger.add(
            BLOCK._replace(
                address=address, family=6 if ":" in address else 4, blocked_at=NOW - ago + number
            )._replace(**fields)
            for number, address in enumerate(addresses)
        )
    table.sets.block([(parse_source(address), 3600.0) for address in addresses])


def names(found: Any) -> list[str]:
    return [item["address"] for item in found]


FIVE: Final = tuple(f"198.18.0.{number}" for number in range(1, 6))


@pytest.mark.usefixtures("from_three")
def test_a_large_set_is_asked_by_key_and_not_dumped(table: Counted, path: Path) -> None:
    block(table, path, *FIVE)
    block(table, path, "2001:db8:0:1::/64", "fe80::1", ago=58.5)
    found = list(active(table, path, pytest.fail))
    assert names(found) == [
        "198.18.0.5", "198.18.0.4", "fe80::1", "198.18.0.3", "2001:db8:0:1::/64", "198.18.0.2",
        "198.18.0.1",
    ]  # fmt: skip
    assert (table.dumped, table.asked) == ([6], 5)
    assert {item["reason"] for item in found} == {BLOCK.reason}


@pytest.mark.usefixtures("from_three")
@pytest.mark.parametrize("large", ["198.18.0.{}", "2001:db8:0:{}::/64"])
@pytest.mark.parametrize("read", [active, unordered])
def test_what_the_kernel_does_not_hold_is_not_listed(
    kernel: FakeKernel, path: Path, large: str, read: Callable[..., Any]
) -> None:
    table = FakeTable(kernel)
    block(table, path, *(large.format(number) for number in range(1, 6)))
    for ended in (large.format(2), large.format(5)):
        table.sets.unblock(parse_source(ended))
    table.sets.block([(parse_source(large.format(9)), 0.0)])  # the ledger never heard of it
    table.sets.block([(parse_source(large.format(8)), 60.0)])
    found = {item["address"]: item for item in read(table, path, pytest.fail)}
    assert set(found) == {large.format(number) for number in (1, 3, 4, 8, 9)}
    assert found[large.format(9)]["reason"] == UNKNOWN
    assert found[large.format(1)]["reason"] == BLOCK.reason


@pytest.mark.usefixtures("from_three")
def test_a_block_that_only_the_kernel_knows_is_found_though_others_ended(
    table: Counted, path: Path
) -> None:
    block(table, path, *FIVE)
    block(table, path, "198.18.0.77", ago=3600.0, timeout_s=3590.0)  # ended by the ledger
    table.sets.block([(parse_source(f"192.0.2.{number}"), 60.0) for number in (1, 2)])
    listed = names(active(table, path, pytest.fail))
    # One has ended a moment ago by the ledger, so one more is counted; here are three.
    assert set(listed) == {*FIVE, "198.18.0.77", "192.0.2.1", "192.0.2.2"}
    assert table.dumped == [6, 4]


@pytest.mark.usefixtures("from_three")
def test_without_a_ledger_a_large_set_is_dumped(table: Counted, path: Path) -> None:
    table.sets.block([(parse_source(address), 60.0) for address in FIVE])
    assert set(names(active(table, path, pytest.fail))) == set(FIVE)
    assert table.dumped == [6, 4]


@pytest.mark.usefixtures("from_three")
def test_a_network_is_not_taken_for_the_source_of_its_first_address(
    table: Counted, path: Path
) -> None:
    sources = [f"2001:db8:{number}::/64" for number in range(1, 6)]
    block(table, path, *sources)
    with Ledger(path) as ledger:
        ledger.add([BLOCK._replace(address="2001:db8:1::/48", family=6, blocked_at=NOW)])
    assert sorted(names(active(table, path, pytest.fail))) == sources


def test_a_small_set_is_dumped(table: Counted, path: Path) -> None:
    block(table, path, *FIVE)
    assert names(active(table, path, pytest.fail)) == list(reversed(FIVE))
    assert (sorted(table.dumped), table.asked) == ([4, 6], 0)


@pytest.mark.parametrize("read", [active, unordered])
def test_without_a_table_it_is_an_error(path: Path, read: Callable[..., Any]) -> None:
    with pytest.raises(NotInstalled):
        list(read(FakeTable(FakeKernel()), path, pytest.fail))


def test_active_fails_before_its_first_item(path: Path) -> None:
    with pytest.raises(NotInstalled):
        active(FakeTable(FakeKernel()), path, pytest.fail)


@pytest.mark.usefixtures("from_three")
def test_a_clock_that_was_set_back_does_not_mix_the_order(table: Counted, path: Path) -> None:
    block(table, path, "198.18.0.1", ago=10.0)
    block(table, path, "198.18.0.2", ago=500.0)
    block(table, path, "198.18.0.3", ago=5.0)
    block(table, path, "198.18.0.4", ago=400.0)
    assert names(active(table, path, pytest.fail)) == [
        "198.18.0.3", "198.18.0.1", "198.18.0.4", "198.18.0.2",
    ]  # fmt: skip
