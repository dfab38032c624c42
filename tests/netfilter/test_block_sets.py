"""BlockSets: block, unblock and list, in the kernel's sets."""

import errno
from collections.abc import Callable
from ipaddress import ip_network

import pytest

from sentryfw.config.model import Config
from sentryfw.engine.model import Source, parse_source
from sentryfw.errors import KernelError, NotFound, UsageError
from sentryfw.netfilter.block_sets import Blocked, BlockSets
from sentryfw.netfilter.install import install
from sentryfw.netfilter.sets import counts
from sentryfw.netfilter.table import Table
from sentryfw.netlink import nftables as nl
from sentryfw.tools.drill.namespace import Namespace

pytestmark = [pytest.mark.netns]

SOURCES = ["198.18.0.2", "2001:2:0:1::/64", "fe80::1"]
"""The three shapes of a source."""


def _nft(namespace: Namespace, command: str) -> str:
    done = namespace.run("nft", command)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _networks(namespace: Namespace, table: Table) -> list[Blocked]:
    return namespace.call(table.sets.blocked_networks)


def _block_network(namespace: Namespace, table: Table, network: str, timeout: float = 600) -> None:
    namespace.call(lambda: table.sets.block_network(ip_network(network), timeout))


# --- sources


@pytest.mark.parametrize("address", SOURCES)
def test_a_blocked_source_is_listed_by_its_name(table: Table, address: str) -> None:
    assert not table.sets.is_blocked(parse_source(address))
    table.sets.block([(parse_source(address), 600)])
    assert table.sets.is_blocked(parse_source(address))
    [blocked] = table.sets.blocked_sources()
    assert (blocked.address, blocked.timeout) == (address, 600.0)
    assert blocked.family == (6 if ":" in address else 4)
    assert 590 < blocked.expires <= 600
    assert (blocked.packets, blocked.bytes) == (0, 0)


@pytest.mark.parametrize("address", SOURCES)
def test_an_unblocked_source_is_neither_blocked_nor_suspect(
    namespace: Namespace, table: Table, address: str
) -> None:
    table.sets.block([(parse_source(address), 600)])
    prefix = "198.18.0.2" if "." in address else address.partition("/")[0]
    family = 4 if "." in address else 6
    suspect = prefix
    _nft(namespace, f"add element inet sentryfw suspect{family} {{ {suspect} }}")
    table.sets.unblock(parse_source(address))
    assert list(table.sets.blocked_sources()) == []
    assert suspect not in _nft(namespace, f"list set inet sentryfw suspect{family}")


@pytest.mark.parametrize("address", SOURCES)
def test_unblocking_a_source_that_is_not_blocked_fails(table: Table, address: str) -> None:
    with pytest.raises(NotFound, match=f"{address} is not blocked"):
        table.sets.unblock(parse_source(address))


@pytest.mark.parametrize(("first", "second"), [(600, 60), (60, 600)], ids=["shorter", "longer"])
def test_blocking_again_sets_the_new_timeout(table: Table, first: int, second: int) -> None:
    source = parse_source("198.18.0.2")
    table.sets.block([(source, first)])
    table.sets.block([(source, second)])
    [blocked] = table.sets.blocked_sources()
    assert blocked.timeout == second
    assert second - 10 < blocked.expires <= second


def test_many_sources_are_blocked_and_listed(table: Table) -> None:
    sources = [Source(bytes((198, 18, n >> 8, n & 255))) for n in range(1000)]
    sources += [Source(bytes((0x20, 1, 0, 2, 0, 0, n >> 8, n & 255))) for n in range(1000)]
    for start in range(0, len(sources), 50):
        table.sets.block((source, 600) for source in sources[start : start + 50])
    assert {parse_source(b.address) for b in table.sets.blocked_sources()} == set(sources)


@pytest.mark.parametrize("exact", [1000, 10], ids=["one by one", "the kernel's count"])
def test_blocks_are_counted_by_family(
    namespace: Namespace, table: Table, exact: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "MAX_EXACT_COUNT", exact)
    assert table.sets.count_blocked() == {4: 0, 6: 0}
    table.sets.block((Source(bytes((198, 18, 0, n))), 600) for n in range(30))
    table.sets.block((Source(bytes((0x20, 1, 0, 2, 0, 0, 0, n))), 600) for n in range(20))
    _block_network(namespace, table, "203.0.113.0/24")
    assert table.sets.count_blocked() == {4: 31, 6: 20}
    table.sets.unblock(Source(bytes((198, 18, 0, 0))))
    assert table.sets.count_blocked() == {4: 30, 6: 20}


def test_elements_are_counted_on_a_kernel_that_reports_no_count(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nl, "NFTA_SET_COUNT", 0xFFF)
    monkeypatch.setattr(counts, "MAX_EXACT_COUNT", 10)
    table.sets.block((Source(bytes((198, 18, 0, n))), 600) for n in range(30))
    assert table.sets.count_blocked() == {4: 30, 6: 0}


def test_a_refusal_of_the_kernel_carries_its_errno(bare: Table) -> None:
    with pytest.raises(KernelError, match="block: No such file or directory") as raised:
        bare.sets.block([(parse_source("198.18.0.2"), 600)])
    assert raised.value.code == errno.ENOENT


