"""list --would-block: timeouts grow and repeats within a block do not count, as in mode "block"."""

from pathlib import Path

import pytest

from sentryfw.cli.commands.would_block import would_block
from sentryfw.config.model import Config
from sentryfw.record.ledger import Ledger
from support.entries import BLOCKED_AT, REFUSAL


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config.model_validate(
        {"paths": {"state": tmp_path / "state"}, "block": {"timeouts": ["1h", "4h"]}}
    )


def _observed(config: Config, *at: float, reason: str = "observe") -> None:
    with Ledger(config.paths.ledger) as ledger:
        ledger.add(
            [REFUSAL._replace(reason=reason, blocked_at=BLOCKED_AT + seconds) for seconds in at]
        )


def test_without_a_ledger_there_is_nothing(config: Config) -> None:
    assert would_block(config) == []


def test_a_scan_within_the_block_it_would_have_got_is_not_another_offence(config: Config) -> None:
    _observed(config, 0.0, 1800.0)
    [item] = would_block(config)
    assert (item["address"], item["offence"], item["timeout_s"]) == (REFUSAL.address, 1, 3600.0)


def test_a_scan_after_it_is_the_second_offence_with_the_second_timeout(config: Config) -> None:
    _observed(config, 0.0, 3601.0)
    [item] = would_block(config)
    assert (item["offence"], item["timeout_s"]) == (2, 4 * 3600.0)


def test_the_reason_is_what_was_seen_not_the_mode(config: Config) -> None:
    _observed(config, 0.0)
    assert would_block(config)[0]["reason"] == "3 distinct targets"
    visit = REFUSAL._replace(
        address="198.18.0.3", reason="observe", kinds=["connect"], targets=1,
        sample=["198.18.0.1 tcp/2222"],
    )  # fmt: skip
    with Ledger(config.paths.ledger) as ledger:
        ledger.add([visit])
    [item] = [item for item in would_block(config) if item["address"] == visit.address]
    assert item["reason"] == "1 distinct target, with the decoy at tcp/2222"


def test_other_refusals_would_not_have_been_blocks(config: Config) -> None:
    _observed(config, 0.0, reason="partner")
    assert would_block(config) == []
