"""Fixtures: a ledger, and its path."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sentryfw.record.ledger import Ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the ledger."""
    return tmp_path / "state" / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger(path) as made:
        yield made
