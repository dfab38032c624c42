"""The never-block sets, replaced through netlink and read back by nft itself."""

import itertools
import json
from collections.abc import Iterator
from ipaddress import collapse_addresses, ip_network
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.config import Config
from sentryfw.netfilter.apart import apart
from sentryfw.netfilter.install import install
from sentryfw.netfilter.table import IPNetwork, Table, _merged, networks_of
from sentryfw.netns import Namespace

pytestmark = [pytest.mark.netns]


@pytest.fixture
def table(namespace: Namespace) -> Iterator[Table]:
    namespace.call(lambda: apart(lambda: bool(install(Table(), Config(), []))))
    made = namespace.call(Table)
    yield made
    made.close()


def _listed(namespace: Namespace, family: int) -> list[IPNetwork]:
    """What nft says is in the set."""
    done = namespace.run("nft", "-j", "list", "set", "inet", "sentryfw", f"never_block{family}")
    assert done.returncode == 0, done.stderr
    sets: list[Any] = [item["set"] for item in json.loads(done.stdout)["nftables"] if "set" in item]
    return [network for element in sets[0].get("elem", []) for network in networks_of(element)]


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


@pytest.mark.parametrize("networks", CASES.values(), ids=CASES)
def test_nft_reads_what_was_put_in_their_place(
    namespace: Namespace, table: Table, networks: list[str]
) -> None:
    for given_networks in (["192.0.2.0/24", "2001:db8::/32"], networks):
        table.replace_never_block(map(ip_network, given_networks))
    for family in (4, 6):
        wanted = _plain(networks, family)
        assert list(collapse_addresses(_listed(namespace, family))) == wanted  # type: ignore[type-var]
        ours = [n for n in table.never_blocked() if n.version == family]
        assert list(collapse_addresses(ours)) == wanted  # type: ignore[type-var]


def test_nft_can_change_what_we_put_in(namespace: Namespace, table: Table) -> None:
    table.replace_never_block([ip_network("198.18.0.0/24")])
    done = namespace.run(
        "nft", "add element inet sentryfw never_block4 { 198.18.9.0/24 };"
        " delete element inet sentryfw never_block4 { 198.18.0.0/24 }",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert _listed(namespace, 4) == [ip_network("198.18.9.0/24")]


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 32)), max_size=20))
def test_intervals_are_disjoint_and_cover_the_same_addresses(items: list[tuple[int, int]]) -> None:
    networks = [ip_network((address, bits), strict=False) for address, bits in items]
    merged = _merged(networks)
    ends = [end for interval in merged for end in interval]
    assert ends == sorted(ends)
    assert all(after[0] > before[1] + 1 for before, after in itertools.pairwise(merged))
    collapsed = collapse_addresses(networks)
    assert sum(last - first + 1 for first, last in merged) == sum(
        n.num_addresses for n in collapsed
    )
