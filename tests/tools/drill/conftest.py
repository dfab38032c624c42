"""Two connected hosts."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from sentryfw.tools.drill.namespace import Namespace, add_address, connect


class Pair(NamedTuple):
    here: Namespace
    there: Namespace


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Namespace() as here, Namespace() as there:
        connect(here, there)
        for namespace, number in ((here, 1), (there, 2)):
            add_address(namespace, "veth0", f"198.18.0.{number}/24")
            add_address(namespace, "veth0", f"2001:2::{number}/64")
        yield Pair(here, there)
