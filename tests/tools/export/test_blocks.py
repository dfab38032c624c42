"""Blocks to export, read from the ledger, and the scans that may accuse an address."""

from pathlib import Path
from typing import Final

import pytest

from sentryfw.config.model import Config
from sentryfw.record.ledger import Ledger
from sentryfw.record.records import manual_entry
from sentryfw.tools.export.blocks import ExportedBlock, accused, items
from support.entries import BLOCK, BLOCKED_AT, SIX
from support.fake_table import FakeKernel, FakeTable

DECOY: Final = BLOCK._replace(address="198.18.0.3", scan="decoy-scan")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config.model_validate({"paths": {"state": tmp_path / "state"}})


def _exported(*entries: object) -> list[ExportedBlock]:
    return [ExportedBlock(e.address, e.family, None, None, e) for e in entries]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("address", "family", "network"),
    [
        ("198.18.0.2", 4, "198.18.0.2/32"),
        ("fe80::1", 6, "fe80::1/128"),
        ("2001:2::/64", 6, "2001:2::/64"),
        ("203.0.113.0/24", 4, "203.0.113.0/24"),
    ],
)
def test_an_exported_address_has_a_prefix_length(address: str, family: int, network: str) -> None:
    assert ExportedBlock(address, family, None, None, None).network == network


def test_past_blocks_come_from_the_ledger_and_foreign_text_is_left_out(config: Config) -> None:
    with Ledger(config.paths.ledger) as ledger:
        ledger.add([BLOCK, BLOCK._replace(address="198.18.0.2; rm -rf /")])
    said: list[str] = []
    table = FakeTable(FakeKernel())
    found = list(items(config, table, 1e9 * 2, said.append))
    assert [item.address for item in found] == [BLOCK.address]
    assert said == ["left out: '198.18.0.2; rm -rf /' in the ledger is not an address"]


def test_only_scans_of_one_address_accuse_and_the_others_are_counted(config: Config) -> None:
    by_hand = manual_entry("192.0.2.9", 4, 3600.0, BLOCKED_AT)
    said: list[str] = []
    found = list(accused(config, iter(_exported(BLOCK, DECOY, SIX, by_hand)), said.append))
    assert [item.address for item in found] == [BLOCK.address]
    assert sorted(line.partition(" (")[0] for line in said) == ["left out: 1"] * 3
