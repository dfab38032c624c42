"""Networks that are never blocked, and networks whose addresses are sources by themselves."""

from ipaddress import IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_network
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentryfw.engine.networks import LINK_LOCAL_ONLY, NetworkIndex, Whole6
from support.forge import packed

INDEX = NetworkIndex(
    map(
        ip_network,
        (
            "192.0.2.0/25", "192.0.2.64/26", "192.0.2.128/25", "198.51.100.7/32", "255.0.0.0/8",
            "0.0.0.0/32", "2001:db8::/48", "2001:db8:1:1::/65", "2001:db8:1:1:8000::/65",
            "2001:db8:1:2::/65", "2001:db8:1:3::5/128", "fe80::1/128", "ffff::/16",
        ),
    )
)  # fmt: skip


@pytest.mark.parametrize(
    ("address", "held"),
    [
        ("192.0.2.0", True),
        ("192.0.2.255", True),
        ("192.0.1.255", False),
        ("192.0.3.0", False),
        ("198.51.100.7", True),
        ("198.51.100.8", False),
        ("0.0.0.0", True),  # noqa: S104 - no bind
        ("0.0.0.1", False),
        ("255.255.255.255", True),
        ("2001:db8:0:5::7", True),
        ("2001:db8:1:2:7fff::", True),
        ("2001:db8:1:2:8000::", False),
        ("2001:db8:1:3::5", True),
        ("2001:db8:1:3::6", False),
        ("fe80::1", True),
        ("fe80::2", False),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", True),
    ],
)
def test_an_address_lies_in_a_network(address: str, *, held: bool) -> None:
    assert INDEX.holds(packed(address)) == held


@pytest.mark.parametrize(
    ("prefix", "held"),
    [
        ("2001:db8:0:5::", True),
        ("2001:db8:1:1::", True),  # two halves make it whole
        ("2001:db8:1:2::", False),  # half of it
        ("2001:db8:1:3::", False),  # one address of it
        ("ffff:ffff:ffff:ffff::", True),
        ("2001:db8:2::", False),
    ],
)
def test_the_whole_of_a_64_lies_in_a_network(prefix: str, *, held: bool) -> None:
    assert INDEX.holds(packed(prefix)[:8]) == held


def test_no_network_holds_nothing() -> None:
    empty = NetworkIndex(())
    assert not any(map(empty.holds, (packed("192.0.2.1"), packed("::1"), packed("::1")[:8])))


