"""The interfaces of a namespace."""

import pytest

from sentryfw.netlink.links import Link, links
from sentryfw.tools.drill.namespace import Namespace

pytestmark = pytest.mark.netns


def test_interfaces_have_their_kind_and_their_master(namespace: Namespace) -> None:
    namespace.ip("link", "add", "br0", "type", "bridge")
    namespace.ip("link", "add", "veth0", "type", "veth", "peer", "name", "veth1")
    namespace.ip("link", "set", "veth0", "master", "br0")
    assert sorted(namespace.call(links)) == [
        Link("br0", "bridge", ""),
        Link("lo", "", ""),
        Link("veth0", "veth", "br0"),
        Link("veth1", "veth", ""),
    ]
