"""The sets of a pair in the kernel: networks as a whole, learnt elements with their ends."""

from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_network

import pytest

from sentryfw.config.model import Config
from sentryfw.host.protected import index_of
from sentryfw.netfilter.ruleset import render
from sentryfw.netfilter.sets import elements
from sentryfw.netfilter.sets.mirror import KEY_BYTES, TIMEOUTS_S, MirrorSets, outer
from sentryfw.netfilter.table import Table
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.tools.drill.namespace import Namespace

LARGE, SMALL, OTHER, SIX = map(
    ip_network, ("203.0.113.0/24", "203.0.113.128/25", "198.51.100.0/24", "2001:db8::/48")
)


def test_of_networks_that_overlap_the_larger_is_taken() -> None:
    assert list(outer([SMALL, SIX, OTHER, LARGE])) == [OTHER, LARGE, SIX]


@pytest.fixture
def table() -> Iterator[Table]:
    with Namespace() as namespace:
        script = render(Config(), index_of([])).script(queue_statement=False, update=False)
        done = namespace.run("nft", script)
        assert done.returncode == 0, done.stderr
        with closing(namespace.call(Table)) as made:
            yield made


@pytest.mark.netns
def test_networks_replace_those_before(table: Table) -> None:
    table.mirror.block_networks({LARGE: 0.0, SMALL: 60.0, SIX: 600.0})
    found = {network: element.timeout for network, element in table.mirror.networks()}
    assert found == {LARGE: 0.0, SIX: 600.0}
    assert table.mirror.lift_network(SIX)
    assert not table.mirror.lift_network(SIX)
    table.mirror.block_networks({SMALL: 60.0})
    assert [network for network, _ in table.mirror.networks()] == [SMALL]
    table.mirror.block_networks({})
    assert list(table.mirror.networks()) == []


@pytest.mark.netns
@pytest.mark.parametrize("name", KEY_BYTES)
def test_elements_are_added_and_prolonged_and_never_shortened(table: Table, name: str) -> None:
    key, netlink = b"\1" * KEY_BYTES[name], table.mirror._netlink
    assert table.mirror.has_room(name)
    assert table.mirror.learn(name, [(key, 600.0)]) == 1
    assert _left(netlink, name, key) == pytest.approx(600, abs=5)
    assert table.mirror.learn(name, [(key, 60.0), (key, 630.0)]) == 0
    assert table.mirror.learn(name, [(key, 6000.0)]) == 1
    assert _left(netlink, name, key) == pytest.approx(6000, abs=5)
    assert isinstance(table.mirror, MirrorSets)


@pytest.mark.netns
def test_an_element_has_its_set_s_timeout(table: Table) -> None:
    """A rule that updates it renews it as one of its own."""
    table.mirror.learn("partner4", [(b"\1" * 4, 10.0)])
    found = elements.get(table.mirror._netlink, "partner4", b"\1" * 4)
    assert found is not None
    assert found.timeout in (0.0, TIMEOUTS_S["partner4"])


def _left(netlink: NfnetlinkSocket, name: str, key: bytes) -> float:
    found = elements.get(netlink, name, key)
    assert found is not None
    return found.expires
