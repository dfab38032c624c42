"""Fixtures of the tests of pages: a host with Cockpit, and Chromium, each of a test's own."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from support.box import Box
from support.browser import Browser, missing
from support.cockpit import Cockpit
from support.pages import PAGE, VIEWER, Open


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests of pages out unless the marker expression names them, and skip them where
    what they need is missing."""
    pages = [item for item in items if item.get_closest_marker("web")]
    if "web" not in str(config.getoption("markexpr")):
        config.hook.pytest_deselected(items=pages)
        items[:] = [item for item in items if item not in pages]
    lacking = missing()
    if lacking:
        for item in pages:
            item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(lacking)}: make test-web"))


@pytest.fixture
def opened(installed: Box, opened_bare: Open) -> Open:
    """Open the page of a host with the table, and return the browser; closed with the test."""
    return opened_bare


@pytest.fixture
def opened_bare(box: Box) -> Iterator[Open]:
    """Open the page of a host on which nothing is installed."""
    with ExitStack() as stack:

        def open_page(
            *, peer: str | None = VIEWER, prefix: tuple[str, ...] = (), url: str = PAGE
        ) -> Browser:
            command = box.launch("-c", box.config)
            stack.enter_context(Cockpit(box.namespace, command, peer=peer, prefix=prefix))
            browser = stack.enter_context(Browser(box.namespace))
            browser.open(url)
            return browser

        yield open_page


@pytest.fixture
def guarded(installed: Box) -> Iterator[Box]:
    """The box with its daemon."""
    daemon = installed.start_daemon()
    yield installed
    daemon.terminate()
    daemon.wait()


@pytest.fixture(scope="module")
def rules() -> Iterator[Browser]:
    """A browser with the page, whose modules a test calls; the host has no table."""
    with Box() as box:
        command = box.launch("-c", box.config)
        with Cockpit(box.namespace, command) as _, Browser(box.namespace) as browser:
            browser.open(PAGE)
            yield browser
