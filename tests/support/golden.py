"""Golden files: what is made is compared byte for byte with what is kept.

SENTRYFW_GOLDEN=write writes them anew and fails the test, so that nobody takes a run that wrote
for a run that passed.
"""

import os
from pathlib import Path
from typing import Final

import pytest

GOLDEN: Final = Path(__file__).resolve().parent.parent / "golden"


def assert_golden(name: str, made: str) -> None:
    """`made` is what stands in tests/golden/<name>."""
    path = GOLDEN / name
    if os.environ.get("SENTRYFW_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made)
        pytest.fail(f"written: {path}; look at the difference, then run again without writing")
    assert made == path.read_text()
