"""The lab, and the daemon in it."""

import shutil
from collections.abc import Callable, Iterator

import pytest

from support.lab import Lab, Sentry
from support.shared import Shared

StartDaemon = Callable[[str], Sentry]


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


@pytest.fixture
def make_daemon(lab: Lab) -> Iterator[StartDaemon]:
    """Daemons with settings of their own, not started; each ends with exit code 0 within 1 s."""
    made: list[Sentry] = []

    def make(settings: str = "") -> Sentry:
        made.append(Sentry(lab, settings))
        return made[-1]

    yield make
    for sentry in made:
        sentry.close()


@pytest.fixture
def start_daemon(make_daemon: StartDaemon) -> StartDaemon:
    """Daemons with settings of their own, running."""
    return lambda settings: make_daemon(settings).start()


@pytest.fixture
def daemon(start_daemon: StartDaemon) -> Sentry:
    """The daemon with the default settings."""
    return start_daemon("")


@pytest.fixture(scope="module")
def shared() -> Iterator[Shared]:
    """A lab with a daemon, for all tests of a module: each of them starts it anew."""
    if shutil.which("conntrack") is None:
        pytest.skip("needs conntrack(8): what a test before has left is to be forgotten")
    with Shared() as made:
        yield made


@pytest.fixture
def anew(shared: Shared) -> Shared:
    """The shared lab, in which nothing has happened yet."""
    shared.start_anew()
    return shared


@pytest.fixture
def quiet(anew: Shared) -> Iterator[Shared]:
    """The same; at the end nobody is blocked, and nobody would have been."""
    yield anew
    anew.assert_quiet()
