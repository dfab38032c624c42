"""Fixtures: the compiled generators."""

from pathlib import Path

import pytest

from bench.build import BUILD, compile_programs
from bench.frames import syn, write_frames


@pytest.fixture(scope="session")
def send() -> Path:
    """bench/c/send.c, compiled."""
    compile_programs()
    return BUILD / "send"


@pytest.fixture
def one_frame(tmp_path: Path) -> Path:
    path = tmp_path / "one.frames"
    write_frames(path, [syn("11.0.0.1", 7001)])
    return path