def _networks(bits: int) -> st.SearchStrategy[IPv4Network | IPv6Network]:
    return st.builds(
        lambda number, length: ip_network((number.to_bytes(bits // 8), length), strict=False),
        st.integers(0, (1 << bits) - 1) | st.integers(0, 255), st.integers(0, bits),
    )  # fmt: skip


@given(st.lists(_networks(32) | _networks(128), max_size=8), st.integers(-1, 1), st.data())
def test_it_agrees_with_ipaddress(
    networks: list[IPv4Network | IPv6Network], step: int, data: st.DataObject
) -> None:
    index = NetworkIndex(networks)
    for network in networks:
        bits = network.max_prefixlen
        edge = int(data.draw(st.sampled_from([network[0], network[-1]]))) + step
        address = ip_network((max(0, min(edge, (1 << bits) - 1))).to_bytes(bits // 8))
        same = [other for other in networks if other.version == address.version]
        expected = any(address.subnet_of(other) for other in same)  # type: ignore[arg-type]
        assert index.holds(address.network_address.packed) == expected


_SOME = st.lists(_networks(32) | _networks(128), max_size=8)


@given(_SOME, _SOME)
def test_ranges_changes_and_overlaps_agree_with_ipaddress(
    before: list[IPv4Network | IPv6Network], after: list[IPv4Network | IPv6Network]
) -> None:
    old, new = NetworkIndex(before), NetworkIndex(after)
    for network in before:
        same = [other for other in after if other.version == network.version]
        assert new.overlaps(network) == any(network.overlaps(other) for other in same)
        joined = list(collapse_addresses(same))
        assert new.covers(network) == any(network.subnet_of(other) for other in joined)
    for version in (4, 6):
        whole = [
            (int(n[0]), int(n[-1]))
            for n in collapse_addresses(n for n in after if n.version == version)
        ]
        covered = new.ranges(version)
        assert sum(last - first + 1 for first, last in covered) == sum(
            last - first + 1 for first, last in whole
        )
        assert all(any(a <= first and last <= b for a, b in covered) for first, last in whole)
        gone, added = new.changes(old, version)
        assert gone == sorted(set(old.ranges(version)) - set(covered))
        assert added == sorted(set(covered) - set(old.ranges(version)))
    assert old.joined(new) == NetworkIndex(before + after)
    assert NetworkIndex.of_ranges(new.ranges(4), new.ranges(6)) == new
    assert (old == new) == (repr(old) == repr(new))
    assert old != new or hash(old) == hash(new)


def test_a_hundred_thousand_networks_cost_a_bisection() -> None:
    index = NetworkIndex(IPv4Network((n << 9, 24)) for n in range(0x20000, 0x20000 + 100_000))
    sources = [(n * 7919 % (1 << 32)).to_bytes(4) for n in range(10_000)]
    began = perf_counter()
    for source in sources:
        index.holds(source)
    assert perf_counter() - began < 10_000 * 20e-6  # 2 us, with room for a busy machine


# --- addresses that stand for themselves

CONNECTED = IPv6Network("2001:db8:1:2::/64")
NAT64 = IPv6Network("64:ff9b::/96")
OFFICES = IPv6Network("2001:db8:8000::/33")
WHOLE = Whole6([NAT64, CONNECTED, OFFICES, IPv6Network("2001:db8:8000::/34")])


@pytest.mark.parametrize(
    ("address", "is_whole"),
    [
        ("fe80::1", True),
        ("febf::1", True),
        ("fec0::1", False),
        ("2001:db8:1:2::5", True),
        ("2001:db8:1:3::5", False),
        ("64:ff9b::198.51.100.7", True),
        ("64:ff9b::1:0:0:7", False),  # its /64, behind the /96
        ("2001:db8:8000::7", True),
        ("2001:db8:ffff:ffff::7", True),
        ("2001:db8:7fff:ffff::7", False),
        ("2001:db9::7", False),
    ],
)
def test_a_network_holds_its_addresses(address: str, *, is_whole: bool) -> None:
    assert (packed(address) in WHOLE) == is_whole
    assert WHOLE.key(packed(address)) == packed(address)[: 16 if is_whole else 8]


def test_a_zero_identifier_is_the_64() -> None:
    assert WHOLE.key(packed("2001:db8:1:2::")) == packed("2001:db8:1:2::")[:8]


def test_link_local_is_whole_without_a_network() -> None:
    assert packed("fe80::1") in LINK_LOCAL_ONLY
    assert packed("2001:db8:1:2::5") not in LINK_LOCAL_ONLY


def test_the_whole_of_ipv6() -> None:
    assert packed("ffff:ffff:ffff:ffff::1") in Whole6([IPv6Network("::/0")])


_ADDRESSES = st.integers(0, (1 << 128) - 1)
_NETWORKS6 = st.builds(
    lambda address, length: IPv6Network((address, length), strict=False),
    _ADDRESSES | st.integers(0, 1 << 70), st.integers(0, 128),
)  # fmt: skip


@given(st.lists(_NETWORKS6, max_size=6), _ADDRESSES, st.integers(-2, 2))
def test_whole_addresses_agree_with_ipaddress(
    networks: list[IPv6Network], number: int, step: int
) -> None:
    whole = Whole6(networks)
    edges = [int(e) + step for n in networks for e in (n.network_address, n.broadcast_address)]
    for value in (number, *edges):
        address = IPv6Address(max(0, min(value, (1 << 128) - 1)))
        expected = address.is_link_local or any(address in network for network in networks)
        assert (address.packed in whole) == expected
