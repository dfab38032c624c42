"""The data of watch, on a table that is a fake."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest

from sentryfw.engine.model import Source, source_text
from sentryfw.errors import NotInstalled
from sentryfw.netfilter.block_sets import Blocked
from sentryfw.netfilter.table import Counter
from sentryfw.netlink.set_elements import Element
from sentryfw.query import watch
from sentryfw.query.blocks import UNKNOWN
from sentryfw.query.watch import parts
from sentryfw.record.ledger import Ledger
from support.entries import BLOCK, REFUSAL

NETWORK: Final = "203.0.113.0/24"


def blocked(address: str, expires: float = 60.0) -> Blocked:
    return Blocked(address, 4, 3600.0, expires, 0, 0)


class FakeTable:
    """A table with these active blocks, which counts the lookups."""

    def __init__(self, *live: Blocked, networks: tuple[Blocked, ...] = ()) -> None:
        self.lookups = 0
        self._live = {one.address: one for one in live}
        self.sets = SimpleNamespace(
            find=self._find,
            blocked_sources=lambda: iter(live),
            blocked_networks=lambda: iter(networks),
        )
        self.confined: dict[str, Element] = {}
        self.decisions = SimpleNamespace(
            count_confined=lambda: {4: len(self.confined), 6: 0},
            find=lambda source: self.confined.get(source_text(source)),
        )

    def _find(self, source: Source) -> Blocked | None:
        self.lookups += 1
        return self._live.get(source_text(source))

    def require(self) -> None:
        """Pass: the table is installed."""

    def counters(self) -> dict[str, Counter]:
        return {"judged": Counter(7, 8), "held": Counter(1, 2)}

    def rule_expressions(self, _: str) -> list[str]:
        return ["payload", "queue"]


def shown(table: Any, ledger: Path, warn: Any = pytest.fail) -> list[Any]:
    """Return the blocks of the stream, after its head."""
    head, *rest = parts(table, ledger, warn)
    assert head["head"]["divert"] == "queue"
    assert head["head"]["counters"] == {"held": 1, "judged": 7}
    assert head["head"]["confined"] == len(table.confined)
    return [part["block"] for part in rest]


def ledger(path: Path, *addresses: str) -> Path:
    with Ledger(path / "ledger.db") as opened:
        opened.add([BLOCK._replace(address=address) for address in addresses], [])
    return path / "ledger.db"


def test_confined_partners_are_among_the_newest(tmp_path: Path) -> None:
    path = ledger(tmp_path, "192.0.2.1")
    later = REFUSAL._replace(confined=True, timeout_s=600.0, blocked_at=BLOCK.blocked_at + 5)
    with Ledger(path) as opened:
        opened.add([later._replace(address=f"192.0.2.{n}") for n in (7, 8)], [])
    table = FakeTable(blocked("192.0.2.1"))
    table.confined["192.0.2.7"] = Element(bytes((192, 0, 2, 7)), 600.0, 500.0, 4, 240, False)
    found = shown(table, path)
    assert [(item["address"], item["decision"]) for item in found] == [
        ("192.0.2.7", "confine"), ("192.0.2.1", "block"),
    ]  # fmt: skip
    assert (found[0]["dropped_packets"], found[0]["reason"]) == (4, later.reason)


def test_the_newest_live_blocks_come_first(tmp_path: Path) -> None:
    path = ledger(tmp_path, "192.0.2.1", "192.0.2.2", "192.0.2.3", NETWORK, "192.0.2.1")
    table = FakeTable(blocked("192.0.2.1"), blocked("192.0.2.3"), networks=(blocked(NETWORK),))
    found = shown(table, path)
    assert [item["address"] for item in found] == ["192.0.2.1", NETWORK, "192.0.2.3"]
    assert {item["reason"] for item in found} == {BLOCK.reason}


def test_a_network_that_is_over_is_not_looked_up_as_a_source(tmp_path: Path) -> None:
    path = ledger(tmp_path, NETWORK)
    table = FakeTable()
    assert shown(table, path) == []
    assert table.lookups == 0


def test_lookups_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MAX_BLOCKS", 2)
    monkeypatch.setattr(watch, "MAX_ROWS", 5)
    addresses = [f"192.0.2.{n}" for n in range(1, 9)]
    path = ledger(tmp_path, *addresses)
    full = FakeTable(*map(blocked, addresses))
    assert [item["address"] for item in shown(full, path)] == ["192.0.2.8", "192.0.2.7"]
    assert full.lookups == 2
    empty = FakeTable()
    assert shown(empty, path) == []
    assert empty.lookups == 5


def test_without_a_readable_ledger_the_youngest_blocks_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"not a database" * 100)
    warnings: list[str] = []
    table = FakeTable(blocked("192.0.2.1", 10.0), blocked("192.0.2.2", 3000.0))
    found = shown(table, path, warnings.append)
    assert [item["address"] for item in found] == ["192.0.2.2", "192.0.2.1"]
    assert {item["reason"] for item in found} == {UNKNOWN}
    assert "the ledger cannot be read" in warnings[0]


def test_without_a_ledger_no_block_is_shown(tmp_path: Path) -> None:
    assert shown(FakeTable(blocked("192.0.2.1")), tmp_path / "missing.db") == []


def test_without_a_table_it_is_not_installed(tmp_path: Path) -> None:
    def require() -> None:
        raise NotInstalled("nothing is installed")

    with pytest.raises(NotInstalled):
        next(parts(SimpleNamespace(require=require), tmp_path, pytest.fail))
