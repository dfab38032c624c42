"""The scans since a time, as `status` gets them."""

from pathlib import Path

import pytest

from sentryfw.query.today import today
from sentryfw.record.ledger import Ledger
from sentryfw.record.records import DecisionRecord
from support.entries import BLOCK, BLOCKED_AT, REFUSAL


def test_without_a_ledger_nothing_is_known(tmp_path: Path) -> None:
    assert today(tmp_path / "ledger.db", 0.0, pytest.fail) is None


@pytest.mark.parametrize(
    ("newest", "outcome"),
    [
        (BLOCK, "blocked"),
        (REFUSAL, "partner"),
        (REFUSAL._replace(timeout_s=60.0), "confined"),
        (REFUSAL._replace(reason="observe"), "observe"),
    ],
)
def test_the_last_scan_and_its_outcome(
    tmp_path: Path, newest: DecisionRecord, outcome: str
) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.add([BLOCK._replace(blocked_at=BLOCKED_AT - 5), newest])
    found = today(tmp_path / "ledger.db", BLOCKED_AT, pytest.fail)
    assert found is not None
    assert found["since"].startswith("2027-01-15T08:00:00.5")
    assert found["last"] is not None
    assert found["last"]["outcome"] == outcome


def test_a_damaged_ledger_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"x" * 9999)
    warnings: list[str] = []
    assert today(tmp_path / "ledger.db", 0.0, warnings.append) is None
    assert len(warnings) == 1
