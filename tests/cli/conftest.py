"""The box, and the command line in it."""

from collections.abc import Callable, Iterator
from subprocess import CompletedProcess

import pytest

from support.box import Box

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture
def box() -> Iterator[Box]:
    with Box() as made:
        yield made


@pytest.fixture
def sentryfw(box: Box) -> Run:
    """sentryfw -c CONFIG WORDS ... in the box."""
    return box.sentryfw


@pytest.fixture
def installed(box: Box) -> Box:
    """The box with the table in its kernel."""
    done = box.sentryfw("install", "--no-service")
    assert done.returncode == 0, done.stderr
    return box
