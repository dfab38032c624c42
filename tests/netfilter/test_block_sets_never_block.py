"""The never-block sets, replaced through netlink and read back by nft itself."""

import json
from collections.abc import Iterator
from ipaddress import collapse_addresses, ip_network
from typing import Any, Final

import pytest

from sentryfw.config.model import Config
from sentryfw.config.types import IPNetwork
from sentryfw.engine.networks import NetworkIndex
from sentryfw.netfilter import schema, snapshot
from sentryfw.netfilter.install import install
from sentryfw.netfilter.libnftables import listed_networks
from sentryfw.netfilter.table import Table, never_block_elements
from sentryfw.netlink import set_elements
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.tools.drill.namespace import Namespace
from support.forge import networks

pytestmark = [pytest.mark.netns]


@pytest.fixture
def table(namespace: Namespace) -> Iterator[Table]:
    made = namespace.call(Table)
    namespace.call(lambda: install(made, Config(), []))
    yield made
    made.close()


def _listed(namespace: Namespace, family: int) -> list[IPNetwork]:
    return _elements(namespace, f"never_block{family}")


def _elements(namespace: Namespace, name: str) -> list[IPNetwork]:
    """Return the networks that nft lists in the set."""
    done = namespace.run("nft", "-j", "list", "set", "inet", "sentryfw", name)
    assert done.returncode == 0, done.stderr
    sets: list[Any] = [item["set"] for item in json.loads(done.stdout)["nftables"] if "set" in item]
    return [network for element in sets[0].get("elem", []) for network in listed_networks(element)]


def _plain(networks: list[str], family: int) -> list[IPNetwork]:
    wanted = (ip_network(text) for text in networks)
    return list(collapse_addresses(n for n in wanted if n.version == family))  # type: ignore[misc, arg-type]


CASES: Final = {
    "one": ["198.18.0.1/32", "2001:2::1/128"],
    "neighbours": ["198.18.0.1/32", "198.18.0.2/32", "2001:2::1/128", "2001:2::2/128"],
    "nested": ["198.18.0.0/16", "198.18.3.0/24", "2001:2::/32", "2001:2::9/128"],
    "ends": ["0.0.0.0/32", "255.255.255.255/32", "::/128", "ff00::/8"],
    "halves": ["0.0.0.0/1", "128.0.0.0/1", "8000::/1"],
    "none": [],
    "many": [f"10.{n >> 8}.{n & 255}.2/32" for n in range(4000)],
}


@pytest.mark.parametrize("wished", CASES.values(), ids=CASES)
def test_nft_lists_the_networks_that_replaced_the_old_ones(
    namespace: Namespace, table: Table, wished: list[str]
) -> None:
    for given_networks in (["192.0.2.0/24", "2001:db8::/32"], wished):
        table.replace_never_block(networks(*given_networks))
    for family in (4, 6):
        wanted = _plain(wished, family)
        assert list(collapse_addresses(_listed(namespace, family))) == wanted  # type: ignore[type-var]
        ours = [n for n in table.sets.never_blocked() if n.version == family]
        assert list(collapse_addresses(ours)) == wanted  # type: ignore[type-var]


def test_nft_can_change_our_elements(namespace: Namespace, table: Table) -> None:
    table.replace_never_block(networks("198.18.0.0/24"))
    done = namespace.run(
        "nft", "add element inet sentryfw never_block4 { 198.18.9.0/24 };"
        " delete element inet sentryfw never_block4 { 198.18.0.0/24 }",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert _listed(namespace, 4) == [ip_network("198.18.9.0/24")]


def test_the_networks_of_neighbours_are_replaced(namespace: Namespace, table: Table) -> None:
    table.replace_neighbours([ip_network("192.0.2.0/24")], [ip_network("64:ff9b::/96")])
    onlink = [ip_network("198.18.0.0/24"), ip_network("2001:db8:1:2::/64")]
    table.replace_neighbours(onlink, [ip_network("2001:db8:1:2::/64"), ip_network("fe80::/10")])
    assert _elements(namespace, "onlink4") == [ip_network("198.18.0.0/24")]
    assert _elements(namespace, "onlink6") == [ip_network("2001:db8:1:2::/64")]
    whole = [ip_network("2001:db8:1:2::/64"), ip_network("fe80::/10")]
    assert _elements(namespace, "whole6") == whole


# --- only the difference


def _known(namespace: Namespace) -> NetworkIndex:
    with namespace.call(NfnetlinkSocket) as netlink:
        held = (snapshot.element_lists(netlink, name) for name in schema.NEVER_BLOCK_SETS)
        return NetworkIndex.of_ranges(*map(set_elements.ranges_in, held))


@pytest.mark.parametrize("before", CASES.values(), ids=CASES)
@pytest.mark.parametrize("after", CASES.values(), ids=CASES)
def test_the_difference_leads_to_the_same_networks(
    namespace: Namespace, table: Table, before: list[str], after: list[str]
) -> None:
    table.replace_never_block(networks(*before))
    table.replace_never_block(networks(*after), _known(namespace))
    for family in (4, 6):
        listed = collapse_addresses(_listed(namespace, family))  # type: ignore[type-var]
        assert list(listed) == _plain(after, family)


@pytest.mark.parametrize("wished", CASES.values(), ids=CASES)
def test_the_kernel_holds_the_elements_that_are_planned(
    namespace: Namespace, table: Table, wished: list[str]
) -> None:
    """Else each repair would find them missing: an element is its key and its flags, as dumped."""
    wanted = networks(*wished)
    table.replace_never_block(wanted)
    with namespace.call(NfnetlinkSocket) as netlink:
        there = snapshot.read(netlink)
    assert there is not None
    planned = there.with_elements(never_block_elements(wanted))
    assert planned.missing_from(there) == []
    assert there.missing_from(planned) == []


def test_a_difference_that_does_not_fit_replaces_everything(
    namespace: Namespace, table: Table
) -> None:
    table.replace_never_block(networks("192.0.2.0/24", "198.18.0.0/24"))
    known = _known(namespace)
    namespace.run(
        "nft", "delete element inet sentryfw never_block4 { 192.0.2.0/24 };"
        " add element inet sentryfw never_block4 { 203.0.113.0/28 }",
    )  # fmt: skip
    table.replace_never_block(networks("198.18.0.0/24", "203.0.113.0/24"), known)
    assert _listed(namespace, 4) == [ip_network("198.18.0.0/24"), ip_network("203.0.113.0/24")]


def test_nothing_is_sent_without_a_difference(namespace: Namespace, table: Table) -> None:
    table.replace_never_block(networks("198.18.0.0/24"))
    known = _known(namespace)
    namespace.run("nft", "flush set inet sentryfw never_block4")
    table.replace_never_block(networks("198.18.0.0/24"), known)
    assert _listed(namespace, 4) == []


@pytest.mark.parametrize(
    ("text", "is_held"),
    [
        ("198.18.0.0/24", True), ("198.18.0.7/32", True), ("198.18.0.255/32", True),
        ("198.18.0.0/23", False), ("198.18.1.0/32", False), ("192.0.2.1/32", False),
        ("198.18.2.0/24", True), ("198.18.0.0/22", False), ("255.255.255.255/32", True),
        ("2001:db8::/48", True), ("2001:db9::/48", False),
    ],
)  # fmt: skip
def test_one_network_is_asked_for(table: Table, text: str, *, is_held: bool) -> None:
    held = ("198.18.0.0/24", "198.18.2.0/24", "255.255.255.0/24", "2001:db8::/32")
    table.replace_never_block(networks(*held))
    assert table.sets.is_never_blocked(ip_network(text)) is is_held
