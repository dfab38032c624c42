"""Blocks by the thousand: added, dumped, and queried by key, in few messages."""

import errno
from ipaddress import ip_network

import pytest

from sentryfw.config.model import Config
from sentryfw.errors import KernelError
from sentryfw.netfilter import block_sets
from sentryfw.netfilter.install import install
from sentryfw.netfilter.schema import TABLE
from sentryfw.netfilter.sets import elements
from sentryfw.netfilter.sets.counts import MAX_EXACT_COUNT
from sentryfw.netfilter.table import Table
from sentryfw.netlink import nftables as nl
from sentryfw.netlink.set_elements import Lifetime, key_queries
from sentryfw.netlink.socket import NfnetlinkSocket
from sentryfw.tools.drill.namespace import Namespace
from support.lifetimes import find_lifetimes
from support.waiting import wait_for

pytestmark = [pytest.mark.netns]

MANY = 3 * elements.KEYS_PER_DATAGRAM + 7
FOUR = {n.to_bytes(4): Lifetime(3600.0 + n % 3, 1800.0 + n % 3) for n in range(MANY)}
SIX = {
    bytes((32, 1, 13, 184)) + n.to_bytes(4) + bytes(8): Lifetime(60.0, 30.0) for n in range(MANY)
}


def _installed(namespace: Namespace) -> Table:
    table = namespace.call(Table)
    namespace.call(lambda: install(table, Config(), []))
    return table


@pytest.fixture
def filled(namespace: Namespace, netlink: NfnetlinkSocket) -> NfnetlinkSocket:
    """Block FOUR and SIX, except every third key."""
    _installed(namespace).close()
    for name, lives in (("block4", FOUR), ("block6", SIX)):
        there = {key: life for n, (key, life) in enumerate(lives.items()) if n % 3}
        block_sets.add_elements(netlink, name, there)
    return netlink


@pytest.mark.parametrize(("name", "lives"), [("block4", FOUR), ("block6", SIX)])
def test_blocked_keys_are_found_with_their_lifetimes(
    filled: NfnetlinkSocket, name: str, lives: dict[bytes, Lifetime]
) -> None:
    found = find_lifetimes(filled, name, list(lives))
    assert list(found) == [key for number, key in enumerate(lives) if number % 3]
    for key, life in found.items():
        assert life.timeout == lives[key].timeout
        assert life.left == pytest.approx(lives[key].left, abs=10)


def test_permanent_and_timed_blocks_are_found_together(filled: NfnetlinkSocket) -> None:
    lasting, timed, absent = b"\xc6\x33\x64\x01", (1).to_bytes(4), b"\xc6\x33\x64\x02"
    block_sets.add_elements(filled, "block4", {lasting: Lifetime(0.0, 0.0)})
    found = find_lifetimes(filled, "block4", [timed, lasting, absent, timed])
    assert found[lasting] == Lifetime(0.0, 0.0)
    assert found.keys() == {timed, lasting}


def test_a_key_that_looks_like_an_attribute_is_read_as_a_key(filled: NfnetlinkSocket) -> None:
    keys = [nl.u64(kind, 0)[:4] for kind in (nl.NFTA_SET_ELEM_TIMEOUT, nl.NFTA_SET_ELEM_EXPIRATION)]
    block_sets.add_elements(filled, "block4", dict.fromkeys(keys, Lifetime(600.0, 500.0)))
    found = find_lifetimes(filled, "block4", [*keys, *list(FOUR)[:50], *keys])
    for key in keys:
        assert found[key].timeout == 600.0
        assert found[key].left == pytest.approx(500.0, abs=10)


def test_sequence_numbers_restart_before_they_overflow(filled: NfnetlinkSocket) -> None:
    filled._sequence = (1 << 32) - 5
    assert len(find_lifetimes(filled, "block4", list(FOUR))) == MANY - len(range(0, MANY, 3))
    assert filled._sequence < 1 << 31


def test_an_answer_to_an_older_query_is_skipped(filled: NfnetlinkSocket) -> None:
    before = filled._sequence
    queries = key_queries(list(FOUR)[:9])
    header = nl.nft(nl.NFT_MSG_GETSETELEM, nl.set_name(TABLE, "block4") + queries[1])
    filled._socket.send(header)  # the answer is left unread
    assert filled._sequence == before
    assert len(find_lifetimes(filled, "block4", list(FOUR)[:9])) == 6


