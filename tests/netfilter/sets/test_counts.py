"""The number of a set's elements, by the kernel or by a dump."""

import pytest

from sentryfw.engine.model import parse_source
from sentryfw.netfilter.sets.counts import element_count
from sentryfw.netfilter.table import Table
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.tools.drill.namespace import Namespace

pytestmark = [pytest.mark.netns]


def test_elements_are_counted(namespace: Namespace, table: Table) -> None:
    with namespace.call(NfnetlinkSocket) as netlink:
        assert element_count(netlink, "block4") == 0
        table.sets.block([(parse_source(f"192.0.2.{n}"), 600.0) for n in range(1, 8)])
        assert element_count(netlink, "block4") == 7
