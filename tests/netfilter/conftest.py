"""A Table in a namespace, with and without the table in its kernel."""

from collections.abc import Iterator

import pytest

from sentryfw.config.model import Config
from sentryfw.netfilter.install import install
from sentryfw.netfilter.table import Table
from sentryfw.tools.drill.namespace import Namespace


@pytest.fixture
def bare(namespace: Namespace) -> Iterator[Table]:
    """A table that is not installed."""
    made = namespace.call(Table)
    yield made
    made.close()


@pytest.fixture
def table(namespace: Namespace, bare: Table) -> Table:
    """A table that is installed with the default configuration."""
    namespace.call(lambda: install(bare, Config(), []))
    return bare
