"""Block sets of a real kernel, filled in the three ways in which a kernel counts them."""

from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_address
from typing import Final, NamedTuple

import pytest

from sentryfw.config.model import Config
from sentryfw.guard import table_reader
from sentryfw.netfilter import block_sets
from sentryfw.netfilter.install import install
from sentryfw.netfilter.table import Table
from sentryfw.netlink import nftables as nl
from sentryfw.netlink.set_elements import Lifetime
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.tools.drill.namespace import Namespace

HOUR: Final = 3600.0
MANY: Final = 600
SMALL: Final = 100
"""The limit of a periodic dump in these tests, far below MANY."""


class Filled(NamedTuple):
    """A kernel in which every other key is blocked, and one more source."""

    netlink: NfnetlinkSocket
    keys: list[bytes]
    other: bytes
    """The key of the additional source."""
    is_dumped: bool
    """Whether block4 is small enough for a periodic dump."""
    namespace: Namespace
    """The namespace of the kernel: a set that is not counted is dumped through a socket that is
    made for it, where the reader runs."""


@pytest.fixture
def netlink(namespace: Namespace) -> Iterator[NfnetlinkSocket]:
    """A netlink socket in a namespace with an installed table."""
    with closing(namespace.call(Table)) as table:
        namespace.call(lambda: install(table, Config(), []))
    with namespace.call(NfnetlinkSocket) as made:
        yield made


@pytest.fixture(params=["small", "large", "uncounted"])
def filled(
    request: pytest.FixtureRequest,
    namespace: Namespace,
    netlink: NfnetlinkSocket,
    monkeypatch: pytest.MonkeyPatch,
) -> Filled:
    """A set that is dumped, one that is too large for that, and one that is not counted."""
    if request.param == "large":
        monkeypatch.setattr(table_reader, "MAX_PERIODIC_DUMP", SMALL)
    if request.param == "uncounted":
        monkeypatch.setattr(nl, "set_count", lambda _: None)
    keys = [number.to_bytes(4) for number in range(1, MANY + 1)]
    other = ip_address("198.51.100.1").packed
    lives = dict.fromkeys([*keys[::2], other], Lifetime(HOUR, HOUR / 2))
    block_sets.add_elements(netlink, "block4", lives)
    return Filled(netlink, keys, other, request.param != "large", namespace)
