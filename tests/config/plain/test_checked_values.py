"""Checked values as bytes: for exactly the tables and the program that they were made by."""

import pickle
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw import config
from sentryfw.config.plain import checked_values
from sentryfw.config.plain.checked_values import packed, unpacked

TEXT = b'[detect]\ntrigger = 4\n[watch]\nlisted_tcp = ["22"]\n[never_block]\ngateways = true\n'
LOADED = config.parse(TEXT, "here")
TABLE = config.files.to_table(TEXT, "here")
DATA = packed(TABLE, LOADED)


def test_the_same_tables_have_the_same_configuration() -> None:
    known = unpacked(DATA, config.files.to_table(TEXT, "elsewhere"))
    assert known is not None
    found, values = pickle.loads(known.pickled)  # noqa: S301 - our own
    assert found == LOADED
    assert values == LOADED.model_dump(mode="json")


@pytest.mark.parametrize(
    "text",
    [
        b"", b"[detect]\n",
        TEXT.replace(b"4", b"5"),
        TEXT.replace(b"4", b"4.0"),
        TEXT.replace(b"= true", b"= 1"),
        TEXT.replace(b'"22"', b'"22", "23"'),
        TEXT + b"[block]\n",
    ],
)  # fmt: skip
def test_other_tables_have_none(text: bytes) -> None:
    assert unpacked(DATA, config.files.to_table(text, "here")) is None


@pytest.mark.parametrize("part", ["version", "python", "sections"])
def test_another_program_did_not_check_it(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    if part == "version":
        monkeypatch.setattr(checked_values, "__version__", "0.0.1")
    elif part == "python":
        monkeypatch.setattr(sys, "hexversion", 0)
    else:
        monkeypatch.setattr(checked_values, "SECTIONS", Path(__file__).parent)
    assert unpacked(DATA, TABLE) is None


@given(st.integers(0, len(DATA) - 1))
def test_bytes_that_are_cut_off_have_none(length: int) -> None:
    assert unpacked(DATA[:length], TABLE) is None


def test_bytes_of_something_else_have_none() -> None:
    for other in (b"no pickle", pickle.dumps(7), pickle.dumps((1, 2)), pickle.dumps((1, 2, 3))):
        assert unpacked(other, TABLE) is None
