"""A table out of the kernel's own dump is the table that install loaded."""

from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from sentryfw.config import Config, parse
from sentryfw.netfilter import blueprint, bulk
from sentryfw.netfilter.bulk import Life, Pauses
from sentryfw.netfilter.host import Protected
from sentryfw.netfilter.install import install
from sentryfw.netfilter.netlink import NfnetlinkSocket
from sentryfw.netfilter.table import Table
from sentryfw.netns import Namespace

pytestmark = [pytest.mark.netns]

FULL = b"""
[watch]
interfaces = ["eth0", "ppp*"]
listed_tcp = [22, "6000-6010"]
listed_udp = [53]
listed_sctp = [38412]
"""
NEVER = [ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")]


@pytest.fixture
def netlink(namespace: Namespace) -> Iterator[NfnetlinkSocket]:
    with namespace.call(NfnetlinkSocket) as made:
        yield made


def _install(namespace: Namespace, config: Config) -> None:
    table = namespace.call(Table)
    protected = [Protected(network, "test") for network in NEVER]
    namespace.call(lambda: install(table, config, protected))
    table.close()


def _lines(namespace: Namespace) -> list[str]:
    listing = namespace.run("nft", "-s", "list", "ruleset").stdout
    return sorted(line.strip() for line in listing.splitlines())


@pytest.mark.parametrize("config", [b"", FULL], ids=["default", "full"])
def test_the_dump_makes_the_same_table_again(
    namespace: Namespace, netlink: NfnetlinkSocket, config: bytes
) -> None:
    _install(namespace, parse(config, "test"))
    before = _lines(namespace)
    plan = blueprint.take(netlink)
    assert plan is not None
    assert plan.lacks(plan) == []
    namespace.run("nft", "flush", "ruleset")
    assert plan.lacks(blueprint.take(netlink)) == ["table"]
    netlink.transact(plan.messages(), "again")
    assert _lines(namespace) == before
    assert plan.lacks(blueprint.take(netlink)) == []


def test_over_a_whole_table_it_changes_nothing_and_keeps_elements(
    namespace: Namespace, netlink: NfnetlinkSocket
) -> None:
    _install(namespace, parse(FULL, "test"))
    namespace.run("nft", "add element inet sentryfw block4 { 198.51.100.1 timeout 1h }")
    namespace.run("nft", "add element inet sentryfw partner4 { 198.51.100.2 }")
    before = _lines(namespace)
    plan = blueprint.take(netlink)
    assert plan is not None
    netlink.transact(plan.messages(), "over it")
    assert _lines(namespace) == before


@pytest.mark.parametrize(
    ("damage", "lacks"),
    [
        ("flush chain inet sentryfw blocked", ["rules of chain blocked"]),
        ("delete element inet sentryfw never_block4 { 192.0.2.0/24 }",
         ["elements of set never_block4"]),
        ("add chain inet sentryfw late_drop { policy drop; }", ["chain late_drop"]),
    ],
    ids=["rules", "elements", "policy"],
)  # fmt: skip
def test_what_is_missing_is_named(
    namespace: Namespace, netlink: NfnetlinkSocket, damage: str, lacks: list[str]
) -> None:
    _install(namespace, parse(FULL, "test"))
    plan = blueprint.take(netlink)
    assert plan is not None
    assert namespace.run("nft", damage).returncode == 0
    assert plan.lacks(blueprint.take(netlink)) == lacks


def test_rules_in_another_order_are_damage(namespace: Namespace, netlink: NfnetlinkSocket) -> None:
    _install(namespace, Config())
    plan = blueprint.take(netlink)
    assert plan is not None
    moved = plan._replace(rules=tuple(reversed(plan.rules)))
    assert "rules of chain early_drop" in plan.lacks(moved)


# --- elements in bulk


def test_elements_come_back_as_they_were(namespace: Namespace, netlink: NfnetlinkSocket) -> None:
    _install(namespace, Config())
    four = {n.to_bytes(4): Life(60.0 + n, 30.0 + n) for n in range(1, 3000)}
    four[bytes((198, 51, 100, 1))] = Life(0.0, 0.0)
    six = {bytes((32, 1, 13, 184)) + n.to_bytes(12): Life(3600.0, 1800.0) for n in range(3000)}
    for name, lives in (("block4", four), ("block6", six)):
        bulk.put_back(netlink, name, lives)
        found = bulk.read(netlink, name)
        assert found.keys() <= lives.keys()
        assert len(found) > 0.9 * len(lives), "a dump may miss some while the table grows"
        for key, life in found.items():
            assert life.timeout == lives[key].timeout
            assert life.left == pytest.approx(lives[key].left, abs=3)


def test_both_ways_of_reading_agree(namespace: Namespace, netlink: NfnetlinkSocket) -> None:
    _install(namespace, Config())
    table = namespace.call(Table)
    bulk.put_back(netlink, "block4", {n.to_bytes(4): Life(60.0, 50.0) for n in range(10, 20)})
    slow = {b.address: b.timeout for b in table.blocked_sources()}
    fast = {f"0.0.0.{key[3]}": life.timeout for key, life in bulk.read(netlink, "block4").items()}
    assert fast == slow
    table.close()


@pytest.mark.parametrize(
    "networks",
    [
        ["203.0.113.0/24"],
        ["203.0.113.0/24", "203.0.114.0/24", "240.0.0.0/4", "8.0.0.0/9"],
        ["2001:db8::/32", "8000::/1"],
    ],
    ids=["one", "adjacent and last", "ipv6"],
)
def test_networks_come_back_as_they_were(
    namespace: Namespace, netlink: NfnetlinkSocket, networks: list[str]
) -> None:
    _install(namespace, Config())
    name = f"block_net{ip_network(networks[0]).version}"
    for network in networks:
        command = f"add element inet sentryfw {name} {{ {network} timeout 1h }}"
        assert namespace.run("nft", command).returncode == 0
    before = namespace.run("nft", "-s", "list", "set", "inet", "sentryfw", name).stdout
    ranges = bulk.read_ranges(netlink, name)
    assert len(ranges) == len(networks)
    namespace.run("nft", "flush", "set", "inet", "sentryfw", name)
    netlink.transact(bulk.range_messages(name, ranges), "back")
    assert namespace.run("nft", "-s", "list", "set", "inet", "sentryfw", name).stdout == before


def test_a_long_look_pauses() -> None:
    pauses = Pauses(every=0.0, length=0.0)
    pauses()
    assert pauses._next > 0
