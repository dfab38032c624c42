"""PortSentry's files below a temporary root."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from support.portsentry_etc import write_etc

MakeEtc = Callable[..., Path]


@pytest.fixture
def make_etc(tmp_path: Path) -> MakeEtc:
    return partial(write_etc, tmp_path)
