"""The newest blocks by ledger and kernel, on a table that is a fake."""

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest

from sentryfw.engine.model import Source, source_text
from sentryfw.errors import NotInstalled, SentryError
from sentryfw.netfilter.block_sets import Blocked
from sentryfw.netlink.set_elements import Element
from sentryfw.query.newest import MAX_LIMIT, Request, count, newest, request_in
from sentryfw.record.ledger import Ledger
from sentryfw.record.lookup import Wanted
from sentryfw.record.records import DecisionRecord
from support.entries import BLOCK

ALL: Final = Request()
NOW = time.time()
NETWORK: Final = "203.0.113.0/24"
PARTNER: Final = "198.18.0.99"


class FakeTable:
    """A table with these sources blocked, and PARTNER confined; it counts the questions."""

    def __init__(self, *live: str) -> None:
        self.asked: list[str] = []
        self._live = {name: Blocked(name, 4, 3600.0, 3000.0, 7, 8) for name in live}
        self.sets = SimpleNamespace(
            find=self._find,
            blocked_networks=lambda: [Blocked(NETWORK, 4, 0.0, 0.0, 1, 2)],
            blocked_sources=lambda *_: iter(self._live.values()),
            count_blocked=lambda: {4: len(self._live) + 1, 6: 0},
        )
        confined = Element(b"\xc6\x12\x00\x63", 600.0, 500.0, 3, 4, b"")
        self.mirror = SimpleNamespace(networks=lambda: iter(()))
        self.decisions = SimpleNamespace(
            find=lambda source: confined if source_text(source) == PARTNER else None,
            confined=lambda: iter([confined]),
            of_fleet=lambda: iter(()),
            count_confined=lambda: {4: 1, 6: 0},
            count=lambda _: len(self._live),
        )

    def require(self) -> None:
        """Pass: the table is installed."""

    def _find(self, source: Source) -> Blocked | None:
        self.asked.append(source_text(source))
        return self._live.get(source_text(source))


def entry(address: str, ago: float, **fields: Any) -> DecisionRecord:
    return BLOCK._replace(address=address, blocked_at=NOW - ago)._replace(**fields)


@pytest.fixture(autouse=True)
def _from_now_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of the import's time may have ended when a long run comes to its test."""
    monkeypatch.setattr(sys.modules[__name__], "NOW", time.time())


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    with Ledger(path) as opened:
        opened.add([entry(f"198.18.0.{number}", 100 - number) for number in range(1, 9)])
        opened.add([entry(NETWORK, 50, timeout_s=0.0)])
        opened.add([entry(PARTNER, 94.5, blocked=False, timeout_s=600.0)])
        opened.add([entry("198.18.0.9", 1)])
    return path


def listed(
    table: FakeTable, path: Path, request: Request = ALL, warn: Any = pytest.fail
) -> list[str]:
    return [item["address"] for item in newest(table, path, request, warn)]  # type: ignore[arg-type]


def test_a_limit_asks_the_kernel_for_as_many_and_no_more(ledger: Path) -> None:
    table = FakeTable(*(f"198.18.0.{number}" for number in range(1, 10)))
    assert listed(table, ledger, Request(limit=2)) == ["198.18.0.9", NETWORK]
    assert table.asked == ["198.18.0.9"]


def test_a_block_that_the_ledger_does_not_know_is_among_few(ledger: Path) -> None:
    table = FakeTable("198.18.0.3", "192.0.2.44")
    assert "192.0.2.44" in listed(table, ledger, Request(limit=50))
    assert "192.0.2.44" not in listed(table, ledger, Request(limit=2))


def test_a_block_that_the_kernel_has_not_is_left_out(ledger: Path) -> None:
    table = FakeTable("198.18.0.3", "198.18.0.6")
    assert listed(table, ledger) == [NETWORK, "198.18.0.6", PARTNER, "198.18.0.3"]


def test_a_confinement_is_listed_as_one(ledger: Path) -> None:
    table: Any = FakeTable("198.18.0.3")
    items = {item["address"]: item for item in newest(table, ledger, Request(), pytest.fail)}
    assert [items[name]["decision"] for name in (PARTNER, "198.18.0.3")] == ["confine", "block"]
    assert items[PARTNER]["dropped_packets"] == 3


def test_conditions_and_count_agree_with_the_ledger(ledger: Path) -> None:
    table: Any = FakeTable("198.18.0.3", "198.18.0.30")
    wanted = Wanted(text="198.18.0.3")
    assert listed(table, ledger, Request(wanted)) == ["198.18.0.3"]
    assert count(table, ledger, wanted, pytest.fail) == 1


def test_everything_is_counted_in_the_kernel(ledger: Path) -> None:
    table: Any = FakeTable("198.18.0.3", "198.18.0.30")
    assert count(table, ledger, Wanted(), pytest.fail) == 4


def test_without_a_ledger_the_kernel_alone_answers(tmp_path: Path) -> None:
    table = FakeTable("198.18.0.3", "198.18.0.4")
    none = tmp_path / "none.db"
    assert set(listed(table, none)) == {"198.18.0.3", "198.18.0.4", NETWORK, PARTNER}
    assert listed(table, none, Request(Wanted(text="18.0.4"))) == ["198.18.0.4"]
    assert listed(table, none, Request(Wanted(kind="syn"))) == []
    assert len(listed(table, none, Request(limit=1))) == 1


def test_a_damaged_ledger_is_a_warning_and_the_kernel_answers(tmp_path: Path) -> None:
    path, warnings = tmp_path / "ledger.db", list[str]()
    path.write_bytes(b"no database" * 1000)
    assert "198.18.0.3" in listed(FakeTable("198.18.0.3"), path, warn=warnings.append)
    assert "cannot be read" in warnings[0]


def test_without_a_table_nothing_is_listed(ledger: Path) -> None:
    def missing() -> None:
        raise NotInstalled("nothing is installed")

    table: Any = SimpleNamespace(require=missing)
    with pytest.raises(NotInstalled):
        listed(table, ledger)


def test_a_request_survives_the_way_through_the_socket() -> None:
    request = Request(Wanted(5.5, "syn", "masscan"), 7)
    assert request_in(request.as_dict()) == request
    assert request_in({}) == Request(limit=MAX_LIMIT)


@pytest.mark.parametrize(
    "asked", [{"limit": 0}, {"limit": True}, {"limit": "9"}, {"since": "x"}, {"kind": 1}]
)
def test_a_request_of_another_shape_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(SentryError):
        request_in(asked)