def test_a_transaction_after_refused_ones_gets_its_own_answer(
    namespace: Namespace, bare: Table
) -> None:
    source = parse_source("198.18.0.2")
    for _ in range(3):
        with pytest.raises(KernelError):
            bare.sets.block([(source, 600), (parse_source("fe80::1"), 600)])
    namespace.call(lambda: install(bare, Config(), []))
    bare.sets.block([(source, 600)])
    assert bare.sets.is_blocked(source)


# --- networks


@pytest.mark.parametrize(
    ("network", "family"),
    [
        ("198.18.64.0/20", 4), ("198.18.0.9/32", 4), ("198.18.0.8/31", 4), ("128.0.0.0/1", 4),
        ("2001:2::/48", 6), ("2001:2::9/128", 6), ("8000::/1", 6),
    ],
)  # fmt: skip
def test_a_blocked_network_is_listed_by_its_name(
    namespace: Namespace, table: Table, network: str, family: int
) -> None:
    _block_network(namespace, table, network)
    [blocked] = _networks(namespace, table)
    assert (blocked.address, blocked.family, blocked.timeout) == (network, family, 600.0)
    assert 590 < blocked.expires <= 600
    namespace.call(lambda: table.sets.unblock_network(ip_network(network)))
    assert _networks(namespace, table) == []


def test_a_network_is_blocked_until_it_is_unblocked(namespace: Namespace, table: Table) -> None:
    _block_network(namespace, table, "198.18.64.0/20", 0)
    [blocked] = _networks(namespace, table)
    assert (blocked.timeout, blocked.expires) == (0.0, 0.0)


def test_networks_are_changed_in_one_transaction(namespace: Namespace, table: Table) -> None:
    """Also a network that is replaced by a part of it, and one that only gets another time."""
    before = ["198.18.0.0/24", "198.18.2.0/24", "2001:db8::/32"]
    for network in before:
        _block_network(namespace, table, network, 60)
    added = [(f"198.19.{n}.0/24", 600.0) for n in range(200)]
    added += [("198.18.0.0/25", 300.0), ("198.18.2.0/24", 300.0)]
    namespace.call(
        lambda: table.sets.change_networks(
            map(ip_network, before), [(ip_network(text), seconds) for text, seconds in added]
        )
    )
    assert {(b.address, b.timeout) for b in _networks(namespace, table)} == set(added)
    namespace.call(lambda: table.sets.change_networks([], []))


def test_adjacent_networks_remain_two_blocks(namespace: Namespace, table: Table) -> None:
    _block_network(namespace, table, "198.18.0.0/25", 600)
    _block_network(namespace, table, "198.18.0.128/25", 60)
    assert {(b.address, b.timeout) for b in _networks(namespace, table)} == {
        ("198.18.0.0/25", 600.0),
        ("198.18.0.128/25", 60.0),
    }


def test_blocking_a_network_again_sets_the_new_timeout(namespace: Namespace, table: Table) -> None:
    for timeout in (600, 60):
        _block_network(namespace, table, "198.18.64.0/20", timeout)
    [blocked] = _networks(namespace, table)
    assert blocked.timeout == 60.0


@pytest.mark.parametrize("other", ["198.18.64.0/24", "198.18.0.0/16"], ids=["inner", "outer"])
def test_a_network_that_overlaps_a_blocked_one_is_refused(
    namespace: Namespace, table: Table, other: str
) -> None:
    _block_network(namespace, table, "198.18.64.0/20")
    with pytest.raises(UsageError, match=r"overlaps 198\.18\.64\.0/20, which is blocked"):
        _block_network(namespace, table, other)
    assert [b.address for b in _networks(namespace, table)] == ["198.18.64.0/20"]


def test_unblocking_a_network_that_is_not_blocked_fails(namespace: Namespace, table: Table) -> None:
    with pytest.raises(NotFound, match=r"198\.18\.64\.0/20 is not blocked"):
        namespace.call(lambda: table.sets.unblock_network(ip_network("198.18.64.0/20")))


@pytest.mark.parametrize(
    "read", [BlockSets.blocks, BlockSets.unblock_all], ids=["list", "unblock-all"]
)
def test_a_range_that_an_operator_blocked_through_nft_is_accepted(
    namespace: Namespace, table: Table, read: Callable[[BlockSets], object]
) -> None:
    """nft lists a range that is not a prefix as a range."""
    _nft(namespace, "add element inet sentryfw block_net4 { 198.18.0.5-198.18.0.9 timeout 1h }")
    assert namespace.call(lambda: read(table.sets))


# --- all blocks


def test_unblocking_all_empties_every_block_set(namespace: Namespace, table: Table) -> None:
    table.sets.block([(parse_source(address), 600) for address in SOURCES])
    _block_network(namespace, table, "198.18.64.0/20")
    assert len(namespace.call(table.sets.blocks)) == 4
    assert namespace.call(table.sets.unblock_all) == 4
    assert namespace.call(table.sets.blocks) == []
