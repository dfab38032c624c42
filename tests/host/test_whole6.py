"""The IPv6 networks whose addresses stand for themselves."""

from ipaddress import IPv4Network, IPv6Network

import pytest

from sentryfw.config import parse
from sentryfw.config.model import Config
from sentryfw.host.whole6 import Neighbours, neighbours, onlink
from sentryfw.tools.drill.namespace import Namespace

pytestmark = pytest.mark.netns

LINK_LOCAL = IPv6Network("fe80::/10")
NAT64 = IPv6Network("64:ff9b::/96")


def _config(networks: str) -> Config:
    return parse(f"[detect]\nwhole6 = [{networks}]\n".encode(), "test.toml")


@pytest.fixture
def linked(namespace: Namespace) -> Namespace:
    namespace.ip("link", "add", "veth0", "type", "veth", "peer", "name", "veth1")
    namespace.ip("link", "set", "veth0", "up")
    return namespace


@pytest.mark.parametrize(
    ("address", "prefixes"),
    [
        ("2001:db8:1:2::1/64", {IPv6Network("2001:db8:1:2::/64")}),
        ("2001:db8:1:2::1/120", {IPv6Network("2001:db8:1:2::/120")}),
        ("2001:db8:1:2::1/56", set()),
        ("2001:db8:1:2::1/128", set()),
        ("::2/0", set()),
        ("192.0.2.1/24", {IPv4Network("192.0.2.0/24")}),
    ],
    ids=["64", "120", "56", "128", "0", "ipv4"],
)
def test_a_prefix_of_64_bits_and_more_is_connected(
    linked: Namespace, address: str, prefixes: set[IPv4Network | IPv6Network]
) -> None:
    linked.ip("addr", "add", address, "dev", "veth0")
    assert set(linked.call(onlink)) == prefixes


def test_the_prefix_of_a_peer_is_connected(linked: Namespace) -> None:
    linked.ip("addr", "add", "2001:db8::1", "peer", "2001:db8:5::1/64", "dev", "veth0")
    assert linked.call(onlink) == [IPv6Network("2001:db8:5::/64")]


def test_a_route_alone_does_not_connect_a_prefix(linked: Namespace) -> None:
    linked.ip("route", "add", "2001:db8:7::/64", "dev", "veth0")
    assert linked.call(onlink) == []


def test_link_local_and_nat64_are_whole_everywhere(namespace: Namespace) -> None:
    found = namespace.call(lambda: neighbours(Config()))
    assert found == Neighbours((LINK_LOCAL,), (NAT64, LINK_LOCAL))


def test_the_configuration_replaces_nat64(linked: Namespace) -> None:
    for address in ("2001:db8:1:2::1/64", "192.0.2.1/24", "192.0.2.9/28"):
        linked.ip("addr", "add", address, "dev", "veth0")
    config = _config('"2001:db8:1::/48", "2001:db8:2::/96"')
    connected, lan = IPv6Network("2001:db8:1:2::/64"), IPv4Network("192.0.2.0/24")
    assert linked.call(lambda: neighbours(config)) == Neighbours(
        (lan, connected, LINK_LOCAL),
        (IPv6Network("2001:db8:1::/48"), IPv6Network("2001:db8:2::/96"), LINK_LOCAL),
    )
