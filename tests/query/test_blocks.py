"""The data of list and status, on a table that is a fake."""

import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest

from sentryfw.errors import NotInstalled
from sentryfw.netfilter.block_sets import Blocked
from sentryfw.netfilter.table import Counter
from sentryfw.netlink.set_elements import Element
from sentryfw.query import blocks
from sentryfw.query.blocks import UNKNOWN, item, kernel_state
from sentryfw.query.listing import unordered as items
from sentryfw.record.fleet.held import Held, hold
from sentryfw.record.ledger import Ledger
from sentryfw.record.lookup import OptionalLedger
from support.entries import BLOCK

ADDRESS: Final = BLOCK.address
FOUND: Final = Blocked(ADDRESS, 4, 3600.0, 60.123, 5, 300)


def table(
    *sources: Blocked,
    networks: tuple[Blocked, ...] = (),
    installed: bool = True,
    fleet: tuple[Element, ...] = (),
) -> Any:
    def require() -> None:
        if not installed:
            raise NotInstalled("nothing is installed")

    return SimpleNamespace(
        require=require,
        is_installed=lambda: installed,
        counters=lambda: {"queued": Counter(3, 4), "judged": Counter(1, 2)},
        rule_expressions=lambda _: ["payload", "queue"],
        sets=SimpleNamespace(
            blocked_sources=lambda families, _: iter([b for b in sources if b.family in families]),
            blocked_networks=lambda: iter(networks),
            count_blocked=lambda: {4: len(sources), 6: 0},
        ),
        mirror=SimpleNamespace(networks=lambda: iter(())),
        decisions=SimpleNamespace(
            confined=lambda: iter(()),
            of_fleet=lambda: iter(fleet),
            count_confined=lambda: {4: 0, 6: 0},
            count=lambda _: len(sources),
        ),
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    with Ledger(path) as opened:
        opened.add([BLOCK], [])
    return path


def test_a_block_has_the_reason_of_the_ledger(ledger: Path) -> None:
    warnings: list[str] = []
    [found] = items(table(FOUND), ledger, warnings.append)
    assert (found["address"], found["reason"], found["scan"]) == (ADDRESS, BLOCK.reason, "portscan")
    assert (found["timeout_s"], found["expires_in_s"]) == (3600.0, 60.123)
    assert (found["dropped_packets"], found["dropped_bytes"], found["host"]) == (5, 300, "")
    assert warnings == []


def test_a_block_of_the_fleet_names_its_members_and_their_reason(ledger: Path) -> None:
    held = Held(
        member="fw1", address="192.0.2.7", effect="block", evidence="proven", scan="decoy-scan",
        reason="with the decoy at tcp/23", seq=1, at=1_800_000_000.0, ends_at=None,
    )  # fmt: skip
    shown_only = held._replace(member="fw3", effect="show")
    with Ledger(ledger) as opened:
        hold(opened, [held, held._replace(member="fw2", at=held.at - 1), shown_only])
    unknown = Element(b"\xc0\x00\x02\x08", 60.0, 30.0, 0, 0, b"")
    given = (Element(b"\xc0\x00\x02\x07", 3600.0, 60.0, 5, 300, b""), unknown)
    first, second = items(table(fleet=given), ledger, pytest.fail)
    assert (first["address"], first["member"], first["scan"]) == (
        "192.0.2.7", "fw1, fw2", "decoy-scan",
    )  # fmt: skip
    assert (first["reason"], first["forgeable"]) == (
        "fw1 (proven): with the decoy at tcp/23",
        False,
    )
    assert (second["address"], second["member"], second["reason"]) == ("192.0.2.8", "", UNKNOWN)


def test_a_block_without_a_row_has_no_reason(ledger: Path) -> None:
    [found] = items(table(FOUND._replace(address="192.0.2.77")), ledger, pytest.fail)
    assert (found["reason"], found["scan"], found["blocked_at"]) == (UNKNOWN, "", None)


def test_a_ledger_that_cannot_be_read_is_one_warning(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"not a database" * 100)
    warnings: list[str] = []
    others = [FOUND._replace(address=f"192.0.2.{n}") for n in range(5)]
    with closing(OptionalLedger(path, warnings.append)) as book:
        found = list(blocks.with_reasons(book, [[one] for one in others]))
    assert [one["reason"] for one in found] == [UNKNOWN] * 5
    assert len(warnings) == 1
    assert "the ledger cannot be read" in warnings[0]


def test_a_row_that_is_not_json_is_one_warning(ledger: Path) -> None:
    with sqlite3.connect(ledger) as connection:
        connection.execute("UPDATE blocks SET kinds = 'not JSON'")
    connection.close()
    warnings: list[str] = []
    [found] = items(table(FOUND), ledger, warnings.append)
    assert found["reason"] == UNKNOWN
    assert len(warnings) == 1


def test_the_state_of_an_installed_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks.features, "probe", lambda: None)
    monkeypatch.setattr(blocks.features, "pick_divert", lambda _: ("queue", "nft has queue"))
    assert kernel_state(table(FOUND)) == {
        "installed": True, "divert": "queue", "divert_reason": "nft has queue", "blocked4": 1,
        "blocked6": 0,
        "confined4": 0,
        "confined6": 0,
        "counters": {"judged": {"packets": 1, "bytes": 2}, "queued": {"packets": 3, "bytes": 4}},
    }  # fmt: skip


def test_a_way_that_would_be_picked_no_longer_names_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blocks.features, "probe", lambda: None)
    monkeypatch.setattr(blocks.features, "pick_divert", lambda _: ("xt-nfqueue", "no queue"))
    reason = kernel_state(table())["divert_reason"]
    assert reason == "installed as queue; now no queue: run `sentryfw install`"


def test_the_state_without_a_table() -> None:
    state = kernel_state(table(installed=False))
    assert (state["installed"], state["divert"], state["counters"]) == (False, None, {})


@pytest.mark.parametrize(("family", "shown"), [(4, "ipv4"), (6, "ipv6")])
def test_an_item_names_its_family(family: int, shown: str) -> None:
    assert item(FOUND._replace(family=family), None)["family"] == shown
