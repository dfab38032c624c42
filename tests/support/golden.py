"""Golden files: output is compared byte for byte with a committed file.

SENTRYFW_GOLDEN=write writes them and fails the test, so that a run that wrote is not mistaken
for a run that passed.
"""

import os
from pathlib import Path
from typing import Final

import pytest

GOLDEN: Final = Path(__file__).resolve().parent.parent / "golden"


def assert_golden(name: str, made: str) -> None:
    """Compare `made` with tests/golden/<name>."""
    path = GOLDEN / name
    if os.environ.get("SENTRYFW_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made)
        pytest.fail(f"written: {path}; look at the difference, then run again without writing")
    assert made == path.read_text()
