"""The lab, for what is recorded on a real wire."""

from collections.abc import Iterator

import pytest

from support.lab import Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made
