"""What fuzzing has found, and what covers most: every input kept, through its target again."""

from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.targets import TARGETS

CORPUS: Final = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("name", TARGETS)
def test_every_input_that_is_kept_does_no_harm(name: str) -> None:
    inputs = sorted((CORPUS / name).iterdir())
    assert inputs
    for path in inputs:
        TARGETS[name](path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=100)
@given(data=st.binary(max_size=300))
def test_bytes_of_any_kind_do_no_harm(name: str, data: bytes) -> None:
    TARGETS[name](data)


def test_nothing_is_kept_for_a_target_that_is_not_there() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
