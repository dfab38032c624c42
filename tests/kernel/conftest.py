"""Fixtures: daemons in the lab."""

import shutil
from collections.abc import Callable, Iterator

import pytest

from support.lab import Lab, Sentry
from support.router import Router
from support.shared import Shared

StartDaemon = Callable[[str], Sentry]


@pytest.fixture
def make_daemon(lab: Lab) -> Iterator[StartDaemon]:
    """Return a maker of daemons, not started; each must end with exit code 0 within 1 s."""
    made: list[Sentry] = []

    def make(settings: str = "") -> Sentry:
        made.append(Sentry(lab, settings))
        return made[-1]

    yield make
    for sentry in made:
        sentry.close()


@pytest.fixture
def start_daemon(make_daemon: StartDaemon) -> StartDaemon:
    """Return a maker of running daemons."""
    return lambda settings: make_daemon(settings).start()


@pytest.fixture
def daemon(start_daemon: StartDaemon) -> Sentry:
    """The daemon with the default configuration."""
    return start_daemon("")


@pytest.fixture
def router(lab: Lab) -> Iterator[Router]:
    """The lab's victim as a router, with a host behind."""
    with Router(lab) as made:
        yield made


@pytest.fixture(scope="module")
def shared() -> Iterator[Shared]:
    """A lab with a daemon, for all tests of a module; `fresh` clears its state for a test."""
    if shutil.which("conntrack") is None:
        pytest.skip("needs conntrack(8), to clear connections of earlier tests")
    with Shared() as made:
        yield made


@pytest.fixture
def fresh(shared: Shared) -> Shared:
    """The shared lab with its state cleared."""
    shared.clear()
    return shared


@pytest.fixture
def quiet(fresh: Shared) -> Iterator[Shared]:
    """The cleared lab; at the end no source is blocked, or would have been."""
    yield fresh
    fresh.assert_quiet()