def test_a_key_of_another_size_is_refused_by_the_kernel(filled: NfnetlinkSocket) -> None:
    with pytest.raises(KernelError) as refused:
        find_lifetimes(filled, "block4", [bytes(16)])  # a key of another set
    assert refused.value.code == errno.EINVAL


def test_find_lifetimes_pauses_after_each_datagram(filled: NfnetlinkSocket) -> None:
    pauses: list[int] = []
    find_lifetimes(filled, "block4", list(FOUR), lambda: pauses.append(1))
    assert len(pauses) == 4


# --- adding and dumping


def _all_lifetimes(netlink: NfnetlinkSocket, name: str) -> dict[bytes, Lifetime]:
    return {
        key: life for part in block_sets.dump_lifetimes(netlink, name) for key, life in part.items()
    }


def test_added_elements_are_dumped_with_their_lifetimes(
    namespace: Namespace, netlink: NfnetlinkSocket
) -> None:
    _installed(namespace).close()
    four = {n.to_bytes(4): Lifetime(60.0 + n, 30.0 + n) for n in range(1, 3000)}
    four[bytes((198, 51, 100, 1))] = Lifetime(0.0, 0.0)
    six = {bytes((32, 1, 13, 184)) + n.to_bytes(12): Lifetime(3600.0, 1800.0) for n in range(3000)}
    for name, lives in (("block4", four), ("block6", six)):
        block_sets.add_elements(netlink, name, lives)
        found = _all_lifetimes(netlink, name)
        assert found.keys() <= lives.keys()
        assert len(found) > 0.9 * len(lives), "a dump may miss some while the table grows"
        for key, life in found.items():
            assert life.timeout == lives[key].timeout
            assert life.left == pytest.approx(lives[key].left, abs=3)


def test_lifetimes_and_blocks_agree(namespace: Namespace, netlink: NfnetlinkSocket) -> None:
    table = _installed(namespace)
    block_sets.add_elements(
        netlink, "block4", {n.to_bytes(4): Lifetime(60.0, 50.0) for n in range(10, 20)}
    )
    listed = {b.address: b.timeout for b in table.sets.blocked_sources()}
    dumped = {
        f"0.0.0.{key[3]}": life.timeout for key, life in _all_lifetimes(netlink, "block4").items()
    }
    assert dumped == listed
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
def test_ranges_are_restored_unchanged(
    namespace: Namespace, netlink: NfnetlinkSocket, networks: list[str]
) -> None:
    _installed(namespace).close()
    name = f"block_net{ip_network(networks[0]).version}"
    for network in networks:
        command = f"add element inet sentryfw {name} {{ {network} timeout 1h }}"
        assert namespace.run("nft", command).returncode == 0
    before = namespace.run("nft", "-s", "list", "set", "inet", "sentryfw", name).stdout
    ranges = block_sets.read_ranges(netlink, name)
    assert len(ranges) == len(networks)
    namespace.run("nft", "flush", "set", "inet", "sentryfw", name)
    netlink.transact(block_sets.range_requests(name, ranges), "restore")
    assert namespace.run("nft", "-s", "list", "set", "inet", "sentryfw", name).stdout == before


# --- counting


@pytest.mark.parametrize("reports", [True, False], ids=["reported", "not-reported"])
@pytest.mark.parametrize("size", [3, MAX_EXACT_COUNT + 500], ids=["few", "many"])
def test_blocks_are_counted_with_and_without_the_kernel_s_count(
    namespace: Namespace, netlink: NfnetlinkSocket, monkeypatch: pytest.MonkeyPatch, size: int, *,
    reports: bool,
) -> None:  # fmt: skip
    table = _installed(namespace)
    block_sets.add_elements(
        netlink, "block4", {n.to_bytes(4): Lifetime(600, 500) for n in range(size)}
    )
    if not reports:
        monkeypatch.setattr(nl, "set_count", lambda _: None)
    # A dump misses some for a moment, while the kernel's hash table grows.
    wait_for(lambda: table.sets.count_blocked() == {4: size, 6: 0}, "all are counted")
    table.close()
