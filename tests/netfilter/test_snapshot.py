"""A snapshot creates the table that install loaded."""

from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from sentryfw.config import parse
from sentryfw.config.model import Config
from sentryfw.host.protected import Protected
from sentryfw.netfilter import snapshot
from sentryfw.netfilter.install import install
from sentryfw.netfilter.table import Table
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.tools.drill.namespace import Namespace

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
def test_a_snapshot_creates_an_equal_table(
    namespace: Namespace, netlink: NfnetlinkSocket, config: bytes
) -> None:
    _install(namespace, parse(config, "test"))
    before = _lines(namespace)
    plan = snapshot.read(netlink)
    assert plan is not None
    assert plan.missing_from(plan) == []
    namespace.run("nft", "flush", "ruleset")
    assert plan.missing_from(snapshot.read(netlink)) == ["table"]
    netlink.transact(plan.requests(), "again")
    assert _lines(namespace) == before
    assert plan.missing_from(snapshot.read(netlink)) == []


def test_a_repair_of_an_intact_table_changes_nothing_and_keeps_elements(
    namespace: Namespace, netlink: NfnetlinkSocket
) -> None:
    _install(namespace, parse(FULL, "test"))
    namespace.run("nft", "add element inet sentryfw block4 { 198.51.100.1 timeout 1h }")
    namespace.run("nft", "add element inet sentryfw partner4 { 198.51.100.2 }")
    before = _lines(namespace)
    plan = snapshot.read(netlink)
    assert plan is not None
    netlink.transact(plan.requests(), "over it")
    assert _lines(namespace) == before


@pytest.mark.parametrize(
    ("damage", "missing"),
    [
        ("flush chain inet sentryfw blocked", ["rules of chain blocked"]),
        ("delete element inet sentryfw never_block4 { 192.0.2.0/24 }",
         ["elements of set never_block4"]),
        ("add chain inet sentryfw late_drop { policy drop; }", ["chain late_drop"]),
    ],
    ids=["rules", "elements", "policy"],
)  # fmt: skip
def test_missing_parts_are_named(
    namespace: Namespace, netlink: NfnetlinkSocket, damage: str, missing: list[str]
) -> None:
    _install(namespace, parse(FULL, "test"))
    plan = snapshot.read(netlink)
    assert plan is not None
    assert namespace.run("nft", damage).returncode == 0
    assert plan.missing_from(snapshot.read(netlink)) == missing


def test_rules_in_another_order_count_as_missing(
    namespace: Namespace, netlink: NfnetlinkSocket
) -> None:
    _install(namespace, Config())
    plan = snapshot.read(netlink)
    assert plan is not None
    moved = plan._replace(rules=tuple(reversed(plan.rules)))
    assert "rules of chain early_syn" in plan.missing_from(moved)
